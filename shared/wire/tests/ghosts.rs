//! Who has left a cell toward one that has not caught up is shown as it was, for as long as nothing newer is known.

use std::sync::Arc;

use tickwire_proto::v1 as pb;
use tickwire_shared::{Field, Kind, NetId, Quantity, Schema, SchemaParts};
use tickwire_wire::{Mirror, zigzag};

const DOT: NetId = NetId(5);

fn mirror() -> Mirror {
    let kinds = vec![Kind::new("dot", vec![Field::plain("hue", Quantity::count(0..=99))])];
    let parts = SchemaParts { game: "t".into(), kinds, ..SchemaParts::default() };
    Mirror::new(Arc::new(Schema::new(parts).expect("valid")))
}

/// The dot comes to a cell.
fn arrival(hue: i32) -> pb::KindUpdate {
    pb::KindUpdate { arrivals: vec![DOT.0 - 1, zigzag(hue)], ..pb::KindUpdate::default() }
}

/// The first of a cell leaves for another.
fn left(to_cell: u32) -> pb::KindUpdate {
    pb::KindUpdate { left: vec![0, to_cell], ..pb::KindUpdate::default() }
}

fn update(cell: u32, base_age: u32, kinds: Vec<pb::KindUpdate>) -> pb::CellUpdate {
    pb::CellUpdate { cell, base_age: Some(base_age), kinds, ..pb::CellUpdate::default() }
}

/// In which cell the dot is shown, and as of when.
fn apply(mirror: &mut Mirror, snapshot: pb::Snapshot) -> Option<(u32, u64)> {
    apply_of(mirror, 0, snapshot)
}

/// The same, for one stream of several.
fn apply_of(mirror: &mut Mirror, stripe: usize, snapshot: pb::Snapshot) -> Option<(u32, u64)> {
    mirror.apply(stripe, &snapshot).expect("it fits");
    mirror.get(DOT).map(|shown| (shown.cell().0, shown.tick().0))
}

#[test]
fn a_ghost_that_something_newer_has_replaced_does_not_come_back() {
    let mut mirror = mirror();
    let cells = vec![update(1, 0, vec![arrival(7)]), update(2, 0, Vec::new()), update(3, 0, Vec::new())];
    let first = pb::Snapshot { tick: 10, reset: true, cells, ..pb::Snapshot::default() };
    assert_eq!(apply(&mut mirror, first), Some((1, 10)));

    // Cell 2 changes from now on, and is deferred.
    let snapshot = |tick, cells| pb::Snapshot { tick, cells, deferred_cells: vec![2], ..pb::Snapshot::default() };
    let leaves = snapshot(11, vec![update(1, 1, vec![left(2)])]);
    assert_eq!(apply(&mut mirror, leaves), Some((1, 10)), "its ghost");
    let comes = snapshot(12, vec![update(3, 1, vec![arrival(8)])]);
    assert_eq!(apply(&mut mirror, comes), Some((3, 12)));
    let dropped = pb::Snapshot { dropped_cells: vec![3], ..snapshot(13, Vec::new()) };
    assert_eq!(apply(&mut mirror, dropped), None);
}

#[test]
fn a_ghost_stays_until_the_cell_that_it_went_to_has_caught_up() {
    let mut mirror = mirror();
    let cells = vec![update(1, 0, vec![arrival(7)]), update(2, 0, Vec::new())];
    apply(&mut mirror, pb::Snapshot { tick: 10, reset: true, cells, ..pb::Snapshot::default() });
    let deferred = |tick, cells| pb::Snapshot { tick, cells, deferred_cells: vec![2], ..pb::Snapshot::default() };
    assert_eq!(apply(&mut mirror, deferred(11, vec![update(1, 1, vec![left(2)])])), Some((1, 10)));
    assert_eq!(apply(&mut mirror, deferred(12, Vec::new())), Some((1, 10)));
    let cells = vec![update(2, 3, vec![arrival(8)])];
    assert_eq!(apply(&mut mirror, pb::Snapshot { tick: 13, cells, ..pb::Snapshot::default() }), Some((2, 13)));
}

