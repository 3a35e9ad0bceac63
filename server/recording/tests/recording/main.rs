//! What recordings promise, told through a small game.

mod broken;
mod export;
mod files;
mod game;
mod keyframes;
mod recorder;
mod replay;
mod retention;
mod soak;
