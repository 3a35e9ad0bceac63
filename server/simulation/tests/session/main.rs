//! What a session promises, told through a small game.

mod creation;
mod determinism;
mod game;
mod inputs;
mod keyframes;
mod panics;
mod seats;
