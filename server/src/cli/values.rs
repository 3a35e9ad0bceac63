//! How options may be written: as flags give them, as TOML has them, as environment variables come.

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, SeqAccess, Unexpected, Visitor},
};

/// Whether something is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnOff {
    On,
    Off,
}

impl<'de> Deserialize<'de> for OnOff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_on = deserializer.deserialize_any(Switch { on: &["on", "true", "1"], off: &["off", "false", "0"] })?;
        Ok(if is_on { Self::On } else { Self::Off })
    }
}

/// Where to listen, or that nobody is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listen {
    At(SocketAddr),
    Off,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::At).map_err(|_| "write it as IP:PORT, such as 127.0.0.1:0, or off".to_owned()),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(address) => address.serialize(serializer),
            Self::Off => serializer.serialize_str("off"),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl Visitor<'_> for Words {
            type Value = Listen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("IP:PORT, or off")
            }

            /// As an environment variable has `off`.
            fn visit_bool<E: Error>(self, value: bool) -> Result<Listen, E> {
                if value { Err(E::invalid_type(Unexpected::Bool(value), &self)) } else { Ok(Listen::Off) }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Listen, E> {
                text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Words)
    }
}

/// An address to listen at.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    deserializer.deserialize_any(AddressText)
}

/// The same, where there may be none.
pub(super) fn maybe_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    deserializer.deserialize_option(MaybeAddress)
}

struct AddressText;

impl Visitor<'_> for AddressText {
    type Value = SocketAddr;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IP:PORT, such as 127.0.0.1:7777 or [::1]:7777")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SocketAddr, E> {
        text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

struct MaybeAddress;

impl<'de> Visitor<'de> for MaybeAddress {
    type Value = Option<SocketAddr>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        AddressText.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        address(deserializer).map(Some)
    }
}

/// True or false, or 1 or 0.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    deserializer.deserialize_any(Switch { on: &["true", "1", "on"], off: &["false", "0", "off"] })
}

struct Switch {
    on: &'static [&'static str],
    off: &'static [&'static str],
}

impl Visitor<'_> for Switch {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} or {}", self.on[0], self.off[0])
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        match value {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<bool, E> {
        let lower = word.to_lowercase();
        match (self.on.contains(&&*lower), self.off.contains(&&*lower)) {
            (true, _) => Ok(true),
            (_, true) => Ok(false),
            _ => Err(E::invalid_value(Unexpected::Str(word), &self)),
        }
    }
}

/// A list, or one string with commas, as an environment variable has it.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(Words { what: "names", has_pairs: false })
}

/// Likewise, of NAME=VALUE; also a table.
pub(super) fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(Words { what: "NAME=VALUE", has_pairs: true })
}

struct Words {
    what: &'static str,
    has_pairs: bool,
}

impl<'de> Visitor<'de> for Words {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = if self.has_pairs { ", or a table" } else { "" };
        write!(f, "{}, as a list or with commas between{table}", self.what)
    }

    fn visit_str<E: Error>(self, words: &str) -> Result<Vec<String>, E> {
        Ok(words.split(',').map(|word| word.trim().to_owned()).collect())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<String>, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = sequence.next_element()? {
            words.push(word);
        }
        Ok(words)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
        if !self.has_pairs {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        }
        let mut words = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, f64>()? {
            words.push(format!("{name}={value}"));
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use figment::{
        Figment,
        providers::{Format as _, Toml},
    };

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Options {
        #[serde(default = "off")]
        recordings: OnOff,
        #[serde(default, deserialize_with = "flag")]
        insecure: bool,
        #[serde(default, deserialize_with = "one_or_many")]
        game: Vec<String>,
        #[serde(default, deserialize_with = "pairs")]
        set: Vec<String>,
    }

    fn off() -> OnOff {
        OnOff::Off
    }

    fn read(toml: &str) -> Result<Options, String> {
        Figment::from(Toml::string(toml)).extract().map_err(|error| error.to_string())
    }

    #[test]
    fn switches_are_words_numbers_or_truths() {
        for on in ["\"on\"", "true", "1", "\"TRUE\""] {
            let options = read(&format!("recordings = {on}\ninsecure = {on}")).expect("valid");
            assert_eq!((options.recordings, options.insecure), (OnOff::On, true), "{on}");
        }
        for off in ["\"off\"", "false", "0"] {
            let options = read(&format!("recordings = {off}\ninsecure = {off}")).expect("valid");
            assert_eq!((options.recordings, options.insecure), (OnOff::Off, false), "{off}");
        }
        assert!(read("recordings = \"perhaps\"").expect_err("no switch").contains("on or off"));
        assert!(read("insecure = 2").expect_err("no truth").contains("true or false"));
        assert!(read("insecure = -1").expect_err("no truth").contains("true or false"));
    }

    #[test]
    fn lists_are_lists_or_words_with_commas_and_settings_also_tables() {
        let options = read("game = \"a, b\"\nset = { size = 100, cover = 0.5 }").expect("valid");
        assert_eq!(
            (options.game, options.set),
            (vec!["a".into(), "b".into()], vec!["cover=0.5".into(), "size=100".into()])
        );
        let options = read("game = [\"a\"]\nset = [\"cover=0\", \"size=1\"]").expect("valid");
        assert_eq!((options.game, options.set), (vec!["a".into()], vec!["cover=0".into(), "size=1".into()]));
        assert!(read("game = { a = 1 }").expect_err("no list").contains("as a list or with commas"));
        assert!(read("set = { cover = \"much\" }").is_err());
    }
}
