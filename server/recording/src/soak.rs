//! Two sessions side by side, of which one is rebuilt from its keyframe every so often: what a game needs to be, shown.

use std::{fmt, sync::Arc};

use tickwire_shared::{
    CellId, Column, Columns, Digest, Frame, Game, InputMode, KindId, NetId, PlayerId, Schema, Tick, Truth,
};
use tickwire_simulation::{
    Input, Keyframe, KeyframeError, RestoreError, Session, SessionConfig, SessionError, TickOutput, TickPanic,
};

use crate::{Difference, Divergence, RecordedResult};

/// What is played, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct SoakOptions {
    /// What both sessions are created with.
    pub config: SessionConfig,
    /// Bots with random inputs; they come, go, lose their connections, and send late and twice.
    pub players: u32,
    /// How many ticks.
    pub ticks: u64,
    /// How many ticks there are from one rebuild of the second session to the next; 0: it is never rebuilt.
    pub rebuild_every: u64,
}

impl Default for SoakOptions {
    /// 8 players, 600 ticks, rebuilt every 7.
    fn default() -> Self {
        Self { config: SessionConfig::default(), players: 8, ticks: 600, rebuild_every: 7 }
    }
}

/// Two sessions that were the same at every tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Soaked {
    /// How many ticks were compared.
    pub ticks: u64,
    /// How often the second session was rebuilt: 0 where the game saves nothing.
    pub rebuilds: u64,
    /// The last state hash.
    pub state_hash: u64,
    /// The size of the last keyframe, in bytes, not compressed.
    pub keyframe_bytes: usize,
}

/// The first tick at which two sessions part, or what keeps them from going on.
#[derive(Debug, thiserror::Error)]
pub enum SoakError {
    /// The session cannot be created.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The truth, an event, or hidden state.
    #[error("at tick {}, {}", .0.tick, SideBySide(&.0.difference))]
    Truth(Box<Divergence>),
    /// What clients hold.
    #[error("at tick {tick}, what clients hold differs: {place}")]
    Canonical {
        /// The tick.
        tick: Tick,
        /// Kind, entity and field, or what else it is.
        place: String,
    },
    /// It cannot be saved.
    #[error("after tick {tick}: {source}")]
    Save {
        /// The tick.
        tick: Tick,
        /// Why.
        source: tickwire_shared::SaveError,
    },
    /// What was saved cannot be read.
    #[error("after tick {tick}: {source}")]
    Keyframe {
        /// The tick.
        tick: Tick,
        /// Why.
        source: KeyframeError,
    },
    /// What was saved makes no session, or another one.
    #[error("after tick {tick}: {source}")]
    Restore {
        /// The tick.
        tick: Tick,
        /// Why.
        source: RestoreError,
    },
    /// The game panics, in one session or in both.
    #[error("{0}")]
    Panicked(TickPanic),
}

/// A difference in the words of two sessions.
struct SideBySide<'a>(&'a Difference);

impl fmt::Display for SideBySide<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = |event: &Option<String>| event.clone().unwrap_or_else(|| "none".to_owned());
        match self.0 {
            Difference::Field { kind, net_id, field, recorded, replayed } => {
                write!(f, "{kind} {net_id}, field {field}: {recorded} in the first session, {replayed} in the second")
            }
            Difference::Entity { kind, net_id, recorded } => {
                write!(f, "{kind} {net_id} is in the {} session only", if *recorded { "first" } else { "second" })
            }
            Difference::Event { ordinal, recorded, replayed } => {
                let (first, second) = (none(recorded), none(replayed));
                write!(f, "event {ordinal}: {first} in the first session, {second} in the second")
            }
            Difference::Hidden => write!(
                f,
                "hidden state differs: the roster, or what Game::digest mixes in; is it saved, and does it depend on the \
                 order of a query?"
            ),
        }
    }
}

