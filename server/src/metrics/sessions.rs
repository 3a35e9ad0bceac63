//! What sessions count, by session or, where there are many, by game.
//!
//! What sessions of the past have counted stays in a game's totals, so that these never go back.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tickwire_proto::v1::SessionEndCause;
use tickwire_recording::{RecorderState, RecorderStatus};
use tickwire_replication::ReplicatorCounters;

use super::{
    Counted, Histogram, Reasons,
    families::{self, Exposition, Family, seconds},
};
use crate::{
    chat::{ChatCounters, Rejection},
    session::{Listing, RecordingWatch, SessionCounters, SessionHandle, SessionState, StreamCounters, TICK_BOUNDS_US},
};

/// With more sessions than this, all of a game are put out as one: a time series costs its reader some KiB.
pub(super) const SESSIONS_SHOWN_MAX: usize = 100;

/// All sessions that there have been.
#[derive(Debug, Default)]
pub(crate) struct SessionMeters {
    meters: Mutex<Meters>,
    /// Sessions that were started.
    started: AtomicU64,
    /// Sessions that have ended, by why.
    ended: Reasons<&'static str>,
}

#[derive(Debug, Default)]
struct Meters {
    known: Vec<Meter>,
    /// By game: those that are over.
    over: BTreeMap<String, Totals>,
}

/// What a session counts. It outlives the session until it has been added to its game's totals.
#[derive(Debug)]
struct Meter {
    game: String,
    session: Weak<SessionHandle>,
    counters: Arc<SessionCounters>,
    streams: Vec<Arc<StreamCounters>>,
    replicator: Arc<ReplicatorCounters>,
    recording: RecordingWatch,
    chat: Arc<ChatCounters>,
}

/// A count of a session: a series of a family.
struct Count {
    family: &'static Family,
    /// The value of the family's last label, where it has one beside game and session.
    label: Option<&'static str>,
    read: fn(&Meter) -> u64,
    /// A count of microseconds is put out in seconds.
    is_us: bool,
}

const fn count(family: &'static Family, read: fn(&Meter) -> u64) -> Count {
    Count { family, label: None, read, is_us: false }
}

const fn labelled(family: &'static Family, label: &'static str, read: fn(&Meter) -> u64) -> Count {
    Count { family, label: Some(label), read, is_us: false }
}

/// What chat has rejected for the reason of this place among all.
const fn rejected<const REASON: usize>() -> Count {
    let read: fn(&Meter) -> u64 = |meter| meter.chat.rejected[REASON].load(Relaxed);
    labelled(families::CHAT_REJECTED, Rejection::ALL[REASON].label(), read)
}

