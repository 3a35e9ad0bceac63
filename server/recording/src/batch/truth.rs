//! How the truth changed in several ticks, as columns.

use std::collections::BTreeMap;

use tickwire_proto::v1 as pb;
use tickwire_shared::{KindId, KindTruth, NetId, Schema, TruthDelta};

use super::{Column, WholeTick, bits, columns, further};
use crate::truth::{Gaps, Numbers, zigzag};

/// A tick in which an entity changed, the mask of its fields, and their differences.
type Change<'a> = (usize, u32, &'a [i32]);

/// A kind's changes while they are collected.
#[derive(Default)]
struct Collected<'a> {
    columns: pb::TruthColumns,
    /// The newest tick in `columns.despawned`, and in `columns.spawned`.
    despawned_at: usize,
    spawned_at: usize,
    changes: BTreeMap<NetId, Vec<Change<'a>>>,
}

pub(super) fn encode(schema: &Schema, ticks: &[WholeTick]) -> Vec<pb::TruthColumns> {
    let mut kinds = BTreeMap::<KindId, Collected<'_>>::new();
    for (i, (_, result)) in ticks.iter().enumerate() {
        for truth in &result.truth.kinds {
            kinds.entry(truth.kind).or_default().collect(i, truth);
        }
    }
    let columns = |(id, collected): (KindId, Collected<'_>)| {
        let fields = schema.kind(id).expect("a batch takes kinds of the schema only").fields.len();
        collected.encode(id, fields)
    };
    kinds.into_iter().map(columns).collect()
}

impl<'a> Collected<'a> {
    fn collect(&mut self, tick: usize, truth: &'a KindTruth) {
        for id in &truth.despawned {
            self.columns.despawned.extend([(tick - self.despawned_at) as u32, id.0]);
            self.despawned_at = tick;
        }
        for (id, values) in &truth.spawned {
            self.columns.spawned.extend([(tick - self.spawned_at) as u32, id.0]);
            self.columns.spawned.extend(values.iter().copied().map(zigzag));
            self.spawned_at = tick;
        }
        for (id, mask, differences) in truth.changes() {
            self.changes.entry(id).or_default().push((tick, mask, differences));
        }
    }

    fn encode(self, kind: KindId, fields: usize) -> pb::TruthColumns {
        let mut columns = self.columns;
        columns.kind = kind.0.into();
        columns.differences = vec![pb::NumberColumn::default(); fields];
        let mut gaps = Gaps::default();
        for (id, changes) in self.changes {
            columns.entities.push(gaps.to(id));
            columns.change_counts.push(changes.len() as u32);
            let (mut next, mut before) = (0, vec![0; fields]);
            for (tick, mask, differences) in changes {
                columns.ticks.push((tick - next) as u32);
                next = tick + 1;
                columns.masks.push(mask);
                for (i, difference) in bits(mask).zip(differences) {
                    columns.differences[i].numbers.push(difference.wrapping_sub(before[i]));
                    before[i] = *difference;
                }
            }
        }
        columns
    }
}

pub(super) fn decode(schema: &Schema, all: &[pb::TruthColumns], ticks: &mut [WholeTick]) -> Result<(), String> {
    let mut last = None;
    for of_kind in all {
        let id = u16::try_from(of_kind.kind).ok().map(KindId);
        let found = id.and_then(|id| Some((id, schema.kind(id)?)));
        let (id, kind) = found.ok_or_else(|| format!("truth.kind: {} is not in the schema", of_kind.kind))?;
        if last >= Some(id) {
            return Err(format!("truth.kind: {} is not in rising order", of_kind.kind));
        }
        last = Some(id);
        decode_kind(id, kind.fields.len(), of_kind, ticks)
            .map_err(|error| format!("truth of {}: {error}", kind.name))?;
    }
    Ok(())
}

fn decode_kind(id: KindId, fields: usize, of_kind: &pb::TruthColumns, ticks: &mut [WholeTick]) -> Result<(), String> {
    let mut at = 0;
    let mut numbers = Numbers::new(&of_kind.despawned);
    while let Some(gap) = numbers.next() {
        at = further(ticks, at, gap)?;
        let net_id = NetId(numbers.next().ok_or("a despawned entity ends before its id")?);
        let despawned = &mut truth_of(ticks, at, id).despawned;
        if despawned.last().map_or(NetId(0), |last| *last) >= net_id {
            return Err("despawned entities are not in rising order".to_owned());
        }
        despawned.push(net_id);
    }
    let mut at = 0;
    let mut numbers = Numbers::new(&of_kind.spawned);
    while let Some(gap) = numbers.next() {
        at = further(ticks, at, gap)?;
        let net_id = NetId(numbers.next().ok_or("a spawned entity ends before its id")?);
        let spawned = &mut truth_of(ticks, at, id).spawned;
        if spawned.last().map_or(NetId(0), |(last, _)| *last) >= net_id {
            return Err("spawned entities are not in rising order".to_owned());
        }
        spawned.push((net_id, numbers.values(fields)?));
    }
    decode_changes(id, fields, of_kind, ticks)
}

fn decode_changes(
    id: KindId,
    fields: usize,
    of_kind: &pb::TruthColumns,
    ticks: &mut [WholeTick],
) -> Result<(), String> {
    let mut entities = Numbers::new(&of_kind.entities);
    let mut counts = Column::new("change_counts", &of_kind.change_counts);
    let mut gaps = Column::new("ticks", &of_kind.ticks);
    let mut masks = Column::new("masks", &of_kind.masks);
    let mut values = columns("differences", &of_kind.differences, fields)?;
    while let Some(net_id) = entities.net_id()? {
        let (mut next, mut before) = (0, vec![0_i32; fields]);
        let count = counts.next()?;
        if count == 0 {
            return Err("change_counts: an entity without changes".to_owned());
        }
        for _ in 0..count {
            let at = further(ticks, next, gaps.next()?)?;
            next = at + 1;
            let mask = masks.next()?;
            let truth = truth_of(ticks, at, id);
            truth.changed.push((net_id, mask));
            for i in bits(mask) {
                let before = before.get_mut(i).ok_or("a change's mask has more bits than the kind has fields")?;
                *before = before.wrapping_add(values[i].next()?);
                truth.differences.push(*before);
            }
        }
    }
    counts.end()?;
    gaps.end()?;
    masks.end()?;
    values.into_iter().try_for_each(Column::end)
}

/// What changed of a kind in a tick. Kinds come in rising order.
fn truth_of(ticks: &mut [WholeTick], tick: usize, kind: KindId) -> &mut KindTruth {
    let TruthDelta { kinds } = &mut ticks[tick].1.truth;
    if kinds.last().is_none_or(|last| last.kind != kind) {
        kinds.push(KindTruth { kind, ..KindTruth::default() });
    }
    kinds.last_mut().expect("it has just been added where there was none")
}
