//! What a game replicates, in numbers.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::{EventId, InputId, KindId, Quantity, Ramp, predictor::Line};

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

/// One quantized number of a kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Lower-case letters, digits and `_`.
    pub name: String,
    /// Unit, quantum and range.
    pub quantity: Quantity,
    /// How receivers continue it between updates.
    pub predictor: Predictor,
    /// How far, in quanta, the held value may stand from the truth. 0 without a predictor.
    pub tolerance: i32,
    /// Who sees it.
    pub visibility: Visibility,
    /// The owner's copy, and the component itself where it is predicted, are in steps of `quantum / 2^owner_shift`.
    pub owner_shift: u8,
    /// For angles: quanta in one whole turn. The range is then `0..turn`.
    pub turn: Option<i32>,
}

/// How receivers continue a field between updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predictor {
    /// It stays as it is; every change is sent.
    None,
    /// It moves on at the rate of its anchor, which has `shift` fraction bits.
    Linear {
        /// Fraction bits of the rate: 0 to 16.
        shift: u8,
    },
    /// Its rate changes evenly from one to another over a time that all ramped fields of the entity share, then stays. It
    /// is held at the owner's precision, and its rates have `shift` fraction bits below that.
    Ramp {
        /// Fraction bits of the rates: 0 to 16.
        shift: u8,
    },
}

/// Who sees a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Every viewer of the entity's cell.
    Everyone,
    /// Only the entity's owner.
    Owner,
}

impl Field {
    /// A field whose every change is sent.
    #[must_use]
    pub fn plain(name: &str, quantity: Quantity) -> Self {
        Self {
            name: name.to_owned(),
            quantity,
            predictor: Predictor::None,
            tolerance: 0,
            visibility: Visibility::Everyone,
            owner_shift: 0,
            turn: None,
        }
    }

    /// A field that moves on by itself: sent only when the truth leaves the line by more than a tolerance of 1 quantum,
    /// the least at which a steady mover costs nothing. Rates have 4 fraction bits.
    #[must_use]
    pub fn linear(name: &str, quantity: Quantity) -> Self {
        Self { predictor: Predictor::Linear { shift: 4 }, tolerance: 1, ..Self::plain(name, quantity) }
    }

    /// A field of something that accelerates: as [`linear`](Self::linear), but a change of rate may take its time, and
    /// still is sent once. The game says what the rate is heading for with
    /// [`KindDefinition::heading`](crate::KindDefinition::heading).
    #[must_use]
    pub fn ramp(name: &str, quantity: Quantity) -> Self {
        Self { predictor: Predictor::Ramp { shift: 0 }, tolerance: 1, ..Self::plain(name, quantity) }
    }

    /// Sets how far, in quanta, the held value may stand from the truth.
    #[must_use]
    pub fn tolerance(mut self, quanta: i32) -> Self {
        self.tolerance = quanta;
        self
    }

    /// Sets the fraction bits of the rates of a field with a predictor; one without becomes linear.
    #[must_use]
    pub fn rate_shift(mut self, shift: u8) -> Self {
        self.predictor = match self.predictor {
            Predictor::None | Predictor::Linear { .. } => Predictor::Linear { shift },
            Predictor::Ramp { .. } => Predictor::Ramp { shift },
        };
        self
    }

    /// Sets the owner's precision: `quantum / 2^shift`.
    #[must_use]
    pub fn owner_shift(mut self, shift: u8) -> Self {
        self.owner_shift = shift;
        self
    }

    /// Shows the field to the entity's owner alone.
    #[must_use]
    pub fn owner_only(mut self) -> Self {
        self.visibility = Visibility::Owner;
        self
    }

    /// Makes it an angle of `quanta` steps to the turn. The quantum becomes one step's share of `turn_in_units`.
    #[must_use]
    pub fn angle(mut self, quanta: i32, turn_in_units: f64) -> Self {
        self.turn = Some(quanta);
        self.quantity.quantum = turn_in_units / f64::from(quanta);
        self.quantity.min = 0;
        self.quantity.max = quanta - 1;
        self
    }

    /// The predictor's numbers, where it is linear.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        let Predictor::Linear { shift } = self.predictor else { return None };
        let Quantity { min, max, .. } = self.quantity;
        Some(Line { shift, tolerance: self.tolerance, turn: self.turn, min, max })
    }

    /// The predictor's numbers, where it is a ramp.
    #[must_use]
    pub fn ramp_line(&self) -> Option<Ramp> {
        let Predictor::Ramp { shift } = self.predictor else { return None };
        let Quantity { min, max, .. } = self.quantity;
        Some(Ramp { shift, fine_shift: self.owner_shift, tolerance: self.tolerance, turn: self.turn, min, max })
    }

    /// A quantity at the owner's precision: what capture reads from the component. Angles wrap, all else saturates.
    #[must_use]
    pub fn quantize_fine(&self, quantity: f64) -> i32 {
        match self.turn {
            None => self.quantity.quantize_fine(quantity, self.owner_shift),
            Some(turn) => {
                let steps = (quantity / self.quantity.quantum * f64::from(1_u32 << self.owner_shift)).round();
                let turn = f64::from(turn) * f64::from(1_u32 << self.owner_shift);
                let wrapped = steps - (steps / turn).floor() * turn;
                // NaN casts to 0; a wrapped value fits, since the schema has checked the range.
                wrapped.clamp(0.0, turn - 1.0) as i32
            }
        }
    }

    /// The public value of a fine one.
    #[must_use]
    pub fn coarse(&self, fine: i32) -> i32 {
        let coarse = crate::coarse(fine, self.owner_shift);
        self.turn.map_or(coarse, |turn| coarse.rem_euclid(turn))
    }
}

