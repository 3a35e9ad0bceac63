//! What a match costs on the wire: a recording, encoded again tick by tick, and every byte accounted for.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::{CellId, Event, Frame, Game, OwnerRow, PlayerId, Schema, SeatFrame, Tick};
use tickwire_wire::{CellChange, ChunkAccount, ChunkBuffer, ChunkEncoder, Layout, OwnerAccount, OwnerBase, varint_len};

use crate::{Recording, Replay, VerifyError};

/// What a match costs: what a stream that sees all of it gets, each tick, and what each player's own stream gets beside.
///
/// Both as fields of snapshots. What else a snapshot has, some 15 bytes of ticks and of feedback for inputs, hangs on the
/// stream, and is not among it; nor is the roster.
#[derive(Clone, Debug)]
pub struct ByteReport {
    /// How many ticks were played.
    pub ticks: u64,
    /// By kind: the sum over all ticks of how many entities there were.
    pub entity_ticks: Vec<u64>,
    /// The sum over all ticks of how many players sat.
    pub player_ticks: u64,
    /// What the cells' updates were spent on.
    pub cells: ChunkAccount,
    /// The length of all cells' updates, as they were encoded.
    pub cell_bytes: u64,
    /// What the owner sections of all players were spent on.
    pub owners: OwnerAccount,
    /// The length of all owner sections, as they were encoded.
    pub owner_bytes: u64,
}

/// Plays a recording again, and accounts for what its ticks come to on the wire: with the hash of a cell when
/// ⌊tick / `hash_interval`⌋ rises, in updates of at most `slice_bytes_max` bytes.
///
/// # Errors
/// What keeps the recording from being played again; also where it now plays otherwise.
pub fn byte_report(
    recording: &Recording,
    game: Arc<dyn Game>,
    hash_interval: u32,
    slice_bytes_max: usize,
) -> Result<ByteReport, VerifyError> {
    let replay = Replay::new(recording, game).map_err(|source| VerifyError::Replay { verified: Tick::ZERO, source })?;
    let schema = Arc::clone(replay.session().schema());
    let before = Arc::clone(replay.session().frame());
    let mut ledger = Ledger {
        encoder: ChunkEncoder::new(Layout::of(&schema)),
        hash_interval,
        slice_bytes_max,
        buffer: ChunkBuffer::default(),
        bases: BTreeMap::new(),
        section: pb::OwnerSection::default(),
        before,
        report: ByteReport::new(&schema),
    };
    replay.verify(|tick| {
        if let Ok(output) = &tick.outcome {
            ledger.enter(&output.frame);
        }
    })?;
    Ok(ledger.report)
}

impl ByteReport {
    fn new(schema: &Schema) -> Self {
        Self {
            ticks: 0,
            entity_ticks: vec![0; schema.kinds.len()],
            player_ticks: 0,
            cells: ChunkAccount::new(schema),
            cell_bytes: 0,
            owners: OwnerAccount::new(schema),
            owner_bytes: 0,
        }
    }
}

/// Encodes frame after frame.
struct Ledger {
    encoder: ChunkEncoder,
    hash_interval: u32,
    slice_bytes_max: usize,
    buffer: ChunkBuffer,
    bases: BTreeMap<PlayerId, OwnerBase>,
    section: pb::OwnerSection,
    before: Arc<Frame>,
    report: ByteReport,
}

impl Ledger {
    fn enter(&mut self, frame: &Arc<Frame>) {
        self.report.ticks += 1;
        for (i, cell) in frame.cells.iter().enumerate() {
            for (sum, columns) in self.report.entity_ticks.iter_mut().zip(&cell.state.kinds) {
                *sum += columns.ids.len() as u64;
            }
            if cell.changed == frame.tick || i >= self.before.cells.len() {
                self.enter_cell(i, frame);
            }
        }
        self.report.player_ticks += frame.seats.len() as u64;
        self.bases.retain(|player, _| frame.seat(*player).is_some());
        for seat in &frame.seats {
            self.enter_seat(seat, frame.tick);
        }
        self.before = Arc::clone(frame);
    }

    fn enter_cell(&mut self, i: usize, frame: &Frame) {
        let cell = &frame.cells[i];
        let events: Vec<(Tick, &Event)> =
            cell.events.iter().flat_map(|events| events.iter()).map(|event| (frame.tick, event)).collect();
        let change = CellChange {
            cell: CellId(i as u32),
            base: self.before.cells.get(i).map(|base| (self.before.tick, base.state.as_ref())),
            tick: frame.tick,
            state: &cell.state,
            places: &frame.places,
            events: &events,
            events_lost: cell.events_lost,
            hash_interval: self.hash_interval,
        };
        let mut bodies = Vec::new();
        self.encoder.encode(&change, self.slice_bytes_max, &mut self.buffer, &mut bodies);
        for body in bodies {
            self.report.cell_bytes += framed_len(body.len());
            let update = pb::CellUpdate::decode(body).expect("the encoder writes protobuf");
            self.report.cells.add(&update).expect("the encoder keeps to the schema");
        }
    }

    fn enter_seat(&mut self, seat: &SeatFrame, tick: Tick) {
        let SeatFrame { player, owner, events, events_lost, .. } = seat;
        let events = events.iter().flat_map(|events| events.iter()).map(|event| (tick, event));
        let base = self.bases.entry(*player).or_default();
        let event_bytes_max = self.slice_bytes_max;
        if base.encode(owner.as_ref(), events, *events_lost, event_bytes_max, tick, &mut self.section) {
            self.report.owner_bytes += framed_len(self.section.encoded_len());
            let kind = owner.as_ref().map(|OwnerRow { kind, .. }| *kind);
            self.report.owners.add(kind, &self.section).expect("owner sections keep to the schema");
        }
    }
}

/// Of a message of `len` bytes as a field of a snapshot.
fn framed_len(len: usize) -> u64 {
    (1 + varint_len(len as u64) + len) as u64
}
