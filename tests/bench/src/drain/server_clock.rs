//! When the server's ticks were due, by the shortest round trip of the last two seconds.

use std::collections::VecDeque;

use super::scan::Pong;
use crate::pace::ticks_ns;

const WINDOW_NS: u64 = 2_000_000_000;

#[derive(Debug)]
pub(super) struct ServerClock {
    rate: u32,
    round_trips: VecDeque<RoundTrip>,
}

#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    received_ns: u64,
    length_ns: u64,
    /// Local time − the server's.
    offset_ns: i64,
}

impl ServerClock {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate, round_trips: VecDeque::new() }
    }

    /// Takes in the answer to the ping that was sent at `pong.echo`.
    pub(super) fn pong(&mut self, pong: &Pong, now_ns: u64) {
        let server_ns = self.server_ns(pong.tick, pong.slip_us) + i64::from(pong.phase_us) * 1000;
        let offset_ns = u64::midpoint(pong.echo, now_ns) as i64 - server_ns;
        let length_ns = now_ns.saturating_sub(pong.echo);
        while self.round_trips.pop_front_if(|oldest| oldest.received_ns + WINDOW_NS < now_ns).is_some() {}
        self.round_trips.push_back(RoundTrip { received_ns: now_ns, length_ns, offset_ns });
    }

    /// The local time at which a tick was due; `None` before the first pong.
    pub(super) fn due_ns(&self, tick: u64, slip_us: i64) -> Option<u64> {
        let best = self.round_trips.iter().min_by_key(|round_trip| round_trip.length_ns)?;
        Some((self.server_ns(tick, slip_us) + best.offset_ns).max(0) as u64)
    }

    /// The time of the server's loop at which a tick is due.
    fn server_ns(&self, tick: u64, slip_us: i64) -> i64 {
        ticks_ns(tick, self.rate) as i64 + slip_us * 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_shortest_round_trip_says_when_ticks_were_due() {
        let mut clock = ServerClock::new(100);
        assert_eq!(clock.due_ns(1, 0), None);
        // The server's tick 0 was due at 1000 ms of ours; the first answer came late, on the way back.
        let pong = |echo: u64, tick, phase_us| Pong { echo: echo * MS, tick, phase_us, slip_us: 0 };
        clock.pong(&pong(1011, 1, 2_000), 1033 * MS);
        clock.pong(&pong(1041, 4, 2_000), 1043 * MS);
        assert_eq!(clock.due_ns(4, 0), Some(1040 * MS));
        assert_eq!(clock.due_ns(7, 5_000), Some(1075 * MS));
        // Two seconds later the short one counts no more.
        clock.pong(&pong(3044, 204, 5_000), 3048 * MS);
        assert_eq!(clock.due_ns(204, 0), Some(3041 * MS));
    }
}
