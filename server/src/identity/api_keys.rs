//! API keys: whose bearer may change sessions and have tickets issued. The server holds their hashes alone.

use std::{hint::black_box, str::FromStr, sync::Arc};

use sha2::{Digest as _, Sha256};
use tickwire_ticket::{NoRandomness, Secret, random_id};

/// What every key begins with, so that they are found where they do not belong.
pub(super) const PREFIX: &str = "twk_";
const NAME_BYTES_MAX: usize = 64;
const KEYS_MAX: usize = 1000;

/// Whose key it is: in logs, quotas and audits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiKeyName(Arc<str>);

impl ApiKeyName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ApiKeyName {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, &'static str> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(allowed);
        is_name.then(|| Self(name.into())).ok_or("choose a name of 1 to 64 letters, digits, '-', '_' and '.'")
    }
}

/// A file of API keys that is none. Nothing of the file stands in it: somebody may have written a key there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ApiKeysError {
    line: usize,
    problem: &'static str,
}

/// The keys of a file.
#[derive(Debug, Default)]
pub(super) struct ApiKeys(Vec<(ApiKeyName, [u8; 32])>);

impl ApiKeys {
    /// Reads a file: `NAME SHA256` per line, in hexadecimal; empty lines, and those that begin with `#`, say nothing.
    pub(super) fn read(text: &str) -> Result<Self, ApiKeysError> {
        let mut keys = Self::default();
        for (line, words) in (1..).zip(text.lines()) {
            let wrong = |problem| ApiKeysError { line, problem };
            let words = words.trim();
            if words.is_empty() || words.starts_with('#') {
                continue;
            }
            let mut words = words.split_whitespace();
            let (Some(name), Some(hash), None) = (words.next(), words.next(), words.next()) else {
                return Err(wrong("write a name and the SHA-256 of its key"));
            };
            let name: ApiKeyName = name.parse().map_err(wrong)?;
            let hash = from_hex(hash).ok_or(wrong("the key's SHA-256 is 64 hexadecimal digits"))?;
            if keys.0.iter().any(|(other, _)| *other == name) {
                return Err(wrong("this name stands there twice"));
            }
            if keys.0.len() == KEYS_MAX {
                return Err(wrong("there are more than 1000 keys"));
            }
            keys.0.push((name, hash));
        }
        Ok(keys)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whose key it is. All hashes are compared, each in a time that does not tell where it differs.
    pub(super) fn find(&self, key: &str) -> Option<ApiKeyName> {
        let hash: [u8; 32] = Sha256::digest(key).into();
        let is_it = |other: &[u8; 32]| {
            other.iter().zip(&hash).fold(0, |differences, (a, b)| black_box(differences | (a ^ b))) == 0
        };
        self.0.iter().fold(None, |found, (name, other)| if is_it(other) { Some(name.clone()) } else { found })
    }
}

/// A new key, and its line for the file.
///
/// # Errors
/// Where the operating system has no randomness.
pub(crate) fn new_api_key(name: &ApiKeyName) -> Result<(Secret, String), NoRandomness> {
    let key = format!("{PREFIX}{}{}", random_id()?, random_id()?);
    let line = format!("{} {}", name.as_str(), to_hex(&Sha256::digest(&key)));
    Ok((key.into(), line))
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn from_hex(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(name: &str) -> ApiKeyName {
        name.parse().expect("a name")
    }

    #[test]
    fn a_new_key_is_found_by_its_line() {
        let made: Vec<(Secret, String)> =
            ["a", "match.maker-2"].map(|name| new_api_key(&named(name)).expect("randomness")).into();
        let text = format!("# keys\n\n{}\n  {}  \n", made[0].1, made[1].1);
        let keys = ApiKeys::read(&text).expect("valid");
        assert_eq!(keys.len(), 2);
        assert_eq!(keys.find(made[0].0.reveal()), Some(named("a")));
        assert_eq!(keys.find(made[1].0.reveal()), Some(named("match.maker-2")));
        assert!(made[0].0.reveal().starts_with(PREFIX) && made[0].0.reveal().len() == 48);
        for wrong in ["", "twk_", &made[0].0.reveal()[1..], &made[0].1] {
            assert_eq!(keys.find(wrong), None);
        }
    }

    #[test]
    fn lines_that_are_wrong_are_named_and_not_shown() {
        let hash = to_hex(&[7; 32]);
        for (text, line) in [
            ("twk_hunter2".to_owned(), 1),
            (format!("# ok\na {hash} hunter2"), 2),
            (format!("a {hash}\na {hash}"), 2),
            (format!("a {hash}\n\nb {}", &hash[1..]), 3),
            (format!("a {}", "g".repeat(64)), 1),
            (format!("a/b {hash}"), 1),
            (format!("{} {hash}", "a".repeat(65)), 1),
        ] {
            let error = ApiKeys::read(&text).expect_err("wrong").to_string();
            assert!(error.starts_with(&format!("line {line}: ")) && !error.contains("hunter2"), "{error}");
        }
        let many: String = (0..=1000).map(|i| format!("key-{i} {hash}\n")).collect();
        assert!(ApiKeys::read(&many).expect_err("too many").to_string().contains("more than 1000"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC{0,200}", line in "[a-z#]{0,3} [0-9a-fé]{60,66}") {
            let _ = (ApiKeys::read(&text), ApiKeys::read(&line));
            prop_assert_eq!(from_hex(&to_hex(&[0xa7; 32])), Some([0xa7; 32]));
        }
    }
}
