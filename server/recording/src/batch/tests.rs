use proptest::{
    collection::{btree_map, vec},
    prelude::*,
};
use tickwire_shared::{
    EventField, EventId, EventKind, Field, InputField, Kind, KindId, KindTruth, PlayerId, Quantity, SchemaParts, Seen,
    TruthDelta,
};

use super::*;
use crate::RecordedEvent;

/// More than one mask has bits.
const INPUTS: usize = 34;
/// By kind, and by event.
const FIELDS: [usize; 2] = [0, 2];

fn schema() -> Arc<Schema> {
    let any = || Quantity::count(i32::MIN..=i32::MAX);
    let field = |name: &str| Field::plain(name, any());
    let number = |name: &str| EventField::new(name, any());
    let event = |name: &str, fields| EventKind { name: name.to_owned(), fields };
    let parts = SchemaParts {
        game: "t".into(),
        kinds: vec![Kind::new("bare", Vec::new()), Kind::new("pair", vec![field("a"), field("b")])],
        inputs: (0..INPUTS).map(|i| InputField::hold(&format!("i{i}"), any())).collect(),
        events: vec![event("bang", Vec::new()), event("hit", vec![number("by"), number("at")])],
        ..SchemaParts::default()
    };
    Arc::new(Schema::new(parts).expect("valid"))
}

/// Small ones mostly, as in a match, where they meet again and stay as they are.
fn number() -> impl Strategy<Value = i32> {
    prop_oneof![4 => -2..3_i32, 1 => any::<i32>()]
}

fn seat_input() -> impl Strategy<Value = SeatInput> {
    let seen = prop_oneof![Just(None), (1..=Tick::MAX.0, any::<u8>()).prop_map(Some)];
    let fresh = (prop_oneof![0..9_u64, any::<u64>()], vec(number(), INPUTS), seen);
    let fresh = fresh.prop_map(|(sequence, values, seen)| SeatInput {
        player: PlayerId(0),
        provenance: Provenance::Fresh,
        sequence,
        values,
        seen: seen.map(|(tick, fraction)| Seen { tick: Tick(tick), fraction }),
    });
    let others = prop_oneof![Just(Provenance::Absent), Just(Provenance::Repeated)];
    prop_oneof![2 => fresh, 1 => others.prop_map(|provenance| SeatInput::without(PlayerId(0), provenance))]
}

fn seat_change() -> impl Strategy<Value = SeatChange> {
    (0..4_u32, 0..3).prop_map(|(player, kind)| {
        let player = PlayerId(player);
        match kind {
            0 => SeatChange::Joined { player, name: "Ada".into() },
            1 => SeatChange::Disconnected { player },
            _ => SeatChange::Left { player },
        }
    })
}

fn kind_truth(kind: usize) -> impl Strategy<Value = KindTruth> {
    let id = || prop_oneof![9 => 1..5_u32, 1 => 1..=u32::MAX].prop_map(NetId);
    let fields = FIELDS[kind];
    let change = (0..1_u32 << fields).prop_flat_map(|mask| (Just(mask), vec(number(), mask.count_ones() as usize)));
    (btree_map(id(), Just(()), 0..3), btree_map(id(), vec(number(), fields), 0..3), btree_map(id(), change, 0..5))
        .prop_map(move |(despawned, spawned, changed)| KindTruth {
            kind: KindId(kind as u16),
            despawned: despawned.into_keys().collect(),
            spawned: spawned.into_iter().collect(),
            changed: changed.iter().map(|(id, (mask, _))| (*id, *mask)).collect(),
            differences: changed.into_values().flat_map(|(_, differences)| differences).collect(),
        })
}

fn event() -> impl Strategy<Value = RecordedEvent> {
    (0..2_usize, prop::option::of(1..4_u32)).prop_flat_map(|(kind, player)| {
        vec(number(), FIELDS[kind]).prop_map(move |values| RecordedEvent {
            kind: EventId(kind as u16),
            ordinal: 0,
            player: player.map(PlayerId),
            values,
        })
    })
}

fn whole_tick() -> impl Strategy<Value = WholeTick> {
    let inputs = btree_map(0..5_u32, seat_input(), 0..5);
    let events = btree_map(prop_oneof![0..4_u32, any::<u32>()], event(), 0..4);
    let rest = (vec(seat_change(), 0..2), any::<u64>(), kind_truth(0), kind_truth(1));
    (inputs, events, rest).prop_map(|(inputs, events, (seat_changes, state_hash, bare, pair))| {
        let inputs = inputs.into_iter().map(|(player, input)| SeatInput { player: PlayerId(player), ..input });
        let events = events.into_iter().map(|(ordinal, event)| RecordedEvent { ordinal, ..event });
        let kinds = [bare, pair].into_iter().filter(|kind| !kind.is_empty()).collect();
        let input = TickInput { tick: Tick::ZERO, seat_changes, inputs: inputs.collect() };
        let truth = TruthDelta { kinds };
        (input, RecordedResult { tick: Tick::ZERO, state_hash, truth, events: events.collect() })
    })
}

