//! Frames in: the history that snapshots are computed from, and the chunks that streams share.

use std::sync::{
    Arc, Mutex, PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use tickwire_shared::{CellId, CellKey, CellState, Event, Frame, Game, Schema, Tick};
use tickwire_wire::{CellChange, ChunkBuffer, ChunkEncoder, Layout, SLICES_MAX};

use crate::{
    ReplicationConfig,
    history::History,
    interest::{Interest, Interests},
    memo::{Base, Chunk, ChunkKey, Memo},
};

/// The most that a kind weighs.
const WEIGHT_MAX: u32 = 16;

/// One session's frames, and what has been encoded of the newest: shared by all its streams.
pub struct Replicator {
    game: Arc<dyn Game>,
    config: ReplicationConfig,
    /// By kind.
    weights: Vec<u32>,
    encoder: ChunkEncoder,
    /// Room to encode in: as many as ever encoded at once.
    buffers: Mutex<Vec<ChunkBuffer>>,
    history: RwLock<Arc<History>>,
    /// The history before, until a stream's thread has freed it.
    retired: Mutex<Option<Arc<History>>>,
    has_retired: AtomicBool,
    memo: Memo,
    interests: Interests,
    counters: Arc<ReplicatorCounters>,
}

/// What a replicator has done, as totals since its start.
#[derive(Debug, Default)]
pub struct ReplicatorCounters {
    /// Changes of cells that were encoded. All other look-ups found what another stream had encoded.
    pub chunks_encoded: AtomicU64,
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
    pub fn new(game: Arc<dyn Game>, schema: &Schema, config: ReplicationConfig, frame: Arc<Frame>) -> Self {
        let weight = |kind| game.weight(kind).clamp(1, WEIGHT_MAX);
        Self {
            encoder: ChunkEncoder::new(Layout::of(schema)),
            buffers: Mutex::new(Vec::new()),
            weights: schema.kinds.iter().map(weight).collect(),
            game,
            config,
            history: RwLock::new(Arc::new(History::new(frame, config.history_ticks))),
            retired: Mutex::new(None),
            has_retired: AtomicBool::new(false),
            memo: Memo::new(config.memo_chunks_max, config.memo_bytes_max),
            interests: Interests::default(),
            counters: Arc::default(),
        }
    }

    /// Takes in the next frame. It costs the caller a few microseconds, whatever the number of streams.
    pub fn publish(&self, frame: Arc<Frame>) {
        let newest = Arc::clone(&self.history.read().unwrap_or_else(PoisonError::into_inner));
        let next = Arc::new(newest.with(frame));
        drop(newest);
        // A poisoned lock holds a whole Arc all the same: it is only ever replaced.
        let mut history = self.history.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *history, next);
        drop(history);
        // With it go frames that nobody needs, and chunks: where there are streams, on one of their threads.
        let unseen = self.retired.lock().unwrap_or_else(PoisonError::into_inner).replace(before);
        self.has_retired.store(true, Ordering::Release);
        drop(unseen);
    }

    /// The newest frame.
    #[must_use]
    pub fn newest(&self) -> Arc<Frame> {
        Arc::clone(self.history.read().unwrap_or_else(PoisonError::into_inner).newest())
    }

    /// The game that the frames are of.
    #[must_use]
    pub const fn game(&self) -> &Arc<dyn Game> {
        &self.game
    }

    /// The limits.
    #[must_use]
    pub const fn config(&self) -> &ReplicationConfig {
        &self.config
    }

    /// What it has done. They outlive it where somebody keeps them.
    #[must_use]
    pub const fn counters(&self) -> &Arc<ReplicatorCounters> {
        &self.counters
    }

    pub(crate) fn history(&self) -> Arc<History> {
        if self.has_retired.load(Ordering::Acquire) && self.has_retired.swap(false, Ordering::AcqRel) {
            let retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(retired);
        }
        Arc::clone(&self.history.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The cells that are seen from `focus`.
    pub(crate) fn interest(&self, frame: &Frame, focus: Option<CellKey>, radius: f64) -> Arc<Interest> {
        self.interests.get(self.game.as_ref(), frame, focus, radius)
    }

    /// All cells of the session.
    pub(crate) fn interest_in_all(&self, frame: &Frame) -> Arc<Interest> {
        self.interests.get_all(frame)
    }

    /// How much it matters what changed in a cell after the tick at which a receiver holds it: the most that any kind of
    /// it weighs.
    pub(crate) fn weight(&self, history: &History, cell: CellId, held: Option<Tick>) -> u32 {
        let Some(new) = history.newest().cell(cell) else { return 1 };
        let old = held.and_then(|held| history.frame(held)?.cell(cell));
        let changed = |kind: usize| match old {
            Some(old) => !Arc::ptr_eq(&old.state.kinds[kind], &new.state.kinds[kind]),
            None => !new.state.kinds[kind].ids.is_empty(),
        };
        let weights = self.weights.iter().enumerate().filter(|(kind, _)| changed(*kind)).map(|(_, weight)| *weight);
        weights.max().unwrap_or(1)
    }

    /// The change of a cell from `base` (or from nothing) to the newest frame of `history`. Encoded once for all streams
    /// while that frame is the newest.
    pub(crate) fn chunk(&self, history: &History, cell: CellId, base: Base, halvings: u8) -> Chunk {
        let key = ChunkKey { cell, base, halvings: 0 };
        let newest = history.newest();
        let is_fresh = matches!(base, Base::Tick(base) if base.next() == newest.tick);
        let chunk = match history.fresh().slot(cell).filter(|_| is_fresh) {
            Some(slot) => slot.get_or_init(|| self.encode(history, key)).clone(),
            None => self.memoised(history, key),
        };
        match &chunk {
            Chunk::Whole(body) if body.len() <= self.config.slice_bytes_max >> halvings => chunk,
            _ if halvings == 0 => chunk,
            _ => self.memoised(history, ChunkKey { halvings, ..key }),
        }
    }

    fn memoised(&self, history: &History, key: ChunkKey) -> Chunk {
        let newest = history.newest();
        self.memo.get_or_encode((newest.epoch, newest.tick), key, || self.encode(history, key))
    }

    fn encode(&self, history: &History, key: ChunkKey) -> Chunk {
        self.counters.chunks_encoded.fetch_add(1, Ordering::Relaxed);
        let newest = history.newest();
        let ChunkKey { cell, base, halvings } = key;
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
        // Slices may be as short as a stream's bytes per second ask for, and no more than a mirror takes.
        let cut = |halvings| self.bodies(&change, self.config.slice_bytes_max >> halvings);
        let fits = |bodies: &Vec<Bytes>| bodies.len() <= SLICES_MAX as usize;
        let bodies = (1..=halvings).rev().map(cut).find(fits).unwrap_or_else(|| cut(0));
        match <[Bytes; 1]>::try_from(bodies) {
            Ok([body]) => Chunk::Whole(body),
            Err(slices) => Chunk::Cut(slices.into()),
        }
    }

    fn bodies(&self, change: &CellChange<'_>, slice_bytes_max: usize) -> Vec<Bytes> {
        let buffers = || self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = buffers().pop().unwrap_or_default();
        let mut bodies = Vec::with_capacity(1);
        self.encoder.encode(change, slice_bytes_max, &mut buffer, &mut bodies);
        buffers().push(buffer);
        bodies
    }
}
