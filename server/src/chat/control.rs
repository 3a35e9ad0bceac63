//! The rooms of a server, for who runs it.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use tickwire_shared::PlayerId;

use super::{
    counters::{Rejected, Rejection},
    text,
};
use crate::{
    server::Shared,
    session::{SessionHandle, SessionNameError},
};

/// Has a hand in what is said on a server: [`Server::chat`](crate::Server::chat).
#[derive(Clone, Debug)]
pub struct ChatControl {
    shared: Arc<Shared>,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// A string that is no session's name.
    #[error("session: {0}")]
    SessionName(String),
    /// No session of this name.
    #[error("session: there is no {0} on this server")]
    NoSession(String),
    /// Nobody sits there.
    #[error("player: {session} has no player {player}")]
    NoPlayer {
        /// The session.
        session: String,
        /// The player.
        player: PlayerId,
    },
    /// A text that nobody may say.
    #[error("text: {0}")]
    Text(String),
}

/// What was said in a session, as totals since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChatTotals {
    /// Lines that were said and not rejected, the server's among them.
    pub sent: u64,
    /// Copies of them that readers' streams have taken, those of history left out.
    pub delivered: u64,
    /// Copies that were dropped, since their readers were too slow.
    pub dropped: u64,
    /// Lines that are missing in the recording: too many at once for a session that did not step.
    pub unrecorded: u64,
    /// What nobody got, by the reason's name; all reasons.
    pub rejected: BTreeMap<&'static str, u64>,
}

impl ChatControl {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Says something in the server's name, to all players and spectators of a session.
    ///
    /// # Errors
    /// Where there is no such session, or the text breaks a rule for texts.
    pub fn announce(&self, session: &str, text: &str) -> Result<(), ChatError> {
        let session = self.session(session)?;
        let limits = self.shared.limits().chat;
        text::check(text, &limits).map_err(|Rejected { message, .. }| ChatError::Text(message))?;
        session.chat.announce(&session, text.to_owned(), &limits);
        Ok(())
    }

    /// Has a player not talk until a time; `None`: until further notice. It holds for as long as the player keeps the seat.
    ///
    /// # Errors
    /// Where there is no such session or player.
    pub fn silence(&self, session: &str, player: PlayerId, until: Option<SystemTime>) -> Result<(), ChatError> {
        self.set_silence(session, player, Some(until))
    }

    /// Lets a player talk again.
    ///
    /// # Errors
    /// Where there is no such session or player.
    pub fn lift_silence(&self, session: &str, player: PlayerId) -> Result<(), ChatError> {
        self.set_silence(session, player, None)
    }

    /// What was said in a session.
    ///
    /// # Errors
    /// Where there is no such session.
    pub fn totals(&self, session: &str) -> Result<ChatTotals, ChatError> {
        let session = self.session(session)?;
        let counters = &session.chat.counters;
        let rejected = |reason: Rejection| counters.rejected[reason as usize].load(Ordering::Relaxed);
        Ok(ChatTotals {
            sent: counters.sent.load(Ordering::Relaxed),
            delivered: counters.delivered.load(Ordering::Relaxed),
            dropped: counters.dropped.load(Ordering::Relaxed),
            unrecorded: counters.unrecorded.load(Ordering::Relaxed),
            rejected: Rejection::ALL.into_iter().map(|reason| (reason.label(), rejected(reason))).collect(),
        })
    }

    fn set_silence(
        &self,
        session: &str,
        player: PlayerId,
        silence: Option<Option<SystemTime>>,
    ) -> Result<(), ChatError> {
        let session = self.session(session)?;
        if session.chat.silence(player, silence) {
            return Ok(());
        }
        Err(ChatError::NoPlayer { session: session.name.to_string(), player })
    }

    fn session(&self, name: &str) -> Result<Arc<SessionHandle>, ChatError> {
        let name = name.parse().map_err(|error: SessionNameError| ChatError::SessionName(error.to_string()))?;
        self.shared.registry.get(&name).ok_or_else(|| ChatError::NoSession(name.to_string()))
    }
}
