//! What updates' bytes were spent on: the third walk of the streams of numbers, which adds up what the others write and apply.

use std::ops::AddAssign;

use tickwire_proto::v1 as pb;
use tickwire_shared::{Reading, Schema};

use super::{KindLayout, Layout, apply::Mask};
use crate::varint::varint_len;

/// How often something was sent, and the bytes that it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How often.
    pub times: u64,
    /// In all.
    pub bytes: u64,
}

/// What cells' updates were spent on, to the byte.
///
/// An update is counted as the field of a snapshot that it is, with its key and length.
#[derive(Clone, Debug)]
pub struct ChunkAccount {
    layout: Layout,
    /// Of updates: key, length, cell, ages, slices, and how many events were lost.
    pub headers: Spent,
    /// The cells' hashes.
    pub hashes: Spent,
    /// By kind, in the schema's order.
    pub kinds: Vec<KindAccount>,
    /// The cells' events.
    pub events: EventAccount,
}

/// What the entities of one kind were spent on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindAccount {
    /// Of kinds in updates: keys and lengths of the message and its lists, and the kind's number.
    pub headers: Spent,
    /// Entities that are gone.
    pub despawned: Spent,
    /// Entities that went to another cell.
    pub left: Spent,
    /// Entities that came: new ones, from another cell, or with a cell that is sent whole.
    pub arrivals: Spent,
    /// Of entities that changed: which, and what of them.
    pub gaps_and_masks: Spent,
    /// Of entities that changed: their motions, without the ramped fields themselves.
    pub motions: Spent,
    /// Of entities that changed: their fields, by their places among the public ones.
    pub fields: Vec<Spent>,
}

/// What events were spent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventAccount {
    /// How many values events have.
    values: Vec<usize>,
    /// Of lists of events: key and length.
    pub headers: Spent,
    /// By kind of event, in the schema's order.
    pub kinds: Vec<Spent>,
}

impl ChunkAccount {
    /// Nothing spent yet.
    #[must_use]
    pub fn new(schema: &Schema) -> Self {
        let layout = Layout::of(schema);
        let kind = |kind: &KindLayout| KindAccount {
            fields: vec![Spent::default(); kind.readings.len()],
            ..Default::default()
        };
        Self {
            headers: Spent::default(),
            hashes: Spent::default(),
            kinds: layout.kinds.iter().map(kind).collect(),
            events: EventAccount::new(schema),
            layout,
        }
    }

    /// Adds one update, or one slice of it.
    ///
    /// # Errors
    /// Where it does not fit the schema; part of it is added then.
    pub fn add(&mut self, update: &pb::CellUpdate) -> Result<(), &'static str> {
        // All at once, so that nothing depends on the sum of the parts.
        let before = self.bytes();
        let base_age = update.base_age.unwrap_or(1);
        for kind in &update.kinds {
            let i = kind.kind as usize;
            let (layout, account) =
                (self.layout.kinds.get(i).zip(self.kinds.get_mut(i))).ok_or("a kind beyond the schema")?;
            account.add(layout, kind, base_age)?;
        }
        self.events.add(&update.events)?;
        if update.hash.is_some() {
            self.hashes += Spent { times: 1, bytes: 1 + 4 };
        }
        let numbers = [update.cell, update.events_lost, update.tick_age, update.slice, update.slices];
        let own = update.base_age.map_or(0, |age| 1 + varint_len(age.into()) as u64)
            + numbers.into_iter().map(number_len).sum::<u64>();
        let body = self.bytes() - before + own;
        self.headers += Spent { times: 1, bytes: own + header_len(body) };
        Ok(())
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let kinds: u64 = self.kinds.iter().map(KindAccount::bytes).sum();
        kinds + self.headers.bytes + self.hashes.bytes + self.events.bytes()
    }
}

