//! The command line.

mod options;
use std::{process::ExitCode, sync::Arc};
use tickwire_shared::Game;
/// temp
pub fn cli_main(_games: Vec<Arc<dyn Game>>) -> ExitCode { ExitCode::SUCCESS }
