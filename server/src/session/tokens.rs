//! Tokens that let further streams in as stripes of a player. Only their hashes are kept.

use std::{
    collections::{BTreeMap, VecDeque},
    hint::black_box,
    sync::{Arc, Mutex, MutexGuard, Weak},
};

use sha2::{Digest as _, Sha256};
use tracing::error;

use super::stripes::Stripes;

/// The part of a token by which its seat is looked up. It says nothing of the secret.
pub(crate) type TokenId = u64;
const ID_BYTES: usize = size_of::<TokenId>();
/// The secret part: 192 random bits.
const SECRET_BYTES: usize = 24;
const TOKEN_BYTES: usize = ID_BYTES + SECRET_BYTES;
/// Of so many seats that have ended it is known that they have.
const ENDED_MAX: usize = 4096;

/// A token as the client holds it.
pub(crate) type AttachToken = [u8; TOKEN_BYTES];

/// The tokens of all seats of a server.
#[derive(Debug, Default)]
pub(crate) struct AttachTokens(Mutex<Issued>);

#[derive(Debug, Default)]
struct Issued {
    seats: BTreeMap<TokenId, Entry>,
    /// Those among them that have ended, oldest first.
    ended: VecDeque<TokenId>,
}

#[derive(Debug)]
struct Entry {
    hash: [u8; 32],
    /// None: ended.
    stripes: Option<Weak<Stripes>>,
}

/// What a token is good for.
#[derive(Debug)]
pub(crate) enum Found {
    /// The seat that it is of.
    Seat(Arc<Stripes>),
    /// A seat that has no stream any more.
    Ended,
    /// Nobody's.
    Unknown,
}

impl AttachTokens {
    /// A token for a seat; `None` where the operating system has no randomness, which it says to the log.
    pub(super) fn issue(&self, stripes: &Arc<Stripes>) -> Option<(TokenId, AttachToken)> {
        let mut token = AttachToken::default();
        let mut issued = self.lock();
        let id = loop {
            if let Err(error) = getrandom::fill(&mut token) {
                error!(%error, "no randomness for a token: a player can have no further streams");
                return None;
            }
            let id = id_of(&token);
            if !issued.seats.contains_key(&id) {
                break id;
            }
        };
        issued.seats.insert(id, Entry { hash: hash_of(&token), stripes: Some(Arc::downgrade(stripes)) });
        Some((id, token))
    }

    /// The seat that a token is of.
    pub(crate) fn find(&self, token: &[u8]) -> Found {
        let Ok(token) = AttachToken::try_from(token) else { return Found::Unknown };
        let hash = hash_of(&token);
        let issued = self.lock();
        match issued.seats.get(&id_of(&token)) {
            Some(entry) if are_equal(&entry.hash, &hash) => {
                entry.stripes.as_ref().and_then(Weak::upgrade).map_or(Found::Ended, Found::Seat)
            }
            _ => Found::Unknown,
        }
    }

    /// A seat has lost its last stream.
    pub(super) fn retire(&self, id: TokenId) {
        let mut issued = self.lock();
        if let Some(entry) = issued.seats.get_mut(&id) {
            entry.stripes = None;
            issued.ended.push_back(id);
        }
        if issued.ended.len() > ENDED_MAX
            && let Some(oldest) = issued.ended.pop_front()
        {
            issued.seats.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Issued> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

fn id_of(token: &AttachToken) -> TokenId {
    let (id, _) = token.split_first_chunk::<ID_BYTES>().expect("a token is longer than its id");
    TokenId::from_le_bytes(*id)
}

fn hash_of(token: &AttachToken) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// In a time that does not tell where they differ.
fn are_equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |differences, (a, b)| black_box(differences | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_equal_where_every_bit_is() {
        let hash = hash_of(&[7; TOKEN_BYTES]);
        assert!(are_equal(&hash, &hash.clone()));
        for bit in 0..256 {
            let mut other = hash;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!are_equal(&hash, &other));
        }
    }

    #[test]
    fn what_is_no_token_is_nobodys() {
        let tokens = AttachTokens::default();
        for wrong in [&[][..], &[0; TOKEN_BYTES - 1], &[0; TOKEN_BYTES], &[0; TOKEN_BYTES + 1]] {
            assert!(matches!(tokens.find(wrong), Found::Unknown));
        }
    }

    #[test]
    fn seats_that_have_ended_are_remembered_for_a_while() {
        let tokens = AttachTokens::default();
        let token = |number: u64| {
            let mut token = [0; TOKEN_BYTES];
            token[..ID_BYTES].copy_from_slice(&number.to_le_bytes());
            token
        };
        for number in 0..=ENDED_MAX as u64 {
            let entry = Entry { hash: hash_of(&token(number)), stripes: Some(Weak::new()) };
            tokens.lock().seats.insert(number, entry);
            tokens.retire(number);
        }
        assert!(matches!(tokens.find(&token(0)), Found::Unknown));
        assert!(matches!(tokens.find(&token(1)), Found::Ended));
        let mut wrong = token(1);
        wrong[TOKEN_BYTES - 1] = 1;
        assert!(matches!(tokens.find(&wrong), Found::Unknown));
        assert_eq!(tokens.lock().seats.len(), ENDED_MAX);
    }
}
