//! `--watch`: spectators instead of players, who check every hash that comes.

use std::{num::NonZeroUsize, process::ExitCode, time::Duration};

use tickwire_client::{
    ClientError, JoinOptions, Spectator, WatchEvent, WatchOptions,
    bots::Tickets,
    connection::{ConnectOptions, Trust, WatchStats},
};
use tickwire_ticket::Role;
use tokio::{runtime, task::JoinSet, time};

use super::{
    EXIT_CLEAN, EXIT_FAILED, EXIT_USAGE,
    screen::{complain, say},
};

/// Watches for a while, and says what was seen.
pub(super) fn watch(
    url: &str,
    session: &str,
    (tickets, trust): (&Tickets, &Trust),
    count: NonZeroUsize,
    length: Duration,
    quiet: bool,
) -> ExitCode {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let (all, failed) = runtime.block_on(watch_all(url, session, (tickets, trust), count, length));
    let WatchStats { snapshots, hash_checks, desyncs, jumps: _ } = all;
    if !quiet {
        say(&format!("{count} spectators: {snapshots} snapshots, {hash_checks} hashes checked, {desyncs} differ"));
    }
    let code = match (failed, desyncs, snapshots) {
        (0, 0, 1..) => EXIT_CLEAN,
        (_, _, 0) => EXIT_USAGE,
        _ => EXIT_FAILED,
    };
    ExitCode::from(code)
}

async fn watch_all(
    url: &str,
    session: &str,
    (tickets, trust): (&Tickets, &Trust),
    count: NonZeroUsize,
    length: Duration,
) -> (WatchStats, usize) {
    let mut spectators = JoinSet::new();
    for number in 1..=count.get() {
        let connect = ConnectOptions { trust: trust.clone(), ..ConnectOptions::default() };
        let ticket = tickets.issue(Role::Spectator, &format!("spectator-{number}"), session);
        let (url, session) = (url.to_owned(), session.to_owned());
        spectators.spawn(async move {
            let ticket = ticket.map_err(|error| error.to_string())?;
            let join = JoinOptions { session, ticket, ..JoinOptions::default() };
            let options = WatchOptions { join, connect, ..WatchOptions::default() };
            let failed = |error: ClientError| error.to_string();
            let mut spectator = Spectator::connect(&url, &options).await.map_err(failed)?;
            let watched = time::timeout(length, watch_on(&mut spectator)).await;
            watched.unwrap_or(Ok(())).map(|()| *spectator.stats()).map_err(failed)
        });
    }
    let (mut all, mut failed) = (WatchStats::default(), 0);
    while let Some(watched) = spectators.join_next().await {
        match watched {
            Ok(Ok(stats)) => {
                all.snapshots += stats.snapshots;
                all.hash_checks += stats.hash_checks;
                all.desyncs += stats.desyncs;
            }
            Ok(Err(error)) => {
                failed += 1;
                complain(&format!("a spectator failed: {error}"));
            }
            // The panic hook has said it.
            Err(_) => failed += 1,
        }
    }
    (all, failed)
}

async fn watch_on(spectator: &mut Spectator) -> Result<(), ClientError> {
    while let Some(event) = spectator.next().await? {
        if let WatchEvent::Desync(error) = event {
            complain(&format!("a mirror differs: {error}"));
        }
    }
    Ok(())
}
