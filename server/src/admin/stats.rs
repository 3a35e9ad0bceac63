//! How sessions do, again and again.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use futures_util::{Stream, stream};
use tickwire_proto::v1::{SessionStats, Stats, StreamStatsRequest};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Interval, MissedTickBehavior, interval},
};
use tonic::Status;

use super::{auth::Unknown, info, visits::Held};
use crate::{
    durations::duration_within,
    server::{Phase, Shared},
    session::SessionHandle,
    sessions::{describe_recording, state_of},
    status::Refusal,
};

const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// How often somebody wants to be told.
pub(super) fn interval_of(request: &StreamStatsRequest) -> Result<Duration, Refusal> {
    let Some(asked) = request.interval else { return Ok(INTERVAL_DEFAULT) };
    let advice = format!("{INTERVAL_MIN:?} to {INTERVAL_MAX:?}");
    duration_within(asked, INTERVAL_MIN..=INTERVAL_MAX, "interval", &advice)
}

/// What a stream takes up for as long as it is there: its part of all of them, and its connection.
pub(super) type Places = (OwnedSemaphorePermit, Option<Held>);

/// Now, and after each interval, until the server ends, or who asked may ask no more. One who reads slowly gets the newest
/// later.
pub(super) fn stream(
    shared: Arc<Shared>,
    every: Duration,
    places: Places,
    may_ask: impl Fn() -> bool + Send,
) -> impl Stream<Item = Result<Stats, Status>> + Send {
    stream::unfold((shared, Some(due(every)), places, may_ask), |(shared, due, places, may_ask)| async move {
        let mut due = due?;
        let mut phase = shared.phase.subscribe();
        tokio::select! {
            _ = due.tick() => {}
            // An error says that the server is gone.
            _ = phase.wait_for(|phase| *phase == Phase::Ending) => return None,
        }
        if !may_ask() {
            let status = Refusal::from(Unknown { has_token: true, is_file: true, is_flood: false }).into();
            return Some((Err(status), (shared, None, places, may_ask)));
        }
        let stats = stats(&shared);
        Some((Ok(stats), (shared, Some(due), places, may_ask)))
    })
}

fn due(every: Duration) -> Interval {
    let mut due = interval(every);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    due
}

fn stats(shared: &Shared) -> Stats {
    Stats {
        time: Some(SystemTime::now().into()),
        sessions: shared.registry.all().iter().map(|session| session_stats(shared, session)).collect(),
        connections: info::count(shared.connections()),
        streams: info::count(shared.streams.load(Ordering::Relaxed)),
    }
}

fn session_stats(shared: &Shared, session: &SessionHandle) -> SessionStats {
    let counters = &session.counters;
    SessionStats {
        session: session.name.to_string(),
        state: state_of(shared, session).into(),
        paused: session.control.pause.is_paused(),
        tick: session.clock.tick().0,
        tick_rate: session.tick_rate.hz(),
        players: session.seats_taken(),
        max_players: session.max_players,
        spectators: info::count(session.live.spectators()),
        overruns: counters.overruns.load(Ordering::Relaxed),
        slips: counters.slips.load(Ordering::Relaxed),
        inputs_late: counters.inputs_late.load(Ordering::Relaxed),
        inputs_repeated: counters.inputs_repeated.load(Ordering::Relaxed),
        inputs_absent: counters.inputs_absent.load(Ordering::Relaxed),
        recording: session.recording.status().map(describe_recording),
    }
}
