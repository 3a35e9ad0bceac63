//! Seats that are kept for a while for whoever has a ticket; and the tickets.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tickwire_simulation::JoinError;
use tonic::Code;

use super::{
    SessionHandle,
    tokens::{Ending, Found, TokenId, Tokens},
};
use crate::{limits::Permit, status::Refusal};

/// For how long a seat is kept for whoever has a ticket.
pub(crate) const RESERVATION_TIME: Duration = Duration::from_secs(15);
/// The longest ticket, in bytes.
pub(crate) const TICKET_BYTES_MAX: usize = 4096;
/// Tickets for one seat that are good at a time: of more, the newest.
const TICKETS_PER_SEAT_MAX: usize = 8;
/// When somebody who finds all seats taken may try again.
const FULL_RETRY: Duration = Duration::from_secs(5);

const FIELD: &str = "hello.ticket";

/// A seat that is kept.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) session: Arc<SessionHandle>,
    pub(crate) expires: Instant,
    pub(crate) expire_time: SystemTime,
    /// [`ReservationState`]; it changes under the ledger's lock.
    state: AtomicU8,
    tickets: Mutex<Vec<TokenId>>,
    /// Its part of the seats that may be reserved for its caller, for as long as it is kept.
    permit: Mutex<Option<Permit>>,
    table: Arc<Reservations>,
}

/// What has become of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ReservationState {
    /// The seat is kept.
    Held = 0,
    /// Somebody has taken the seat.
    Used = 1,
    /// Nobody came in time.
    Expired = 2,
    /// The session has ended.
    Ended = 3,
}

/// Why somebody who asked for a seat has none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NotSeated {
    Join(JoinError),
    /// Those that are not taken are kept for others.
    Reserved,
    /// The seat is not kept any more.
    Gone(ReservationState),
}

/// All tickets of a server: of each only a hash is kept.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    tickets: Tokens<Reservation>,
    pub(crate) counters: ReservationCounters,
}

/// What has become of seats that were reserved, as totals since the server's start.
#[derive(Debug, Default)]
pub(crate) struct ReservationCounters {
    pub(crate) reserved: AtomicU64,
    /// Somebody came for them.
    pub(crate) used: AtomicU64,
    /// Nobody came in time.
    pub(crate) expired: AtomicU64,
}

impl Reservations {
    /// A ticket for a reservation; those before stay good.
    pub(crate) fn mint(&self, reservation: &Arc<Reservation>) -> Result<String, Refusal> {
        let (key, ticket) = self.tickets.issue(Arc::downgrade(reservation)).ok_or_else(|| {
            Refusal::new(
                Code::Internal,
                "NO_RANDOMNESS",
                "the server's operating system has no randomness for a ticket",
            )
        })?;
        let mut tickets = reservation.tickets.lock().expect("no holder of this lock panics");
        if tickets.len() == TICKETS_PER_SEAT_MAX {
            self.tickets.forget(tickets.remove(0));
        }
        tickets.push(key.id);
        Ok(URL_SAFE_NO_PAD.encode(ticket))
    }

    /// The reservation that a ticket is for, while its seat is kept.
    pub(crate) fn resolve(&self, ticket: &str) -> Result<Arc<Reservation>, Refusal> {
        let Ok(ticket) = URL_SAFE_NO_PAD.decode(ticket) else { return Err(unknown()) };
        match self.tickets.find(&ticket) {
            Found::Holder(reservation, _) => match reservation.state() {
                ReservationState::Held => Ok(reservation),
                gone => Err(gone_for(gone)),
            },
            Found::Ended(Ending::Left) => Err(gone_for(ReservationState::Used)),
            Found::Ended(Ending::Lost) => Err(gone_for(ReservationState::Expired)),
            Found::Unknown => Err(unknown()),
        }
    }
}

fn unknown() -> Refusal {
    let message = "the server has given no such ticket: get one by JoinSession, or join without";
    Refusal::new(Code::Unauthenticated, "UNKNOWN_TICKET", message).field(FIELD)
}

/// What the bearer of a ticket is told whose seat is not kept any more.
pub(crate) fn gone_for(state: ReservationState) -> Refusal {
    let (reason, message) = match state {
        ReservationState::Expired => {
            ("TICKET_EXPIRED", "the seat was kept for 15 s, and nobody came: get another ticket by JoinSession")
        }
        ReservationState::Ended => ("SESSION_ENDED", "the session has ended: choose another"),
        ReservationState::Used | ReservationState::Held => {
            ("TICKET_USED", "a ticket is good once: resume the seat, or get another ticket by JoinSession")
        }
    };
    Refusal::new(Code::FailedPrecondition, reason, message).field(FIELD)
}