/// One number of a player's input.
#[derive(Clone, Debug, PartialEq)]
pub struct InputField {
    /// Lower-case letters, digits and `_`.
    pub name: String,
    /// Unit, quantum and range.
    pub quantity: Quantity,
    /// What becomes of it where an input is missing.
    pub mode: InputMode,
    /// The value of a player who does nothing, in quanta.
    pub neutral: i32,
}

/// What becomes of an input field where a tick's input is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputMode {
    /// It repeats for up to 250 ms, then turns neutral.
    Hold,
    /// A one-shot action: it never repeats.
    Edge,
}

impl InputField {
    /// A field that is held, such as a direction; neutral at 0.
    #[must_use]
    pub fn hold(name: &str, quantity: Quantity) -> Self {
        Self { name: name.to_owned(), quantity, mode: InputMode::Hold, neutral: 0 }
    }

    /// A one-shot action, such as a jump; neutral at 0.
    #[must_use]
    pub fn edge(name: &str, quantity: Quantity) -> Self {
        Self { mode: InputMode::Edge, ..Self::hold(name, quantity) }
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

fn check(parts: &SchemaParts) -> Result<(), SchemaError> {
    check_name("game", &parts.game)?;
    check_list("kinds", parts.kinds.iter().map(|kind| kind.name.as_str()))?;
    for kind in &parts.kinds {
        let path = format!("kinds.{}", kind.name);
        check_list(&path, kind.fields.iter().map(|field| field.name.as_str()))?;
        // Owners' fields have a mask of their own, of one bit each.
        at_most(&path, kind.mask_bits().max(kind.fields.len()), MASK_BITS_MAX)?;
        for field in &kind.fields {
            check_field(&format!("{path}.{}", field.name), field)?;
        }
    }
    check_list("inputs", parts.inputs.iter().map(|input| input.name.as_str()))?;
    for input in &parts.inputs {
        let path = format!("inputs.{}", input.name);
        check_quantity(&path, &input.quantity)?;
        check_within(&path, &input.quantity, input.neutral)?;
    }
    check_list("events", parts.events.iter().map(|event| event.name.as_str()))?;
    for event in &parts.events {
        let path = format!("events.{}", event.name);
        check_list(&path, event.fields.iter().map(|field| field.name.as_str()))?;
        for field in &event.fields {
            check_quantity(&format!("{path}.{}", field.name), &field.quantity)?;
        }
    }
    check_list("settings", parts.settings.iter().map(|setting| setting.name.as_str()))?;
    for setting in &parts.settings {
        let path = format!("settings.{}", setting.name);
        check_quantity(&path, &setting.quantity)?;
        check_within(&path, &setting.quantity, setting.default)?;
    }
    check_list("scores", parts.scores.iter().map(String::as_str))
}

fn check_field(path: &str, field: &Field) -> Result<(), SchemaError> {
    check_quantity(path, &field.quantity)?;
    let wrong = |reason| Err(SchemaError::Quantity { path: path.to_owned(), reason });
    if field.owner_shift > 16 || field.quantity.fine_range(field.owner_shift).is_none() {
        return wrong("the range does not fit 32 bits at the owner's precision; make owner_shift or the range smaller");
    }
    match field.predictor {
        Predictor::None if field.tolerance != 0 => return wrong("a field without a predictor has tolerance 0"),
        Predictor::Linear { shift } | Predictor::Ramp { shift } if shift > 16 => {
            return wrong("a rate has at most 16 fraction bits");
        }
        _ if field.tolerance < 0 => return wrong("a tolerance is not negative"),
        _ => {}
    }
    match field.turn {
        Some(turn) if turn < 2 || (turn - 1, 0) != (field.quantity.max, field.quantity.min) => {
            wrong("an angle's range is 0 to turn - 1; use Field::angle")
        }
        Some(turn) if turn.checked_mul(1 << field.owner_shift).is_none() => {
            wrong("the turn does not fit 32 bits at the owner's precision; make owner_shift smaller")
        }
        _ => Ok(()),
    }
}

fn check_quantity(path: &str, quantity: &Quantity) -> Result<(), SchemaError> {
    let wrong = |reason| Err(SchemaError::Quantity { path: path.to_owned(), reason });
    if !quantity.quantum.is_finite() || quantity.quantum <= 0.0 {
        return wrong("the quantum is not a positive number");
    }
    if quantity.min > quantity.max {
        return wrong("the range is empty: min is above max");
    }
    if quantity.unit.len() > 64 {
        return wrong("the unit is longer than 64 bytes");
    }
    Ok(())
}

fn check_within(path: &str, quantity: &Quantity, value: i32) -> Result<(), SchemaError> {
    if (quantity.min..=quantity.max).contains(&value) {
        return Ok(());
    }
    Err(SchemaError::Quantity { path: path.to_owned(), reason: "the default or neutral value is out of range" })
}

fn check_list<'a>(path: &str, names: impl Iterator<Item = &'a str>) -> Result<(), SchemaError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        let path = format!("{path}.{name}");
        check_name(&path, name)?;
        if !seen.insert(name) {
            return Err(SchemaError::Duplicate { path });
        }
    }
    at_most(path, seen.len(), ENTRIES_MAX)
}

fn check_name(path: &str, name: &str) -> Result<(), SchemaError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if (1..=64).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(SchemaError::Name { path: path.to_owned() })
}

fn at_most(path: &str, count: usize, max: usize) -> Result<(), SchemaError> {
    if count <= max {
        return Ok(());
    }
    Err(SchemaError::TooMany { path: path.to_owned(), count, max })
}

/// SHA-256 over every entry in order: strings with their length before them, numbers as little-endian bytes, lists with
/// their length before them.
fn hash(parts: &SchemaParts) -> SchemaHash {
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
            form.number(u32::from(field.visibility == Visibility::Owner));
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
