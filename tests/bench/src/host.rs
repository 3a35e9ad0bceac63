//! Tickwire as a process: a whole server, as a program embeds it.

use std::{future, io, num::NonZeroU32, path::PathBuf};

use serde::{Deserialize, Serialize};
use tickwire_server::{Limits, Server, ServerConfig};
use tickwire_shared::TickRate;
use tokio::{net::TcpListener, runtime::Builder};

use crate::{
    cases::Workload,
    child::{Said, say},
};

/// What Tickwire hosts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HostConfig {
    pub(crate) workload: Workload,
    /// Ticks per second.
    pub(crate) rate: u32,
    /// Where it records; none: it does not.
    pub(crate) recordings: Option<PathBuf>,
}

/// Serves until the process is ended.
pub(crate) fn run(config: HostConfig) -> io::Result<()> {
    let HostConfig { workload, rate, recordings } = config;
    let seats = u32::try_from(workload.clients()).unwrap_or(u32::MAX);
    let server = ServerConfig {
        tick_rate: TickRate::new(rate).map_err(io::Error::other)?,
        max_players: NonZeroU32::new(seats).unwrap_or(NonZeroU32::MIN),
        settings: workload.settings(),
        seed: Some(1),
        recordings,
        limits: Limits {
            connections_max: workload.clients() + 64,
            // All of them come at once.
            joins_burst_max: NonZeroU32::MAX,
            ..Limits::default()
        },
        ..ServerConfig::default()
    };
    // As the server's own program: this thread accepts, sessions and connections have theirs.
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = Server::start(server, vec![workload.game()]).map_err(io::Error::other)?;
        say(&Said::Listening { address: listener.local_addr()? });
        server.serve(listener, future::pending()).await;
        Ok(())
    })
}
