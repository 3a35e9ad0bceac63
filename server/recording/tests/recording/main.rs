//! What recordings promise, told through a small game.

mod broken;
mod damaged;
mod diff;
mod dump;
mod export;
mod files;
mod game;
mod minimise;
mod recorder;
mod replay;
mod retention;
mod systems;
mod versions;
