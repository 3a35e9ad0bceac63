//! What is wrong with a schema.

use super::{ENTRIES_MAX, Field, MASK_BITS_MAX, Predictor, SchemaError, SchemaParts};
use crate::Quantity;

pub(super) fn check(parts: &SchemaParts) -> Result<(), SchemaError> {
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