/// Two streams whose views are of cells 1, with the dot, to 3: as of tick 10 and of tick 11.
fn mirror_of_two_streams() -> Mirror {
    let mut mirror = mirror();
    for (stripe, tick) in [(0, 10), (1, 11)] {
        let cells = vec![update(1, 0, vec![arrival(7)]), update(2, 0, Vec::new()), update(3, 0, Vec::new())];
        let first = pb::Snapshot { tick, reset: true, cells, ..pb::Snapshot::default() };
        assert_eq!(apply_of(&mut mirror, stripe, first), Some((1, tick)));
    }
    mirror
}

#[test]
fn a_ghost_does_not_come_back_where_a_stream_that_never_heard_of_its_leaving_has_shown_it_later() {
    // From cell 1 to cell 2 at tick 12, and back at tick 13.
    let mut mirror = mirror_of_two_streams();
    let cells = vec![update(1, 2, vec![left(2)])];
    let leaves = pb::Snapshot { tick: 12, cells, deferred_cells: vec![2], ..pb::Snapshot::default() };
    assert_eq!(apply_of(&mut mirror, 0, leaves), Some((1, 11)), "its ghost");
    // What leads from 11 to 13 says nothing of it: the dot is in both.
    let unchanged = pb::Snapshot { tick: 13, deferred_cells: vec![2], ..pb::Snapshot::default() };
    assert_eq!(apply_of(&mut mirror, 1, unchanged), Some((1, 13)));
    let dropped = pb::Snapshot { tick: 14, dropped_cells: vec![1], deferred_cells: vec![2], ..pb::Snapshot::default() };
    assert_eq!(apply_of(&mut mirror, 1, dropped), None);
}

#[test]
fn a_leaving_that_is_told_late_does_not_replace_the_ghost_of_a_later_one() {
    // From cell 1 to cell 2 at tick 12, and on to cell 3 at tick 13.
    let mut mirror = mirror_of_two_streams();
    let cells = vec![update(1, 2, vec![left(3)])];
    let leaves = pb::Snapshot { tick: 13, cells, deferred_cells: vec![3], ..pb::Snapshot::default() };
    assert_eq!(apply_of(&mut mirror, 1, leaves), Some((1, 11)), "its ghost");
    let cells = vec![update(1, 2, vec![left(2)]), update(2, 2, vec![arrival(8)])];
    let late = pb::Snapshot { tick: 12, cells, ..pb::Snapshot::default() };
    assert_eq!(apply_of(&mut mirror, 0, late), Some((1, 11)), "cell 3 has not caught up");
    let cells = vec![update(3, 3, vec![arrival(9)])];
    let comes = pb::Snapshot { tick: 14, cells, ..pb::Snapshot::default() };
    assert_eq!(apply_of(&mut mirror, 1, comes), Some((3, 14)));
}

#[test]
fn what_was_shown_from_an_update_that_fails_is_not_shown_as_another_stream_had_it_before() {
    let mut mirror = mirror_of_two_streams();
    let wrong = pb::CellUpdate { hash: Some(1), ..update(1, 1, Vec::new()) };
    let damaged = pb::Snapshot { tick: 12, cells: vec![wrong], ..pb::Snapshot::default() };
    mirror.apply(1, &damaged).expect_err("its hash is another");
    assert!(mirror.get(DOT).is_none(), "it was shown as of tick 11, and the other stream has it as of tick 10");
    let unchanged = pb::Snapshot { tick: 13, ..pb::Snapshot::default() };
    assert_eq!(apply_of(&mut mirror, 0, unchanged), Some((1, 13)));
    let cells = vec![update(1, 0, vec![arrival(8)])];
    let anew = pb::Snapshot { tick: 14, reset: true, cells, ..pb::Snapshot::default() };
    assert_eq!(apply_of(&mut mirror, 1, anew), Some((1, 14)));
}
