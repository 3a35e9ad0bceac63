//! What a client holds of the entities of one kind in one cell.
//!
//! Row by row, not field by field as the server's frames: a change touches one entity, and of a thousand mirrors none is in
//! a core's cache. A row is made of the very words that its hash is made of.

use tickwire_shared::{
    Anchor, Column, Columns, Kind, KindId, Line, Motion, Murmur3, NetId, Ramp, Ramped, Reading, Tick,
};

/// How a kind's rows are laid out: the NetId, the motion (its tick and its ramp) where the kind has one, then each public
/// field: its value; an anchor's value, rate and tick; a ramped value's value, rate and `to`. Of ticks the low 32 bits.
#[derive(Clone, Debug)]
pub(crate) struct RowLayout {
    /// The words of a row.
    pub(crate) width: usize,
    /// Of the public fields, in their order: where their words begin, and how they are read.
    pub(crate) fields: Vec<(usize, Reading)>,
    pub(crate) has_motion: bool,
    /// All bits that a mask of changes can have.
    pub(crate) mask: u32,
    /// Those of them that bring an age where the base is older than a tick.
    pub(crate) aged: u32,
    /// Those that bring a rate where the motion has a ramp.
    pub(crate) ramped: u32,
}

/// Where a row's motion is, where there is one: after the NetId.
const MOTION: usize = 1;

impl RowLayout {
    pub(crate) fn of(kind: &Kind) -> Self {
        let has_motion = kind.has_motion();
        let mut width = MOTION + if has_motion { 2 } else { 0 };
        let (mut bit, mut aged, mut ramped) = (u32::from(has_motion), u32::from(has_motion), 0);
        let field = |(_, field)| {
            let (at, reading) = (width, Reading::of(field));
            let (words, bits) = match reading {
                Reading::Plain => (1, 1),
                Reading::Line(_) => {
                    aged |= 1 << bit;
                    (3, 2)
                }
                Reading::Ramp(_) => {
                    ramped |= 1 << bit;
                    (3, 2)
                }
            };
            width += words;
            bit += bits;
            (at, reading)
        };
        let fields = kind.public_fields().map(field).collect();
        Self { width, fields, has_motion, mask: ((1_u64 << kind.mask_bits()) - 1) as u32, aged, ramped }
    }
}

/// The entities of one kind in one cell, in order of NetId.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    words: Vec<u32>,
}

impl Rows {
    pub(crate) fn len(&self, layout: &RowLayout) -> usize {
        self.words.len() / layout.width
    }

