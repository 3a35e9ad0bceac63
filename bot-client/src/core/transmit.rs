//! What is sent to the server, and when: the player's inputs, and what else there is to say on each stream.

use std::time::Duration;

use tickwire_proto::v1 as pb;
use tickwire_shared::Tick;

use super::{Core, End, Event, FIRST, InputError, message};

/// An input is sent with the snapshot that arrives within this many ticks of its time, so that client and server have to do
/// with each other once in a tick and not twice, and packets are shared.
const PAIRING_TICKS: f64 = 0.5;

impl Core {
    /// What happened since the last call, oldest first; at last that an input is due.
    pub fn poll_event(&mut self, now: Duration) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let due = self.input_due(now).filter(|due| *due > self.input_announced)?;
        self.input_announced = due;
        Some(Event::InputDue(due))
    }

    /// What the player does from now on: one value per input field of the schema, in quanta; missing ones at the end are
    /// neutral. Held fields are sent each tick until they are set again; an edge is sent once, with the next input.
    ///
    /// # Errors
    /// Where a value is out of its field's range; nothing changes then.
    pub fn set_input(&mut self, values: &[i32]) -> Result<(), InputError> {
        let before = self.prediction.is_some().then(|| self.inputs.values().to_vec());
        self.inputs.set(values)?;
        self.seen.at_input = self.seen.shown;
        if let (Some(prediction), Some(before)) = (&mut self.prediction, before)
            && before != self.inputs.values()
        {
            prediction.turn(&self.ledger, self.input_clock.origin(), &before, self.inputs.values());
        }
        Ok(())
    }

    /// The next message to send, if any. Never a burst: of ticks that were slept through, only the newest gets an input.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<pb::ClientMessage> {
        self.poll_transmit_on(FIRST, now)
    }

    /// As [`poll_transmit`](Self::poll_transmit), for one of several streams: ask for each until none has anything, since
    /// what is asked of one may make something to send on another.
    pub fn poll_transmit_on(&mut self, stripe: usize, now: Duration) -> Option<pb::ClientMessage> {
        use pb::client_message::Kind;

        let is_open = self.lanes.get(stripe).is_some_and(|lane| lane.is_open());
        match self.end {
            End::No if is_open => {}
            End::Leaving if is_open => {
                self.end = End::Done;
                return Some(message(Kind::Leave(pb::Leave {})));
            }
            End::No | End::Leaving | End::Done => return None,
        }
        let lane = self.lanes.get(stripe)?;
        if let Some(reason) = lane.resync.take() {
            return Some(message(Kind::Resync(pb::Resync { reason: reason.into() })));
        }
        if now >= lane.pings.next_at {
            return Some(message(Kind::Ping(lane.pings.next(now))));
        }
        if let Some(inputs) = self.lanes.take_resent(stripe) {
            let newest_tick = self.lanes.get(stripe)?.ack.newest_tick;
            return Some(message(Kind::Inputs(pb::Inputs { epoch: self.epoch, newest_tick, inputs })));
        }
        if let Some(target) = self.input_due(now) {
            self.stats.inputs_sent += 1;
            let mut input = self.inputs.next(target, now);
            (input.seen_tick, input.seen_fraction) = self.seen.take(&self.mirror);
            self.ledger.sent(&input);
            self.inputs.note(input.clone());
            if let Some(prediction) = &mut self.prediction {
                let tell = |tick, action| self.events.push_back(Event::Predicted { tick, action });
                prediction.advance(target, &self.ledger, &mut self.stats, tell);
            }
            self.lanes.send_input(input);
        }
        if let Some(inputs) = self.lanes.take_inputs(stripe) {
            let newest_tick = self.lanes.get(stripe)?.ack.newest_tick;
            return Some(message(Kind::Inputs(pb::Inputs { epoch: self.epoch, newest_tick, inputs })));
        }
        self.is_snapshot_fresh = false;
        let ack = &mut self.lanes.get(stripe)?.ack;
        if ack.due.is_some_and(|due| now >= due) {
            ack.due = None;
            return Some(message(Kind::Ack(pb::Ack { epoch: self.epoch, newest_tick: ack.newest_tick })));
        }
        None
    }

    /// When [`poll_event`](Self::poll_event) and [`poll_transmit`](Self::poll_transmit) are to be called again, if no
    /// message arrives before. `None`: only when one arrives.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.end != End::No {
            return None;
        }
        if !self.is_connected() {
            return self.resumption.next_timeout();
        }
        let next = self.inputs.last_target().next();
        let input = self.input_clock.due(next).filter(|_| !self.paused && next <= self.reach.limit());
        let input = input.and_then(|due| Duration::try_from_secs_f64((due + self.pairing_seconds()).max(0.0)).ok());
        [self.lanes.next_due(), self.lanes.next_timeout(), input].into_iter().flatten().min()
    }

    /// Gives the seat up: the next message is the last one.
    pub fn leave(&mut self) {
        if self.end == End::No {
            self.end = End::Leaving;
        }
    }

    /// Whether there is a connection.
    fn is_connected(&self) -> bool {
        !self.resumption.is_lost() && !self.resumption.has_given_up()
    }

    fn pairing_seconds(&self) -> f64 {
        PAIRING_TICKS / f64::from(self.rate.hz())
    }

    /// The tick whose input is to be sent now: with a snapshot that arrives near its time, else a little after it. A clock
    /// that stepped back waits for a tick that had none.
    fn input_due(&self, now: Duration) -> Option<Tick> {
        let slack = self.pairing_seconds();
        let slack = if self.is_snapshot_fresh { slack } else { -slack };
        let due = self.input_clock.tick(now.as_secs_f64() + slack)?;
        // One that was missed by waking late still comes in time, by the lead; where more were, the clock has moved.
        let last = self.inputs.last_target();
        let due = if last > Tick::ZERO && due == last.next().next() { last.next() } else { due };
        let due = due.min(self.reach.limit());
        (self.end == End::No
            && self.is_connected()
            && !self.paused
            && due > self.inputs.last_target()
            && due <= Tick::MAX)
            .then_some(due)
    }
}
