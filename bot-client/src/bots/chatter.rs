//! A bot's small talk: load for a server's rooms.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use tokio::time::{Instant, sleep_until};

use crate::connection::{Chat, ChatEvent, ChatTo, Client, ClientError};

/// What bots said and heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ChatCounts {
    /// Lines that were said.
    pub(super) sent: u64,
    /// Lines that came, the bots' own among them.
    pub(super) received: u64,
    /// Lines that the server did not pass on.
    pub(super) rejected: u64,
    /// Lines that the server says to have dropped.
    pub(super) dropped: u64,
    /// Streams that ended, or could not be opened, while their bot played.
    pub(super) lost: u64,
}

impl ChatCounts {
    pub(super) fn merge(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.rejected += other.rejected;
        self.dropped += other.dropped;
        self.lost += other.lost;
    }
}

/// A bot that talks.
#[derive(Debug)]
pub(super) struct Chatter {
    chat: Option<Chat>,
    interval: Duration,
    due: Instant,
    random: Xoshiro256PlusPlus,
    pub(super) counts: ChatCounts,
}

impl Chatter {
    /// One that says so much; nothing, and hears nothing, where that is 0.
    pub(super) fn new(per_minute: u32, seed: u64) -> Option<Self> {
        let interval = Duration::from_secs(60).checked_div(per_minute)?;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let due = Instant::now() + interval.mul_f64(random.random());
        Some(Self { chat: None, interval, due, random, counts: ChatCounts::default() })
    }

    /// Begins to talk, also after a connection was lost: why not, where it cannot.
    pub(super) async fn join(&mut self, client: &mut Client) -> Result<(), ClientError> {
        self.chat = None;
        let joined = client.chat().await;
        self.counts.lost += u64::from(joined.is_err());
        self.chat = Some(joined?);
        Ok(())
    }

    /// Its stream is of no more use.
    pub(super) fn lose(&mut self) {
        self.counts.lost += u64::from(self.chat.take().is_some());
    }

    /// Talks and listens until the stream ends. Cancel safe.
    pub(super) async fn talk(&mut self) {
        let Self { chat: Some(chat), interval, due, random, counts } = self else {
            return std::future::pending().await;
        };
        loop {
            let event = tokio::select! {
                event = chat.next() => event,
                () = sleep_until(*due) => {
                    // At even chances, so that bots do not keep step.
                    *due += interval.mul_f64(0.5 + random.random::<f64>());
                    counts.sent += 1;
                    chat.say(ChatTo::Everyone, format!("I have said {} things", counts.sent), counts.sent);
                    continue;
                }
            };
            match event {
                Ok(Some(ChatEvent::Line(_))) => counts.received += 1,
                Ok(Some(ChatEvent::Rejected(_))) => counts.rejected += 1,
                Ok(Some(ChatEvent::Dropped(lines))) => counts.dropped += lines,
                Ok(Some(ChatEvent::Mutes(_) | ChatEvent::Silence(_))) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}