/// Steps two sessions of a game side by side, with the same random players, and compares them at every tick. The second one
/// is rebuilt from its keyframe every few ticks, as after a crash; so whatever a game forgets to
/// [save](tickwire_shared::Game::saves), or does in the order in which it happens to find things, shows.
///
/// # Errors
/// The first difference, by tick, kind, entity and field; or what keeps the sessions from going on.
pub fn soak(game: &Arc<dyn Game>, options: &SoakOptions, mut each: impl FnMut(Tick)) -> Result<Soaked, SoakError> {
    let new = || Session::new(Arc::clone(game), options.config.clone());
    let (mut first, mut second) = (new()?, new()?);
    let mut truth = Truth::default();
    let mut soaked = Soaked { ticks: 0, rebuilds: 0, state_hash: 0, keyframe_bytes: 0 };
    for _ in 0..options.ticks {
        for session in [&mut first, &mut second] {
            act(session, options);
        }
        let (output, same) = (step(&mut first)?, step(&mut second)?);
        let tick = output.frame.tick;
        compare(first.schema(), &mut truth, &output, &same)?;
        (soaked.ticks, soaked.state_hash) = (tick.0, output.frame.state_hash);
        if options.rebuild_every > 0
            && tick.0.is_multiple_of(options.rebuild_every)
            && let Some(bytes) = rebuild(&mut second)?
        {
            soaked.rebuilds += 1;
            soaked.keyframe_bytes = bytes;
        }
        each(tick);
    }
    Ok(soaked)
}

/// For a game's own tests: a session of it that is rebuilt from its keyframe every few ticks is the one that is not, for
/// `ticks` ticks of random players.
///
/// # Panics
/// Where it is not, with a message that says when and where; and where the game saves nothing.
#[track_caller]
pub fn assert_rebuilds(game: impl Game, ticks: u64) {
    let game: Arc<dyn Game> = Arc::new(game);
    match soak(&game, &SoakOptions { ticks, ..SoakOptions::default() }, |_| {}) {
        Err(error) => panic!("{} does not rebuild: {error}", game.name()),
        Ok(Soaked { rebuilds: 0, .. }) if ticks >= SoakOptions::default().rebuild_every => {
            panic!("{} saves nothing; implement Game::saves", game.name())
        }
        Ok(_) => {}
    }
}

fn step(session: &mut Session) -> Result<TickOutput, SoakError> {
    let record = session.begin_tick();
    session.finish_tick(&record).map_err(SoakError::Panicked)
}

/// The session that goes on from the keyframe of one, in its place; how large that is in bytes, or `None` where there is none.
fn rebuild(session: &mut Session) -> Result<Option<usize>, SoakError> {
    let tick = session.tick();
    let Some(keyframe) = session.keyframe().map_err(|source| SoakError::Save { tick, source })? else {
        return Ok(None);
    };
    let bytes = keyframe.to_bytes();
    let keyframe =
        Keyframe::from_bytes(session.schema(), &bytes).map_err(|source| SoakError::Keyframe { tick, source })?;
    let restored = Session::restore(Arc::clone(session.game()), session.config().clone(), &keyframe);
    *session = restored.map_err(|source| SoakError::Restore { tick, source })?;
    Ok(Some(bytes.len()))
}

/// What the bots do before a tick: it follows from the seed and from the session's own state, so that two sessions that are
/// the same get the same.
fn act(session: &mut Session, options: &SoakOptions) {
    let now = session.tick().0;
    let dice = |player: u32, what: u64| {
        let mut dice = Digest::default();
        [options.config.seed, now, player.into(), what].into_iter().for_each(|word| dice.write(word));
        dice.finish()
    };
    if session.seats_taken() < options.players && (now == 0 || dice(0, 0).is_multiple_of(16)) {
        let many = if now == 0 { options.players } else { 1 };
        for _ in 0..many {
            // A full house keeps them out.
            let _ = session.join("");
        }
    }
    for seat in &Arc::clone(session.frame()).seats {
        let player = seat.player;
        let dice = |what| dice(player.0, what);
        match dice(1) % 1024 {
            0 => session.leave(player),
            1 => session.disconnect(player),
            2..=40 => drop(session.reconnect(player)),
            _ => {}
        }
        // Now and then none comes, or two, or one that is early or late.
        for copy in 0..[1, 1, 1, 1, 1, 1, 2, 0][(dice(2) % 8) as usize] {
            let target = (now + 1 + dice(3 + copy) % 3).saturating_sub(dice(5 + copy) % 2).max(1);
            if let Some(input) = input(session.schema(), options.config.seed, player, (now * 2 + 1 + copy, target)) {
                let seen = Tick(now.saturating_sub(dice(7) % 24));
                let input = input.with_seen(seen.0, (dice(8) % 256) as u32);
                let _ = input.map(|input| session.input(player, input));
            }
        }
    }
}

