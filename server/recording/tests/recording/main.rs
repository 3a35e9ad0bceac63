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

use std::{fs, path::Path};

/// What a directory has, sorted.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("it is there").file_name();
    let mut names: Vec<String> = entries.map(|entry| name(entry).into_string().expect("UTF-8")).collect();
    names.sort();
    names
}
