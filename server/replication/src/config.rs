//! The limits of replication.

use tickwire_shared::TickRate;

/// The limits of one session's replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicationConfig {
    /// How many frames are kept as bases: at least 3 s of them.
    pub history_ticks: usize,
    /// N: cells' hashes are sent when ⌊tick / N⌋ rises.
    pub hash_interval: u32,
    /// The longest snapshot, in bytes of its message; the rest of the view is deferred.
    pub snapshot_bytes_max: usize,
    /// The longest update of one cell, in bytes; longer ones are cut. The same for a player's own events, of which the oldest
    /// are lost beyond it. At most a quarter of `snapshot_bytes_max`, so that
    /// the own cell, `always` and one more always fit. Streams of few bytes per second get shorter ones.
    pub slice_bytes_max: usize,
    /// Rows of the roster in one snapshot.
    pub roster_rows_per_snapshot: usize,
    /// How long a cell stays in a view that has turned away from it, in ticks: who walks to and fro across an edge does not
    /// get its cells anew each time.
    pub edge_ticks: u64,
    /// Chunks of the newest tick that are kept for other streams, beside those that lead there from the tick before;
    /// beyond it they are encoded again.
    pub memo_chunks_max: usize,
    /// The same in bytes.
    pub memo_bytes_max: usize,
    /// Unacknowledged bytes of one stream.
    pub in_flight_bytes_max: usize,
}

impl ReplicationConfig {
    /// The defaults at a tick rate: 4 s of history, two hashes of each cell a second, snapshots of 64 KiB.
    #[must_use]
    pub fn new(rate: TickRate) -> Self {
        Self {
            history_ticks: rate.ticks_in_ms(4000) as usize + 1,
            hash_interval: rate.hz().div_ceil(2),
            snapshot_bytes_max: 64 << 10,
            slice_bytes_max: 16 << 10,
            roster_rows_per_snapshot: 16,
            edge_ticks: rate.ticks_in_ms(2000),
            memo_chunks_max: 1 << 14,
            memo_bytes_max: 8 << 20,
            in_flight_bytes_max: 256 << 10,
        }
    }
}