/// What a bot sends for a tick: what is held stays so for a while, actions come now and then.
fn input(schema: &Schema, seed: u64, player: PlayerId, (sequence, target): (u64, u64)) -> Option<Input> {
    let value = |(i, field): (u64, &tickwire_shared::InputField)| {
        let (min, max) = (i64::from(field.quantity.min), i64::from(field.quantity.max));
        let (period, is_due) = match field.mode {
            InputMode::Hold => (20, true),
            InputMode::Edge => (1, Digest::of(target ^ i << 40 ^ u64::from(player.0) << 48).is_multiple_of(8)),
        };
        let mut dice = Digest::default();
        [seed, target / period, player.0.into(), i].into_iter().for_each(|word| dice.write(word));
        let chosen = min + (dice.finish() % (max - min + 1).unsigned_abs()) as i64;
        // In range, so it fits.
        if is_due { chosen as i32 } else { field.neutral }
    };
    let values = (0..).zip(&schema.inputs).map(value);
    Input::new(schema, sequence, target, values).ok()
}

fn compare(schema: &Schema, truth: &mut Truth, first: &TickOutput, second: &TickOutput) -> Result<(), SoakError> {
    let tick = first.frame.tick;
    if first.result != second.result {
        let (there, here) = (RecordedResult::from(first.result.clone()), RecordedResult::from(second.result.clone()));
        let divergence = Divergence::between(schema, truth, &there, &here);
        return Err(divergence.map_or_else(
            |error| SoakError::Canonical { tick, place: error.to_string() },
            |divergence| SoakError::Truth(Box::new(divergence)),
        ));
    }
    if let Err(error) = truth.apply(&first.result.truth) {
        return Err(SoakError::Canonical { tick, place: error.to_string() });
    }
    frame_difference(schema, &first.frame, &second.frame)
        .map_or(Ok(()), |place| Err(SoakError::Canonical { tick, place }))
}

/// Where two frames of one truth are not the same.
fn frame_difference(schema: &Schema, a: &Frame, b: &Frame) -> Option<String> {
    if a.table != b.table || a.cells.len() != b.cells.len() {
        return Some("the areas that have been used".to_owned());
    }
    if let Some((a, b)) = a.places.entries().iter().zip(b.places.entries()).find(|(a, b)| a != b) {
        return Some(format!("entity {} is in cell {}, and in the second session {} in cell {}", a.0, a.2, b.0, b.2));
    }
    for (cell, (a, b)) in (0..).map(CellId).zip(a.cells.iter().zip(b.cells.iter())) {
        for (kind, (a, b)) in (0..).map(KindId).zip(a.state.kinds.iter().zip(&b.state.kinds)) {
            if a != b {
                return Some(format!("cell {cell}, {}", columns_difference(schema, kind, a, b)));
            }
        }
        if (&a.events, a.events_lost, a.changed) != (&b.events, b.events_lost, b.changed) {
            return Some(format!("cell {cell}, its events"));
        }
    }
    if let Some((a, _)) = a.seats.iter().zip(&b.seats).find(|(a, b)| a != b) {
        return Some(format!("player {}, their own part", a.player));
    }
    let is_same = a.seats.len() == b.seats.len() && a.roster == b.roster;
    (!is_same).then(|| "seats or roster".to_owned())
}

fn columns_difference(schema: &Schema, kind: KindId, a: &Columns, b: &Columns) -> String {
    let Some(definition) = schema.kind(kind) else { return format!("kind {kind}") };
    let name = &definition.name;
    if let Some((a, b)) = a.ids.iter().zip(&b.ids).find(|(a, b)| a != b) {
        return format!("{name}: {a} where the second session has {b}");
    }
    let row_of = |row: Option<usize>| row.and_then(|row| a.ids.get(row)).copied().unwrap_or(NetId::NONE);
    let fields = definition.public_fields().zip(a.fields.iter().zip(&b.fields));
    let different = fields.filter_map(|((_, field), (a, b))| Some((first_row(a, b)?, &field.name))).min();
    match different {
        Some((row, field)) => format!("{name} {}, field {field}", row_of(Some(row))),
        None => format!("{name} {}, its motion", row_of(a.motions.iter().zip(&b.motions).position(|(a, b)| a != b))),
    }
}

fn first_row(a: &Column, b: &Column) -> Option<usize> {
    fn position<T: PartialEq>(a: &[T], b: &[T]) -> Option<usize> {
        a.iter().zip(b).position(|(a, b)| a != b)
    }
    match (a, b) {
        (Column::Plain(a), Column::Plain(b)) => position(a, b),
        (Column::Anchored(a), Column::Anchored(b)) => position(a, b),
        (Column::Ramped(a), Column::Ramped(b)) => position(a, b),
        _ => Some(0),
    }
}