fn ticks() -> impl Strategy<Value = Vec<WholeTick>> {
    let first = prop_oneof![1..9_u64, 1..=Tick::MAX.0 - 100];
    (first, vec(whole_tick(), 1..12)).prop_map(|(first, mut ticks)| {
        for ((input, result), tick) in ticks.iter_mut().zip((first..).map(Tick)) {
            (input.tick, result.tick) = (tick, tick);
        }
        ticks
    })
}

/// The record of ticks that all fit.
fn record_of(ticks: &[WholeTick]) -> Vec<u8> {
    let mut batch = Batch::new(schema());
    for tick in ticks {
        batch.push(tick.clone()).expect("columns can say it");
    }
    assert_eq!((batch.first(), batch.count()), (Some(ticks[0].0.tick), ticks.len() as u64));
    let bytes_max = batch.bytes;
    let record = batch.take_record();
    // Beside what grows with the ticks there are the labels of columns.
    assert!(record.len() <= bytes_max + 256, "{} bytes, at most {bytes_max}", record.len());
    assert_eq!((batch.first(), batch.count()), (None, 0));
    record
}

proptest! {
    #[test]
    fn ticks_survive_the_way_there_and_back(ticks in ticks()) {
        let record = record_of(&ticks);
        let last = &ticks[ticks.len() - 1];
        let span = BatchSpan { first: ticks[0].0.tick, last: last.0.tick, state_hash: last.1.state_hash };
        prop_assert_eq!((BatchSpan::decode(&record), span.count()), (Ok(span), ticks.len() as u64));
        prop_assert_eq!(decode(&schema(), &record), Ok(ticks));
    }

    /// What no accident does, since the checksum is right.
    #[test]
    fn a_forged_batch_is_ticks_or_an_error(
        ticks in ticks(), forged in vec((any::<prop::sample::Index>(), 0..9_u8, any::<u32>()), 1..4)
    ) {
        let mut batch: pb::TickBatch = record::checked(&record_of(&ticks)).expect("whole");
        for (at, column, number) in forged {
            forge(&mut batch, at, column, number);
        }
        batch.crc32 = 0;
        if let Ok(again) = decode(&schema(), &record::with_checksum(&batch)) {
            prop_assert_eq!(decode(&schema(), &record_of(&again)), Ok(again));
        }
    }
}

/// Changes one number of a column, or adds it, or leaves one out.
fn forge(batch: &mut pb::TickBatch, at: prop::sample::Index, column: u8, number: u32) {
    let change = |numbers: &mut Vec<u32>| match at.index(numbers.len() + 1) {
        i if i == numbers.len() => numbers.push(number),
        i if number.is_multiple_of(5) => drop(numbers.remove(i)),
        i => numbers[i] = if number.is_multiple_of(2) { number } else { number % 9 },
    };
    let inputs = batch.inputs.get_or_insert_default();
    let truth = batch.truth.last_mut();
    match (column, truth, batch.events.last_mut()) {
        (0, ..) => change(&mut inputs.players),
        (1, ..) => change(&mut inputs.runs),
        (2, ..) => change(&mut inputs.masks),
        (3, ..) => batch.last = batch.last.wrapping_add(u64::from(number % 3)),
        (4, Some(truth), _) => change(&mut truth.despawned),
        (5, Some(truth), _) => change(&mut truth.spawned),
        (6, Some(truth), _) => change(&mut truth.change_counts),
        (7, Some(truth), _) => change(&mut truth.ticks),
        (_, Some(truth), None) => change(&mut truth.masks),
        (_, _, Some(events)) => change(&mut events.ticks),
        (_, None, None) => batch.first = number.into(),
    }
}

/// A tick in which a player's input came, an entity was made and another one moved, and something happened.
fn tick(tick: u64) -> WholeTick {
    let values = (0..INPUTS as i32).collect();
    let (player, tick) = (PlayerId(3), Tick(tick));
    let seen = Some(Seen { tick: Tick(tick.0 - 2), fraction: 128 });
    let input = SeatInput { player, provenance: Provenance::Fresh, sequence: tick.0 - 1, values, seen };
    let pair = KindTruth {
        kind: KindId(1),
        despawned: vec![NetId(1)],
        spawned: vec![(NetId(9), vec![-1, 1])],
        changed: vec![(NetId(3), 0b10), (NetId(5), 0b11)],
        differences: vec![-300, 1, 2],
    };
    let event = RecordedEvent { kind: EventId(1), ordinal: 4, player: Some(player), values: vec![7, -7] };
    (
        TickInput { tick, seat_changes: vec![SeatChange::Left { player: PlayerId(2) }], inputs: vec![input] },
        RecordedResult { tick, state_hash: 5, truth: TruthDelta { kinds: vec![pair] }, events: vec![event] },
    )
}

