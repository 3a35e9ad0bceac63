//! `--watch`: spectators instead of players, who check every hash that comes.

use std::{num::NonZeroUsize, process::ExitCode, time::Duration};

use tickwire_client::{
    ClientError, JoinOptions, Spectator, WatchEvent, WatchOptions,
    bots::Tickets,
    connection::{ConnectOptions, Trust, WatchStats},
};
use tickwire_ticket::Role;
use tokio::{
    runtime,
    task::JoinSet,
    time::{self, Instant},
};

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
    let (all, failed) = runtime.block_on(watch_all(url, session, (tickets, trust), count, length, quiet));
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
    quiet: bool,
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
            let tells = number == 1 && !quiet;
            watch_on(&mut spectator, length, tells).await.map_err(failed)?;
            Ok::<_, String>(*spectator.stats())
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

/// Until when somebody watches.
struct Watching {
    length: Duration,
    started: Instant,
    until: Instant,
    /// How much later than players spectators see the session, where nothing of it had been seen when that was told.
    delay: Option<Duration>,
    /// Whether a snapshot has come.
    has_seen: bool,
}

impl Watching {
    fn new(length: Duration, now: Instant) -> Self {
        Self { length, started: now, until: now + length, delay: None, has_seen: false }
    }

    /// Where the stream stands is told. Of a session that is younger than its spectators' delay there is nothing to see before
    /// that has passed. Whether this is news.
    fn is_told(&mut self, delay: Duration) -> bool {
        if self.has_seen || self.delay.is_some() || delay.is_zero() {
            return false;
        }
        self.delay = Some(delay);
        self.until = self.started + delay + self.length;
        true
    }

    /// A snapshot has come: what is watched begins with the first.
    fn sees(&mut self, now: Instant) {
        if !self.has_seen {
            self.has_seen = true;
            self.until = now + self.length;
        }
    }

    /// Why there was nothing to see.
    fn in_vain(&self, now: Instant) -> Option<String> {
        let passed = humantime::format_duration(Duration::from_secs((now - self.started).as_secs()));
        let later =
            self.delay.map(|delay| format!("; its spectators see it {} later", humantime::format_duration(delay)));
        (!self.has_seen).then(|| format!("a spectator was shown nothing in {passed}{}", later.unwrap_or_default()))
    }
}

/// Watches for a length of time from the first snapshot on. `tells`: who says what all of them wait for.
async fn watch_on(spectator: &mut Spectator, length: Duration, tells: bool) -> Result<(), ClientError> {
    let mut watching = Watching::new(length, Instant::now());
    while let Ok(event) = time::timeout_at(watching.until, spectator.next()).await {
        match event? {
            None => break,
            Some(WatchEvent::Desync(error)) => complain(&format!("a mirror differs: {error}")),
            Some(WatchEvent::Snapshot(_)) => watching.sees(Instant::now()),
            Some(WatchEvent::State) => {
                let delay = spectator.tick_rate().duration_of(spectator.state().delay_ticks);
                if watching.is_told(delay) && tells {
                    let delay = humantime::format_duration(delay);
                    say(&format!(
                        "spectators of this session see it {delay} later: where it is younger, that is waited for"
                    ));
                }
            }
            Some(WatchEvent::Notice(_) | WatchEvent::Goodbye(_)) => {}
        }
    }
    if let Some(problem) = watching.in_vain(Instant::now()) {
        complain(&problem);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);
    const DELAY: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_shown_late_is_waited_for_and_then_watched_for_as_long_as_was_asked() {
        let start = Instant::now();
        let mut watching = Watching::new(LENGTH, start);
        assert_eq!((watching.is_told(DELAY), watching.is_told(DELAY)), (true, false));
        assert_eq!(watching.until, start + DELAY + LENGTH);
        let first = start + Duration::from_secs(55);
        watching.sees(first);
        watching.sees(first + Duration::from_secs(5));
        assert!(!watching.is_told(DELAY));
        assert_eq!((watching.until, watching.in_vain(first)), (first + LENGTH, None));
    }

    #[test]
    fn who_was_shown_nothing_hears_why() {
        let start = Instant::now();
        let mut watching = Watching::new(LENGTH, start);
        assert!(!watching.is_told(Duration::ZERO));
        assert_eq!(watching.until, start + LENGTH);
        assert_eq!(watching.in_vain(start + LENGTH).as_deref(), Some("a spectator was shown nothing in 10s"));
        watching.is_told(DELAY);
        let said = "a spectator was shown nothing in 1m 10s; its spectators see it 1m later";
        assert_eq!(watching.in_vain(watching.until).as_deref(), Some(said));
    }
}
