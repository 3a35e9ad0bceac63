//! What recordings promise, told through a small game.

mod broken;
mod export;
mod files;
mod game;
mod recorder;
mod recovery;
mod replay;
mod retention;
