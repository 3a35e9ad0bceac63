//! The wire's arithmetic as JSON, for clients in other languages: `vectors/*.json`.
//!
//! The files are made by `TICKWIRE_BLESS=1 cargo test -p tickwire-wire --test vectors`, and compared otherwise.

use std::{fs, path::PathBuf, sync::Arc};

use prost::Message as _;
use serde_json::{Value, json};
use tickwire_proto::v1 as pb;
use tickwire_shared::{
    Anchor, CellId, CellState, Column, Columns, Event, EventField, EventId, EventKind, Field, Kind, KindId, Line,
    Motion, NetId, Places, Quantity, Ramp, Ramped, Schema, SchemaParts, Tick,
};
use tickwire_wire::{CellChange, ChunkBuffer, ChunkEncoder, Layout, Mirror, schema, zigzag};

fn check(name: &str, vectors: &Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    let text = format!("{vectors:#}\n");
    if std::env::var_os("TICKWIRE_BLESS").is_some() {
        fs::write(&path, text).expect("vectors/ is writable");
        return;
    }
    let golden = fs::read_to_string(&path).expect("blessed");
    assert!(golden == text, "{} differs from what the code makes; if that is meant, bless it", path.display());
}

fn anchor(anchor: Anchor) -> Value {
    json!({ "value": anchor.value, "rate": anchor.rate, "tick": anchor.tick.0 })
}

#[test]
fn zigzag_numbers() {
    let numbers = [0, -1, 1, -2, 2, 63, -64, 64, i32::MAX, i32::MIN];
    check("zigzag.json", &numbers.map(|number| json!({ "signed": number, "unsigned": zigzag(number) })).into());
}

#[test]
fn predictions_and_differences() {
    let metres = Line { shift: 3, tolerance: 1, turn: None, min: -30_000, max: 30_000 };
    let aim = Line { shift: 4, tolerance: 1, turn: Some(256), min: 0, max: 255 };
    let cases = [
        (metres, Anchor { value: 100, rate: 85, tick: Tick(10) }, 11, 500),
        (metres, Anchor { value: 100, rate: -85, tick: Tick(10) }, 17, -500),
        (metres, Anchor { value: -1, rate: -1, tick: Tick(0) }, 9, 0),
        (metres, Anchor { value: 29_990, rate: 800, tick: Tick(1) }, 1000, 29_999),
        (metres, Anchor { value: i32::MAX, rate: i32::MAX, tick: Tick(1) }, (1 << 31) - 1, i32::MIN),
        (aim, Anchor { value: 250, rate: 16, tick: Tick(0) }, 10, 2),
        (aim, Anchor { value: 3, rate: -40, tick: Tick(5) }, 1005, 200),
        (aim, Anchor { value: 0, rate: 0, tick: Tick(5) }, 6, 128),
    ];
    let vectors: Vec<Value> = cases
        .iter()
        .map(|(line, base, at, new)| {
            let tick = Tick(*at);
            let renewed = Anchor { value: *new, rate: 0, tick };
            let difference = line.difference(base, &renewed);
            assert_eq!(line.apply(base, tick, difference), *new);
            json!({
                "line": { "shift": line.shift, "turn": line.turn.unwrap_or(0), "min": line.min, "max": line.max },
                "anchor": anchor(*base),
                "at": at,
                "predicted": line.predict(base, tick),
                "read": line.read(base, tick),
                "renewed_value": new,
                "difference": difference,
            })
        })
        .collect();
    check("predictor.json", &vectors.into());
}

fn ramped(held: Ramped) -> Value {
    json!({ "value": held.value, "rate": held.rate, "to": held.to })
}

fn motion(motion: Motion) -> Value {
    json!({ "tick": motion.tick.0, "ramp": motion.ramp })
}

#[test]
fn ramps() {
    let metres = Ramp { shift: 0, fine_shift: 3, tolerance: 1, turn: None, min: -30_000, max: 30_000 };
    let course = Ramp { shift: 2, fine_shift: 4, tolerance: 1, turn: Some(256), min: 0, max: 255 };
    let held = |value, rate, to| Ramped { value, rate, to };
    let cases = [
        // On the ramp, at its end within a tick, and after it.
        (metres, held(800, 0, 85), 120, 3),
        (metres, held(800, 85, -85), 120, 7),
        (metres, held(-801, 85, -84), 120, 8),
        (metres, held(-801, -3, 2), 33, 500),
        // None.
        (metres, held(-801, -3, -3), 0, 500),
        // Rounding is down, also of what is negative.
        (metres, held(0, 0, -1), 48, 1),
        (metres, held(0, 0, -1), 48, 2),
        (metres, held(239_990, 800, 900), 16, 5),
        (metres, held(i32::MAX, i32::MIN, i32::MAX), 4095, (1 << 31) - 1),
        (course, held(4090, 64, -33), 50, 9),
        (course, held(3, -400, -401), 7, 1000),
    ];
    let vectors: Vec<Value> = cases
        .iter()
        .map(|&(ramp, held, length, age)| {
            let (set, at) = (Motion { tick: Tick(10), ramp: length }, Tick(10 + age));
            json!({
                "field": {
                    "shift": ramp.shift, "owner_shift": ramp.fine_shift, "turn": ramp.turn.unwrap_or(0),
                    "min": ramp.min, "max": ramp.max,
                },
                "held": ramped(held),
                "motion": motion(set),
                "at": at.0,
                "predicted": ramp.predict(&held, &set, at),
                "slope": ramp.slope(&held, &set, at),
                "read": ramp.read(&held, &set, at),
                "value_restated_5_further": ramp.apply((&held, &set), at, 5),
            })
        })
        .collect();
    check("ramp.json", &vectors.into());
}

