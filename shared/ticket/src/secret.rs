//! Texts that nobody is to read in a log.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom as _, SystemRandom};

/// A text that lets its bearer do something: it is not shown by `Debug`, and has no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text, for whoever it is meant for.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(none)" } else { "Secret(..)" })
    }
}

/// The operating system gives no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system has no randomness to give")]
pub struct NoRandomness;

/// `BYTES` random bytes.
pub(crate) fn random<const BYTES: usize>() -> Result<[u8; BYTES], NoRandomness> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// A text of 22 characters that nobody has had before nor will guess: 128 random bits.
///
/// # Errors
/// Where the operating system has no randomness.
pub fn random_id() -> Result<String, NoRandomness> {
    Ok(URL_SAFE_NO_PAD.encode(random::<16>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!((format!("{secret:?}").as_str(), secret.reveal()), ("Secret(..)", "hunter2"));
        assert_eq!(format!("{:?}", Secret::default()), "Secret(none)");
    }

    #[test]
    fn ids_differ_and_are_short() {
        let ids: std::collections::BTreeSet<String> = (0..100).map(|_| random_id().expect("randomness")).collect();
        assert!(ids.len() == 100 && ids.iter().all(|id| id.len() == 22), "{ids:?}");
    }
}
