//! A cell's change: encoding it, and applying it to a mirror.

mod mover;

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};
use tickwire_proto::v1 as pb;
use tickwire_shared::{Anchor, CellId, CellState, Column, Columns, NetId, Places, Tick};
use tickwire_wire::{CellChange, ChunkBuffer, ChunkEncoder, Layout, Mirror, SnapshotMessage};

use mover::schema;

const SLICE_BYTES_MAX: usize = 1 << 20;

/// A cell of movers, all of which changed at `tick`.
fn cell(entities: i32, tick: u64) -> CellState {
    let moved = tick as i32 * 7;
    let anchors = |scale: i32| -> Vec<Anchor> {
        let anchor = |i: i32| Anchor { value: i * scale + moved, rate: moved % 160 - i % 80, tick: Tick(tick) };
        (0..entities).map(anchor).collect()
    };
    let columns = Columns {
        ids: (1..=entities as u32).map(NetId).collect(),
        motions: Vec::new(),
        fields: vec![
            Column::Anchored(anchors(40)),
            Column::Anchored(anchors(-25)),
            Column::Plain((0..entities).map(|i| (i + moved) % 256).collect()),
            Column::Plain(vec![100; entities as usize]),
        ],
    };
    CellState { kinds: vec![Arc::new(columns)] }
}

/// The body of a snapshot with one update.
fn snapshot<'a>(tick: u64, update: &[u8], body: &'a mut Vec<u8>) -> &'a [u8] {
    body.clear();
    pb::Snapshot { tick, ..pb::Snapshot::default() }.encode(body).expect("a Vec has room");
    encode_key(12, WireType::LengthDelimited, body);
    encode_varint(update.len() as u64, body);
    body.extend_from_slice(update);
    body
}

fn read(body: &[u8]) -> SnapshotMessage<'_> {
    SnapshotMessage::read(body).expect("an ordinary message")
}

fn chunk_of_one_cell(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunk");
    for entities in [10, 100, 1000] {
        let (base, new, places) = (cell(entities, 40), cell(entities, 41), Places::default());
        let change = CellChange {
            cell: CellId(3),
            base: Some((Tick(40), &base)),
            tick: Tick(41),
            state: &new,
            places: &places,
            events: &[],
            events_lost: 0,
            hash_interval: 60,
        };
        let encoder = ChunkEncoder::new(Layout::of(&schema()));
        group.throughput(Throughput::Elements(entities as u64));
        group.bench_function(format!("encode, {entities} movers"), |b| {
            let (mut buffer, mut bodies) = (ChunkBuffer::default(), Vec::new());
            b.iter(|| {
                bodies.clear();
                encoder.encode(black_box(&change), SLICE_BYTES_MAX, &mut buffer, &mut bodies);
                black_box(&bodies);
            });
        });
        let mut bodies = Vec::new();
        encoder.encode(&change, SLICE_BYTES_MAX, &mut ChunkBuffer::default(), &mut bodies);
        let mut whole = Vec::new();
        let full = CellChange { base: None, tick: Tick(40), state: &base, ..change.clone() };
        encoder.encode(&full, SLICE_BYTES_MAX, &mut ChunkBuffer::default(), &mut whole);
        group.bench_function(format!("read and apply, {entities} movers"), |b| {
            // One update again and again: each leads one tick on, whatever the values.
            let mut mirror = Mirror::new(Arc::new(schema()));
            let body = bodies[0].as_ref();
            mirror.apply_message(0, &read(snapshot(40, &whole[0], &mut Vec::new()))).expect("it fits");
            let (mut tick, mut message) = (40, Vec::new());
            b.iter(|| {
                tick += 1;
                let message = snapshot(tick, body, &mut message);
                black_box(mirror.apply_message(0, &read(message)).expect("it fits"));
            });
        });
        group.bench_function(format!("hash, {entities} movers"), |b| b.iter(|| black_box(black_box(&new).hash())));
    }
    group.finish();
}

criterion_group!(benches, chunk_of_one_cell);
criterion_main!(benches);