/// How many there are: a number, since types that are shared between threads are made of it.
const COUNTS_LEN: usize = 42;
/// Those of one family stand together.
const COUNTS: [Count; COUNTS_LEN] = [
    count(families::OVERRUNS, |meter| meter.counters.overruns.load(Relaxed)),
    count(families::SLIPS, |meter| meter.counters.slips.load(Relaxed)),
    Count { is_us: true, ..count(families::SLIP_SECONDS, |meter| meter.counters.slip_us.load(Relaxed)) },
    count(families::STUCK, |meter| meter.counters.stuck.load(Relaxed)),
    count(families::RESUMES, |meter| meter.counters.seats_resumed.load(Relaxed)),
    count(families::STRIPES_ATTACHED, |meter| meter.counters.stripes_attached.load(Relaxed)),
    count(families::STRIPES_LOST, |meter| meter.counters.stripes_lost.load(Relaxed)),
    labelled(families::INPUT_TICKS, "fresh", |meter| meter.counters.inputs_fresh.load(Relaxed)),
    labelled(families::INPUT_TICKS, "repeated", |meter| meter.counters.inputs_repeated.load(Relaxed)),
    labelled(families::INPUT_TICKS, "absent", |meter| meter.counters.inputs_absent.load(Relaxed)),
    labelled(families::INPUTS_NOT_TAKEN, "late", |meter| meter.counters.inputs_late.load(Relaxed)),
    labelled(families::INPUTS_NOT_TAKEN, "too_early", |meter| meter.counters.inputs_too_early.load(Relaxed)),
    labelled(families::INPUTS_NOT_TAKEN, "duplicate", |meter| meter.counters.inputs_duplicate.load(Relaxed)),
    labelled(families::INPUTS_NOT_TAKEN, "dropped", |meter| meter.counters.inputs_dropped.load(Relaxed)),
    labelled(families::INPUTS_NOT_TAKEN, "sent_again", |meter| meter.counters.inputs_sent_again.load(Relaxed)),
    count(families::STALE_EPOCHS, |meter| meter.counters.stale_epochs.load(Relaxed)),
    count(families::RESYNCS, |meter| meter.counters.resyncs.load(Relaxed)),
    labelled(families::SNAPSHOTS, "full", |meter| meter.sent(|streams| streams.full.load(Relaxed))),
    labelled(families::SNAPSHOTS, "delta", |meter| meter.sent(|streams| streams.delta.load(Relaxed))),
    labelled(families::SNAPSHOT_BYTES, "full", |meter| meter.sent(|streams| streams.full_bytes.load(Relaxed))),
    labelled(families::SNAPSHOT_BYTES, "delta", |meter| meter.sent(|streams| streams.delta_bytes.load(Relaxed))),
    count(families::SUPERSEDED, |meter| meter.sent(|streams| streams.superseded.load(Relaxed))),
    count(families::CREDIT_STALLS, |meter| meter.sent(|streams| streams.credit_stalls.load(Relaxed))),
    count(families::CHUNK_LOOKUPS, |meter| meter.sent(|streams| streams.chunk_lookups.load(Relaxed))),
    count(families::CHUNKS_ENCODED, |meter| meter.replicator.chunks_encoded.load(Relaxed)),
    count(families::CHAT_LINES, |meter| meter.chat.sent.load(Relaxed)),
    count(families::CHAT_DELIVERED, |meter| meter.chat.delivered.load(Relaxed)),
    count(families::CHAT_DROPPED, |meter| meter.chat.dropped.load(Relaxed)),
    count(families::CHAT_UNRECORDED, |meter| meter.chat.unrecorded.load(Relaxed)),
    rejected::<{ Rejection::Flooding as usize }>(),
    rejected::<{ Rejection::TooLong as usize }>(),
    rejected::<{ Rejection::Empty as usize }>(),
    rejected::<{ Rejection::ControlCharacter as usize }>(),
    rejected::<{ Rejection::Silenced as usize }>(),
    rejected::<{ Rejection::Moderated as usize }>(),
    rejected::<{ Rejection::Unmoderated as usize }>(),
    rejected::<{ Rejection::NoTeam as usize }>(),
    rejected::<{ Rejection::NoSuchPlayer as usize }>(),
    rejected::<{ Rejection::ReadOnly as usize }>(),
    rejected::<{ Rejection::MutesFull as usize }>(),
    count(families::RECORDER_FAILURES, |meter| meter.recording.status().map_or(0, |status| status.failures)),
    count(families::SEGMENTS_LEFT, |meter| meter.recording.status().map_or(0, |status| status.segments_left)),
];

/// What one or several sessions have counted.
#[derive(Clone, Debug)]
struct Totals {
    counts: [u64; COUNTS_LEN],
    tick_duration: Counted<12>,
    tick_lateness: Counted<12>,
}

/// What one or several sessions are at now.
#[derive(Clone, Debug, Default)]
struct Now {
    tick: u64,
    seats_taken: u64,
    seats_max: u64,
    players: u64,
    stripes: u64,
    spectators: u64,
    recording: Option<RecordingNow>,
}

#[derive(Clone, Copy, Debug, Default)]
struct RecordingNow {
    lag_ticks: u64,
    lag_bytes: u64,
    unsynced_bytes: u64,
    bytes: u64,
}

/// The labels of series, and what they say.
type Shown = ((String, String), (Totals, Now));

impl SessionMeters {
    /// From its start on.
    pub(crate) fn add(&self, session: &Arc<SessionHandle>) {
        let meter = Meter {
            game: session.schema.game.clone(),
            session: Arc::downgrade(session),
            counters: Arc::clone(&session.counters),
            streams: session.relays.iter().map(|relay| Arc::clone(&relay.counters)).collect(),
            replicator: Arc::clone(session.replicator.counters()),
            recording: session.recording.clone(),
            chat: Arc::clone(&session.chat.counters),
        };
        self.started.fetch_add(1, Relaxed);
        let mut meters = self.lock();
        // Here, too, so that nothing piles up where nobody asks for metrics.
        meters.retire();
        meters.known.push(meter);
    }

    /// A session has ended for this.
    pub(crate) fn note_end(&self, cause: SessionEndCause) {
        self.ended.note(of_cause(cause));
    }

