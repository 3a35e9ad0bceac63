//! The wire's arithmetic as JSON, for clients in other languages: `vectors/*.json`.
//!
//! The files are made by `TICKWIRE_BLESS=1 cargo test -p tickwire-wire --test vectors`, and compared otherwise.

use std::{fs, path::PathBuf, sync::Arc};

use serde_json::{Value, json};
use tickwire_proto::v1 as pb;
use tickwire_shared::{
    Anchor, CellId, CellState, Column, Columns, Event, EventField, EventId, EventKind, Field, Kind, KindId, Line,
    NetId, Places, Quantity, Schema, SchemaParts, Tick,
};
use tickwire_wire::{CellChange, ChunkEncoder, Layout, chunk, schema, zigzag};

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

fn game() -> Schema {
    let metres = Quantity::new("m", 1.0 / 128.0, -250.0..=250.0);
    let fields = vec![
        Field::linear("x", metres).owner_shift(3).rate_shift(3),
        Field::linear("aim", Quantity::count(0..=0)).angle(256, 1.0),
        Field::plain("health", Quantity::count(0..=100)),
        Field::plain("ammo", Quantity::count(0..=99)).owner_only(),
    ];
    let hit = EventKind { name: "hit".into(), fields: vec![EventField::new("damage", Quantity::count(-99..=99))] };
    let kinds = vec![Kind::new("dot", fields)];
    let parts = SchemaParts { game: "vectors".into(), version: 1, kinds, events: vec![hit], ..Default::default() };
    Schema::new(parts).expect("valid")
}

fn cell(rows: &[(u32, Anchor, Anchor, i32)]) -> CellState {
    let columns = Columns {
        ids: rows.iter().map(|row| NetId(row.0)).collect(),
        fields: vec![
            Column::Anchored(rows.iter().map(|row| row.1).collect()),
            Column::Anchored(rows.iter().map(|row| row.2).collect()),
            Column::Plain(rows.iter().map(|row| row.3).collect()),
        ],
    };
    CellState { kinds: vec![Arc::new(columns)] }
}

fn at(value: i32, rate: i32, tick: u64) -> Anchor {
    Anchor { value, rate, tick: Tick(tick) }
}

fn state_json(state: &CellState) -> Value {
    let columns = &state.kinds[0];
    let row = |row: usize| {
        let column = |column: &Column| match column {
            Column::Plain(values) => json!(values[row]),
            Column::Anchored(anchors) => anchor(anchors[row]),
        };
        let fields: Vec<Value> = columns.fields.iter().map(column).collect();
        json!({ "net_id": columns.ids[row].0, "fields": fields, "hash": columns.hash_row(KindId(0), row) })
    };
    json!({ "rows": (0..columns.ids.len()).map(row).collect::<Vec<_>>(), "hash": state.hash() })
}

#[test]
fn cell_updates() {
    let schema = game();
    let base = cell(&[
        (2, at(100, 85, 40), at(10, 0, 3), 100),
        (5, at(-300, 0, 7), at(250, 16, 39), 55),
        (6, at(0, 0, 7), at(0, 0, 7), 1),
        (9, at(1, 2, 8), at(3, 4, 9), 2),
    ]);
    let new = cell(&[
        (2, at(131, -40, 43), at(10, 0, 3), 100),
        (5, at(-299, 0, 44), at(20, 16, 44), 54),
        (12, at(7, -8, 44), at(255, 0, 43), 100),
    ]);
    let places =
        Places::new([(2, 4), (5, 4), (9, 77), (12, 4)].map(|(id, to)| (NetId(id), KindId(0), CellId(to))).into());
    let hit = Event { kind: EventId(0), ordinal: 3, values: vec![-25] };
    let events = [(Tick(43), &hit)];
    let change = |base| CellChange {
        cell: CellId(4),
        base,
        tick: Tick(44),
        state: &new,
        places: &places,
        events: &events,
        events_lost: 0,
        hash_interval: 11,
    };
    let encoder = ChunkEncoder::new(Layout::of(&schema));
    let mut vectors = Vec::new();
    for held in [None, Some((Tick(42), &base))] {
        let bodies = encoder.encode(&change(held), 1 << 14);
        let [body] = bodies.as_slice() else { panic!("it fits one update") };
        let update = <pb::CellUpdate as prost::Message>::decode(body.as_slice()).expect("an ordinary message");
        let mut applied = held.map_or_else(|| CellState::empty(&schema), |(_, base)| base.clone());
        let base_tick = held.map_or(Tick(44), |(tick, _)| tick);
        chunk::apply(&Layout::of(&schema), &mut applied, std::slice::from_ref(&update), (base_tick, Tick(44)))
            .expect("honest");
        assert_eq!(applied, new);
        vectors.push(json!({
            "base": held.map(|(tick, base)| json!({ "tick": tick.0, "state": state_json(base) })),
            "tick": 44,
            "state": state_json(&new),
            "update": body.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        }));
    }
    let message = prost::Message::encode_to_vec(&schema::to_proto(&schema));
    let message: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
    let vectors = json!({ "schema": message, "schema_hash": schema.hash().to_string(), "updates": vectors });
    check("cell_update.json", &vectors);
}