/// What somebody is told who finds no free seat in a session.
pub(crate) fn full(session: &SessionHandle, all_taken: bool) -> Refusal {
    let (name, most) = (&session.name, session.max_players);
    let message = if all_taken {
        format!("all {most} seats of {name} are taken")
    } else {
        format!("all {most} seats of {name} are taken or reserved")
    };
    Refusal::new(Code::ResourceExhausted, "FULL", message).retry_after(FULL_RETRY)
}

impl Reservation {
    pub(crate) fn state(&self) -> ReservationState {
        match self.state.load(Ordering::Acquire) {
            0 => ReservationState::Held,
            1 => ReservationState::Used,
            2 => ReservationState::Expired,
            _ => ReservationState::Ended,
        }
    }

    /// It counts among those of its caller for as long as the seat is kept.
    pub(crate) fn hold(&self, permit: Permit) {
        let mut held = self.permit.lock().expect("no holder of this lock panics");
        // Under the lock: who changes the state looks here after it.
        *held = (self.state() == ReservationState::Held).then_some(permit);
    }

    fn set(&self, state: ReservationState) {
        self.state.store(state as u8, Ordering::Release);
        drop(self.permit.lock().expect("no holder of this lock panics").take());
        let counters = &self.table.counters;
        match state {
            ReservationState::Used => counters.used.fetch_add(1, Ordering::Relaxed),
            ReservationState::Expired => counters.expired.fetch_add(1, Ordering::Relaxed),
            ReservationState::Held | ReservationState::Ended => 0,
        };
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let ending = if self.state() == ReservationState::Used { Ending::Left } else { Ending::Lost };
        for id in self.tickets.get_mut().expect("no holder of this lock panics").drain(..) {
            self.table.tickets.retire(id, ending);
        }
    }
}

/// Which of a session's seats are free: not taken, and kept for nobody. The session's thread seats players under its lock, and
/// others reserve under it, so that no seat is given twice.
#[derive(Debug)]
pub(crate) struct SeatLedger {
    max_players: u32,
    ledger: Mutex<Ledger>,
}

#[derive(Debug)]
struct Ledger {
    /// Seats taken, those of players who sit down at the next tick among them.
    seated: u32,
    /// In order of their end.
    reserved: Vec<Arc<Reservation>>,
    /// Since when no seat is taken or kept.
    empty_since: Option<Instant>,
    /// The session has ended.
    is_closed: bool,
}

/// A session's seats at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeatCounts {
    pub(crate) seated: u32,
    pub(crate) reserved: u32,
    pub(crate) free: u32,
}

impl SeatLedger {
    pub(super) fn new(max_players: u32, seated: u32, now: Instant) -> Self {
        let empty_since = (seated == 0).then_some(now);
        Self { max_players, ledger: Mutex::new(Ledger { seated, reserved: Vec::new(), empty_since, is_closed: false }) }
    }

    /// Keeps a seat, where one is free; of a session that has ended there is none.
    pub(crate) fn reserve(
        &self,
        session: &Arc<SessionHandle>,
        table: &Arc<Reservations>,
        now: Instant,
    ) -> Option<Arc<Reservation>> {
        let mut ledger = self.lock();
        ledger.expire(now);
        if ledger.is_closed || ledger.free(self.max_players) == 0 {
            return None;
        }
        let reservation = Arc::new(Reservation {
            session: Arc::clone(session),
            expires: now + RESERVATION_TIME,
            expire_time: SystemTime::now() + RESERVATION_TIME,
            state: AtomicU8::new(ReservationState::Held as u8),
            tickets: Mutex::default(),
            permit: Mutex::default(),
            table: Arc::clone(table),
        });
        table.counters.reserved.fetch_add(1, Ordering::Relaxed);
        ledger.reserved.push(Arc::clone(&reservation));
        ledger.empty_since = None;
        drop(ledger);
        session.note_news();
        Some(reservation)
    }

    /// Seats a player by `sit`, which answers how many seats are taken then, too: on the seat that is kept for them, or on a free
    /// one.
    pub(super) fn sit_down<T>(
        &self,
        reservation: Option<&Arc<Reservation>>,
        now: Instant,
        sit: impl FnOnce() -> Result<(T, u32), JoinError>,
    ) -> Result<T, NotSeated> {
        let mut ledger = self.lock();
        ledger.expire(now);
        match reservation {
            Some(reservation) if reservation.state() != ReservationState::Held => {
                return Err(NotSeated::Gone(reservation.state()));
            }
            None if ledger.free(self.max_players) == 0 && !ledger.reserved.is_empty() => {
                return Err(NotSeated::Reserved);
            }
            Some(_) | None => {}
        }
        let (seated, count) = sit().map_err(NotSeated::Join)?;
        ledger.seated = count;
        ledger.empty_since = None;
        if let Some(reservation) = reservation {
            reservation.set(ReservationState::Used);
            ledger.reserved.retain(|other| !Arc::ptr_eq(other, reservation));
        }
        Ok(seated)
    }

