//! What becomes of a player's connections: further ones come and go as stripes, and a seat outlives the last.

use std::{sync::Arc, time::Duration};

use tickwire_proto::v1 as pb;
use tickwire_wire::Mirror;

use super::{Core, End, Event, ProtocolError, ResumeFailure, StripeChange, checked_tick, granted_rate, join, message};

impl Core {
    /// What is to be done about the player's streams, if anything: ask whenever [`poll_transmit_on`](Self::poll_transmit_on)
    /// is asked, and where that is seldom at least each second.
    pub fn poll_stripe(&mut self, now: Duration) -> Option<StripeChange> {
        if self.end != End::No || self.resumption.has_given_up() {
            return None;
        }
        if self.resumption.is_lost() {
            return self.resumption.poll(now).then_some(StripeChange::Resume);
        }
        if self.lanes.are_silent(now) && self.connection_lost(now) {
            return Some(StripeChange::DropAll);
        }
        let change = self.lanes.poll(now)?;
        if let StripeChange::Drop(stripe) = change {
            self.stats.stripes_lost += 1;
            self.mirror.close_stripe(stripe);
        }
        Some(change)
    }

    /// The first message of a further stream.
    #[must_use]
    pub fn attach_hello(&self) -> pb::ClientMessage {
        join::attach_hello(self.lanes.token())
    }

    /// A further stream is open; `first` is the server's first message on it.
    ///
    /// # Errors
    /// Where it is no welcome for this player; drop the stream, and tell with [`stripe_failed`](Self::stripe_failed).
    pub fn stripe_opened(
        &mut self,
        stripe: usize,
        first: &pb::ServerMessage,
        now: Duration,
    ) -> Result<(), ProtocolError> {
        match &first.kind {
            Some(pb::server_message::Kind::Welcome(welcome)) if welcome.player == self.player.0 => {
                self.stats.stripes_opened += 1;
                self.lanes.opened(stripe, now);
                Ok(())
            }
            Some(pb::server_message::Kind::Welcome(_)) => Err(ProtocolError::Player),
            _ => Err(ProtocolError::NotWelcome),
        }
    }

    /// A further stream could not be opened; `may_retry`: another attempt may fare better.
    pub fn stripe_failed(&mut self, stripe: usize, may_retry: bool, now: Duration) {
        self.lanes.failed(stripe, may_retry, now);
    }

    /// A stream of several has ended, by itself or because it was to.
    pub fn stripe_closed(&mut self, stripe: usize, now: Duration) {
        self.stats.stripes_lost += u64::from(self.lanes.closed(stripe, now));
        self.mirror.close_stripe(stripe);
    }

    /// The last stream is lost, by no fault of the client's. True: the seat is to be taken back, as
    /// [`poll_stripe`](Self::poll_stripe) will say; drop what else there is of streams. False: the client is at its end.
    pub fn connection_lost(&mut self, now: Duration) -> bool {
        if self.end != End::No || !self.resumption.lose(now) {
            return false;
        }
        self.lanes.lose();
        self.mirror.close_all_stripes();
        self.is_snapshot_fresh = false;
        self.events.push_back(Event::ConnectionLost);
        true
    }

    /// The first message of the stream that is to take the seat back.
    #[must_use]
    pub fn resume_hello(&self) -> pb::ClientMessage {
        let resume_token = self.resumption.token().to_vec();
        message(pb::client_message::Kind::Hello(pb::Hello { resume_token, ..self.hello.clone() }))
    }

    /// The seat is taken back; `first` is the server's first message on the new stream, which is stripe 0. What was sent and
    /// not consumed is sent again, where it can still come in time; of a new epoch, whose ticks are others, edges alone, with the
    /// next input.
    ///
    /// # Errors
    /// Where it is no welcome to this player's seat; drop the stream, and tell with [`resume_failed`](Self::resume_failed).
    pub fn resumed(&mut self, first: pb::ServerMessage, now: Duration) -> Result<(), ProtocolError> {
        let Some(pb::server_message::Kind::Welcome(welcome)) = first.kind else {
            return Err(ProtocolError::NotWelcome);
        };
        if welcome.player != self.player.0 {
            return Err(ProtocolError::Player);
        }
        let tick = checked_tick("welcome.tick", welcome.tick)?;
        if welcome.tick_rate != self.rate.hz() {
            return Err(ProtocolError::OtherRate { before: self.rate.hz(), now: welcome.tick_rate });
        }
        let epoch_changed = welcome.epoch != self.epoch;
        if epoch_changed {
            self.start_epoch(welcome.epoch, welcome.last_consumed_input, now);
            self.told_of(tick);
            // What it holds is of no use, and is not to be shown until the first snapshot says so.
            self.mirror = Mirror::new(Arc::clone(self.mirror.schema()));
        } else if let Some(interpolation) = &mut self.interpolation {
            interpolation.interrupted();
        }
        // The new stream tells what holds, whether or not that is known.
        self.noticed.clear();
        if std::mem::take(&mut self.paused) {
            // Where it still is, the new stream is told so.
            self.restart_clocks(now);
            self.events.push_back(Event::Resumed);
        }
        self.resumption.resumed(&welcome.resume_token, now);
        self.chat_token = welcome.chat_token;
        self.snapshot_rate = granted_rate(welcome.max_rate, self.rate);
        self.lanes.restart(welcome.max_stripes, welcome.attach_token, now);
        self.inputs.resume(welcome.last_consumed_input);
        let (newest, resent) = self.inputs.after(welcome.last_consumed_input, tick);
        // How those before it come says nothing of the way that inputs take from now on.
        self.newest_received_input = newest;
        self.lanes.resend(resent);
        self.stats.resumes += 1;
        self.events.push_back(Event::Reconnected { epoch_changed });
        Ok(())
    }

    /// The seat could not be taken back.
    pub fn resume_failed(&mut self, failure: ResumeFailure, now: Duration) {
        if let Some(why) = self.resumption.failed(failure, now) {
            self.events.push_back(Event::GaveUp(why));
        }
    }

    /// Whether the last connection is lost, and the seat is being taken back.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.resumption.is_lost()
    }

    /// Whether the seat is not asked for any longer.
    #[must_use]
    pub fn has_given_up(&self) -> bool {
        self.resumption.has_given_up()
    }

    /// How many streams there may be: no more than asked for, and no more than the server grants.
    #[must_use]
    pub fn stripes_max(&self) -> usize {
        self.lanes.most()
    }

    /// How many streams are open.
    #[must_use]
    pub fn stripes_open(&self) -> usize {
        self.lanes.open_count()
    }
}