#[test]
fn a_batch_is_encoded_as_the_protocol_says() {
    let batch: pb::TickBatch = record::checked(&record_of(&[tick(10), tick(11)])).expect("whole");
    assert_eq!((batch.first, batch.last, batch.state_hashes), (10, 11, vec![5, 5]));
    let left = |tick| {
        let change = pb::SeatChange { player: 2, kind: pb::SeatChangeKind::Left as i32, name: String::new() };
        pb::SeatChangeAt { tick, change: Some(change) }
    };
    assert_eq!(batch.seat_changes, [left(0), left(1)]);
    let inputs = batch.inputs.expect("somebody sits");
    assert_eq!((inputs.players, inputs.runs), (vec![3], vec![2 * 4 + 1]));
    assert_eq!((inputs.sequences, inputs.seen_ticks, inputs.seen_fractions), (vec![1, 0], vec![2, 0], vec![128, 128]));
    // All but the first field, which is 0; then none.
    assert_eq!(inputs.masks, [u32::MAX - 1, 0b11, 0, 0]);
    assert_eq!((&inputs.values[0].numbers, &inputs.values[33].numbers), (&vec![], &vec![33]));
    let [truth] = batch.truth.try_into().expect("one kind");
    assert_eq!((truth.kind, truth.despawned, truth.spawned), (1, vec![0, 1, 1, 1], vec![0, 9, 1, 2, 1, 9, 1, 2]));
    assert_eq!((truth.entities, truth.change_counts, truth.ticks), (vec![2, 1], vec![2, 2], vec![0, 0, 0, 0]));
    assert_eq!(truth.masks, [0b10, 0b10, 0b11, 0b11]);
    assert_eq!(numbers(truth.differences), [vec![1, 0], vec![-300, 0, 2, 0]]);
    let [events] = batch.events.try_into().expect("one kind");
    assert_eq!((events.kind, events.ticks, events.ordinals, events.players), (1, vec![0, 1], vec![4, 4], vec![3, 3]));
    assert_eq!(numbers(events.values), [vec![7, 7], vec![-7, -7]]);
}

fn numbers(columns: Vec<pb::NumberColumn>) -> Vec<Vec<i32>> {
    columns.into_iter().map(|column| column.numbers).collect()
}

#[test]
fn what_columns_cannot_say_is_given_back() {
    let wrong: [fn(&mut WholeTick); 12] = [
        |(input, _)| input.inputs[0].values.truncate(INPUTS - 1),
        |(input, _)| input.inputs[0].provenance = Provenance::Repeated,
        |(input, _)| input.inputs.push(input.inputs[0].clone()),
        |(input, _)| input.tick = Tick(11),
        |(_, result)| result.truth.kinds[0].kind = KindId(2),
        |(_, result)| result.truth.kinds.push(result.truth.kinds[0].clone()),
        |(_, result)| result.truth.kinds[0].despawned = vec![NetId(2), NetId(1)],
        |(_, result)| result.truth.kinds[0].spawned[0].1.clear(),
        |(_, result)| result.truth.kinds[0].changed[0].1 = 0b100,
        |(_, result)| result.truth.kinds[0].differences.truncate(2),
        |(_, result)| result.events.push(result.events[0].clone()),
        |(_, result)| result.events[0].values.clear(),
    ];
    let mut batch = Batch::new(schema());
    for (i, wrong) in wrong.into_iter().enumerate() {
        let mut whole = tick(10);
        wrong(&mut whole);
        assert_eq!(batch.push(whole.clone()), Err(whole), "{i}");
    }
    assert_eq!(batch.push(tick(10)), Ok(()));
    assert_eq!(batch.push(tick(12)), Err(tick(12)), "it does not follow");
    assert_eq!(batch.push(tick(11)), Ok(()));
}

#[test]
fn a_batch_takes_no_more_than_it_has_room_for() {
    let crowd = |at: u64, count: u32| {
        let (input, result) = tick(at);
        let inputs =
            (0..count).map(|player| SeatInput { player: PlayerId(player), ..input.inputs[0].clone() }).collect();
        (TickInput { inputs, ..input }, result)
    };
    let mut batch = Batch::new(schema());
    let too_large = crowd(10, 40_000);
    assert_eq!(batch.push(too_large.clone()), Err(too_large), "no batch has room for it");
    assert_eq!(batch.push(crowd(10, 30_000)), Ok(()));
    let more = crowd(11, 10_000);
    assert_eq!(batch.push(more.clone()), Err(more), "this one has none left");
    assert_eq!(batch.push(crowd(11, 1000)), Ok(()));
    assert_eq!(decode(&schema(), &batch.take_record()), Ok(vec![crowd(10, 30_000), crowd(11, 1000)]));
}

