//! What the benches' cells hold.

use tickwire_shared::{Field, Kind, Quantity, Schema, SchemaParts};

/// A kind of movers, much as a game's players are.
pub(crate) fn schema() -> Schema {
    let metres = Quantity::new("m", 1.0 / 128.0, -250.0..=250.0);
    let fields = vec![
        Field::linear("x", metres.clone()).owner_shift(3).rate_shift(3),
        Field::linear("y", metres).owner_shift(3).rate_shift(3),
        Field::plain("aim", Quantity::count(0..=0)).angle(256, 1.0),
        Field::plain("health", Quantity::count(0..=100)),
    ];
    let parts = SchemaParts { game: "bench".into(), kinds: vec![Kind::new("mover", fields)], ..Default::default() };
    Schema::new(parts).expect("valid")
}