    pub(crate) fn get(&self, layout: &RowLayout, row: usize) -> Row<'_> {
        Row(&self.words[row * layout.width..(row + 1) * layout.width])
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, layout: &RowLayout, row: usize) -> RowMut<'_> {
        RowMut(&mut self.words[row * layout.width..(row + 1) * layout.width])
    }

    /// Has the memory of a row on its way to the core; what it gives is to be used in some way.
    #[inline]
    pub(crate) fn touch(&self, layout: &RowLayout, row: usize) -> u32 {
        self.words[row * layout.width] ^ self.words[(row + 1) * layout.width - 1]
    }

    pub(crate) fn iter(&self, layout: &RowLayout) -> impl DoubleEndedIterator<Item = Row<'_>> {
        self.words.chunks_exact(layout.width).map(Row)
    }

    pub(crate) fn find(&self, layout: &RowLayout, id: NetId) -> Option<Row<'_>> {
        let row = self.position(layout, id, self.len(layout));
        (row < self.len(layout)).then(|| self.get(layout, row)).filter(|row| row.id() == id)
    }

    /// The number of the first `rows` rows whose NetId is below `id`.
    fn position(&self, layout: &RowLayout, id: NetId, rows: usize) -> usize {
        let (mut low, mut high) = (0, rows);
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.words[middle * layout.width] < id.0 {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// The sum, modulo 2^32, of the rows' hashes.
    pub(crate) fn hash(&self, layout: &RowLayout, kind: KindId) -> u32 {
        let of_row = |row: &[u32]| {
            let mut hash = Murmur3::default();
            hash.write(row[0]);
            hash.write(u32::from(kind.0));
            row[1..].iter().for_each(|word| hash.write(*word));
            hash.finish()
        };
        self.words.chunks_exact(layout.width).map(of_row).fold(0, u32::wrapping_add)
    }

    /// Takes rows out, given by their rising positions.
    pub(crate) fn remove(&mut self, layout: &RowLayout, gone: impl Iterator<Item = usize> + Clone) {
        let width = layout.width;
        let Some(mut to) = gone.clone().next().map(|first| first * width) else { return };
        let ends = gone.clone().skip(1).map(|row| row * width).chain([self.words.len()]);
        for (start, end) in gone.map(|row| (row + 1) * width).zip(ends) {
            self.words.copy_within(start..end, to);
            to += end - start;
        }
        self.words.truncate(to);
    }

    /// Puts rows in, in order of NetId, of entities that are not there. Takes them out of `arrivals`.
    pub(crate) fn insert(&mut self, layout: &RowLayout, arrivals: &mut Self) {
        if self.words.is_empty() {
            std::mem::swap(self, arrivals);
            self.words.shrink_to_fit();
            return;
        }
        let width = layout.width;
        let mut rows = self.len(layout);
        self.words.resize(self.words.len() + arrivals.words.len(), 0);
        for (i, row) in arrivals.words.chunks_exact(width).enumerate().rev() {
            // `i + 1` rows are still to come in before those that are behind this one.
            let at = self.position(layout, NetId(row[0]), rows);
            self.words.copy_within(at * width..rows * width, (at + i + 1) * width);
            self.words[(at + i) * width..(at + i + 1) * width].copy_from_slice(row);
            rows = at;
        }
        arrivals.words.clear();
    }

    /// Appends a row without values.
    pub(crate) fn push(&mut self, layout: &RowLayout, id: NetId) -> RowMut<'_> {
        let at = self.words.len();
        self.words.push(id.0);
        self.words.resize(at + layout.width, 0);
        RowMut(&mut self.words[at..])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.words.clear();
    }

    /// As the server's frames have them.
    pub(crate) fn to_columns(&self, layout: &RowLayout, kind: &Kind, held: Tick) -> Columns {
        let mut columns = Columns::empty(kind);
        for row in self.iter(layout) {
            columns.ids.push(row.id());
            if layout.has_motion {
                columns.motions.push(row.motion(held));
            }
            for (column, &(at, _)) in columns.fields.iter_mut().zip(&layout.fields) {
                match column {
                    Column::Plain(values) => values.push(row.plain(at)),
                    Column::Anchored(anchors) => anchors.push(row.anchor(at, held)),
                    Column::Ramped(values) => values.push(row.ramped(at)),
                }
            }
        }
        columns
    }
}

/// One entity's row. What it holds of ticks is completed by the tick at which its cell stands, or a little later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a>(pub(crate) &'a [u32]);

impl Row<'_> {
    pub(crate) const fn id(&self) -> NetId {
        NetId(self.0[0])
    }

    pub(crate) fn motion(&self, held: Tick) -> Motion {
        Motion { tick: whole_tick(self.0[MOTION], held), ramp: self.0[MOTION + 1] as u16 }
    }

    fn plain(&self, at: usize) -> i32 {
        self.0[at] as i32
    }

    pub(crate) fn anchor(&self, at: usize, held: Tick) -> Anchor {
        let [value, rate, tick] = self.three(at);
        Anchor { value: value as i32, rate: rate as i32, tick: whole_tick(tick, held) }
    }

    pub(crate) fn ramped(&self, at: usize) -> Ramped {
        let [value, rate, to] = self.three(at).map(|word| word as i32);
        Ramped { value, rate, to }
    }

    fn three(&self, at: usize) -> [u32; 3] {
        [self.0[at], self.0[at + 1], self.0[at + 2]]
    }

    /// A field's value at `tick`, of an entity whose cell stands at `held`.
    pub(crate) fn value(&self, (at, reading): (usize, Reading), held: Tick, tick: Tick) -> i32 {
        match reading {
            Reading::Plain => self.plain(at),
            Reading::Line(line) => Line::read(&line, &self.anchor(at, held), tick),
            Reading::Ramp(ramp) => Ramp::read(&ramp, &self.ramped(at), &self.motion(held), tick),
        }
    }
}

/// One entity's row, to be changed.
#[derive(Debug)]
pub(crate) struct RowMut<'a>(&'a mut [u32]);

impl RowMut<'_> {
    pub(crate) fn row(&self) -> Row<'_> {
        Row(self.0)
    }

    pub(crate) fn set_motion(&mut self, Motion { tick, ramp }: Motion) {
        self.0[MOTION] = tick.0 as u32;
        self.0[MOTION + 1] = u32::from(ramp);
    }

    pub(crate) fn set_plain(&mut self, at: usize, value: i32) {
        self.0[at] = value as u32;
    }

    pub(crate) fn add_plain(&mut self, at: usize, difference: i32) {
        self.0[at] = self.0[at].wrapping_add(difference as u32);
    }

    pub(crate) fn set_anchor(&mut self, at: usize, Anchor { value, rate, tick }: Anchor) {
        self.set_three(at, [value as u32, rate as u32, tick.0 as u32]);
    }

    pub(crate) fn set_ramped(&mut self, at: usize, Ramped { value, rate, to }: Ramped) {
        self.set_three(at, [value, rate, to].map(|word| word as u32));
    }

    fn set_three(&mut self, at: usize, words: [u32; 3]) {
        self.0[at..at + 3].copy_from_slice(&words);
    }
}

