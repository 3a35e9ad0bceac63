//! Players who are taken out, and what an admin sees of those who are there.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tickwire_proto::v1 as pb;
use tickwire_shared::{PlayerId, Provenance};
use tickwire_simulation::SeatInput;
use tonic::Code;

use super::HeldSeat;
use crate::status::Refusal;

/// That a player is out, and what they are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ousted {
    pub(crate) kind: OustedKind,
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OustedKind {
    /// The player may come again.
    Kicked,
    Banned,
}

impl OustedKind {
    pub(crate) fn reason(self) -> pb::GoodbyeReason {
        match self {
            Self::Kicked => pb::GoodbyeReason::Kicked,
            Self::Banned => pb::GoodbyeReason::Banned,
        }
    }
}

impl Ousted {
    /// The status that the player's streams end with.
    pub(crate) fn refusal(&self) -> Refusal {
        let reason = match self.kind {
            OustedKind::Kicked => "KICKED",
            OustedKind::Banned => "BANNED",
        };
        Refusal::new(Code::PermissionDenied, reason, self.text.clone())
    }
}

/// A session's taken seats, for those who look from outside. The session's own thread keeps them.
#[derive(Debug, Default)]
pub(crate) struct SeatTable(Mutex<BTreeMap<PlayerId, Weak<HeldSeat>>>);

impl SeatTable {
    pub(super) fn insert(&self, seat: &Arc<HeldSeat>) {
        self.lock().insert(seat.player, Arc::downgrade(seat));
    }

    pub(super) fn remove(&self, player: PlayerId) {
        self.lock().remove(&player);
    }

    /// The seat of a player who is there.
    pub(crate) fn get(&self, player: PlayerId) -> Option<Arc<HeldSeat>> {
        self.lock().get(&player).and_then(Weak::upgrade)
    }

    /// All of them, in order of player.
    pub(crate) fn all(&self) -> Vec<Arc<HeldSeat>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PlayerId, Weak<HeldSeat>>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

/// What is known of a seat beside the match.
#[derive(Debug, Default)]
pub(crate) struct SeatFacts {
    /// Of the streams that are open.
    streams: Mutex<Vec<Arc<StreamFacts>>>,
    /// Where the player came from last.
    address: Mutex<Option<SocketAddr>>,
    inputs_fresh: AtomicU64,
    inputs_repeated: AtomicU64,
    inputs_absent: AtomicU64,
}

/// What is known of a stream.
#[derive(Debug)]
pub(crate) struct StreamFacts {
    pub(crate) address: SocketAddr,
    /// 0: not known yet.
    round_trip_us: AtomicU32,
}

/// Ticks of a seat, by where their inputs came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeatInputs {
    pub(crate) fresh: u64,
    pub(crate) repeated: u64,
    pub(crate) absent: u64,
}

impl SeatFacts {
    /// A stream of the seat's is open, until what this returns is dropped and [let go](Self::forget).
    pub(super) fn note_stream(&self, address: SocketAddr) -> Arc<StreamFacts> {
        let stream = Arc::new(StreamFacts { address, round_trip_us: AtomicU32::new(0) });
        self.streams().push(Arc::clone(&stream));
        *self.address.lock().expect("no holder of this lock panics") = Some(address);
        stream
    }

    pub(super) fn forget(&self, stream: &Arc<StreamFacts>) {
        self.streams().retain(|other| !Arc::ptr_eq(other, stream));
    }

    /// A tick has consumed this.
    pub(super) fn note_input(&self, input: &SeatInput) {
        let count = match input.provenance {
            Provenance::Fresh => &self.inputs_fresh,
            Provenance::Repeated => &self.inputs_repeated,
            Provenance::Absent => &self.inputs_absent,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many streams are open.
    pub(crate) fn stream_count(&self) -> usize {
        self.streams().len()
    }

    /// Where the player came from last: none before the first stream, as after a recovery.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        *self.address.lock().expect("no holder of this lock panics")
    }

    /// Whether any of the streams comes from an address that is meant, or the player came from one last.
    pub(crate) fn is_from(&self, mut is_meant: impl FnMut(IpAddr) -> bool) -> bool {
        self.streams().iter().any(|stream| is_meant(stream.address.ip()))
            || self.address().is_some_and(|address| is_meant(address.ip()))
    }

    /// The shortest round trip of lately, over all streams.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        let known =
            self.streams().iter().map(|stream| stream.round_trip_us.load(Ordering::Relaxed)).filter(|us| *us > 0).min();
        known.map(|us| Duration::from_micros(us.into()))
    }

    pub(crate) fn inputs(&self) -> SeatInputs {
        SeatInputs {
            fresh: self.inputs_fresh.load(Ordering::Relaxed),
            repeated: self.inputs_repeated.load(Ordering::Relaxed),
            absent: self.inputs_absent.load(Ordering::Relaxed),
        }
    }

    fn streams(&self) -> MutexGuard<'_, Vec<Arc<StreamFacts>>> {
        self.streams.lock().expect("no holder of this lock panics")
    }
}

impl StreamFacts {
    pub(super) fn note_round_trip(&self, round_trip: Duration) {
        // Less than a microsecond is one: 0 says that nothing is known.
        let us = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX).max(1);
        self.round_trip_us.store(us, Ordering::Relaxed);
    }
}
