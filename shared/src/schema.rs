//! What a game replicates, in numbers.

mod check;
mod field;
mod hash;

use std::fmt;

pub(crate) use self::field::public_value;
pub use self::field::{Field, InputField, InputMode, Predictor, Visibility};
use self::{check::check, hash::hash};
use crate::{EventId, InputId, KindId, Quantity};

/// The most mask bits of one kind, whose masks of changes fit 32 bits: see [`Kind::mask_bits`].
pub const MASK_BITS_MAX: usize = 32;
/// The most kinds, input fields, event kinds, settings or scores of a game.
pub const ENTRIES_MAX: usize = 256;

/// A game's kinds, inputs, events, settings and scores. Order is numbering: the first kind is `KindId(0)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// The game's name: lower-case letters, digits, `_` and `-`.
    pub game: String,
    /// The game's own version number.
    pub version: u32,
    /// Classes of replicated entities.
    pub kinds: Vec<Kind>,
    /// The numbers of a player's input.
    pub inputs: Vec<InputField>,
    /// What can happen at a tick.
    pub events: Vec<EventKind>,
    /// What a session is created with.
    pub settings: Vec<Setting>,
    /// Columns of the roster beside the name.
    pub scores: Vec<String>,
    hash: SchemaHash,
}

/// SHA-256 of a schema in its canonical form. Equal hashes mean equal schemas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SchemaHash(pub [u8; 32]);

impl fmt::Display for SchemaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A named class of replicated entity.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    /// Lower-case letters, digits and `_`.
    pub name: String,
    /// Its fields; positions first makes the common masks short.
    pub fields: Vec<Field>,
    public: Vec<usize>,
}

impl Kind {
    /// A kind of these fields.
    #[must_use]
    pub fn new(name: &str, fields: Vec<Field>) -> Self {
        let public = (0..fields.len()).filter(|&i| fields[i].visibility == Visibility::Everyone).collect();
        Self { name: name.to_owned(), fields, public }
    }

    /// The fields that everyone sees, with their places in [`fields`](Self::fields): the columns of a cell.
    pub fn public_fields(&self) -> impl ExactSizeIterator<Item = (usize, &Field)> {
        self.public.iter().map(|&i| (i, &self.fields[i]))
    }

    /// The places of the public fields whose change says that an entity jumped.
    pub fn teleport_fields(&self) -> impl Iterator<Item = usize> {
        self.public_fields().filter(|(_, field)| field.teleport).map(|(i, _)| i)
    }

    /// Whether any public field has a ramp: its entities then have a [`Motion`](crate::Motion).
    #[must_use]
    pub fn has_motion(&self) -> bool {
        self.public_fields().any(|(_, field)| field.ramp_line().is_some())
    }

    /// The bits of a mask of changes: one per public field, one more for each that has a predictor, and one for the
    /// motion that ramped fields share.
    #[must_use]
    pub fn mask_bits(&self) -> usize {
        let bits = |(_, field): (usize, &Field)| 1 + usize::from(field.predictor != Predictor::None);
        self.public_fields().map(bits).sum::<usize>() + usize::from(self.has_motion())
    }
}

/// Something that can happen at a tick.
#[derive(Clone, Debug, PartialEq)]
pub struct EventKind {
    /// Lower-case letters, digits and `_`.
    pub name: String,
    /// Its numbers.
    pub fields: Vec<EventField>,
}

/// One number of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct EventField {
    /// Lower-case letters, digits and `_`.
    pub name: String,
    /// Unit, quantum and range.
    pub quantity: Quantity,
}

impl EventField {
    /// A number of an event.
    #[must_use]
    pub fn new(name: &str, quantity: Quantity) -> Self {
        Self { name: name.to_owned(), quantity }
    }
}

/// A number that a session is created with.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Lower-case letters, digits and `_`.
    pub name: String,
    /// Unit, quantum and range.
    pub quantity: Quantity,
    /// In quanta.
    pub default: i32,
}