fn game() -> Schema {
    let metres = Quantity::new("m", 1.0 / 128.0, -250.0..=250.0);
    let fields = vec![
        Field::linear("x", metres).owner_shift(3).rate_shift(3),
        Field::linear("aim", Quantity::count(0..=0)).angle(256, 1.0),
        Field::plain("health", Quantity::count(0..=100)),
        Field::plain("ammo", Quantity::count(0..=99)).owner_only(),
    ];
    let hit = EventKind { name: "hit".into(), fields: vec![EventField::new("damage", Quantity::count(-99..=99))] };
    let coordinate = |name| Field::ramp(name, Quantity::new("m", 1.0 / 128.0, -1024.0..=1024.0)).owner_shift(3);
    let walker = vec![coordinate("x"), coordinate("y"), Field::plain("health", Quantity::count(0..=100))];
    let kinds = vec![Kind::new("dot", fields), Kind::new("walker", walker)];
    let parts = SchemaParts { game: "vectors".into(), version: 1, kinds, events: vec![hit], ..Default::default() };
    Schema::new(parts).expect("valid")
}

type Dot = (u32, Anchor, Anchor, i32);
type Walker = (u32, Motion, [Ramped; 2], i32);

fn cell(rows: &[Dot], walkers: &[Walker]) -> CellState {
    let walkers = Columns {
        ids: walkers.iter().map(|row| NetId(row.0)).collect(),
        motions: walkers.iter().map(|row| row.1).collect(),
        fields: vec![
            Column::Ramped(walkers.iter().map(|row| row.2[0]).collect()),
            Column::Ramped(walkers.iter().map(|row| row.2[1]).collect()),
            Column::Plain(walkers.iter().map(|row| row.3).collect()),
        ],
    };
    let columns = Columns {
        ids: rows.iter().map(|row| NetId(row.0)).collect(),
        motions: Vec::new(),
        fields: vec![
            Column::Anchored(rows.iter().map(|row| row.1).collect()),
            Column::Anchored(rows.iter().map(|row| row.2).collect()),
            Column::Plain(rows.iter().map(|row| row.3).collect()),
        ],
    };
    CellState { kinds: vec![Arc::new(columns), Arc::new(walkers)] }
}

fn at(value: i32, rate: i32, tick: u64) -> Anchor {
    Anchor { value, rate, tick: Tick(tick) }
}

fn ramp(value: i32, rate: i32, to: i32) -> Ramped {
    Ramped { value, rate, to }
}

fn set(tick: u64, ramp: u16) -> Motion {
    Motion { tick: Tick(tick), ramp }
}

fn state_json(state: &CellState) -> Value {
    let row = |kind: usize, row: usize| {
        let columns = &state.kinds[kind];
        let column = |column: &Column| match column {
            Column::Plain(values) => json!(values[row]),
            Column::Anchored(anchors) => anchor(anchors[row]),
            Column::Ramped(held) => ramped(held[row]),
        };
        let fields: Vec<Value> = columns.fields.iter().map(column).collect();
        let hash = columns.hash_row(KindId(kind as u16), row);
        let mut json = json!({ "kind": kind, "net_id": columns.ids[row].0, "fields": fields, "hash": hash });
        if let Some(set) = columns.motions.get(row) {
            json["motion"] = motion(*set);
        }
        json
    };
    let rows = |kind: usize| (0..state.kinds[kind].ids.len()).map(move |i| (kind, i));
    let rows: Vec<Value> = rows(0).chain(rows(1)).map(|(kind, i)| row(kind, i)).collect();
    json!({ "rows": rows, "hash": state.hash() })
}

