//! Columns as rows of numbers, and how one differs from another.

use serde::{Deserialize, Serialize};

use crate::{Anchor, Column, Columns, Kind, Motion, NetId, RAMP_MAX, Ramped, Tick};

/// What the rows of a kind's columns are made of.
pub(super) struct Shape {
    empty: Columns,
    words: usize,
}

/// Entities with all their numbers.
#[derive(Serialize, Deserialize)]
pub(super) struct Rows {
    /// The distance of each id from the one before, less 1.
    gaps: Vec<u32>,
    words: Vec<i64>,
}

/// How columns were at the tick before, from how they are.
#[derive(Serialize, Deserialize)]
pub(super) struct Change {
    /// Places of those who were not there, each as its distance from the one before, less 1.
    without: Vec<u32>,
    /// Those who were there instead.
    with: Rows,
    /// Of those who stayed, places, and what is to be added to which numbers.
    others: Vec<(u32, Vec<(u8, i64)>)>,
}

impl Shape {
    pub(super) fn of(kind: &Kind) -> Self {
        let empty = Columns::empty(kind);
        let of_field = |column: &Column| match column {
            Column::Plain(_) => 1,
            Column::Anchored(_) | Column::Ramped(_) => 3,
        };
        let motion = if has_motions(&empty) { 2 } else { 0 };
        Self { words: motion + empty.fields.iter().map(of_field).sum::<usize>(), empty }
    }
}

fn has_motions(columns: &Columns) -> bool {
    columns.fields.iter().any(|column| matches!(column, Column::Ramped(_)))
}

impl Rows {
    pub(super) fn of(columns: &Columns) -> Self {
        Self::some_of(columns, 0..columns.ids.len())
    }

    fn some_of(columns: &Columns, rows: impl Iterator<Item = usize>) -> Self {
        let (mut gaps, mut words, mut next) = (Vec::new(), Vec::new(), 1);
        for row in rows {
            let NetId(id) = columns.ids[row];
            gaps.push(id - next);
            next = id.wrapping_add(1);
            words_of(columns, row, &mut words);
        }
        Self { gaps, words }
    }

    fn rows<'a>(&'a self, shape: &'a Shape) -> Result<impl Iterator<Item = (NetId, &'a [i64])>, String> {
        if self.words.len() != self.gaps.len() * shape.words {
            return Err(format!("{} numbers for {} entities", self.words.len(), self.gaps.len()));
        }
        let mut next = Some(1_u32);
        let mut ids = Vec::with_capacity(self.gaps.len());
        for &gap in &self.gaps {
            let id = next.and_then(|next| next.checked_add(gap)).ok_or("ids go beyond 2^32")?;
            next = id.checked_add(1);
            ids.push(NetId(id));
        }
        Ok(ids.into_iter().enumerate().map(|(i, id)| (id, &self.words[i * shape.words..(i + 1) * shape.words])))
    }

    pub(super) fn columns(&self, shape: &Shape, tick: Tick) -> Result<Columns, String> {
        let mut columns = shape.empty.clone();
        self.rows(shape)?.try_for_each(|(id, words)| push(&mut columns, id, words, tick))?;
        Ok(columns)
    }
}

impl Change {
    /// From the newer columns to the older.
    pub(super) fn back(newer: &Columns, older: &Columns) -> Self {
        let (mut without, mut next) = (Vec::new(), 0);
        let mut others = Vec::new();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (place, id) in (0_u32..).zip(&newer.ids) {
            let Some(row) = older.row(*id) else {
                without.push(place - next);
                next = place + 1;
                continue;
            };
            before.clear();
            after.clear();
            words_of(older, row, &mut before);
            words_of(newer, place as usize, &mut after);
            let words = (0_u8..).zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
            let words: Vec<_> = words.map(|(word, (before, after))| (word, before.wrapping_sub(*after))).collect();
            if !words.is_empty() {
                others.push((place, words));
            }
        }
        let gone = (0..older.ids.len()).filter(|&row| newer.row(older.ids[row]).is_none());
        Self { without, with: Rows::some_of(older, gone), others }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.moves() && self.others.is_empty()
    }

