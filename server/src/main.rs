//! The server with the shipped game.

use std::{process::ExitCode, sync::Arc};

fn main() -> ExitCode {
    tickwire_server::cli_main(vec![Arc::new(tickwire_arena::Arena)])
}