/// What is wrong with a schema. `path` names the entry, such as `kinds.player.x`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SchemaError {
    /// A name that is empty, too long, or of other characters.
    #[error("{path}: the name is not made of 1 to 64 lower-case letters, digits, '_' and '-'")]
    Name {
        /// The entry.
        path: String,
    },
    /// Two entries of one list with one name.
    #[error("{path}: the name is used twice; give each entry its own")]
    Duplicate {
        /// The entry.
        path: String,
    },
    /// Too many entries or mask bits.
    #[error("{path}: {count} is more than the {max} allowed")]
    TooMany {
        /// The list.
        path: String,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A quantity that cannot hold anything sensible.
    #[error("{path}: {reason}")]
    Quantity {
        /// The entry.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The lists of a schema, before it is checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchemaParts {
    /// The game's name.
    pub game: String,
    /// The game's own version number.
    pub version: u32,
    /// Classes of replicated entities.
    pub kinds: Vec<Kind>,
    /// The numbers of a player's input.
    pub inputs: Vec<InputField>,
    /// What can happen at a tick.
    pub events: Vec<EventKind>,
    /// What a session is created with.
    pub settings: Vec<Setting>,
    /// Columns of the roster beside the name.
    pub scores: Vec<String>,
}

impl Schema {
    /// Checks the lists and computes the hash.
    ///
    /// # Errors
    /// The first entry that breaks a rule, by its path.
    pub fn new(parts: SchemaParts) -> Result<Self, SchemaError> {
        check(&parts)?;
        let hash = hash(&parts);
        let SchemaParts { game, version, kinds, inputs, events, settings, scores } = parts;
        Ok(Self { game, version, kinds, inputs, events, settings, scores, hash })
    }

    /// SHA-256 of the canonical form.
    #[must_use]
    pub const fn hash(&self) -> SchemaHash {
        self.hash
    }

    /// The kind with this number.
    #[must_use]
    pub fn kind(&self, id: KindId) -> Option<&Kind> {
        self.kinds.get(id.index())
    }

    /// The event with this number.
    #[must_use]
    pub fn event(&self, id: EventId) -> Option<&EventKind> {
        self.events.get(id.index())
    }

    /// The number of the input field of this name.
    #[must_use]
    pub fn input_named(&self, name: &str) -> Option<InputId> {
        position(&self.inputs, |input| input.name == name).map(InputId)
    }

    /// The number of the kind of this name.
    #[must_use]
    pub fn kind_named(&self, name: &str) -> Option<KindId> {
        position(&self.kinds, |kind| kind.name == name).map(KindId)
    }

    /// The number of the event of this name.
    #[must_use]
    pub fn event_named(&self, name: &str) -> Option<EventId> {
        position(&self.events, |event| event.name == name).map(EventId)
    }

    /// The input of a player who does nothing.
    #[must_use]
    pub fn neutral_input(&self) -> Vec<i32> {
        self.inputs.iter().map(|input| input.neutral).collect()
    }
}

fn position<T>(list: &[T], found: impl Fn(&T) -> bool) -> Option<u16> {
    // Fits: a schema's lists have at most ENTRIES_MAX entries.
    list.iter().position(found).map(|i| i as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> SchemaParts {
        let metres = Quantity::new("m", 1.0 / 128.0, -256.0..=256.0);
        SchemaParts {
            game: "test".into(),
            version: 1,
            kinds: vec![Kind::new("dot", vec![Field::linear("x", metres.clone()), Field::plain("hue", metres)])],
            inputs: vec![InputField::hold("push", Quantity::new("", 1.0 / 127.0, -1.0..=1.0))],
            ..SchemaParts::default()
        }
    }

    #[test]
    fn the_hash_is_stable_and_sees_every_change() {
        let hash = |parts| Schema::new(parts).expect("valid").hash().to_string();
        // Clients carry this hash in their builds: a change here breaks every one of them.
        assert_eq!(hash(parts()), "c6b706472d586feaaa1743fd86761e5e6426f4750826219062fc28a375daa3f8");
        let mut other = parts();
        other.kinds[0].fields[0].tolerance = 2;
        assert_ne!(hash(parts()), hash(other));
        let mut other = parts();
        other.inputs[0].mode = InputMode::Edge;
        assert_ne!(hash(parts()), hash(other));
        let mut other = parts();
        other.kinds[0].fields[1].teleport = true;
        assert_ne!(hash(parts()), hash(other));
    }

    #[test]
    fn errors_name_the_entry() {
        let mut twice = parts();
        twice.kinds[0].fields[1].name = "x".into();
        assert_eq!(Schema::new(twice), Err(SchemaError::Duplicate { path: "kinds.dot.x".into() }));
        let mut wide = parts();
        wide.kinds[0].fields[0].owner_shift = 16;
        let error = Schema::new(wide).expect_err("256 m at 2^-23 m do not fit").to_string();
        assert!(error.starts_with("kinds.dot.x: the range does not fit"), "{error}");
        let mut many = parts();
        let fields = (0..17).map(|i| Field::linear(&format!("f{i}"), Quantity::count(0..=1))).collect();
        many.kinds[0] = Kind::new("dot", fields);
        assert_eq!(Schema::new(many), Err(SchemaError::TooMany { path: "kinds.dot".into(), count: 34, max: 32 }));
    }

    #[test]
    fn an_angle_wraps_where_a_distance_saturates() {
        let aim = Field::plain("aim", Quantity::count(0..=0)).angle(256, 1.0);
        assert_eq!(aim.quantize_fine(1.25), 64);
        assert_eq!(aim.quantize_fine(-0.25), 192);
        assert_eq!(aim.quantize_fine(f64::NAN), 0);
        let fine = Field { owner_shift: 4, ..aim };
        assert_eq!(fine.quantize_fine(0.999), 4092);
        assert_eq!(fine.coarse(4092), 0);
    }
}
