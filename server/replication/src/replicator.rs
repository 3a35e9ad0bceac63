//! Frames in: the history that snapshots are computed from, and the chunks that streams share.

use std::{
    collections::VecDeque,
    hash::BuildHasherDefault,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use bytes::Bytes;
use tickwire_shared::{CellId, CellState, Event, Frame, Game, PlayerId, Schema, SeatFrame, Tick};
use tickwire_wire::{CellChange, ChunkBuffer, ChunkEncoder, Layout};

use crate::ReplicationConfig;

/// How many locks the memo is spread over, so that streams on several threads rarely meet.
const MEMO_SHARDS: usize = 16;

/// One session's frames, and what has been encoded of the newest: shared by all its streams.
pub struct Replicator {
    game: Arc<dyn Game>,
    schema: Arc<Schema>,
    config: ReplicationConfig,
    encoder: ChunkEncoder,
    history: RwLock<Arc<History>>,
    memo: [Mutex<MemoShard>; MEMO_SHARDS],
}

impl std::fmt::Debug for Replicator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replicator")
            .field("game", &self.game.name())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Replicator {
    /// A replicator for a session whose newest frame is `frame`.
    #[must_use]
    pub fn new(game: Arc<dyn Game>, schema: Arc<Schema>, config: ReplicationConfig, frame: Arc<Frame>) -> Self {
        let history = History { frames: VecDeque::from([frame]) };
        Self {
            encoder: ChunkEncoder::new(Layout::of(&schema)),
            game,
            schema,
            config,
            history: RwLock::new(Arc::new(history)),
            memo: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Takes in the next frame. It costs the caller a few microseconds, whatever the number of streams.
    pub fn publish(&self, frame: Arc<Frame>) {
        let mut history = History::clone(&self.history());
        if history.newest().epoch != frame.epoch || frame.tick.0 != history.newest().tick.0 + 1 {
            // Another epoch, or a gap: no older frame is a base any more.
            history.frames.clear();
        }
        while history.frames.len() >= self.config.history_ticks.max(1) {
            history.frames.pop_front();
        }
        history.frames.push_back(frame);
        // A poisoned lock holds a whole Arc all the same: it is only ever replaced.
        *self.history.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(history);
    }

    /// The newest frame.
    #[must_use]
    pub fn newest(&self) -> Arc<Frame> {
        Arc::clone(self.history().newest())
    }

    /// The limits.
    #[must_use]
    pub const fn config(&self) -> &ReplicationConfig {
        &self.config
    }

    /// The game's schema.
    #[must_use]
    pub const fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The game, for what it decides about views.
    #[must_use]
    pub fn game(&self) -> &dyn Game {
        self.game.as_ref()
    }

    pub(crate) fn history(&self) -> Arc<History> {
        Arc::clone(&self.history.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The change of a cell from `base` (or from nothing) to the newest frame of `history`: as the bodies of one or more
    /// `CellUpdate`s. Encoded once for all streams while that frame is the newest.
    pub(crate) fn chunk(&self, history: &History, cell: CellId, base: Base) -> Arc<[Bytes]> {
        let newest = history.newest();
        let mut shard = self.memo[cell.index() % MEMO_SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        let now = (newest.epoch, newest.tick);
        if shard.now < now {
            shard.now = now;
            shard.chunks.clear();
        }
        let is_shared = shard.now == now && shard.chunks.len() < self.config.memo_chunks_max / MEMO_SHARDS;
        if shard.now == now
            && let Some(chunk) = shard.chunks.get(&(cell, base))
        {
            return Arc::clone(chunk);
        }
        let chunk = self.encode(history, cell, base);
        if is_shared {
            shard.chunks.insert((cell, base), Arc::clone(&chunk));
        }
        chunk
    }

    fn encode(&self, history: &History, cell: CellId, base: Base) -> Arc<[Bytes]> {
        let newest = history.newest();
        let (base_tick, lost_with_base) = match base {
            Base::Tick(tick) => (Some(tick), 0),
            Base::Nothing => (None, 0),
            Base::Lost => (None, 1),
        };
        let base_state: Option<(Tick, &CellState)> = base_tick.map(|tick| {
            let frame = history.frame(tick).expect("the view has checked that its base is in history");
            (tick, frame.cell(cell).expect("a cell that was sent is in the frame of its tick").state.as_ref())
        });
        let first = base_tick.unwrap_or(Tick(newest.tick.0.saturating_sub(1)));
        let mut events: Vec<(Tick, &Event)> = Vec::new();
        let mut events_lost: u32 = lost_with_base;
        for frame in history.after(first) {
            let Some(cell) = frame.cell(cell) else { continue };
            events.extend(cell.events.iter().flat_map(|events| events.iter()).map(|event| (frame.tick, event)));
            events_lost = events_lost.saturating_add(cell.events_lost);
        }
        let change = CellChange {
            cell,
            base: base_state,
            tick: newest.tick,
            state: &newest.cell(cell).expect("views hold cells of the newest frame").state,
            places: &newest.places,
            events: &events,
            events_lost,
            hash_interval: self.config.hash_interval,
        };
        let mut bodies = Vec::new();
        self.encoder.encode(&change, self.config.slice_bytes_max, &mut ChunkBuffer::default(), &mut bodies);
        bodies.into()
    }
}

/// What a stream holds of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Base {
    /// The cell at this tick, which is in history.
    Tick(Tick),
    /// Nothing: the cell enters the view.
    Nothing,
    /// Something that has left history: it gets the whole cell, and is told that events are missing.
    Lost,
}

#[derive(Default)]
struct MemoShard {
    /// The (epoch, tick) that the chunks lead to.
    now: (u32, Tick),
    chunks: std::collections::HashMap<(CellId, Base), Arc<[Bytes]>, BuildHasherDefault<std::hash::DefaultHasher>>,
}

/// The frames of the last seconds, of consecutive ticks.
#[derive(Clone, Debug)]
pub(crate) struct History {
    frames: VecDeque<Arc<Frame>>,
}

impl History {
    pub(crate) fn newest(&self) -> &Arc<Frame> {
        self.frames.back().expect("history starts with a frame and keeps at least one")
    }

    /// The frame of a tick, where it is still there.
    pub(crate) fn frame(&self, tick: Tick) -> Option<&Arc<Frame>> {
        let oldest = self.frames.front()?.tick;
        self.frames.get(usize::try_from(tick.0.checked_sub(oldest.0)?).ok()?)
    }

    /// The frames after `tick`, oldest first.
    pub(crate) fn after(&self, tick: Tick) -> impl Iterator<Item = &Arc<Frame>> {
        let oldest = self.frames.front().map_or(Tick::ZERO, |frame| frame.tick);
        let skipped = (tick.0 + 1).saturating_sub(oldest.0);
        self.frames.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX))
    }

    /// A player's part of the frames after `tick`, oldest first.
    pub(crate) fn seats_after(&self, tick: Tick, player: PlayerId) -> impl Iterator<Item = (Tick, &SeatFrame)> {
        self.after(tick).filter_map(move |frame| Some((frame.tick, frame.seat(player)?)))
    }
}
