//! The schema as a message, both ways.

use tickwire_proto::v1 as pb;
use tickwire_shared::{
    EventField, EventKind, Field, InputField, InputMode, Kind, Predictor, Quantity, Schema, SchemaError, SchemaParts,
    Setting, Visibility,
};

/// A message that is not a schema. The path names the entry, such as `kinds.player.x`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SchemaDecodeError {
    /// A part that must be there is not.
    #[error("schema.{path}: missing")]
    Missing {
        /// The part.
        path: String,
    },
    /// A number outside what its place can hold.
    #[error("schema.{path}: {value} is out of range")]
    Range {
        /// The part.
        path: String,
        /// The number.
        value: i64,
    },
    /// Breaks a rule of schemas.
    #[error("schema: {0}")]
    Invalid(#[from] SchemaError),
    /// The entries do not hash to what the message says.
    #[error("schema.hash: the message says {stated}, its entries make {computed}: one end has another version's rules")]
    Hash {
        /// In the message.
        stated: String,
        /// Of its entries.
        computed: String,
    },
}

/// A schema as a message.
#[must_use]
pub fn to_proto(schema: &Schema) -> pb::Schema {
    pb::Schema {
        game: schema.game.clone(),
        version: schema.version,
        hash: schema.hash().0.to_vec(),
        kinds: schema
            .kinds
            .iter()
            .map(|kind| pb::Kind { name: kind.name.clone(), fields: kind.fields.iter().map(field_to_proto).collect() })
            .collect(),
        inputs: schema
            .inputs
            .iter()
            .map(|input| pb::InputField {
                name: input.name.clone(),
                quantity: Some(quantity_to_proto(&input.quantity)),
                mode: match input.mode {
                    InputMode::Hold => pb::InputMode::Unspecified,
                    InputMode::Edge => pb::InputMode::Edge,
                } as i32,
                neutral: input.neutral,
            })
            .collect(),
        events: schema
            .events
            .iter()
            .map(|event| pb::EventKind {
                name: event.name.clone(),
                fields: event
                    .fields
                    .iter()
                    .map(|field| pb::EventField {
                        name: field.name.clone(),
                        quantity: Some(quantity_to_proto(&field.quantity)),
                    })
                    .collect(),
            })
            .collect(),
        settings: schema
            .settings
            .iter()
            .map(|setting| pb::Setting {
                name: setting.name.clone(),
                quantity: Some(quantity_to_proto(&setting.quantity)),
                default_value: setting.default,
            })
            .collect(),
        scores: schema.scores.clone(),
    }
}

/// A schema from a message: checked like a game's own, its hash included.
///
/// # Errors
/// Where the message does not hold a schema, by the path of the first entry that is wrong.
pub fn from_proto(message: &pb::Schema) -> Result<Schema, SchemaDecodeError> {
    let parts = SchemaParts {
        game: message.game.clone(),
        version: message.version,
        kinds: each(&message.kinds, |kind| {
            let fields = each(&kind.fields, |field| field_from_proto(&kind.name, field))?;
            Ok(Kind::new(&kind.name, fields))
        })?,
        inputs: each(&message.inputs, |input| {
            Ok(InputField {
                name: input.name.clone(),
                quantity: quantity_from_proto(&format!("inputs.{}", input.name), input.quantity.as_ref())?,
                mode: match input.mode() {
                    pb::InputMode::Unspecified => InputMode::Hold,
                    pb::InputMode::Edge => InputMode::Edge,
                },
                neutral: input.neutral,
            })
        })?,
        events: each(&message.events, |event| {
            let fields = each(&event.fields, |field| {
                let path = format!("events.{}.{}", event.name, field.name);
                Ok(EventField::new(&field.name, quantity_from_proto(&path, field.quantity.as_ref())?))
            })?;
            Ok(EventKind { name: event.name.clone(), fields })
        })?,
        settings: each(&message.settings, |setting| {
            Ok(Setting {
                name: setting.name.clone(),
                quantity: quantity_from_proto(&format!("settings.{}", setting.name), setting.quantity.as_ref())?,
                default: setting.default_value,
            })
        })?,
        scores: message.scores.clone(),
    };
    let schema = Schema::new(parts)?;
    if schema.hash().0.as_slice() != message.hash {
        let stated = message.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        return Err(SchemaDecodeError::Hash { stated, computed: schema.hash().to_string() });
    }
    Ok(schema)
}

fn each<M, T>(
    messages: &[M],
    decode: impl Fn(&M) -> Result<T, SchemaDecodeError>,
) -> Result<Vec<T>, SchemaDecodeError> {
    messages.iter().map(decode).collect()
}

