//! Keys, from a JSON Web Key Set: for each key id its algorithm, which no token has a say in.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, EncodingKey};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Map, Value, json};

use crate::{
    provider,
    secret::{NoRandomness, random},
};

/// The most keys in a set: more are no rotation.
pub const KEYS_MAX: usize = 64;
const KID_BYTES_MAX: usize = 64;
/// RFC 7518 asks for as many as the hash has.
const HMAC_BYTES_MIN: usize = 32;
const HMAC_BYTES_MAX: usize = 256;
/// What stands before the 32 bytes of an Ed25519 private key in PKCS #8, version 1.
const PKCS8_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// How a key signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519: who can verify cannot sign.
    #[default]
    EdDsa,
    /// HMAC with SHA-256: who can verify can sign.
    Hs256,
}

impl Algorithm {
    /// As tokens and key sets have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }

    pub(crate) fn for_jwt(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
        }
    }
}

/// The keys of one set. All verify; the first that has a private part signs.
#[derive(Clone)]
pub struct KeyRing {
    keys: BTreeMap<String, Key>,
    signing: Option<Signing>,
}

#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) algorithm: Algorithm,
    pub(crate) verifying: DecodingKey,
}

#[derive(Clone)]
pub(crate) struct Signing {
    pub(crate) kid: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
}

/// A set of keys that is none. What stands in it is not said: it is secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It is no JSON.
    #[error("this is no JSON, at line {line}, column {column}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// It is no set.
    #[error("this is no JSON Web Key Set: write {{\"keys\": [..]}} with 1 to {KEYS_MAX} keys")]
    NotASet,
    /// A key that cannot be used.
    #[error("keys[{index}].{field}: {problem}")]
    Key {
        /// Which, from 0.
        index: usize,
        /// Its member.
        field: &'static str,
        /// What is wrong, and what would be right.
        problem: &'static str,
    },
}

impl KeyRing {
    /// Reads a JSON Web Key Set (RFC 7517): keys of type `OKP` on `Ed25519` with `alg` `EdDSA`, and of type `oct` with `alg`
    /// `HS256`, each with its `kid`.
    ///
    /// # Errors
    /// Where it is none, or one of its keys is of another sort, too short, or has another's `kid`.
    pub fn from_jwks(text: &str) -> Result<Self, KeyError> {
        provider::install();
        let set: Value = serde_json::from_str(text)
            .map_err(|error| KeyError::Json { line: error.line(), column: error.column() })?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(KeyError::NotASet)?;
        if !(1..=KEYS_MAX).contains(&keys.len()) {
            return Err(KeyError::NotASet);
        }
        let mut ring = Self { keys: BTreeMap::new(), signing: None };
        for (index, key) in keys.iter().enumerate() {
            let (kid, key, signing) = read(key).map_err(|(field, problem)| KeyError::Key { index, field, problem })?;
            if ring.signing.is_none() {
                ring.signing =
                    signing.map(|signing| Signing { kid: kid.clone(), algorithm: key.algorithm, key: signing });
            }
            if ring.keys.insert(kid, key).is_some() {
                return Err(KeyError::Key { index, field: "kid", problem: "another key of the set has it, too" });
            }
        }
        Ok(ring)
    }

    /// Whether there is a key to sign with.
    #[must_use]
    pub fn can_sign(&self) -> bool {
        self.signing.is_some()
    }

    /// How many keys there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no set is empty")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The set without its secrets: those keys that have a public half, which can verify and cannot sign. `None` where none has.
    #[must_use]
    pub fn public_jwks(&self) -> Option<String> {
        let public = |(kid, key): (&String, &Key)| match key.algorithm {
            Algorithm::EdDsa => {
                let x = URL_SAFE_NO_PAD.encode(key.verifying.try_get_as_bytes().ok()?);
                Some(json!({ "kid": kid, "kty": "OKP", "crv": "Ed25519", "alg": key.algorithm.name(), "x": x }))
            }
            Algorithm::Hs256 => None,
        };
        let keys: Vec<Value> = self.keys.iter().filter_map(public).collect();
        (!keys.is_empty()).then(|| pretty(&keys))
    }

    pub(crate) fn get(&self, kid: &str) -> Option<&Key> {
        self.keys.get(kid)
    }

    pub(crate) fn signing(&self) -> Option<&Signing> {
        self.signing.as_ref()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(kid, key)| (kid, key.algorithm))).finish()
    }
}

type Problem = (&'static str, &'static str);

