//! Pings on one stream, and when each was sent.

use std::{collections::VecDeque, time::Duration};

use tickwire_proto::v1 as pb;

/// The first pings follow each other closely, so that the clock is good soon.
const FIRST_PINGS: u64 = 5;
const FIRST_PING_INTERVAL: Duration = Duration::from_millis(100);
/// Four round trips within the clock's window.
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// Pings that may be unanswered; of older ones the times are forgotten.
const PINGS_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Pings {
    sent: VecDeque<(u64, Duration)>,
    next_echo: u64,
    pub(super) next_at: Duration,
}

impl Pings {
    pub(super) fn next(&mut self, now: Duration) -> pb::Ping {
        self.next_echo += 1;
        self.next_at = now + if self.next_echo < FIRST_PINGS { FIRST_PING_INTERVAL } else { PING_INTERVAL };
        self.sent.push_back((self.next_echo, now));
        if self.sent.len() > PINGS_MAX {
            self.sent.pop_front();
        }
        pb::Ping { echo: self.next_echo }
    }

    /// When the ping that is answered was sent; those before it are forgotten.
    pub(super) fn answered(&mut self, echo: u64) -> Option<Duration> {
        while self.sent.pop_front_if(|(sent, _)| *sent < echo).is_some() {}
        self.sent.pop_front_if(|(sent, _)| *sent == echo).map(|(_, at)| at)
    }

    /// What is under way is void; the next goes out at once.
    pub(super) fn restart(&mut self, now: Duration) {
        self.sent.clear();
        self.next_at = now;
    }
}
