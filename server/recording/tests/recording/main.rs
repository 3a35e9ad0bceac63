//! What recordings promise, told through a small game.

mod broken;
mod chat;
mod damaged;
mod diff;
mod dump;
mod export;
mod files;
mod game;
mod keyframes;
mod minimise;
mod names;
mod recorder;
mod recovery;
mod replay;
mod retention;
mod segments;
mod soak;
mod systems;
mod versions;