    /// Puts out what the sessions of `listing` count, and those before them.
    pub(super) fn put(&self, listing: &Listing, exposition: &mut Exposition) {
        let shown = self.shown(listing);
        exposition.family(families::SESSIONS_STARTED).number(&[], self.started.load(Relaxed) as f64);
        let causes = (1..).map_while(|number| SessionEndCause::try_from(number).ok()).map(of_cause);
        let mut ended = exposition.family(families::SESSIONS_ENDED);
        for (cause, count) in self.ended.counted(causes) {
            ended.number(&[cause], count as f64);
        }
        put_states(listing, exposition);
        put_gauge(exposition, families::SESSION_TICK, &shown, |now| Some(now.tick));
        for (family, of) in [
            (families::TICK_DURATION, (|totals| &totals.tick_duration) as fn(&Totals) -> &Counted<12>),
            (families::TICK_LATENESS, |totals| &totals.tick_lateness),
        ] {
            let mut metrics = exposition.family(family);
            for ((game, session), (totals, _)) in &shown {
                metrics.histogram(&[game, session], of(totals), &TICK_BOUNDS_US);
            }
        }
        put_gauge(exposition, families::SEATS_TAKEN, &shown, |now| Some(now.seats_taken));
        put_gauge(exposition, families::SEATS_MAX, &shown, |now| Some(now.seats_max));
        let mut peers = exposition.family(families::PEERS);
        for ((game, session), (_, now)) in &shown {
            for (kind, count) in [("player", now.players), ("stripe", now.stripes), ("spectator", now.spectators)] {
                peers.number(&[game, session, kind], count as f64);
            }
        }
        for (family, of) in [
            (families::RECORDER_LAG_TICKS, (|now| now.lag_ticks) as fn(&RecordingNow) -> u64),
            (families::RECORDER_LAG_BYTES, |now| now.lag_bytes),
            (families::RECORDER_UNSYNCED_BYTES, |now| now.unsynced_bytes),
            (families::RECORDING_BYTES, |now| now.bytes),
        ] {
            put_gauge(exposition, family, &shown, |now| now.recording.as_ref().map(of));
        }
        put_counts(exposition, &shown);
    }