/// The newest tick up to `held` with these low bits: what is held is set anew before it is 2^31 ticks old.
fn whole_tick(low: u32, held: Tick) -> Tick {
    Tick(held.0.saturating_sub(u64::from((held.0 as u32).wrapping_sub(low))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{
        collection::{btree_set, vec},
        prelude::*,
    };
    use tickwire_shared::{Field, Quantity};

    use super::*;

    fn kind() -> Kind {
        let metres = Quantity::new("m", 1.0 / 64.0, -100.0..=100.0);
        Kind::new(
            "dot",
            vec![
                Field::plain("hue", Quantity::count(0..=9)),
                Field::ramp("x", metres.clone()),
                Field::plain("secret", Quantity::count(0..=9)).owner_only(),
                Field::linear("y", metres),
            ],
        )
    }

    #[test]
    fn a_row_gives_back_what_was_put_in_and_hashes_as_the_servers_does() {
        let (kind, held) = (kind(), Tick((3 << 32) + 5));
        let layout = RowLayout::of(&kind);
        assert_eq!((layout.width, layout.mask, layout.aged, layout.ramped), (10, 0b11_1111, 0b1_0001, 0b100));
        let motion = Motion { tick: Tick((3 << 32) - 2), ramp: 77 };
        let anchor = Anchor { value: -9, rate: 1 << 30, tick: Tick((2 << 32) + (1 << 31)) };
        let ramped = Ramped { value: i32::MIN, rate: -1, to: i32::MAX };
        let mut rows = Rows::default();
        let mut row = rows.push(&layout, NetId(8));
        row.set_motion(motion);
        row.set_plain(3, -4);
        row.add_plain(3, 6);
        row.set_ramped(4, ramped);
        row.set_anchor(7, anchor);

        let columns = rows.to_columns(&layout, &kind, held);
        let expected = Columns {
            ids: vec![NetId(8)],
            motions: vec![motion],
            fields: vec![Column::Plain(vec![2]), Column::Ramped(vec![ramped]), Column::Anchored(vec![anchor])],
        };
        assert_eq!(columns, expected);
        assert_eq!(rows.hash(&layout, KindId(7)), columns.hash_row(KindId(7), 0));
        for (column, &field) in layout.fields.iter().enumerate() {
            let value = rows.get(&layout, 0).value(field, held, held.next());
            assert_eq!(value, columns.read(0, column, field.1, held.next()));
        }
    }

    proptest! {
        #[test]
        fn rows_come_and_go_in_order_of_their_ids(
            steps in vec((btree_set(1..60_u32, 0..12), vec(any::<prop::sample::Index>(), 0..6)), 1..12)
        ) {
            let layout = RowLayout::of(&kind());
            let (mut rows, mut model) = (Rows::default(), BTreeMap::new());
            for (step, (arrivals, gone)) in steps.into_iter().enumerate() {
                let ids: Vec<u32> = model.keys().copied().collect();
                let mut at: Vec<usize> = gone.iter().filter(|_| !ids.is_empty()).map(|at| at.index(ids.len())).collect();
                at.sort_unstable();
                at.dedup();
                rows.remove(&layout, at.iter().copied());
                for &at in &at {
                    model.remove(&ids[at]);
                }

                let mut new = Rows::default();
                for id in arrivals {
                    if model.insert(id, step as i32).is_none() {
                        new.push(&layout, NetId(id)).set_plain(3, step as i32);
                    } else {
                        let row = rows.iter(&layout).position(|row| row.id() == NetId(id)).expect("in the model");
                        rows.get_mut(&layout, row).set_plain(3, step as i32);
                    }
                }
                rows.insert(&layout, &mut new);
                prop_assert!(new.is_empty());

                let held: Vec<(u32, i32)> = rows.iter(&layout).map(|row| (row.id().0, row.plain(3))).collect();
                prop_assert_eq!(&held, &model.iter().map(|(id, value)| (*id, *value)).collect::<Vec<_>>());
                for id in 0..61 {
                    prop_assert_eq!(rows.find(&layout, NetId(id)).is_some(), model.contains_key(&id));
                }
            }
        }
    }
}
