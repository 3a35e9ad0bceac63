//! A schema's hash.

use sha2::{Digest as _, Sha256};

use super::{InputMode, Predictor, SchemaHash, SchemaParts, Visibility};
use crate::Quantity;

/// SHA-256 over every entry in order: strings with their length before them, numbers as little-endian bytes, lists with
/// their length before them.
pub(super) fn hash(parts: &SchemaParts) -> SchemaHash {
    let mut form = Canonical(Sha256::new());
    form.text("tickwire-schema-1");
    form.text(&parts.game);
    form.number(parts.version);
    form.list(&parts.kinds, |form, kind| {
        form.text(&kind.name);
        form.list(&kind.fields, |form, field| {
            form.text(&field.name);
            form.quantity(&field.quantity);
            form.number(match field.predictor {
                Predictor::None => u32::MAX,
                Predictor::Linear { shift } => u32::from(shift),
                Predictor::Ramp { shift } => 1 << 16 | u32::from(shift),
            });
            form.number(field.tolerance as u32);
            // The second bit came later: schemas without teleports keep their hashes.
            form.number(u32::from(field.visibility == Visibility::Owner) | u32::from(field.teleport) << 1);
            form.number(u32::from(field.owner_shift));
            form.number(field.turn.unwrap_or(0) as u32);
        });
    });
    form.list(&parts.inputs, |form, input| {
        form.text(&input.name);
        form.quantity(&input.quantity);
        form.number(u32::from(input.mode == InputMode::Edge));
        form.number(input.neutral as u32);
    });
    form.list(&parts.events, |form, event| {
        form.text(&event.name);
        form.list(&event.fields, |form, field| {
            form.text(&field.name);
            form.quantity(&field.quantity);
        });
    });
    form.list(&parts.settings, |form, setting| {
        form.text(&setting.name);
        form.quantity(&setting.quantity);
        form.number(setting.default as u32);
    });
    form.list(&parts.scores, |form, score| form.text(score));
    SchemaHash(form.0.finalize().into())
}

struct Canonical(Sha256);

impl Canonical {
    fn number(&mut self, number: u32) {
        self.0.update(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.0.update(text.as_bytes());
    }

    fn quantity(&mut self, quantity: &Quantity) {
        self.text(&quantity.unit);
        self.0.update(quantity.quantum.to_bits().to_le_bytes());
        self.number(quantity.min as u32);
        self.number(quantity.max as u32);
    }

    fn list<T>(&mut self, list: &[T], each: impl Fn(&mut Self, &T)) {
        self.number(list.len() as u32);
        for entry in list {
            each(self, entry);
        }
    }
}
