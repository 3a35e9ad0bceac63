//! What a saved type is made of, as far as it tells without a value: so that a build in which a component has other fields does
//! not take the bytes of the old one for its own.

use std::fmt::{self, Display};

use serde::{
    Deserializer,
    de::{self, DeserializeOwned, Visitor},
};

use crate::Digest;

/// In one number: its primitive, or the names of its fields or variants in their order. Of what is inside fields it knows
/// nothing, but for types around a single one.
pub(super) fn shape_of<T: DeserializeOwned>() -> u64 {
    let mut digest = Digest::default();
    // It never gets a value.
    let _ = T::deserialize(Look(&mut digest));
    digest.finish()
}

/// Has a type say what it expects, and gives it nothing.
struct Look<'a>(&'a mut Digest);

/// What it gives instead of a value.
#[derive(Debug)]
struct Looked;

impl Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was only looked at")
    }
}

impl std::error::Error for Looked {}

impl de::Error for Looked {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

impl Look<'_> {
    fn note(&mut self, word: &str) {
        word.bytes().for_each(|byte| self.0.write(byte.into()));
        self.0.write(u64::MAX);
    }

    fn see<T>(mut self, kind: &str, names: &[&str]) -> Result<T, Looked> {
        self.note(kind);
        names.iter().for_each(|name| self.note(name));
        Err(Looked)
    }
}

/// Methods that say no more than their name.
macro_rules! plain {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Looked> {
            self.see(stringify!($method), &[])
        })*
    };
}

impl<'de> Deserializer<'de> for Look<'_> {
    type Error = Looked;

    plain! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_option
        deserialize_unit deserialize_seq deserialize_map deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, _: V) -> Result<V::Value, Looked> {
        self.see("unit", &[])
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(mut self, _: &'static str, visitor: V) -> Result<V::Value, Looked> {
        self.note("newtype");
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, _: V) -> Result<V::Value, Looked> {
        self.0.write(length as u64);
        self.see("tuple", &[])
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Looked> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Looked> {
        self.see("struct", fields)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Looked> {
        self.see("enum", variants)
    }

    fn is_human_readable(&self) -> bool {
        // As the form that keyframes are in.
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Point {
        _x: f32,
        _y: f32,
    }

    #[derive(Deserialize)]
    struct Turned {
        _y: f32,
        _x: f32,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is of interest")]
    struct Pair(f32, f32);

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is of interest")]
    struct Metres(f32);

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is of interest")]
    struct Count(u32);

    #[derive(Deserialize)]
    enum Mood {
        _Calm,
        _Cross,
    }

    #[test]
    fn types_with_other_fields_have_other_shapes() {
        let shapes = [
            shape_of::<Point>(),
            shape_of::<Turned>(),
            shape_of::<Pair>(),
            shape_of::<Metres>(),
            shape_of::<Count>(),
            shape_of::<Mood>(),
            shape_of::<()>(),
            shape_of::<f32>(),
            shape_of::<Option<f32>>(),
            shape_of::<Vec<f32>>(),
            shape_of::<[f32; 2]>(),
            shape_of::<[f32; 4]>(),
        ];
        let different: BTreeSet<u64> = shapes.into_iter().collect();
        // An array and a struct without names are the same in bytes.
        assert_eq!((different.len(), shape_of::<Pair>()), (shapes.len() - 1, shape_of::<[f32; 2]>()));
        assert_eq!(shape_of::<Point>(), shapes[0], "each time the same");
    }
}