fn read(key: &Value) -> Result<(String, Key, Option<EncodingKey>), Problem> {
    let key = key.as_object().ok_or(("kty", "a key is a JSON object"))?;
    let text = |field| key.get(field).and_then(Value::as_str);
    let kid = text("kid")
        .filter(|kid| (1..=KID_BYTES_MAX).contains(&kid.len()) && kid.chars().all(|c| c.is_ascii_graphic()))
        .ok_or(("kid", "give each key a name of 1 to 64 visible ASCII characters"))?;
    if text("use").is_some_and(|used| used != "sig") {
        return Err(("use", "a key of tickets signs: \"sig\""));
    }
    let (key, signing) = match (text("kty"), text("alg")) {
        (Some("OKP"), Some("EdDSA")) => read_ed25519(key)?,
        (Some("oct"), Some("HS256")) => {
            let secret = bytes(key, "k")?.ok_or(("k", "the secret is missing: base64url without padding"))?;
            if !(HMAC_BYTES_MIN..=HMAC_BYTES_MAX).contains(&secret.len()) {
                return Err(("k", "choose a secret of 32 to 256 bytes"));
            }
            let verifying = DecodingKey::from_secret(&secret);
            (Key { algorithm: Algorithm::Hs256, verifying }, Some(EncodingKey::from_secret(&secret)))
        }
        (Some("OKP" | "oct"), _) => return Err(("alg", "choose EdDSA for kty OKP, HS256 for kty oct")),
        _ => return Err(("kty", "choose OKP (Ed25519) or oct (HMAC)")),
    };
    Ok((kid.to_owned(), key, signing))
}

fn read_ed25519(key: &Map<String, Value>) -> Result<(Key, Option<EncodingKey>), Problem> {
    if key.get("crv").and_then(Value::as_str) != Some("Ed25519") {
        return Err(("crv", "choose Ed25519"));
    }
    let public = bytes(key, "x")?.filter(|x| x.len() == 32).ok_or(("x", "a public key is 32 bytes, as base64url"))?;
    let signing = match bytes(key, "d")? {
        None => None,
        Some(seed) => {
            Ed25519KeyPair::from_seed_and_public_key(&seed, &public)
                .map_err(|_| ("d", "this is not the private key of x: 32 bytes, as base64url"))?;
            Some(EncodingKey::from_ed_der(&[&PKCS8_PREFIX[..], &seed].concat()))
        }
    };
    // It takes raw keys in their encoding alone.
    let verifying =
        DecodingKey::from_ed_components(&URL_SAFE_NO_PAD.encode(public)).expect("what has been encoded can be decoded");
    Ok((Key { algorithm: Algorithm::EdDsa, verifying }, signing))
}

fn bytes(key: &Map<String, Value>, field: &'static str) -> Result<Option<Vec<u8>>, Problem> {
    const PROBLEM: &str = "this is no base64url without padding";
    match key.get(field) {
        None => Ok(None),
        Some(Value::String(text)) => URL_SAFE_NO_PAD.decode(text).map(Some).map_err(|_| (field, PROBLEM)),
        Some(_) => Err((field, PROBLEM)),
    }
}

/// A new key as a set of one: pretty JSON, with the private part.
///
/// # Errors
/// Where the operating system has no randomness.
pub fn new_key(kid: &str, algorithm: Algorithm) -> Result<String, NoRandomness> {
    let secret = random::<32>()?;
    let alg = algorithm.name();
    let key = match algorithm {
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::from_seed_unchecked(&secret).expect("any 32 bytes are a seed");
            let public = URL_SAFE_NO_PAD.encode(pair.public_key());
            json!({ "kid": kid, "kty": "OKP", "crv": "Ed25519", "alg": alg, "x": public, "d": URL_SAFE_NO_PAD.encode(secret) })
        }
        Algorithm::Hs256 => json!({ "kid": kid, "kty": "oct", "alg": alg, "k": URL_SAFE_NO_PAD.encode(secret) }),
    };
    Ok(pretty(&[key]))
}

