//! A seat's part in its session's room: the token that lets its player in there, for as long as the seat is kept.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use super::{
    HeldSeat,
    tokens::{Ending, Token, TokenId, Tokens},
};

/// Tokens that let players talk.
pub(crate) type ChatTokens = Tokens<HeldSeat>;

/// A seat's part in its session's room.
#[derive(Debug)]
pub(crate) struct ChatSeat {
    issued: Mutex<Option<Issued>>,
    ending: watch::Sender<Option<Ending>>,
}

#[derive(Debug)]
struct Issued {
    id: TokenId,
    tokens: Arc<ChatTokens>,
}

impl Default for ChatSeat {
    fn default() -> Self {
        Self { issued: Mutex::default(), ending: watch::Sender::new(None) }
    }
}

impl ChatSeat {
    /// A token for a seat that somebody has sat down on, in the place of the one before; `None` where the system has no
    /// randomness.
    pub(crate) fn issue(seat: &Arc<HeldSeat>, tokens: &Arc<ChatTokens>) -> Option<Token> {
        let issued = tokens.issue(Arc::downgrade(seat));
        let newest = issued.as_ref().map(|(key, _)| Issued { id: key.id, tokens: Arc::clone(tokens) });
        let before = std::mem::replace(&mut *seat.chat.lock(), newest);
        if let Some(Issued { id, tokens }) = before {
            tokens.forget(id);
        }
        // The seat may have been given up meanwhile.
        if let Some(ending) = seat.chat.ending() {
            seat.chat.retire(ending);
        }
        issued.map(|(_, token)| token)
    }

    /// Whether a token is the newest of the seat's, so that it is good for something.
    pub(crate) fn is_newest(&self, id: TokenId) -> bool {
        self.lock().as_ref().is_some_and(|issued| issued.id == id)
    }

    /// The session has given the seat up.
    pub(super) fn vacate(&self, ending: Ending) {
        self.ending.send_replace(Some(ending));
        self.retire(ending);
    }

    /// How the seat was given up, if it was.
    pub(crate) fn ending(&self) -> Option<Ending> {
        *self.ending.borrow()
    }

    /// Waits until the seat is given up.
    pub(crate) async fn ended(&self) -> Ending {
        let ending = self.ending.subscribe().wait_for(Option::is_some).await.map_or(None, |ending| *ending);
        ending.expect("the channel is open as long as this is, and is waited on until there is one")
    }

    fn retire(&self, ending: Ending) {
        let issued = self.lock().take();
        if let Some(Issued { id, tokens }) = issued {
            tokens.retire(id, ending);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Issued>> {
        self.issued.lock().expect("no holder of this lock panics")
    }
}

impl Drop for ChatSeat {
    /// Its session has ended.
    fn drop(&mut self) {
        self.retire(Ending::Left);
    }
}
