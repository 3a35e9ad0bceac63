//! Chunks that streams share: each is encoded once, whoever needs it first.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tickwire_shared::{CellId, Tick};

/// How many locks the memo is spread over, so that streams on several threads rarely meet.
const SHARDS: usize = 16;

/// The change of a cell, as the bodies of one or more `CellUpdate`s.
#[derive(Clone, Debug)]
pub(crate) enum Chunk {
    Whole(Bytes),
    Cut(Arc<[Bytes]>),
}

/// What a chunk depends on, beside the tick that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChunkKey {
    pub(crate) cell: CellId,
    pub(crate) base: Base,
    /// How often the longest slice is halved.
    pub(crate) halvings: u8,
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

/// Chunks that lead to the newest tick from any base. It is bounded: what does not fit is not kept.
#[derive(Debug)]
pub(crate) struct Memo {
    shards: [Mutex<Shard>; SHARDS],
    chunks_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Shard {
    /// The (epoch, tick) that the chunks lead to.
    now: (u32, Tick),
    chunks: HashMap<ChunkKey, Chunk>,
    bytes: usize,
}

impl ChunkKey {
    /// By all of it: a small game has a single cell, and slow streams as many bases of it as there are streams.
    fn shard(&self) -> usize {
        let base = match self.base {
            Base::Tick(tick) => tick.0,
            Base::Nothing => u64::MAX,
            Base::Lost => u64::MAX - 1,
        };
        let mixed = (u64::from(self.cell.0) << 8 | u64::from(self.halvings)) ^ base.rotate_left(32);
        // Fibonacci hashing: the highest bits of the product depend on all.
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % SHARDS
    }
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Self::Whole(body) => body.len(),
            Self::Cut(slices) => slices.iter().map(Bytes::len).sum(),
        }
    }
}

impl Memo {
    pub(crate) fn new(chunks_max: usize, bytes_max: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, chunks_max: chunks_max / SHARDS, bytes_max: bytes_max / SHARDS }
    }

    /// The chunk of `key` that leads to `now`, which `encode` makes where it is not there.
    pub(crate) fn get_or_encode(&self, now: (u32, Tick), key: ChunkKey, encode: impl FnOnce() -> Chunk) -> Chunk {
        let shard = || {
            let mut shard = self.shards[key.shard()].lock().unwrap_or_else(PoisonError::into_inner);
            if shard.now < now {
                shard.now = now;
                shard.chunks.clear();
                shard.bytes = 0;
            }
            shard
        };
        if let Some(chunk) =
            Some(shard()).filter(|shard| shard.now == now).and_then(|shard| shard.chunks.get(&key).cloned())
        {
            return chunk;
        }
        // Not under the lock: that two threads now and then encode the same costs less than that all wait.
        let chunk = encode();
        let mut shard = shard();
        let has_room = shard.chunks.len() < self.chunks_max && shard.bytes + chunk.len() <= self.bytes_max;
        if shard.now == now && has_room && shard.chunks.insert(key, chunk.clone()).is_none() {
            shard.bytes += chunk.len();
        }
        chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(cell: u32, base: u64) -> ChunkKey {
        ChunkKey { cell: CellId(cell), base: Base::Tick(Tick(base)), halvings: 0 }
    }

    fn chunk(len: usize) -> Chunk {
        Chunk::Whole(vec![7; len].into())
    }

    fn kept(memo: &Memo) -> (usize, usize) {
        let shards = memo.shards.iter().map(|shard| shard.lock().expect("no test panics under it"));
        shards.fold((0, 0), |(chunks, bytes), shard| (chunks + shard.chunks.len(), bytes + shard.bytes))
    }

    #[test]
    fn a_chunk_is_encoded_once_for_each_base_and_tick() {
        let memo = Memo::new(1000, 1 << 20);
        let mut encoded = 0;
        // A stream that is still at the tick before disturbs no others.
        for (now, base) in [(5, 1), (5, 1), (5, 2), (5, 1), (6, 1), (6, 1), (5, 1), (6, 1)] {
            memo.get_or_encode((0, Tick(now)), key(3, base), || {
                encoded += 1;
                chunk(10)
            });
        }
        assert_eq!(encoded, 4);
    }

    #[test]
    fn the_bases_of_one_cell_have_nearly_all_of_the_memo() {
        let memo = Memo::new(1 << 14, 8 << 20);
        for base in 0..240 {
            memo.get_or_encode((0, Tick(2000)), key(0, base), || chunk(25_000));
        }
        // Of 335 that would fit.
        assert_eq!(kept(&memo), (240, 240 * 25_000));
    }

    #[test]
    fn whatever_streams_ask_for_the_memo_stays_within_its_bounds() {
        let memo = Memo::new(64, 16 << 10);
        for base in 0..1000 {
            for cell in 0..32 {
                let got = memo.get_or_encode((0, Tick(2000)), key(cell, base), || chunk(base as usize));
                assert_eq!(got.len(), base as usize);
            }
        }
        let (chunks, bytes) = kept(&memo);
        assert!((1..=64).contains(&chunks) && bytes <= 16 << 10, "{chunks} chunks of {bytes} bytes");
    }
}