    /// Whether anybody came or went.
    pub(super) fn moves(&self) -> bool {
        !self.without.is_empty() || !self.with.gaps.is_empty()
    }

    pub(super) fn apply(&self, newer: &Columns, shape: &Shape, tick: Tick) -> Result<Columns, String> {
        let mut is_there = vec![true; newer.ids.len()];
        let mut next = 0_u32;
        for &gap in &self.without {
            let place = next.checked_add(gap).ok_or("places go beyond 2^32")?;
            *is_there.get_mut(place as usize).ok_or_else(|| format!("there is no place {place}"))? = false;
            next = place + 1;
        }
        let mut words = Vec::with_capacity(newer.ids.len() * shape.words);
        (0..newer.ids.len()).for_each(|row| words_of(newer, row, &mut words));
        for (place, changes) in &self.others {
            let start = *place as usize * shape.words;
            for (word, change) in changes {
                let word = words.get_mut(start.saturating_add(usize::from(*word)));
                let word = word.ok_or_else(|| format!("there is no place {place}"))?;
                *word = word.wrapping_add(*change);
            }
        }
        let stays = newer.ids.iter().zip(0..).filter(|(_, row)| is_there[*row]);
        let mut rows: Vec<(NetId, &[i64])> =
            stays.map(|(&id, row)| (id, &words[row * shape.words..(row + 1) * shape.words])).collect();
        rows.extend(self.with.rows(shape)?);
        rows.sort_by_key(|(id, _)| *id);
        if let Some(twice) = rows.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("entity {} is there twice", twice[0].0));
        }
        let mut columns = shape.empty.clone();
        rows.into_iter().try_for_each(|(id, words)| push(&mut columns, id, words, tick))?;
        Ok(columns)
    }
}

fn words_of(columns: &Columns, row: usize, words: &mut Vec<i64>) {
    if let Some(Motion { tick, ramp }) = columns.motions.get(row) {
        words.extend([tick.0 as i64, i64::from(*ramp)]);
    }
    for column in &columns.fields {
        match column {
            Column::Plain(values) => words.push(values[row].into()),
            Column::Anchored(anchors) => {
                let Anchor { value, rate, tick } = anchors[row];
                words.extend([i64::from(value), i64::from(rate), tick.0 as i64]);
            }
            Column::Ramped(held) => {
                let Ramped { value, rate, to } = held[row];
                words.extend([value, rate, to].map(i64::from));
            }
        }
    }
}

/// Appends a row of a shape's words, of which each is in its range at a tick.
fn push(columns: &mut Columns, id: NetId, words: &[i64], tick: Tick) -> Result<(), String> {
    let mut words = words.iter().copied();
    let mut next = || words.next().expect("as many as the shape has");
    let value = |word: i64| i32::try_from(word).map_err(|_| format!("entity {id}: {word} is no value"));
    let since = |word: i64| {
        let since = u64::try_from(word).ok().map(Tick).filter(|since| *since <= tick);
        since.ok_or_else(|| format!("entity {id}: {word} is no tick up to {tick}"))
    };
    let has_motions = has_motions(columns);
    columns.ids.push(id);
    if has_motions {
        let (since, ramp) = (since(next())?, next());
        let ramp = u16::try_from(ramp).ok().filter(|ramp| *ramp <= RAMP_MAX);
        let ramp = ramp.ok_or_else(|| format!("entity {id}: its ramp is out of range"))?;
        columns.motions.push(Motion { tick: since, ramp });
    }
    for column in &mut columns.fields {
        match column {
            Column::Plain(values) => values.push(value(next())?),
            Column::Anchored(anchors) => {
                anchors.push(Anchor { value: value(next())?, rate: value(next())?, tick: since(next())? });
            }
            Column::Ramped(held) => {
                held.push(Ramped { value: value(next())?, rate: value(next())?, to: value(next())? });
            }
        }
    }
    Ok(())
}