fn pretty(keys: &[Value]) -> String {
    serde_json::to_string_pretty(&json!({ "keys": keys })).expect("it is plain JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(key: &str) -> String {
        KeyRing::from_jwks(&format!("{{\"keys\":[{key}]}}")).expect_err("it is wrong").to_string()
    }

    #[test]
    fn new_keys_can_be_read_and_sign() {
        for algorithm in [Algorithm::EdDsa, Algorithm::Hs256] {
            let ring = KeyRing::from_jwks(&new_key("a", algorithm).expect("randomness")).expect("valid");
            assert!(ring.can_sign() && ring.len() == 1);
            assert_eq!(ring.get("a").map(|key| key.algorithm), Some(algorithm));
        }
    }

    #[test]
    fn the_first_key_with_a_private_part_signs_and_a_set_of_public_ones_only_verifies() {
        let [a, b]: [Value; 2] = ["a", "b"]
            .map(|kid| serde_json::from_str(&new_key(kid, Algorithm::EdDsa).expect("randomness")).expect("JSON"));
        let mut public = a["keys"][0].clone();
        public.as_object_mut().expect("an object").remove("d");
        let ring = KeyRing::from_jwks(&json!({ "keys": [public, b["keys"][0]] }).to_string()).expect("valid");
        assert_eq!(ring.signing().map(|signing| signing.kid.as_str()), Some("b"));
        let ring = KeyRing::from_jwks(&json!({ "keys": [public] }).to_string()).expect("valid");
        assert!(!ring.can_sign());
    }

    #[test]
    fn what_is_public_of_a_set_verifies_and_cannot_sign() {
        let text = new_key("a", Algorithm::EdDsa).expect("randomness");
        let public = KeyRing::from_jwks(&text).expect("valid").public_jwks().expect("it has a public half");
        let both: [Value; 2] = [&text, &public].map(|text| serde_json::from_str(text).expect("JSON"));
        assert_eq!((&both[0]["keys"][0]["x"], both[1]["keys"][0].get("d")), (&both[1]["keys"][0]["x"], None));
        assert!(!KeyRing::from_jwks(&public).expect("valid").can_sign());
        let secret = KeyRing::from_jwks(&new_key("a", Algorithm::Hs256).expect("randomness")).expect("valid");
        assert_eq!(secret.public_jwks(), None);
    }

    #[test]
    fn keys_that_are_wrong_name_their_member_and_keep_what_they_hold() {
        let ed = |x: &str, d: &str| {
            format!(
                "{{\"kid\":\"a\",\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"alg\":\"EdDSA\",\"x\":\"{x}\",\"d\":\"{d}\"}}"
            )
        };
        let hmac = |k: &str| format!("{{\"kid\":\"a\",\"kty\":\"oct\",\"alg\":\"HS256\",\"k\":{k}}}");
        let thirty_one = URL_SAFE_NO_PAD.encode([7; 31]);
        for (key, field) in [
            ("7".to_owned(), "kty"),
            ("{\"kty\":\"oct\"}".to_owned(), "kid"),
            ("{\"kid\":\"a b\"}".to_owned(), "kid"),
            ("{\"kid\":\"a\",\"kty\":\"RSA\",\"alg\":\"RS256\"}".to_owned(), "kty"),
            ("{\"kid\":\"a\",\"kty\":\"oct\",\"alg\":\"none\"}".to_owned(), "alg"),
            ("{\"kid\":\"a\",\"kty\":\"oct\",\"alg\":\"EdDSA\"}".to_owned(), "alg"),
            ("{\"kid\":\"a\",\"kty\":\"OKP\",\"alg\":\"HS256\"}".to_owned(), "alg"),
            ("{\"kid\":\"a\",\"kty\":\"oct\",\"alg\":\"HS256\",\"use\":\"enc\"}".to_owned(), "use"),
            ("{\"kid\":\"a\",\"kty\":\"OKP\",\"alg\":\"EdDSA\",\"crv\":\"X25519\"}".to_owned(), "crv"),
            (hmac(&format!("\"{thirty_one}\"")), "k"),
            (hmac("\"hunter2=\""), "k"),
            (hmac("1234567"), "k"),
            (ed(&thirty_one, &thirty_one), "x"),
            (ed(&URL_SAFE_NO_PAD.encode([7; 32]), &URL_SAFE_NO_PAD.encode([8; 32])), "d"),
        ] {
            let error = error_of(&key);
            assert!(error.starts_with(&format!("keys[0].{field}: ")), "{key}: {error}");
            for secret in ["hunter2", "1234567", &thirty_one] {
                assert!(!error.contains(secret), "{error}");
            }
        }
        assert!(KeyRing::from_jwks("{\"keys\": \"hunter2\"").expect_err("no JSON").to_string().contains("line 1"));
        for none in ["{}", "{\"keys\":[]}", "{\"keys\":\"hunter2\"}", "[]"] {
            assert_eq!(KeyRing::from_jwks(none).expect_err("no set"), KeyError::NotASet);
        }
    }

    #[test]
    fn two_keys_of_one_name_are_refused() {
        let key = json!({ "kid": "a", "kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode([1; 32]) });
        let error = KeyRing::from_jwks(&json!({ "keys": [key, key] }).to_string()).expect_err("twice");
        assert!(matches!(error, KeyError::Key { index: 1, field: "kid", .. }));
    }

    #[test]
    fn debug_shows_no_key() {
        let text = new_key("a", Algorithm::Hs256).expect("randomness");
        let ring = KeyRing::from_jwks(&text).expect("valid");
        assert_eq!(format!("{ring:?}"), "[(\"a\", Hs256)]");
    }
}
