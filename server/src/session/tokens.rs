//! Tokens: who has one may act for a seat. Only their hashes are kept.

use std::{
    collections::{BTreeMap, VecDeque, btree_map},
    hint::black_box,
    sync::{Mutex, MutexGuard, Weak},
};

use sha2::{Digest as _, Sha256};
use tickwire_shared::PlayerId;
use tracing::error;

use super::{seats::HeldSeat, stripes::Stripes};

/// The part of a token by which its holder is looked up. It says nothing of the secret.
pub(crate) type TokenId = u64;
const ID_BYTES: usize = size_of::<TokenId>();
/// The secret part: 192 random bits.
const SECRET_BYTES: usize = 24;
pub(crate) const TOKEN_BYTES: usize = ID_BYTES + SECRET_BYTES;
/// Of so many holders that have ended it is known that they have.
const ENDED_MAX: usize = 4096;

/// A token as the client holds it.
pub(crate) type Token = [u8; TOKEN_BYTES];

/// What the server keeps of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenKey {
    pub(crate) id: TokenId,
    /// SHA-256 of the whole token.
    pub(crate) hash: [u8; 32],
}

/// Who may resume a seat: all that it takes to let them, written down when it changes, put back after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeatToken {
    pub(crate) player: PlayerId,
    pub(crate) newest: TokenKey,
    /// The one that the newest was given for: good until the first input.
    pub(crate) previous: Option<TokenKey>,
}

/// Tokens that let further streams in as stripes of a player.
pub(crate) type AttachTokens = Tokens<Stripes>;
/// Tokens that take a seat back.
pub(crate) type ResumeTokens = Tokens<HeldSeat>;

/// All tokens of one sort of a server.
#[derive(Debug)]
pub(crate) struct Tokens<H>(Mutex<Issued<H>>);

#[derive(Debug)]
struct Issued<H> {
    entries: BTreeMap<TokenId, Entry<H>>,
    /// Those among them that have ended, oldest first.
    ended: VecDeque<TokenId>,
}

#[derive(Debug)]
struct Entry<H> {
    hash: [u8; 32],
    state: State<H>,
}

#[derive(Debug)]
enum State<H> {
    Good(Weak<H>),
    Ended(Ending),
}

/// How what a token was for has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The player has left, or the session has ended.
    Left,
    /// The player's streams were lost, and nobody came back in time.
    Lost,
}

/// What a token is good for.
#[derive(Debug)]
pub(crate) enum Found<H> {
    /// For its holder.
    Holder(std::sync::Arc<H>, TokenId),
    /// For nothing any more.
    Ended(Ending),
    /// Nobody's.
    Unknown,
}

impl<H> Default for Tokens<H> {
    fn default() -> Self {
        Self(Mutex::new(Issued { entries: BTreeMap::new(), ended: VecDeque::new() }))
    }
}

impl<H> Tokens<H> {
    /// A new token; `None` where the operating system has no randomness, which it says to the log.
    pub(super) fn issue(&self, holder: Weak<H>) -> Option<(TokenKey, Token)> {
        let mut token = Token::default();
        loop {
            if let Err(error) = getrandom::fill(&mut token) {
                error!(%error, "no randomness for a token: a player can neither resume nor have further streams");
                return None;
            }
            let key = key_of(&token);
            if self.insert(key, holder.clone()) {
                return Some((key, token));
            }
        }
    }

    /// Takes a token in that was issued before. False where its id is taken.
    pub(super) fn insert(&self, TokenKey { id, hash }: TokenKey, holder: Weak<H>) -> bool {
        match self.lock().entries.entry(id) {
            btree_map::Entry::Vacant(vacant) => {
                vacant.insert(Entry { hash, state: State::Good(holder) });
                true
            }
            btree_map::Entry::Occupied(_) => false,
        }
    }

    /// What a token is good for.
    pub(crate) fn find(&self, token: &[u8]) -> Found<H> {
        let Ok(token) = Token::try_from(token) else { return Found::Unknown };
        let TokenKey { id, hash } = key_of(&token);
        let issued = self.lock();
        match issued.entries.get(&id) {
            Some(entry) if are_equal(&entry.hash, &hash) => match &entry.state {
                // Whose holder is gone without a word is of a session that has ended.
                State::Good(holder) => {
                    holder.upgrade().map_or(Found::Ended(Ending::Left), |holder| Found::Holder(holder, id))
                }
                State::Ended(ending) => Found::Ended(*ending),
            },
            _ => Found::Unknown,
        }
    }

