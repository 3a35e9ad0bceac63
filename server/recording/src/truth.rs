//! How the truth changed in one tick, as lists of numbers: encoding and decoding side by side.

use tickwire_proto::v1 as pb;
use tickwire_shared::{Kind, KindId, KindTruth, NetId, Schema, TruthDelta};

/// One message per kind that changed.
pub(crate) fn encode(delta: &TruthDelta) -> Vec<pb::TruthUpdate> {
    delta.kinds.iter().map(encode_kind).collect()
}

fn encode_kind(truth: &KindTruth) -> pb::TruthUpdate {
    let KindTruth { kind, despawned, spawned, .. } = truth;
    let mut update = pb::TruthUpdate { kind: kind.0.into(), ..pb::TruthUpdate::default() };
    let mut gaps = Gaps::default();
    update.despawned = despawned.iter().map(|&id| gaps.to(id)).collect();
    let mut gaps = Gaps::default();
    for (id, values) in spawned {
        update.spawned.push(gaps.to(*id));
        update.spawned.extend(values.iter().copied().map(zigzag));
    }
    let mut gaps = Gaps::default();
    for (net_id, mask, differences) in truth.changes() {
        update.changed.extend([gaps.to(net_id), mask]);
        update.changed.extend(differences.iter().copied().map(zigzag));
    }
    update
}

/// The delta of a tick's messages, or what is wrong with them.
pub(crate) fn decode(schema: &Schema, updates: &[pb::TruthUpdate]) -> Result<TruthDelta, String> {
    let mut delta = TruthDelta { kinds: Vec::with_capacity(updates.len()) };
    for update in updates {
        let id = u16::try_from(update.kind).ok().map(KindId);
        let found = id.and_then(|id| Some((id, schema.kind(id)?)));
        let (id, kind) = found.ok_or_else(|| format!("truth.kind: {} is not in the schema", update.kind))?;
        if delta.kinds.last().is_some_and(|last| last.kind >= id) {
            return Err(format!("truth.kind: {} is not in rising order", update.kind));
        }
        delta.kinds.push(decode_kind(id, kind, update).map_err(|error| format!("truth of {}: {error}", kind.name))?);
    }
    Ok(delta)
}

fn decode_kind(id: KindId, kind: &Kind, update: &pb::TruthUpdate) -> Result<KindTruth, &'static str> {
    let fields = kind.fields.len();
    let mut truth = KindTruth { kind: id, ..KindTruth::default() };

    let mut numbers = Numbers::new(&update.despawned);
    while let Some(net_id) = numbers.net_id()? {
        truth.despawned.push(net_id);
    }
    let mut numbers = Numbers::new(&update.spawned);
    while let Some(net_id) = numbers.net_id()? {
        truth.spawned.push((net_id, numbers.values(fields)?));
    }
    let mut numbers = Numbers::new(&update.changed);
    while let Some(net_id) = numbers.net_id()? {
        let mask = numbers.next().ok_or("a change ends before its mask")?;
        if u64::from(mask) >> fields != 0 {
            return Err("a change's mask has more bits than the kind has fields");
        }
        truth.changed.push((net_id, mask));
        truth.differences.extend(numbers.values(mask.count_ones() as usize)?);
    }
    Ok(truth)
}

/// Rising ids as their distances, less 1.
#[derive(Default)]
pub(crate) struct Gaps {
    last: u32,
}

impl Gaps {
    pub(crate) fn to(&mut self, NetId(id): NetId) -> u32 {
        debug_assert!(id > self.last, "ids rise from 1");
        let gap = id.wrapping_sub(self.last).wrapping_sub(1);
        self.last = id;
        gap
    }
}

/// A list of numbers that say different things by turns.
pub(crate) struct Numbers<'a> {
    rest: &'a [u32],
    last: u32,
}

impl<'a> Numbers<'a> {
    pub(crate) fn new(rest: &'a [u32]) -> Self {
        Self { rest, last: 0 }
    }

    pub(crate) fn next(&mut self) -> Option<u32> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// The next entity; `None` at the end of the list.
    pub(crate) fn net_id(&mut self) -> Result<Option<NetId>, &'static str> {
        let Some(gap) = self.next() else { return Ok(None) };
        let id = self.last.checked_add(1).and_then(|id| id.checked_add(gap)).ok_or("an id is beyond 2^32")?;
        self.last = id;
        Ok(Some(NetId(id)))
    }

    pub(crate) fn values(&mut self, count: usize) -> Result<Vec<i32>, &'static str> {
        let (values, rest) = self.rest.split_at_checked(count).ok_or("an entity's values end too early")?;
        self.rest = rest;
        Ok(values.iter().copied().map(unzigzag).collect())
    }
}

pub(crate) const fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

