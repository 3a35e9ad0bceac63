//! `replay --serve`: shows a recording to spectators until interrupted.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use tickwire_recording::Recording;
use tickwire_shared::{Game, Tick};
use tokio::{net::TcpListener, runtime::Builder};

use super::{
    CliError, log,
    options::LogFormat,
    output,
    serve::{Signals, until_interrupted},
    ticks::AskedTicks,
};
use crate::{config::ServerConfig, net::is_loopback, server::Server};

/// The slowest and the fastest that a recording goes by.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.1..=64.0;

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// With --serve: where to listen
    #[arg(long, value_name = "ADDR", requires = "serve", default_value = "127.0.0.1:7777")]
    listen: SocketAddr,
    /// With --serve: listen beyond this machine though nothing is encrypted and nobody is asked who they are
    #[arg(long, requires = "serve")]
    insecure: bool,
    /// With --serve: how fast it goes by for those who do not say, 0.1 to 64
    #[arg(long, value_name = "X", requires = "serve", default_value_t = 1.0)]
    speed: f64,
}

/// Shows one recording until the first signal.
pub(super) fn show(
    files: &[PathBuf],
    from: Option<u64>,
    arguments: &ShowArgs,
    games: &[Arc<dyn Game>],
) -> Result<(), CliError> {
    let &ShowArgs { listen, insecure, speed } = arguments;
    let [file] = files else {
        return Err(CliError::Usage(format!("--serve shows one recording, not {}", files.len())));
    };
    if !SPEEDS.contains(&speed) {
        return Err(CliError::Usage(format!("--speed: {speed} is out of range: choose 0.1 to 64")));
    }
    if !is_loopback(listen.ip()) && !insecure {
        return Err(CliError::Usage(format!(
            "--listen: {listen} can be reached from other machines, but nothing is encrypted and nobody is asked who they \
             are: listen on 127.0.0.1 or [::1], or say --insecure where you trust the network"
        )));
    }
    let recording = Recording::open(file).map_err(CliError::of_recording(file))?;
    AskedTicks::new(from, None)?.of(file, &recording)?;
    let from = Tick(from.unwrap_or(0));
    log::start(LogFormat::Text, &log::filter_of_environment(), None)?;
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener =
            TcpListener::bind(listen).await.map_err(|source| CliError::Listen { address: listen, source })?;
        let signals = Signals::new()?;
        let server = Server::of_recording(ServerConfig::default(), games.to_vec(), file, from, speed)?;
        let address = listener.local_addr()?;
        output::line(format_args!("Tickwire {} on http://{address} (gRPC)", env!("CARGO_PKG_VERSION")))?;
        output::line(format_args!("  recording   {}", file.display()))?;
        output::line(format_args!("  watch       tickwire-bots --connect http://{address} --watch 1"))?;
        output::line("  stop        Ctrl-C; twice to stop without a clean end")?;
        server.serve(listener, until_interrupted(signals)).await;
        Ok(())
    })
}
