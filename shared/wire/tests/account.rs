//! Accounts of what bytes were spent on leave none out, and name what they were spent on.

use std::sync::Arc;

use proptest::prelude::*;
use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::{
    Audience, CellId, CellKey, CellState, Emitted, Event, EventField, EventId, EventKind, Field, Frame, FrameBuilder,
    Kind, KindId, NetId, OwnerRow, Place, Quantity, Schema, SchemaParts, Tick, TickExtras,
};
use tickwire_wire::{
    CellChange, ChunkAccount, ChunkBuffer, ChunkEncoder, KindAccount, Layout, OwnerAccount, OwnerBase, Spent,
};

const ANY_LEN: usize = 1 << 20;

fn schema() -> Schema {
    let metres = Quantity::new("m", 1.0 / 128.0, -250.0..=250.0);
    let count = || Quantity::count(i32::MIN..=i32::MAX);
    let walker = vec![
        Field::ramp("x", metres.clone()).owner_shift(3),
        Field::plain("health", count()),
        Field::ramp("y", metres.clone()).owner_shift(3),
        Field::plain("ammo", count()).owner_only(),
    ];
    let crate_ = vec![Field::linear("x", metres), Field::plain("hue", count())];
    let value = |name| EventField::new(name, count());
    let events = vec![
        EventKind { name: "bang".into(), fields: vec![value("x"), value("y")] },
        EventKind { name: "end".into(), fields: Vec::new() },
    ];
    let kinds = vec![Kind::new("walker", walker), Kind::new("crate", crate_)];
    Schema::new(SchemaParts { game: "t".into(), kinds, events, ..SchemaParts::default() }).expect("valid")
}

/// What happens at one tick: entities that are set or removed, and events.
#[derive(Clone, Debug)]
struct Happening {
    entities: Vec<(u32, Option<Vec<i32>>, u64)>,
    ramp: u16,
    events: Vec<(u64, Vec<i32>)>,
}

fn happening() -> impl Strategy<Value = Happening> {
    let value = || prop_oneof![-3..3_i32, -30_000..30_000_i32];
    let set = prop::option::weighted(0.85, prop::collection::vec(value(), 5));
    let entities = prop::collection::vec((1..300_u32, set, 0..3_u64), 0..12);
    let values = prop_oneof![Just(Vec::new()), prop::collection::vec(any::<i32>(), 2)];
    let events = prop::collection::vec((0..3_u64, values), 0..3);
    (entities, 0..200_u16, events).prop_map(|(entities, ramp, events)| Happening { entities, ramp, events })
}

fn play(schema: &Schema, happenings: &[Happening]) -> Vec<Arc<Frame>> {
    let mut builder = FrameBuilder::new(schema, 0);
    let mut frames = vec![Arc::clone(builder.frame())];
    for Happening { entities, ramp, events } in happenings {
        builder.begin(builder.frame().tick.next());
        for (id, values, cell) in entities {
            let Some(values) = values else {
                builder.remove(NetId(*id));
                continue;
            };
            let is_walker = id % 3 > 0;
            let mut entity = builder.entity(KindId(u16::from(!is_walker)), NetId(*id));
            for (field, value) in (0..if is_walker { 4 } else { 2 }).zip(values) {
                entity.set(field, *value);
            }
            if is_walker {
                entity.set_rate(0, values[4] / 64);
                entity.set_ramp(*ramp);
            }
            entity.set_place(Place::Cell(CellKey(*cell)));
        }
        let event = |(ordinal, (cell, values)): (usize, &(u64, Vec<i32>))| {
            let kind = EventId(u16::from(values.is_empty()));
            let event = Event { kind, ordinal: ordinal as u32, values: values.clone() };
            (Audience::At(Place::Cell(CellKey(*cell))), event)
        };
        let emitted = Emitted { events: events.iter().enumerate().map(event).collect(), ..Emitted::default() };
        frames.push(builder.finish(TickExtras { emitted, ..TickExtras::default() }).0);
    }
    frames
}

/// The bytes that a message takes as a field of a snapshot.
fn framed(len: usize) -> u64 {
    (1 + prost::length_delimiter_len(len) + len) as u64
}

/// Encodes a cell's change and accounts for it. What it comes to in the end.
fn encode(schema: &Schema, change: &CellChange<'_>, bytes_max: usize, account: &mut ChunkAccount) -> u64 {
    let mut bodies = Vec::new();
    ChunkEncoder::new(Layout::of(schema)).encode(change, bytes_max, &mut ChunkBuffer::default(), &mut bodies);
    for body in &bodies {
        // Below that, a single entity may be longer.
        assert!(bytes_max < 300 || body.len() <= bytes_max, "{} bytes, where {bytes_max} are allowed", body.len());
        account.add(&pb::CellUpdate::decode(body.clone()).expect("an ordinary message")).expect("it fits the schema");
    }
    bodies.iter().map(|body| framed(body.len())).sum()
}

