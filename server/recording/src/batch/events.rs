//! The events of several ticks as columns.

use std::collections::BTreeMap;

use tickwire_proto::v1 as pb;
use tickwire_shared::{EventId, PlayerId, Schema};

use super::{Column, WholeTick, columns, further};
use crate::RecordedEvent;

pub(super) fn encode(schema: &Schema, ticks: &[WholeTick]) -> Vec<pb::EventColumns> {
    // With the tick of each kind's newest event.
    let mut kinds = BTreeMap::<EventId, (usize, pb::EventColumns)>::new();
    for (i, (_, result)) in ticks.iter().enumerate() {
        for RecordedEvent { kind, ordinal, player, values } in &result.events {
            let (at, columns) = kinds.entry(*kind).or_insert_with(|| {
                let fields = schema.event(*kind).expect("a batch takes events of the schema only").fields.len();
                let values = vec![pb::NumberColumn::default(); fields];
                (0, pb::EventColumns { kind: kind.0.into(), values, ..pb::EventColumns::default() })
            });
            columns.ticks.push((i - *at) as u32);
            *at = i;
            columns.ordinals.push(*ordinal);
            columns.players.push(player.map_or(0, |player| player.0));
            for (column, value) in columns.values.iter_mut().zip(values) {
                column.numbers.push(*value);
            }
        }
    }
    kinds.into_values().map(|(_, columns)| columns).collect()
}

pub(super) fn decode(schema: &Schema, all: &[pb::EventColumns], ticks: &mut [WholeTick]) -> Result<(), String> {
    let mut last = None;
    for of_kind in all {
        let id = u16::try_from(of_kind.kind).ok().map(EventId);
        let found = id.and_then(|id| Some((id, schema.event(id)?)));
        let (id, event) = found.ok_or_else(|| format!("events.kind: {} is not in the schema", of_kind.kind))?;
        if last >= Some(id) {
            return Err(format!("events.kind: {} is not in rising order", of_kind.kind));
        }
        last = Some(id);
        decode_kind(id, event.fields.len(), of_kind, ticks)
            .map_err(|error| format!("events of {}: {error}", event.name))?;
    }
    for (input, result) in ticks {
        result.events.sort_by_key(|event| event.ordinal);
        if !result.events.is_sorted_by(|a, b| a.ordinal < b.ordinal) {
            return Err(format!("events of tick {}: two have the same ordinal", input.tick));
        }
    }
    Ok(())
}

fn decode_kind(
    kind: EventId,
    fields: usize,
    of_kind: &pb::EventColumns,
    ticks: &mut [WholeTick],
) -> Result<(), String> {
    let mut ordinals = Column::new("ordinals", &of_kind.ordinals);
    let mut players = Column::new("players", &of_kind.players);
    let mut values = columns("values", &of_kind.values, fields)?;
    let mut at = 0;
    for gap in &of_kind.ticks {
        at = further(ticks, at, *gap)?;
        let player = Some(PlayerId(players.next()?)).filter(|player| player.0 != 0);
        let values = values.iter_mut().map(Column::next).collect::<Result<_, _>>()?;
        ticks[at].1.events.push(RecordedEvent { kind, ordinal: ordinals.next()?, player, values });
    }
    ordinals.end()?;
    players.end()?;
    values.into_iter().try_for_each(Column::end)
}