impl KindAccount {
    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let Self { headers, despawned, left, arrivals, gaps_and_masks, motions, fields } = self;
        let parts = [headers, despawned, left, arrivals, gaps_and_masks, motions];
        parts.into_iter().chain(fields).map(|spent| spent.bytes).sum()
    }

    fn add(&mut self, layout: &KindLayout, update: &pb::KindUpdate, base_age: u32) -> Result<(), &'static str> {
        let before = self.bytes();
        self.despawned += Spent { times: update.despawned.len() as u64, bytes: numbers_len(&update.despawned) };
        self.left += Spent { times: update.left.len() as u64 / 2, bytes: numbers_len(&update.left) };
        self.add_arrivals(layout, &update.arrivals)?;
        self.add_changes(layout, &update.changes, base_age)?;
        let streams = [&update.despawned, &update.left, &update.arrivals, &update.changes];
        let own = number_len(update.kind) + streams.into_iter().map(|numbers| list_header_len(numbers)).sum::<u64>();
        let body = self.bytes() - before + own;
        self.headers += Spent { times: 1, bytes: own + header_len(body) };
        Ok(())
    }

    fn add_arrivals(&mut self, layout: &KindLayout, numbers: &[u32]) -> Result<(), &'static str> {
        let Spent { times, bytes } = &mut self.arrivals;
        let mut numbers = Numbers(numbers);
        while !numbers.0.is_empty() {
            *times += 1;
            numbers.next(bytes)?;
            let mut ramp = 0;
            if layout.has_motion {
                numbers.next(bytes)?;
                ramp = numbers.next(bytes)?;
            }
            for reading in &layout.readings {
                let count = match reading {
                    Reading::Plain => 1,
                    Reading::Line(_) => 3,
                    Reading::Ramp(_) => 2 + u32::from(ramp > 0),
                };
                for _ in 0..count {
                    numbers.next(bytes)?;
                }
            }
        }
        Ok(())
    }

    fn add_changes(&mut self, layout: &KindLayout, numbers: &[u32], base_age: u32) -> Result<(), &'static str> {
        let mut numbers = Numbers(numbers);
        while !numbers.0.is_empty() {
            self.gaps_and_masks.times += 1;
            numbers.next(&mut self.gaps_and_masks.bytes)?;
            let mut bits = Mask(numbers.next(&mut self.gaps_and_masks.bytes)?);
            // Of the motion, where it is restated.
            let mut ramp = None;
            if layout.has_motion && bits.pop() {
                self.motions.times += 1;
                if base_age > 1 {
                    numbers.next(&mut self.motions.bytes)?;
                }
                ramp = Some(numbers.next(&mut self.motions.bytes)?);
            }
            for (reading, Spent { times, bytes }) in layout.readings.iter().zip(&mut self.fields) {
                let count = match reading {
                    Reading::Plain => u32::from(bits.pop()),
                    Reading::Line(_) => match (bits.pop(), bits.pop()) {
                        (true, rate) => 1 + u32::from(rate) + u32::from(base_age > 1),
                        (false, _) => 0,
                    },
                    Reading::Ramp(_) => {
                        let of_start = if bits.pop() { 1 + u32::from(ramp.is_some_and(|ramp| ramp > 0)) } else { 0 };
                        of_start + u32::from(bits.pop())
                    }
                };
                *times += u64::from(count > 0);
                for _ in 0..count {
                    numbers.next(bytes)?;
                }
            }
        }
        Ok(())
    }
}

impl EventAccount {
    /// Nothing spent yet.
    #[must_use]
    pub(crate) fn new(schema: &Schema) -> Self {
        let values: Vec<usize> = schema.events.iter().map(|kind| kind.fields.len()).collect();
        Self { headers: Spent::default(), kinds: vec![Spent::default(); values.len()], values }
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.headers.bytes + self.kinds.iter().map(|spent| spent.bytes).sum::<u64>()
    }

    /// Adds one list.
    pub(crate) fn add(&mut self, list: &[u32]) -> Result<(), &'static str> {
        let mut numbers = Numbers(list);
        while let Some(&kind) = numbers.0.first() {
            let i = kind as usize;
            let (values, spent) =
                self.values.get(i).zip(self.kinds.get_mut(i)).ok_or("a kind of event beyond the schema")?;
            spent.times += 1;
            // Kind, age and ordinal, and the values.
            for _ in 0..3 + values {
                numbers.next(&mut spent.bytes)?;
            }
        }
        self.headers += Spent { times: u64::from(!list.is_empty()), bytes: list_header_len(list) };
        Ok(())
    }
}

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.times += other.times;
        self.bytes += other.bytes;
    }
}

/// What is left of a list.
struct Numbers<'a>(&'a [u32]);

impl Numbers<'_> {
    /// The next one, whose length is added to `bytes`.
    fn next(&mut self, bytes: &mut u64) -> Result<u32, &'static str> {
        let (&number, rest) = self.0.split_first().ok_or("a list that ends within an entity or an event")?;
        self.0 = rest;
        *bytes += varint_len(number.into()) as u64;
        Ok(number)
    }
}

/// Of a field, whose key takes a byte as all do here; 0 is not written.
pub(crate) fn number_len(number: u32) -> u64 {
    if number == 0 { 0 } else { 1 + varint_len(number.into()) as u64 }
}

/// Key and length of a message or a list of `len` bytes.
pub(crate) fn header_len(len: u64) -> u64 {
    1 + varint_len(len) as u64
}

fn list_header_len(numbers: &[u32]) -> u64 {
    if numbers.is_empty() { 0 } else { header_len(numbers_len(numbers)) }
}

fn numbers_len(numbers: &[u32]) -> u64 {
    numbers.iter().map(|&number| varint_len(number.into()) as u64).sum()
}