proptest! {
    #[test]
    fn an_account_is_the_length_of_what_was_sent(
        happenings in prop::collection::vec(happening(), 1..12), back in 1..6_usize, bytes_max in 40..2000_usize
    ) {
        let schema = schema();
        let frames = play(&schema, &happenings);
        let (mut account, mut sent) = (ChunkAccount::new(&schema), 0);
        for (i, frame) in frames.iter().enumerate() {
            let base = i.checked_sub(back).map(|i| &frames[i]);
            for (cell, now) in frame.cells.iter().enumerate() {
                let since = base.map_or(frame.tick, |base| base.tick.next());
                let events: Vec<(Tick, &Event)> = frames[..=i]
                    .iter()
                    .filter(|frame| frame.tick >= since)
                    .filter_map(|frame| Some((frame.tick, frame.cells.get(cell)?.events.as_ref()?)))
                    .flat_map(|(tick, events)| events.iter().map(move |event| (tick, event)))
                    .collect();
                let change = CellChange {
                    cell: CellId(cell as u32),
                    base: base.and_then(|base| Some((base.tick, base.cells.get(cell)?.state.as_ref()))),
                    tick: frame.tick,
                    state: &now.state,
                    places: &frame.places,
                    events: &events,
                    events_lost: (i % 3) as u32,
                    hash_interval: 4,
                };
                sent += encode(&schema, &change, bytes_max, &mut account);
            }
        }
        prop_assert_eq!(account.bytes(), sent);
    }

    #[test]
    fn an_account_of_owner_sections_is_their_length(
        steps in prop::collection::vec(
            (prop::option::weighted(0.9, (1..3_u32, prop::collection::vec(any::<i32>(), 4))), any::<bool>(), 1..3_u64), 1..20
        )
    ) {
        let schema = schema();
        let (mut base, mut section) = (OwnerBase::default(), pb::OwnerSection::default());
        let (mut account, mut sent, mut tick) = (OwnerAccount::new(&schema), 0, Tick(0));
        let end = Event { kind: EventId(1), ordinal: 300, values: Vec::new() };
        for (own, happens, ticks) in steps {
            tick = Tick(tick.0 + ticks);
            let kind = KindId(0);
            let row = own.map(|(id, values)| OwnerRow { net_id: NetId(id), kind, cell: CellId(1), values: values.into() });
            let events = happens.then_some((tick, &end)).into_iter();
            if base.encode(row.as_ref(), events, u32::from(happens), usize::MAX, tick, &mut section) {
                account.add(row.map(|row| row.kind), &section).expect("it fits the schema");
                sent += framed(section.encoded_len());
            }
        }
        prop_assert_eq!(account.bytes(), sent);
    }

    #[test]
    fn numbers_of_another_game_are_an_error_and_no_panic(
        kind in 0..3_u32, arrivals in prop::collection::vec(any::<u32>(), 0..9),
        changes in prop::collection::vec(prop_oneof![0..9_u32, any::<u32>()], 0..9), base_age in 0..3_u32,
        events in prop::collection::vec(0..3_u32, 0..9)
    ) {
        let kinds = vec![pb::KindUpdate { kind, arrivals, changes, ..pb::KindUpdate::default() }];
        let update = pb::CellUpdate { base_age: Some(base_age), kinds, events, ..pb::CellUpdate::default() };
        let mut account = ChunkAccount::new(&schema());
        if account.add(&update).is_ok() {
            // Where it is of this game by chance, nothing is missing.
            prop_assert_eq!(account.bytes(), framed(update.encoded_len()));
        }
    }
}

#[test]
fn of_more_of_an_owners_events_than_there_is_room_for_the_newest_are_sent() {
    let event = |ordinal| Event { kind: EventId(1), ordinal, values: Vec::new() };
    let happened: Vec<(Tick, Event)> = (1..=9).map(|tick| (Tick(tick), event(tick as u32))).collect();
    let events = happened.iter().map(|(tick, event)| (*tick, event));
    let (mut base, mut section) = (OwnerBase::default(), pb::OwnerSection::default());
    // Three bytes each: kind, age, ordinal.
    assert!(base.encode(None, events.clone(), 5, 10, Tick(9), &mut section));
    assert_eq!((&*section.events, section.events_lost), (&[1, 2, 7, 1, 1, 8, 1, 0, 9][..], 5 + 6));
    assert!(base.encode(None, events, 0, 27, Tick(9), &mut section));
    assert_eq!((section.events.len(), section.events_lost), (27, 0));
}

#[test]
fn what_a_change_costs_is_named() {
    let schema = schema();
    let set = |health: i32| {
        let entities = vec![(1, Some(vec![0, health, 0, 0, 0]), 0)];
        Happening { entities, ramp: 0, events: Vec::new() }
    };
    let hurt = Happening { events: vec![(0, vec![1, -300])], ..set(99) };
    let frames = play(&schema, &[set(100), hurt]);
    let state = |tick: usize| -> &CellState { &frames[tick].cells[1].state };
    let event = frames[2].cells[1].events.as_ref().expect("it happened")[0].clone();
    let change = CellChange {
        cell: CellId(1),
        base: Some((Tick(1), state(1))),
        tick: Tick(2),
        state: state(2),
        places: &frames[2].places,
        events: &[(Tick(2), &event)],
        events_lost: 0,
        hash_interval: 2,
    };
    let mut account = ChunkAccount::new(&schema);
    assert_eq!(encode(&schema, &change, ANY_LEN, &mut account), account.bytes());
    let spent = |times, bytes| Spent { times, bytes };
    let none = Spent::default();
    let walkers = KindAccount {
        // The message and its one list.
        headers: spent(1, 2 + 2),
        gaps_and_masks: spent(1, 2),
        fields: vec![none, spent(1, 1), none],
        ..KindAccount::default()
    };
    assert_eq!(account.kinds, [walkers, KindAccount { fields: vec![none; 2], ..KindAccount::default() }]);
    assert_eq!((account.hashes, account.headers), (spent(1, 5), spent(1, 2 + 2)));
    // Kind, age, ordinal, and a value of one and one of two bytes.
    assert_eq!((account.events.headers, account.events.kinds.as_slice()), (spent(1, 2), &[spent(1, 6), none][..]));
}