    /// So many seats are taken now.
    pub(super) fn note_seated(&self, seated: u32, now: Instant) {
        let mut ledger = self.lock();
        ledger.seated = seated;
        ledger.note_empty(now);
    }

    /// Keeps no seat any longer whose time is over. True: there was one.
    pub(crate) fn expire(&self, now: Instant) -> bool {
        self.lock().expire(now)
    }

    /// How the seats stand.
    pub(crate) fn counts(&self) -> SeatCounts {
        let ledger = self.lock();
        let reserved = ledger.reserved.len() as u32;
        SeatCounts { seated: ledger.seated, reserved, free: ledger.free(self.max_players) }
    }

    /// Keeps no seat any more where nobody has had one, and none was kept, for so long: whoever asks for one from now on is not
    /// told of a session that ends at once. False: it goes on.
    pub(crate) fn close_if_empty(&self, timeout: Duration, now: Instant) -> bool {
        let mut ledger = self.lock();
        let is_over = ledger.empty_since.is_some_and(|since| now.saturating_duration_since(since) >= timeout);
        ledger.is_closed |= is_over;
        is_over
    }

    /// The session has ended.
    pub(super) fn close(&self) {
        let reserved = {
            let mut ledger = self.lock();
            ledger.is_closed = true;
            std::mem::take(&mut ledger.reserved)
        };
        // Outside the lock: they hold the session, and with it this.
        for reservation in reserved {
            reservation.set(ReservationState::Ended);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no holder of this lock panics")
    }
}

impl Ledger {
    fn free(&self, max_players: u32) -> u32 {
        max_players.saturating_sub(self.seated).saturating_sub(self.reserved.len() as u32)
    }

    fn expire(&mut self, now: Instant) -> bool {
        let over = self.reserved.iter().take_while(|reservation| reservation.expires <= now).count();
        for reservation in self.reserved.drain(..over) {
            reservation.set(ReservationState::Expired);
        }
        if over > 0 {
            self.note_empty(now);
        }
        over > 0
    }

