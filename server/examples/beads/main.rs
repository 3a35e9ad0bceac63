//! A server of a game's own, with all the commands of Tickwire's: `cargo run -p tickwire-server --example beads`

mod game;

use std::{process::ExitCode, sync::Arc};

use self::game::Beads;

fn main() -> ExitCode {
    tickwire_server::cli_main(vec![Arc::new(Beads)])
}