    /// The sessions by themselves, where there are few of them, or else all of each game.
    fn shown(&self, listing: &Listing) -> Vec<Shown> {
        let mut meters = self.lock();
        meters.retire();
        let sessions: Vec<_> = listing.iter().collect();
        if sessions.len() <= SESSIONS_SHOWN_MAX {
            let is_of = |session: &Arc<SessionHandle>, meter: &&Meter| meter.session.as_ptr() == Arc::as_ptr(session);
            let of = |session: &&Arc<SessionHandle>| {
                let meter = meters.known.iter().find(|meter| is_of(session, meter))?;
                let labels = (meter.game.clone(), session.name.id().to_owned());
                Some((labels, (Totals::of(meter), Now::of(session))))
            };
            return sessions.iter().filter_map(of).collect();
        }
        let mut games: BTreeMap<String, (Totals, Now)> = BTreeMap::new();
        for (game, totals) in &meters.over {
            games.insert(game.clone(), (totals.clone(), Now::default()));
        }
        for meter in &meters.known {
            games.entry(meter.game.clone()).or_default().0.add(&Totals::of(meter));
        }
        for session in sessions {
            games.entry(session.schema.game.clone()).or_default().1.add(Now::of(session));
        }
        games.into_iter().map(|(game, shown)| ((game, String::new()), shown)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Meters> {
        self.meters.lock().expect("no holder of this lock panics")
    }
}

impl Meters {
    /// Adds up those that are gone, which count nothing more.
    fn retire(&mut self) {
        for meter in self.known.extract_if(.., |meter| meter.session.strong_count() == 0) {
            self.over.entry(meter.game.clone()).or_default().add(&Totals::of(&meter));
        }
    }
}

impl Meter {
    fn sent(&self, of: fn(&StreamCounters) -> u64) -> u64 {
        self.streams.iter().map(|streams| of(streams)).sum()
    }
}

impl Default for Totals {
    fn default() -> Self {
        Self { counts: [0; COUNTS_LEN], tick_duration: Counted::NOTHING, tick_lateness: Counted::NOTHING }
    }
}

impl Totals {
    fn of(meter: &Meter) -> Self {
        let counted = |histogram: &Histogram<12>| histogram.counted();
        Self {
            counts: COUNTS.each_ref().map(|count| (count.read)(meter)),
            tick_duration: counted(&meter.counters.tick_duration),
            tick_lateness: counted(&meter.counters.tick_lateness),
        }
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.tick_duration.add(&other.tick_duration);
        self.tick_lateness.add(&other.tick_lateness);
    }
}

impl Now {
    fn of(session: &SessionHandle) -> Self {
        let players = u64::from(session.counters.players.load(Relaxed));
        let streams: usize = session.relays.iter().map(|relay| relay.streams()).sum();
        let recording = |RecorderStatus { lag_ticks, lag_bytes, unsynced_bytes, bytes, .. }| RecordingNow {
            lag_ticks,
            lag_bytes,
            unsynced_bytes,
            bytes,
        };
        Self {
            tick: session.clock.tick().0,
            seats_taken: session.seats_taken().into(),
            seats_max: session.max_players.into(),
            players,
            stripes: (streams as u64).saturating_sub(players),
            spectators: session.live.spectators() as u64,
            recording: session.recording.status().map(recording),
        }
    }

    fn add(&mut self, other: Self) {
        self.tick = self.tick.max(other.tick);
        self.seats_taken += other.seats_taken;
        self.seats_max += other.seats_max;
        self.players += other.players;
        self.stripes += other.stripes;
        self.spectators += other.spectators;
        if let Some(more) = other.recording {
            let all = self.recording.get_or_insert_default();
            all.lag_ticks = all.lag_ticks.max(more.lag_ticks);
            all.lag_bytes += more.lag_bytes;
            all.unsynced_bytes += more.unsynced_bytes;
            all.bytes += more.bytes;
        }
    }
}

/// How many sessions, and how many recordings, are in which state.
fn put_states(listing: &Listing, exposition: &mut Exposition) {
    let mut sessions: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut recorders: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for session in listing.iter() {
        let game = session.schema.game.as_str();
        for state in ["running", "stuck", "stopped", "failed", "ended"] {
            sessions.entry((game, state)).or_default();
        }
        let state = match session.state() {
            SessionState::Running if session.is_stuck() => "stuck",
            SessionState::Running => "running",
            SessionState::Stopped => "stopped",
            SessionState::Failed => "failed",
            SessionState::Ended => "ended",
        };
        *sessions.entry((game, state)).or_default() += 1;
        if let Some(status) = session.recording.status() {
            for state in ["running", "behind", "stopped", "limited", "closed"] {
                recorders.entry((game, state)).or_default();
            }
            *recorders.entry((game, recorder_state(status.state))).or_default() += 1;
        }
    }
    for (family, counts) in [(families::SESSIONS, sessions), (families::RECORDERS, recorders)] {
        let mut metrics = exposition.family(family);
        for ((game, state), count) in counts {
            metrics.number(&[game, state], count.into());
        }
    }
}

/// A cause's name, without what all of them begin with.
fn of_cause(cause: SessionEndCause) -> &'static str {
    let name = cause.as_str_name();
    name.strip_prefix("SESSION_END_CAUSE_").unwrap_or(name)
}

fn recorder_state(state: RecorderState) -> &'static str {
    match state {
        RecorderState::Running => "running",
        RecorderState::Behind => "behind",
        RecorderState::Stopped => "stopped",
        RecorderState::Limited => "limited",
        RecorderState::Closed => "closed",
    }
}

fn put_gauge(exposition: &mut Exposition, family: &'static Family, shown: &[Shown], of: impl Fn(&Now) -> Option<u64>) {
    let mut metrics = exposition.family(family);
    for ((game, session), (_, now)) in shown {
        if let Some(number) = of(now) {
            metrics.number(&[game, session], number as f64);
        }
    }
}

fn put_counts(exposition: &mut Exposition, shown: &[Shown]) {
    for group in COUNTS.chunk_by(|a, b| std::ptr::eq(a.family, b.family)) {
        // Places in all counts go on from group to group.
        let first = COUNTS.iter().position(|count| std::ptr::eq(count.family, group[0].family)).unwrap_or_default();
        let mut metrics = exposition.family(group[0].family);
        for ((game, session), (totals, _)) in shown {
            for (place, count) in (first..).zip(group) {
                let total = totals.counts[place];
                let number = if count.is_us { seconds(total) } else { total as f64 };
                let values = [Some(game.as_str()), Some(session), count.label];
                let values: Vec<&str> = values.into_iter().flatten().collect();
                metrics.number(&values, number);
            }
        }
    }
}