    fn note_empty(&mut self, now: Instant) {
        if self.seated > 0 || !self.reserved.is_empty() {
            self.empty_since = None;
        } else {
            self.empty_since.get_or_insert(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        limits::Quota,
        session::seats::tests::{handle, session},
    };

    #[test]
    fn a_session_that_ends_since_nobody_came_keeps_no_seat_any_more() {
        const TIMEOUT: Duration = Duration::from_secs(60);
        let (handle, table, now) = (handle(&session(5)), Arc::<Reservations>::default(), Instant::now());
        let ledger = SeatLedger::new(2, 0, now);
        let reservation = ledger.reserve(&handle, &table, now).expect("a seat is free");
        assert!(!ledger.close_if_empty(TIMEOUT, now + TIMEOUT), "a seat is kept");
        let expired = reservation.expires;
        assert!(ledger.expire(expired) && !ledger.close_if_empty(TIMEOUT, expired));
        drop(ledger.reserve(&handle, &table, expired).expect("it goes on"));
        assert!(!ledger.close_if_empty(TIMEOUT, expired + TIMEOUT), "a seat is kept");
        let expired = expired + RESERVATION_TIME;
        assert!(ledger.expire(expired) && ledger.close_if_empty(TIMEOUT, expired + TIMEOUT));
        assert!(ledger.reserve(&handle, &table, expired + TIMEOUT).is_none(), "it ends at once");
    }

    #[test]
    fn a_seat_counts_among_its_callers_for_as_long_as_it_is_kept() {
        let (handle, table, now) = (handle(&session(5)), Arc::<Reservations>::default(), Instant::now());
        let quota = Arc::<Quota>::default();
        let ledger = SeatLedger::new(4, 0, now);
        let reserve = || {
            let reservation = ledger.reserve(&handle, &table, now).expect("a seat is free");
            reservation.hold(quota.take(4).expect("there is room"));
            reservation
        };
        let [used, expired, late] = [(); 3].map(|()| reserve());
        assert_eq!(quota.taken(), 3);
        ledger.sit_down(Some(&used), now, || Ok(((), 1))).expect("it is kept");
        assert_eq!(quota.taken(), 2);
        assert!(ledger.expire(expired.expires));
        assert_eq!(quota.taken(), 0);
        // It was given up before it was counted.
        late.hold(quota.take(4).expect("there is room"));
        assert_eq!(quota.taken(), 0);
    }

    /// What may happen to a session's seats.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Reserve,
        /// Somebody comes without a ticket.
        WalkIn,
        /// Somebody comes with the ticket of this number.
        Use(usize),
        /// So many players have left.
        Leave(u32),
        /// Seconds go by.
        Wait(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Reserve),
            Just(Event::WalkIn),
            any::<usize>().prop_map(Event::Use),
            (0_u32..3).prop_map(Event::Leave),
            (0_u64..20).prop_map(Event::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_seat_is_given_twice_and_none_is_lost(events in prop::collection::vec(event(), 1..60)) {
            const SEATS: u32 = 4;
            let handle = handle(&session(5));
            let table = Arc::<Reservations>::default();
            let mut now = Instant::now();
            let ledger = SeatLedger::new(SEATS, 0, now);
            let mut seated = 0;
            let mut tickets: Vec<(String, Instant, bool)> = Vec::new();
            for event in events {
                let held = tickets.iter().filter(|(_, expires, is_used)| !is_used && *expires > now).count() as u32;
                match event {
                    Event::Reserve => {
                        let reserved = ledger.reserve(&handle, &table, now);
                        prop_assert_eq!(reserved.is_some(), seated + held < SEATS);
                        if let Some(reservation) = reserved {
                            let ticket = table.mint(&reservation).expect("there is randomness");
                            tickets.push((ticket, reservation.expires, false));
                        }
                    }
                    Event::WalkIn => {
                        let sat = ledger.sit_down(None, now, || match seated {
                            SEATS => Err(JoinError::Full { max_players: SEATS }),
                            _ => Ok(((), seated + 1)),
                        });
                        prop_assert_eq!(sat.is_ok(), seated + held < SEATS);
                        seated += u32::from(sat.is_ok());
                    }
                    Event::Use(number) if !tickets.is_empty() => {
                        let number = number % tickets.len();
                        let (ticket, expires, is_used) = &mut tickets[number];
                        let is_good = !*is_used && *expires > now;
                        // It may have been looked up before its time was over.
                        let sat = table.resolve(ticket).ok().map(|reservation| {
                            ledger.sit_down(Some(&reservation), now, || Ok(((), seated + 1)))
                        });
                        let sat = sat.is_some_and(|sat| sat.is_ok());
                        prop_assert_eq!(sat, is_good);
                        *is_used |= sat;
                        seated += u32::from(sat);
                    }
                    Event::Use(_) => {}
                    Event::Leave(count) => {
                        seated -= count.min(seated);
                        ledger.note_seated(seated, now);
                    }
                    Event::Wait(seconds) => now += Duration::from_secs(seconds),
                }
                ledger.expire(now);
                let held = tickets.iter().filter(|(_, expires, is_used)| !is_used && *expires > now).count() as u32;
                let counts = SeatCounts { seated, reserved: held, free: SEATS - seated - held };
                prop_assert_eq!(ledger.counts(), counts);
                prop_assert_eq!(ledger.lock().empty_since.is_some(), seated + held == 0);
            }
            let counters = &table.counters;
            let [reserved, used, expired] =
                [&counters.reserved, &counters.used, &counters.expired].map(|count| count.load(Ordering::Relaxed));
            prop_assert_eq!(reserved, used + expired + u64::from(ledger.counts().reserved));
            prop_assert_eq!(reserved, tickets.len() as u64);
        }
    }

    #[test]
    fn the_end_of_a_session_is_the_end_of_its_tickets() {
        let handle = handle(&session(5));
        let table = Arc::<Reservations>::default();
        let ledger = SeatLedger::new(2, 0, Instant::now());
        let reservation = ledger.reserve(&handle, &table, Instant::now()).expect("a free seat");
        let ticket = table.mint(&reservation).expect("there is randomness");
        ledger.close();
        assert_eq!(table.resolve(&ticket).expect_err("it has ended").reason, "SESSION_ENDED");
        assert!(ledger.reserve(&handle, &table, Instant::now()).is_none());
        drop(reservation);
        assert_eq!(table.resolve(&ticket).expect_err("it is long ago").reason, "TICKET_EXPIRED");
    }

    #[test]
    fn of_many_tickets_for_one_seat_the_newest_are_good() {
        let handle = handle(&session(5));
        let table = Arc::<Reservations>::default();
        let ledger = SeatLedger::new(2, 0, Instant::now());
        let reservation = ledger.reserve(&handle, &table, Instant::now()).expect("a free seat");
        let tickets: Vec<String> =
            (0..=TICKETS_PER_SEAT_MAX).map(|_| table.mint(&reservation).expect("there is randomness")).collect();
        assert_eq!(table.resolve(&tickets[0]).expect_err("it is the oldest").reason, "UNKNOWN_TICKET");
        for ticket in &tickets[1..] {
            assert!(Arc::ptr_eq(&table.resolve(ticket).expect("it is good"), &reservation));
        }
    }
}