/// What is wrong with two sound ticks, once something is changed.
fn error_of(wrong: impl FnOnce(&mut pb::TickBatch)) -> String {
    let mut batch: pb::TickBatch = record::checked(&record_of(&[tick(10), tick(11)])).expect("whole");
    wrong(&mut batch);
    batch.crc32 = 0;
    decode(&schema(), &record::with_checksum(&batch)).expect_err("it is wrong")
}

#[test]
fn what_is_wrong_with_a_batch_is_named() {
    assert_eq!(error_of(|batch| batch.last = 12), "2 state hashes of ticks 10 to 12");
    assert_eq!(error_of(|batch| batch.first = 12), "2 state hashes of ticks 12 to 11");
    assert_eq!(error_of(|batch| batch.seat_changes[0].tick = 2), "seat_changes.tick: 2 is not one of 2");
    assert_eq!(error_of(|batch| batch.seat_changes[0].change = None), "seat_changes.change: missing");

    let inputs = |wrong: fn(&mut pb::InputColumns)| error_of(|batch| wrong(batch.inputs.as_mut().expect("one sits")));
    assert_eq!(inputs(|inputs| inputs.players.push(3)), "inputs.players: 3 is not in rising order");
    assert_eq!(inputs(|inputs| inputs.players.push(4)), "inputs.runs: it ends too early");
    assert_eq!(inputs(|inputs| inputs.runs[0] = 1), "inputs.runs: 0 ticks, 0 after the first of 2");
    assert_eq!(inputs(|inputs| inputs.runs[0] = 13), "inputs.runs: 3 ticks, 0 after the first of 2");
    assert_eq!(inputs(|inputs| inputs.runs.push(9)), "inputs.runs: it has too many numbers");
    assert_eq!(inputs(|inputs| inputs.masks[1] = 0b100), "inputs.masks: a bit is that of no field");
    assert_eq!(inputs(|inputs| inputs.values.truncate(33)), "inputs.values: 33 columns of 34 fields");
    assert!(inputs(|inputs| inputs.seen_fractions[0] = 256).starts_with("inputs.seen_fraction: 256 "));

    let truth = |wrong: fn(&mut pb::TruthColumns)| error_of(|batch| wrong(&mut batch.truth[0]));
    assert_eq!(truth(|truth| truth.kind = 2), "truth.kind: 2 is not in the schema");
    assert_eq!(truth(|truth| truth.despawned[2] = 2), "truth of pair: a tick 2 after 0 is not one of 2");
    assert_eq!(truth(|truth| truth.despawned[2] = 0), "truth of pair: despawned entities are not in rising order");
    assert_eq!(truth(|truth| truth.spawned[1] = 0), "truth of pair: spawned entities are not in rising order");
    assert_eq!(truth(|truth| truth.ticks[1] = 1), "truth of pair: a tick 1 after 1 is not one of 2");
    assert_eq!(truth(|truth| truth.change_counts[0] = 0), "truth of pair: change_counts: an entity without changes");

    let events = |wrong: fn(&mut pb::EventColumns)| error_of(|batch| wrong(&mut batch.events[0]));
    assert_eq!(events(|events| events.kind = 9), "events.kind: 9 is not in the schema");
    assert_eq!(events(|events| events.ticks[1] = 0), "events of tick 10: two have the same ordinal");
    assert_eq!(events(|events| events.players.truncate(1)), "events of hit: players: it ends too early");
}

#[test]
fn few_bytes_cannot_make_many_inputs() {
    let count = TICKS_MAX as u64;
    let players: Vec<u32> = (0..1000).collect();
    let inputs = pb::InputColumns {
        runs: players.iter().map(|_| 4 * count as u32).collect(),
        players,
        values: vec![pb::NumberColumn::default(); INPUTS],
        ..pb::InputColumns::default()
    };
    let state_hashes = vec![0; TICKS_MAX];
    let batch = pb::TickBatch { first: 1, last: count, state_hashes, inputs: Some(inputs), ..pb::TickBatch::default() };
    let error = decode(&schema(), &record::with_checksum(&batch)).expect_err("four million inputs");
    assert_eq!(error, "inputs.runs: too many inputs for one batch");
}

#[test]
fn every_changed_byte_is_noticed() {
    let record = record_of(&[tick(10)]);
    for i in 0..record.len() {
        let mut broken = record.clone();
        broken[i] ^= 1;
        assert!(decode(&schema(), &broken).is_err() && BatchSpan::decode(&broken).is_err(), "byte {i}");
    }
}