#[test]
fn cell_updates() {
    let schema = game();
    let base = cell(
        &[
            (2, at(100, 85, 40), at(10, 0, 3), 100),
            (5, at(-300, 0, 7), at(250, 16, 39), 55),
            (6, at(0, 0, 7), at(0, 0, 7), 1),
            (9, at(1, 2, 8), at(3, 4, 9), 2),
        ],
        &[
            (3, set(30, 0), [ramp(8000, 85, 85), ramp(-16, 0, 0)], 100),
            (7, set(39, 80), [ramp(5, 0, -85), ramp(0, 33, 0)], 100),
            (8, set(12, 64), [ramp(70, 11, 12), ramp(1, -13, 14)], 100),
            (10, set(41, 0), [ramp(0, 1, 1), ramp(0, 1, 1)], 9),
        ],
    );
    let metres = schema.kinds[1].fields[0].ramp_line().expect("a ramp");
    // What a receiver expects at tick 42 of the first walker, whose change of course then need not say where they are.
    let expected = |held: &Ramped, motion: &Motion, to: i32| Ramped {
        value: metres.apply((held, motion), Tick(42), 0),
        rate: metres.slope(held, motion, Tick(42)),
        to,
    };
    let turned = [expected(&ramp(8000, 85, 85), &set(30, 0), 0), expected(&ramp(-16, 0, 0), &set(30, 0), -85)];
    let new = cell(
        &[
            (2, at(131, -40, 43), at(10, 0, 3), 100),
            (5, at(-299, 0, 44), at(20, 16, 44), 54),
            (12, at(7, -8, 44), at(255, 0, 43), 100),
        ],
        &[
            (3, set(42, 128), turned, 100),
            (7, set(43, 0), [ramp(-500, -85, -85), ramp(333, 0, 0)], 88),
            (8, set(12, 64), [ramp(70, 11, 12), ramp(1, -13, 14)], 100),
            (13, set(44, 0), [ramp(-9000, 7, 7), ramp(2, 0, 0)], 100),
            (14, set(43, 20), [ramp(1, 2, 3), ramp(4, 5, 6)], 100),
        ],
    );
    let next = cell(
        &[
            (2, at(92, -41, 45), at(10, 0, 3), 100),
            (5, at(-299, 0, 44), at(22, 16, 45), 54),
            (12, at(7, -8, 44), at(255, 0, 43), 100),
        ],
        &[
            (3, set(44, 100), [ramp(9000, 50, 85), ramp(-90, -20, -85)], 100),
            (7, set(43, 0), [ramp(-500, -85, -85), ramp(333, 0, 0)], 87),
            (8, set(12, 64), [ramp(70, 11, 12), ramp(1, -13, 14)], 100),
            (13, set(44, 0), [ramp(-9000, 7, 7), ramp(2, -3, -3)], 100),
            (14, set(43, 20), [ramp(1, 2, 3), ramp(4, 5, 6)], 100),
        ],
    );
    let here = [2, 3, 5, 7, 8, 12, 13, 14].map(|id| (id, 4)).into_iter().chain([(9, 77)]);
    let mut places: Vec<_> = here.map(|(id, cell)| (NetId(id), KindId(0), CellId(cell))).collect();
    places.sort_unstable();
    let places = Places::new(places);
    let hit = Event { kind: EventId(0), ordinal: 3, values: vec![-25] };
    let events = [(Tick(43), &hit)];
    let changes =
        [(None, Tick(44), &new), (Some((Tick(42), &base)), Tick(44), &new), (Some((Tick(44), &new)), Tick(45), &next)];
    let mut vectors = Vec::new();
    for (held, tick, state) in changes {
        let events = if tick == Tick(44) { &events[..] } else { &[] };
        let change = CellChange {
            cell: CellId(4),
            base: held,
            tick,
            state,
            places: &places,
            events,
            events_lost: 0,
            hash_interval: 11,
        };
        vectors.push(vector(&schema, &change));
    }
    let message = schema::to_proto(&schema).encode_to_vec();
    let vectors = json!({ "schema": hex(&message), "schema_hash": schema.hash().to_string(), "updates": vectors });
    check("cell_update.json", &vectors);
}

fn vector(schema: &Schema, change: &CellChange<'_>) -> Value {
    let encoder = ChunkEncoder::new(Layout::of(schema));
    let mut bodies = Vec::new();
    encoder.encode(change, 1 << 14, &mut ChunkBuffer::default(), &mut bodies);
    let [body] = bodies.as_slice() else { panic!("it fits one update") };
    let update = pb::CellUpdate::decode(body.clone()).expect("an ordinary message");
    assert_eq!(update.encode_to_vec(), body.as_ref(), "bytes are those of the ordinary message");
    let mut mirror = Mirror::new(Arc::new(schema.clone()));
    if let Some((tick, base)) = change.base {
        let whole = CellChange { base: None, tick, state: base, events: &[], ..change.clone() };
        let mut bodies = Vec::new();
        encoder.encode(&whole, 1 << 14, &mut ChunkBuffer::default(), &mut bodies);
        take(&mut mirror, tick, pb::CellUpdate::decode(bodies[0].clone()).expect("an ordinary message"));
    }
    take(&mut mirror, change.tick, update);
    assert_eq!(mirror.cell_state(0, change.cell).as_ref(), Some(&(change.tick, change.state.clone())));
    json!({
        "base": change.base.map(|(tick, base)| json!({ "tick": tick.0, "state": state_json(base) })),
        "tick": change.tick.0,
        "state": state_json(change.state),
        "update": hex(body),
    })
}

fn take(mirror: &mut Mirror, tick: Tick, update: pb::CellUpdate) {
    let reset = mirror.tick() == Tick::ZERO;
    let snapshot = pb::Snapshot { tick: tick.0, reset, cells: vec![update], ..pb::Snapshot::default() };
    mirror.apply(0, &snapshot).expect("honest");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