const fn unzigzag(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, prelude::*};
    use tickwire_shared::{Field, Quantity, SchemaParts};

    use super::*;

    fn schema() -> Schema {
        let field = |name: &str| Field::plain(name, Quantity::count(i32::MIN..=i32::MAX));
        let kinds = vec![
            Kind::new("bare", Vec::new()),
            Kind::new("pair", vec![field("a"), field("b")]),
            Kind::new("wide", (0..32).map(|i| field(&format!("f{i}"))).collect()),
        ];
        Schema::new(SchemaParts { game: "t".into(), kinds, ..SchemaParts::default() }).expect("valid")
    }

    fn kind_truth(kind: u16, fields: usize) -> impl Strategy<Value = KindTruth> {
        let id = || prop_oneof![1..200_u32, any::<u32>().prop_map(|id| id.max(1))];
        let all = move || prop::collection::vec(any::<i32>(), fields);
        let mask = move || any::<u32>().prop_map(move |mask| if fields == 0 { 0 } else { mask >> (32 - fields) });
        let change =
            mask().prop_flat_map(|mask| (Just(mask), prop::collection::vec(any::<i32>(), mask.count_ones() as usize)));
        (btree_map(id(), Just(()), 0..6), btree_map(id(), all(), 0..6), btree_map(id(), change, 0..6)).prop_map(
            move |(despawned, spawned, changed)| KindTruth {
                kind: KindId(kind),
                despawned: despawned.into_keys().map(NetId).collect(),
                spawned: spawned.into_iter().map(|(id, values)| (NetId(id), values)).collect(),
                changed: changed.iter().map(|(id, (mask, _))| (NetId(*id), *mask)).collect(),
                differences: changed.into_values().flat_map(|(_, differences)| differences).collect(),
            },
        )
    }

    proptest! {
        #[test]
        fn a_delta_survives_the_way_there_and_back(
            kinds in (kind_truth(0, 0), kind_truth(1, 2), kind_truth(2, 32)), present in [any::<bool>(); 3]
        ) {
            let all = [kinds.0, kinds.1, kinds.2];
            let kinds = all.into_iter().zip(present).filter(|(_, present)| *present).map(|(kind, _)| kind).collect();
            let delta = TruthDelta { kinds };
            prop_assert_eq!(decode(&schema(), &encode(&delta)), Ok(delta));
        }

        #[test]
        fn any_numbers_are_a_delta_or_an_error(
            kind in 0..4_u32,
            lists in [(); 3].map(|()| prop::collection::vec(prop_oneof![0..9_u32, any::<u32>()], 0..40))
        ) {
            let [despawned, spawned, changed] = lists;
            let update = pb::TruthUpdate { kind, despawned, spawned, changed };
            if let Ok(delta) = decode(&schema(), std::slice::from_ref(&update)) {
                prop_assert_eq!(encode(&delta), vec![update]);
            }
        }
    }

    #[test]
    fn a_delta_is_encoded_as_the_protocol_says() {
        let delta = TruthDelta {
            kinds: vec![KindTruth {
                kind: KindId(1),
                despawned: vec![NetId(1), NetId(2), NetId(7)],
                spawned: vec![(NetId(9), vec![-1, 1])],
                changed: vec![(NetId(3), 0b10)],
                differences: vec![-300],
            }],
        };
        let [update] = encode(&delta).try_into().expect("one kind");
        assert_eq!((update.kind, update.despawned), (1, vec![0, 0, 4]));
        assert_eq!((update.spawned, update.changed), (vec![8, 1, 2], vec![2, 2, 599]));
    }

    #[test]
    fn what_does_not_fit_the_schema_is_named() {
        let error = |update: pb::TruthUpdate| decode(&schema(), &[update]).expect_err("it must not fit");
        let update = |kind| pb::TruthUpdate { kind, ..pb::TruthUpdate::default() };
        assert_eq!(error(update(3)), "truth.kind: 3 is not in the schema");
        assert_eq!(
            error(pb::TruthUpdate { spawned: vec![0, 1], ..update(1) }),
            "truth of pair: an entity's values end too early"
        );
        assert_eq!(
            error(pb::TruthUpdate { changed: vec![0, 4, 1], ..update(1) }),
            "truth of pair: a change's mask has more bits than the kind has fields"
        );
        assert_eq!(
            error(pb::TruthUpdate { changed: vec![0], ..update(1) }),
            "truth of pair: a change ends before its mask"
        );
        assert_eq!(
            error(pb::TruthUpdate { despawned: vec![u32::MAX], ..update(1) }),
            "truth of pair: an id is beyond 2^32"
        );
        let twice = [update(1), update(1)];
        assert_eq!(decode(&schema(), &twice), Err("truth.kind: 1 is not in rising order".to_owned()));
    }
}
