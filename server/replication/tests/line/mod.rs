//! A world that a test moves by hand: cells in a row, and entities that stand where they are told.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_replication::{InputFeedback, ReplicationConfig, Replicator, Snapshot, View, ViewConfig};
use tickwire_shared::{
    CellId, CellKey, Field, Frame, FrameBuilder, Kind, KindId, NetId, Place, PlayerId, Quantity, Roster, Schema,
    SchemaParts, SeatExtras, Tick, TickExtras, TickRate,
};
use tickwire_wire::{Applied, Mirror};

use crate::row::Row;

pub(crate) const RATE: TickRate = TickRate::DEFAULT;
pub(crate) const ME: PlayerId = PlayerId(1);
const DOT: KindId = KindId(0);

fn schema() -> Arc<Schema> {
    let fields = ["a", "b", "c", "d"].map(|name| Field::plain(name, Quantity::count(0..=1_000_000_000)));
    let kinds = vec![Kind::new("dot", fields.to_vec())];
    let scores = vec!["kills".into()];
    Arc::new(Schema::new(SchemaParts { game: "row".into(), kinds, scores, ..SchemaParts::default() }).expect("valid"))
}

/// The world and what replicates it.
pub(crate) struct World {
    builder: FrameBuilder,
    pub(crate) replicator: Replicator,
    /// By entity, from 1: its cell and its values.
    pub(crate) dots: Vec<(u64, i32)>,
    pub(crate) roster: Arc<Roster>,
}

impl World {
    /// Entities in these cells; the first is the player's own.
    pub(crate) fn new(cells: impl IntoIterator<Item = u64>) -> Self {
        Self::with(cells, ReplicationConfig::new(RATE))
    }

    pub(crate) fn with(cells: impl IntoIterator<Item = u64>, config: ReplicationConfig) -> Self {
        let builder = FrameBuilder::new(&schema(), 0);
        let replicator = Replicator::new(Arc::new(Row), &schema(), config, Arc::clone(builder.frame()));
        let dots = cells.into_iter().map(|cell| (cell, 0)).collect();
        Self { builder, replicator, dots, roster: Arc::default() }
    }

    pub(crate) fn frame(&self) -> &Arc<Frame> {
        self.builder.frame()
    }

    pub(crate) fn tick(&self) -> Tick {
        self.frame().tick
    }

    pub(crate) fn now(&self) -> Duration {
        RATE.duration_of(self.tick().0)
    }

    pub(crate) fn cell(&self, key: u64) -> CellId {
        self.frame().table.id(Place::Cell(CellKey(key))).expect("something stood there")
    }

    /// All entities of these cells change.
    pub(crate) fn stir(&mut self, cells: impl Fn(u64) -> bool) {
        let tick = self.tick().0 as i32;
        for (_, value) in self.dots.iter_mut().filter(|(cell, _)| cells(*cell)) {
            *value = 1_000_000 + tick * 7919;
        }
    }

    /// The next tick.
    pub(crate) fn step(&mut self) {
        self.builder.begin(self.tick().next());
        for (id, &(cell, value)) in (1..).map(NetId).zip(&self.dots) {
            let mut dot = self.builder.entity(DOT, id);
            for field in 0..4 {
                dot.set(field, value);
            }
            dot.set_place(Place::Cell(CellKey(cell)));
        }
        let entity = (!self.dots.is_empty()).then_some(NetId(1));
        let seats = vec![SeatExtras { player: ME, consumed_input: 0, entity }];
        let extras = TickExtras { seats, roster: Arc::clone(&self.roster), ..TickExtras::default() };
        let (frame, _) = self.builder.finish(extras);
        self.replicator.publish(frame);
    }
}

/// A stream and its mirror, which acknowledges at once.
pub(crate) struct Peer {
    pub(crate) view: View,
    pub(crate) mirror: Mirror,
    pub(crate) snapshot: Snapshot,
}

pub(crate) fn config(view_radius: f64) -> ViewConfig {
    ViewConfig {
        player: Some(ME),
        view_radius,
        tick_rate: RATE,
        ticks_per_snapshot: 1,
        bytes_per_second: None,
        in_flight_bytes_max: usize::MAX,
    }
}

impl Peer {
    pub(crate) fn new(config: ViewConfig) -> Self {
        Self { view: View::new(config), mirror: Mirror::new(schema()), snapshot: Snapshot::default() }
    }

    /// Composes, applies and acknowledges, where the view may; checks what the mirror then holds.
    pub(crate) fn exchange(&mut self, world: &World) -> Option<(pb::Snapshot, Applied)> {
        let feedback = InputFeedback::default();
        if !self.view.compose_into(&world.replicator, feedback, world.now(), &mut self.snapshot) {
            return None;
        }
        let mut bytes = Vec::new();
        self.snapshot.encode(&mut bytes);
        assert_eq!(bytes.len(), self.snapshot.encoded_len());
        let message = pb::Snapshot::decode(bytes.as_slice()).expect("the generated types read it");
        let applied = self.mirror.apply(0, &message).expect("an honest snapshot applies");
        self.view.acknowledge(0, applied.tick, world.now()).expect("it was sent");
        for cell in self.mirror.cells(0) {
            let (tick, state) = self.mirror.cell_state(0, cell).expect("listed");
            let server = world.frame().cell(cell).expect("in the frame");
            assert!(tick < world.tick() || state == *server.state, "cell {cell} at {tick}");
        }
        Some((message, applied))
    }

    /// The tick at which the mirror holds a cell.
    pub(crate) fn holds(&self, cell: CellId) -> Option<Tick> {
        self.mirror.cell_state(0, cell).map(|(tick, _)| tick)
    }
}