    /// A token is good for nothing any more, and is remembered for a while, so that its bearer can be told why.
    pub(super) fn retire(&self, id: TokenId, ending: Ending) {
        let mut issued = self.lock();
        if let Some(entry) = issued.entries.get_mut(&id)
            && matches!(entry.state, State::Good(_))
        {
            entry.state = State::Ended(ending);
            issued.ended.push_back(id);
        }
        if issued.ended.len() > ENDED_MAX
            && let Some(oldest) = issued.ended.pop_front()
        {
            issued.entries.remove(&oldest);
        }
    }

    /// A token has never been.
    pub(super) fn forget(&self, id: TokenId) {
        let mut issued = self.lock();
        if issued.entries.get(&id).is_some_and(|entry| matches!(entry.state, State::Good(_))) {
            issued.entries.remove(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Issued<H>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

fn key_of(token: &Token) -> TokenKey {
    let (id, _) = token.split_first_chunk::<ID_BYTES>().expect("a token is longer than its id");
    TokenKey { id: TokenId::from_le_bytes(*id), hash: Sha256::digest(token).into() }
}

/// In a time that does not tell where they differ.
fn are_equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |differences, (a, b)| black_box(differences | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn hashes_are_equal_where_every_bit_is() {
        let hash = key_of(&[7; TOKEN_BYTES]).hash;
        assert!(are_equal(&hash, &hash.clone()));
        for bit in 0..256 {
            let mut other = hash;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!are_equal(&hash, &other));
        }
    }

    #[test]
    fn what_is_no_token_is_nobodys() {
        let tokens = Tokens::<()>::default();
        for wrong in [&[][..], &[0; TOKEN_BYTES - 1], &[0; TOKEN_BYTES], &[0; TOKEN_BYTES + 1]] {
            assert!(matches!(tokens.find(wrong), Found::Unknown));
        }
    }

    #[test]
    fn a_token_leads_to_its_holder_until_it_is_retired_forgotten_or_its_holder_is_gone() {
        let tokens = Tokens::<u8>::default();
        let holder = Arc::new(7);
        let [a, b, c] = [(); 3].map(|()| tokens.issue(Arc::downgrade(&holder)).expect("there is randomness"));
        assert!(matches!(tokens.find(&a.1), Found::Holder(found, id) if *found == 7 && id == a.0.id));
        tokens.retire(a.0.id, Ending::Lost);
        tokens.retire(a.0.id, Ending::Left);
        assert!(matches!(tokens.find(&a.1), Found::Ended(Ending::Lost)));
        tokens.forget(b.0.id);
        assert!(matches!(tokens.find(&b.1), Found::Unknown));
        drop(holder);
        assert!(matches!(tokens.find(&c.1), Found::Ended(Ending::Left)));
    }

    #[test]
    fn a_token_that_was_issued_before_is_taken_in_by_its_hash_alone() {
        let (before, after) = (Tokens::<u8>::default(), Tokens::<u8>::default());
        let holder = Arc::new(7);
        let (key, token) = before.issue(Arc::downgrade(&holder)).expect("there is randomness");
        assert!(after.insert(key, Arc::downgrade(&holder)) && !after.insert(key, Weak::new()));
        assert!(matches!(after.find(&token), Found::Holder(found, _) if *found == 7));
    }

    #[test]
    fn holders_that_have_ended_are_remembered_for_a_while() {
        let tokens = Tokens::<()>::default();
        let token = |number: u64| {
            let mut token = [0; TOKEN_BYTES];
            token[..ID_BYTES].copy_from_slice(&number.to_le_bytes());
            token
        };
        for number in 0..=ENDED_MAX as u64 {
            assert!(tokens.insert(key_of(&token(number)), Weak::new()));
            tokens.retire(number, Ending::Lost);
        }
        assert!(matches!(tokens.find(&token(0)), Found::Unknown));
        assert!(matches!(tokens.find(&token(1)), Found::Ended(Ending::Lost)));
        let mut wrong = token(1);
        wrong[TOKEN_BYTES - 1] = 1;
        assert!(matches!(tokens.find(&wrong), Found::Unknown));
        assert_eq!(tokens.lock().entries.len(), ENDED_MAX);
    }
}
