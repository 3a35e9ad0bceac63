//! What owner sections' bytes were spent on.

use tickwire_proto::v1 as pb;
use tickwire_shared::{KindId, Schema};

use crate::{
    chunk::{
        EventAccount, Spent,
        account::{header_len, number_len},
    },
    varint::{varint_len, zigzag},
};

/// What owner sections were spent on, to the byte.
///
/// A section is counted as the field of a snapshot that it is, with its key and length.
#[derive(Clone, Debug)]
pub struct OwnerAccount {
    /// Of sections: keys and lengths, age, mask, the entity's number and kind, and how many events were lost.
    pub headers: Spent,
    /// Sections that were sent whole: their values.
    pub whole: Spent,
    /// Differences, by kind and field in the schema's order.
    pub kinds: Vec<Vec<Spent>>,
    /// The player's own events.
    pub events: EventAccount,
}

impl OwnerAccount {
    /// Nothing spent yet.
    #[must_use]
    pub fn new(schema: &Schema) -> Self {
        Self {
            headers: Spent::default(),
            whole: Spent::default(),
            kinds: schema.kinds.iter().map(|kind| vec![Spent::default(); kind.fields.len()]).collect(),
            events: EventAccount::new(schema),
        }
    }

    /// Adds one section. `kind` is that of the player's entity, which differences do not name.
    ///
    /// # Errors
    /// Where it does not fit the schema; part of it is added then.
    pub fn add(&mut self, kind: Option<KindId>, section: &pb::OwnerSection) -> Result<(), &'static str> {
        let before = self.bytes();
        let mut values = section.values.iter().map(|&value| varint_len(zigzag(value).into()) as u64);
        let values_len: u64 = values.clone().sum();
        let mut mask_len = 0;
        if section.base_age == Some(0) {
            self.whole += Spent { times: 1, bytes: values_len };
        } else {
            let fields =
                kind.and_then(|kind| self.kinds.get_mut(kind.index())).ok_or("differences without an entity")?;
            mask_len = values.next().unwrap_or(0);
            let mask = section.values.first().copied().unwrap_or(0);
            for (_, spent) in fields.iter_mut().enumerate().filter(|(i, _)| mask >> i & 1 != 0) {
                *spent += Spent { times: 1, bytes: values.next().ok_or("fewer values than the mask says")? };
            }
            if values.next().is_some() {
                return Err("more values than the mask says");
            }
        }
        self.events.add(&section.events)?;
        let numbers = [section.net_id, section.kind, section.events_lost];
        let own = mask_len
            + section.base_age.map_or(0, |age| 1 + varint_len(age.into()) as u64)
            + numbers.into_iter().map(number_len).sum::<u64>()
            + if section.values.is_empty() { 0 } else { header_len(values_len) };
        let body = self.bytes() - before + own;
        self.headers += Spent { times: 1, bytes: own + header_len(body) };
        Ok(())
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let fields: u64 = self.kinds.iter().flatten().map(|spent| spent.bytes).sum();
        self.headers.bytes + self.whole.bytes + fields + self.events.bytes()
    }
}