fn quantity_to_proto(quantity: &Quantity) -> pb::Quantity {
    let Quantity { unit, quantum, min, max } = quantity.clone();
    pb::Quantity { unit, quantum, min, max }
}

fn quantity_from_proto(path: &str, message: Option<&pb::Quantity>) -> Result<Quantity, SchemaDecodeError> {
    let missing = || SchemaDecodeError::Missing { path: format!("{path}.quantity") };
    let pb::Quantity { unit, quantum, min, max } = message.ok_or_else(missing)?.clone();
    Ok(Quantity { unit, quantum, min, max })
}

fn field_to_proto(field: &Field) -> pb::Field {
    let (predictor, shift) = match field.predictor {
        Predictor::None => (pb::Predictor::Unspecified, 0),
        Predictor::Linear { shift } => (pb::Predictor::Linear, u32::from(shift)),
        Predictor::Ramp { shift } => (pb::Predictor::Ramp, u32::from(shift)),
    };
    pb::Field {
        name: field.name.clone(),
        quantity: Some(quantity_to_proto(&field.quantity)),
        predictor: predictor as i32,
        shift,
        // Neither is negative in a checked schema.
        tolerance: field.tolerance as u32,
        visibility: match field.visibility {
            Visibility::Everyone => pb::Visibility::Unspecified,
            Visibility::Owner => pb::Visibility::Owner,
        } as i32,
        owner_shift: u32::from(field.owner_shift),
        turn: field.turn.unwrap_or(0) as u32,
        teleport: field.teleport,
    }
}

fn field_from_proto(kind: &str, message: &pb::Field) -> Result<Field, SchemaDecodeError> {
    let path = format!("kinds.{kind}.{}", message.name);
    let range =
        |part: &str, value: u32| SchemaDecodeError::Range { path: format!("{path}.{part}"), value: i64::from(value) };
    let small = |part: &str, value: u32| u8::try_from(value).map_err(|_| range(part, value));
    let positive = |part: &str, value: u32| i32::try_from(value).map_err(|_| range(part, value));
    Ok(Field {
        name: message.name.clone(),
        quantity: quantity_from_proto(&path, message.quantity.as_ref())?,
        predictor: match message.predictor() {
            pb::Predictor::Unspecified => Predictor::None,
            pb::Predictor::Linear => Predictor::Linear { shift: small("shift", message.shift)? },
            pb::Predictor::Ramp => Predictor::Ramp { shift: small("shift", message.shift)? },
        },
        tolerance: positive("tolerance", message.tolerance)?,
        visibility: match message.visibility() {
            pb::Visibility::Unspecified => Visibility::Everyone,
            pb::Visibility::Owner => Visibility::Owner,
        },
        owner_shift: small("owner_shift", message.owner_shift)?,
        turn: match positive("turn", message.turn)? {
            0 => None,
            turn => Some(turn),
        },
        teleport: message.teleport,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        let metres = Quantity::new("m", 1.0 / 128.0, -100.0..=100.0);
        Schema::new(SchemaParts {
            game: "t".into(),
            version: 3,
            kinds: vec![Kind::new(
                "dot",
                vec![
                    Field::linear("x", metres.clone()).owner_shift(3).rate_shift(5),
                    Field::ramp("y", metres.clone()).owner_shift(3).rate_shift(2),
                    Field::plain("aim", metres.clone()).angle(256, 1.0),
                    Field::plain("ammo", metres.clone()).owner_only(),
                    Field::plain("jumps", Quantity::count(0..=255)).teleports(),
                ],
            )],
            inputs: vec![InputField::edge("fire", Quantity::count(0..=1))],
            events: vec![EventKind { name: "hit".into(), fields: vec![EventField::new("x", metres.clone())] }],
            settings: vec![Setting { name: "size".into(), quantity: metres, default: 7 }],
            scores: vec!["kills".into()],
        })
        .expect("valid")
    }

    #[test]
    fn a_schema_survives_the_way_there_and_back() {
        assert_eq!(from_proto(&to_proto(&schema())), Ok(schema()));
    }

    #[test]
    fn a_changed_message_is_refused() {
        let mut message = to_proto(&schema());
        message.kinds[0].fields[0].tolerance = 9;
        assert!(matches!(from_proto(&message), Err(SchemaDecodeError::Hash { .. })));
        message.kinds[0].fields[0].shift = 300;
        let path = "kinds.dot.x.shift".to_owned();
        assert_eq!(from_proto(&message), Err(SchemaDecodeError::Range { path, value: 300 }));
        message.kinds[0].fields[0].quantity = None;
        let path = "kinds.dot.x.quantity".to_owned();
        assert_eq!(from_proto(&message), Err(SchemaDecodeError::Missing { path }));
    }
}
