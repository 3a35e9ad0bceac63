//! Pings of HTTP/2, and who does not answer them.

use std::{
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use h2::{Ping, PingPong};

use super::super::{
    Outgoing,
    connection_end::ConnectionError,
    wake::{Calls, Task},
    wire::Socket,
};

/// Pings a peer of which nothing comes, and sees whether it answers.
pub(super) struct KeepAlive {
    /// How long a peer may be quiet before it is pinged, and then again before it counts as dead.
    patience: Duration,
    heard_at: Instant,
    ping: Option<PingPong>,
    /// A ping is under way.
    pong_due: Option<Instant>,
}

impl KeepAlive {
    pub(super) fn new(patience: Duration, now: Instant) -> Self {
        Self { patience, heard_at: now, ping: None, pong_due: None }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    pub(super) fn due(&self) -> Instant {
        self.pong_due.unwrap_or(self.heard_at + self.patience)
    }

    /// Looks for a pong, and sends a ping where that is due. `waker` is woken by the pong.
    pub(super) fn look(
        &mut self,
        now: Instant,
        http: &mut h2::server::Connection<Socket, Outgoing>,
        task: &Task,
        waker: &Waker,
    ) -> Result<(), ConnectionError> {
        let mut cx = Context::from_waker(waker);
        if let (Some(due), Some(ping)) = (self.pong_due, &mut self.ping) {
            match ping.poll_pong(&mut cx) {
                Poll::Pending if now >= due => return Err(ConnectionError::Dead),
                Poll::Pending => return Ok(()),
                Poll::Ready(pong) => {
                    pong?;
                    self.pong_due = None;
                    self.heard(now);
                }
            }
        }
        if now < self.due() {
            return Ok(());
        }
        if self.ping.is_none() {
            self.ping = http.ping_pong();
        }
        let ping = self.ping.as_mut().expect("HTTP/2 gives it out once");
        ping.send_ping(Ping::opaque())?;
        task.call(Calls::HTTP);
        self.pong_due = Some(now + self.patience);
        match ping.poll_pong(&mut cx) {
            Poll::Ready(pong) => pong.map(drop).map_err(Into::into),
            Poll::Pending => Ok(()),
        }
    }
}
