//! The streams of spectators, by their tokens. Only the tokens' hashes are kept.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, Weak},
};

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tonic::Code;

use super::spectator::Spectator;
use crate::{session::SessionHandle, status::Refusal};

/// 256 random bits.
const TOKEN_BYTES: usize = 32;

type Hash = [u8; 32];

/// All spectators of a server.
#[derive(Debug, Default)]
pub(crate) struct Spectators(Mutex<HashMap<Hash, Weak<Spectator>>>);

/// A spectator who can be found. Dropped, it is forgotten.
#[derive(Debug)]
pub(super) struct Listing {
    all: Arc<Spectators>,
    hash: Hash,
}

impl Spectators {
    /// Has a spectator found by a new token.
    pub(super) fn list(self: &Arc<Self>, spectator: &Arc<Spectator>) -> Result<(Vec<u8>, Listing), Refusal> {
        let mut token = vec![0; TOKEN_BYTES];
        getrandom::fill(&mut token).map_err(|error| {
            Refusal::new(Code::Unavailable, "NO_RANDOMNESS", format!("no randomness for a token: {error}"))
        })?;
        let hash = hash_of(&token);
        self.lock().insert(hash, Arc::downgrade(spectator));
        Ok((token, Listing { all: Arc::clone(self), hash }))
    }

    /// Whose stream a token names.
    pub(super) fn find(&self, token: &[u8]) -> Result<Arc<Spectator>, Refusal> {
        // By its hash: how long that takes tells nothing of the tokens that there are.
        self.lock().get(&hash_of(token)).and_then(Weak::upgrade).ok_or_else(|| {
            let message = "no spectator's stream of this server has this token: it has ended, or never was";
            Refusal::new(Code::Unauthenticated, "UNKNOWN_TOKEN", message).field("stream_token")
        })
    }

    /// For what else a spectator may do beside the stream that a token names: the session, if it is one, and what is closed
    /// with the stream.
    pub(crate) fn listener(&self, token: &[u8]) -> Result<(Option<Arc<SessionHandle>>, watch::Receiver<()>), Refusal> {
        let spectator = self.find(token)?;
        Ok((spectator.source.session().cloned(), spectator.closing()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, Weak<Spectator>>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.all.lock().remove(&self.hash);
    }
}

fn hash_of(token: &[u8]) -> Hash {
    Sha256::digest(token).into()
}
