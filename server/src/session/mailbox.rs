//! What the network's threads have for a session: it waits here, bounded, for the next tick to begin.

use std::sync::{Arc, Mutex, MutexGuard};

use smallvec::SmallVec;
use tickwire_shared::PlayerId;
use tickwire_simulation::Input;
use tokio::sync::oneshot;

use super::{
    reservations::{NotSeated, Reservation},
    seats::{Admitted, NotResumed},
    tokens::TokenId,
};

/// Inputs of one message: most often one, which then lies in the message to the session.
pub(crate) type Inputs = SmallVec<[Input; 1]>;

/// A message to a session.
#[derive(Debug)]
pub(crate) enum Command {
    /// Somebody wants a seat.
    Join(Join),
    /// Somebody wants their seat back.
    Resume(Resume),
    /// A seated player's inputs, checked against the schema.
    Inputs {
        /// Whose.
        player: PlayerId,
        /// By which sitting of theirs.
        sitting: u32,
        /// In rising order.
        inputs: Inputs,
    },
}

/// Somebody wants a seat.
#[derive(Debug)]
pub(crate) struct Join {
    /// The name that others see; empty: the session chooses.
    pub(crate) name: String,
    /// The seat that is kept for them, where one is.
    pub(crate) reservation: Option<Arc<Reservation>>,
    /// Takes the answer once the seat stands in a frame. Where nobody waits any more, the seat is given up.
    pub(crate) reply: oneshot::Sender<Result<Admitted, NotSeated>>,
}

/// Somebody wants their seat back.
#[derive(Debug)]
pub(crate) struct Resume {
    /// Whose it is.
    pub(crate) player: PlayerId,
    /// The token that they have shown.
    pub(crate) proof: TokenId,
    /// As for [`Join`]; where nobody waits any more, the seat is lost again.
    pub(crate) reply: oneshot::Sender<Result<Admitted, NotResumed>>,
}

/// What has become of a sitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeatNews {
    /// An input has come of it.
    Confirmed,
    /// The connection was lost: the seat is kept for the grace period.
    Lost,
    /// The player left.
    Left,
    /// An admin has taken the player out, whichever sitting it is by now.
    Ousted,
}

/// A session's letters. Writers hold the lock for one push, the session's thread for one swap per tick.
#[derive(Debug)]
pub(crate) struct Mailbox {
    letters: Mutex<Letters>,
    commands_max: usize,
}

/// What came in since the last tick.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    /// In order of arrival.
    pub(crate) commands: Vec<Command>,
    /// In order of arrival, after all commands of the same sitting. Few per sitting, so that none is ever refused.
    pub(crate) news: Vec<(PlayerId, u32, SeatNews)>,
    closed: bool,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// As many as allowed wait already.
    Full,
    /// The session has ended.
    Closed,
}

impl Mailbox {
    pub(crate) fn new(commands_max: usize) -> Self {
        Self { letters: Mutex::default(), commands_max }
    }

    /// Leaves a command for the next tick.
    pub(crate) fn send(&self, command: Command) -> Result<(), NotTaken> {
        let mut letters = self.lock();
        if letters.closed {
            return Err(NotTaken::Closed);
        }
        if letters.commands.len() >= self.commands_max {
            return Err(NotTaken::Full);
        }
        letters.commands.push(command);
        Ok(())
    }

    /// Says what has become of a player's sitting. Each is said once.
    pub(crate) fn tell(&self, player: PlayerId, sitting: u32, news: SeatNews) {
        let mut letters = self.lock();
        if !letters.closed {
            letters.news.push((player, sitting, news));
        }
    }

    /// Swaps what came in with `letters`, which has been emptied and keeps its memory for the time after next.
    pub(crate) fn swap(&self, letters: &mut Letters) {
        debug_assert!(letters.commands.is_empty() && letters.news.is_empty(), "letters are read before the next swap");
        std::mem::swap(&mut *self.lock(), letters);
    }

    /// Takes no more, and drops what waits: whoever waits for an answer learns of the end by that.
    pub(crate) fn close(&self) {
        let letters = std::mem::replace(&mut *self.lock(), Letters { closed: true, ..Letters::default() });
        // Outside the lock: an answer that nobody takes gives its seat up, here.
        drop(letters);
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(player: u32) -> Command {
        Command::Inputs { player: PlayerId(player), sitting: 0, inputs: Inputs::new() }
    }

    #[test]
    fn a_full_mailbox_refuses_commands_but_never_news() {
        let mailbox = Mailbox::new(2);
        assert_eq!(mailbox.send(inputs(1)), Ok(()));
        assert_eq!(mailbox.send(inputs(2)), Ok(()));
        assert_eq!(mailbox.send(inputs(3)), Err(NotTaken::Full));
        mailbox.tell(PlayerId(1), 0, SeatNews::Left);
        let mut letters = Letters::default();
        mailbox.swap(&mut letters);
        assert_eq!(letters.commands.len(), 2);
        assert_eq!(letters.news, [(PlayerId(1), 0, SeatNews::Left)]);
        assert_eq!(mailbox.send(inputs(3)), Ok(()));
    }

    #[test]
    fn a_closed_mailbox_answers_by_dropping() {
        let mailbox = Mailbox::new(2);
        let (reply, mut answer) = oneshot::channel();
        assert_eq!(mailbox.send(Command::Join(Join { name: String::new(), reservation: None, reply })), Ok(()));
        mailbox.close();
        assert!(matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert_eq!(mailbox.send(inputs(1)), Err(NotTaken::Closed));
    }
}
