//! Seats as they outlive their streams: who has each of them now, and by what token it is taken back.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use tickwire_shared::{NumberMap, PlayerId};
use tickwire_simulation::{Session, TickInput};

use super::{
    ChatSeat, SessionHandle,
    mailbox::SeatNews,
    oust::{Ousted, SeatFacts},
    tokens::{Ending, ResumeTokens, SeatToken, Token, TokenId, TokenKey},
};

/// A taken seat, as all threads know it: for as long as the session keeps it.
#[derive(Debug)]
pub(crate) struct HeldSeat {
    pub(crate) session: Arc<SessionHandle>,
    pub(crate) player: PlayerId,
    /// How often it was resumed. Streams of an earlier sitting are displaced.
    sitting: AtomicU32,
    pub(crate) chat: ChatSeat,
    pub(crate) facts: SeatFacts,
    ousted: OnceLock<Ousted>,
}

/// A sitting on a seat, held by the streams that play it. Dropped, it tells the session that the connection is lost.
#[derive(Debug)]
pub(crate) struct SeatGuard {
    seat: Arc<HeldSeat>,
    sitting: u32,
    on_drop: Option<SeatNews>,
}

/// Somebody who has been given a seat, new or their own.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) seat: SeatGuard,
    /// Takes the seat back; none where it is not kept.
    pub(crate) token: Option<Token>,
}

/// Why a seat is not resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotResumed {
    /// The token has been superseded.
    Superseded,
    /// The seat is not kept any more.
    Ended(Ending),
}

/// What a session's own thread knows of its seats: it alone hands them out, and decides who has them.
#[derive(Debug)]
pub(super) struct SeatKeeper {
    seats: NumberMap<PlayerId, Kept>,
    tokens: Arc<ResumeTokens>,
    /// Whether lost seats are kept at all.
    is_resumable: bool,
    /// Tokens that were issued, rotated or confirmed since they were last taken, in that order.
    changes: Vec<SeatToken>,
}

#[derive(Debug)]
struct Kept {
    seat: Arc<HeldSeat>,
    token: Option<SeatToken>,
    has_left: bool,
}

impl HeldSeat {
    fn new(session: Arc<SessionHandle>, player: PlayerId) -> Arc<Self> {
        let seat = Arc::new(Self {
            session,
            player,
            sitting: AtomicU32::new(0),
            chat: ChatSeat::default(),
            facts: SeatFacts::default(),
            ousted: OnceLock::new(),
        });
        seat.session.control.seats.insert(&seat);
        seat
    }

    /// Takes the player out: the seat is given up, and streams end with what is told. False: it has been done before.
    pub(crate) fn oust(&self, ousted: Ousted) -> bool {
        if self.ousted.set(ousted).is_err() {
            return false;
        }
        self.session.mailbox.tell(self.player, self.sitting(), SeatNews::Ousted);
        self.session.wake_streams();
        // A session that stands still gives the seat up later.
        self.chat.vacate(Ending::Left);
        true
    }

    /// That the player has been taken out.
    pub(crate) fn ousted(&self) -> Option<&Ousted> {
        self.ousted.get()
    }

    fn sitting(&self) -> u32 {
        self.sitting.load(Ordering::Acquire)
    }
}

impl SeatGuard {
    /// The newest sitting of a seat. Until it is [taken up](Self::take_up), losing the first one gives the seat up.
    fn new(seat: &Arc<HeldSeat>) -> Self {
        let sitting = seat.sitting();
        let news = if sitting == 0 { SeatNews::Left } else { SeatNews::Lost };
        Self { seat: Arc::clone(seat), sitting, on_drop: Some(news) }
    }

    /// Which seat.
    pub(crate) fn seat(&self) -> &Arc<HeldSeat> {
        &self.seat
    }

    /// How often the seat had been resumed by then.
    pub(crate) fn sitting(&self) -> u32 {
        self.sitting
    }

    /// Says that the player has come: from now on the seat outlives a lost connection.
    pub(crate) fn take_up(&mut self) {
        self.on_drop = Some(SeatNews::Lost);
    }

    /// Gives the seat up: at the tick after the newest input that came before.
    pub(crate) fn leave(&mut self) {
        if self.on_drop.take().is_some() {
            self.tell(SeatNews::Left);
        }
    }

    /// Tells that an input has come: the client has its newest token.
    pub(crate) fn confirm(&self) {
        self.tell(SeatNews::Confirmed);
    }

    /// Whether somebody has resumed the seat since.
    pub(crate) fn is_displaced(&self) -> bool {
        self.seat.sitting() != self.sitting
    }

    fn tell(&self, news: SeatNews) {
        self.seat.session.mailbox.tell(self.seat.player, self.sitting, news);
    }
}

impl Drop for SeatGuard {
    fn drop(&mut self) {
        if let Some(news) = self.on_drop {
            self.tell(news);
        }
    }
}

impl SeatKeeper {
    /// Of a session without seats.
    pub(super) fn new(tokens: Arc<ResumeTokens>, session: &Session) -> Self {
        let is_resumable = session.config().limits.grace_ticks > 0;
        Self { seats: NumberMap::default(), tokens, is_resumable, changes: Vec::new() }
    }

    /// Hands out the seat of a player who has just joined.
    pub(super) fn admit(&mut self, handle: &Arc<SessionHandle>, player: PlayerId) -> Admitted {
        let seat = HeldSeat::new(Arc::clone(handle), player);
        let issued = self.is_resumable.then(|| self.tokens.issue(Arc::downgrade(&seat))).flatten();
        let (newest, token) = issued.unzip();
        let kept = newest.map(|newest| SeatToken { player, newest, previous: None });
        self.changes.extend(kept);
        let admitted = Admitted { seat: SeatGuard::new(&seat), token };
        self.seats.insert(player, Kept { seat, token: kept, has_left: false });
        admitted
    }

    /// Hands a seat out to who has its token: from now on its streams are displaced. Nothing changes otherwise.
    pub(super) fn resume(
        &mut self,
        session: &mut Session,
        player: PlayerId,
        proof: TokenId,
    ) -> Result<Admitted, NotResumed> {
        let kept = self.seats.get_mut(&player).ok_or(NotResumed::Ended(Ending::Lost))?;
        let held = kept.token.as_mut().ok_or(NotResumed::Superseded)?;
        let proof = held.keys().find(|key| key.id == proof).ok_or(NotResumed::Superseded)?;
        if kept.seat.ousted().is_some() {
            return Err(NotResumed::Ended(Ending::Left));
        }
        if !session.reconnect(player) {
            return Err(NotResumed::Ended(Ending::Left));
        }
        kept.seat.sitting.fetch_add(1, Ordering::Release);
        let issued = self.tokens.issue(Arc::downgrade(&kept.seat));
        let token = issued.map(|(newest, token)| {
            // What the client has shown to have is good until it shows that it has the new one.
            held.keys().filter(|key| *key != proof).for_each(|key| self.tokens.forget(key.id));
            *held = SeatToken { player, newest, previous: Some(proof) };
            self.changes.push(*held);
            token
        });
        Ok(Admitted { seat: SeatGuard::new(&kept.seat), token })
    }

    /// Whether a sitting is the newest of its seat: what comes of others is of displaced streams.
    pub(super) fn is_current(&self, player: PlayerId, sitting: u32) -> bool {
        self.seats.get(&player).is_some_and(|kept| kept.seat.sitting() == sitting)
    }

    /// Takes in what has become of a sitting.
    pub(super) fn hear(&mut self, session: &mut Session, player: PlayerId, sitting: u32, news: SeatNews) {
        let is_meant = |kept: &&mut Kept| news == SeatNews::Ousted || kept.seat.sitting() == sitting;
        let Some(kept) = self.seats.get_mut(&player).filter(is_meant) else { return };
        match news {
            SeatNews::Ousted => {
                // What comes of the player's streams from now on is of nobody.
                kept.seat.sitting.fetch_add(1, Ordering::Release);
                kept.has_left = true;
                session.leave(player);
            }
            SeatNews::Lost => session.disconnect(player),
            SeatNews::Left => {
                kept.has_left = true;
                session.leave(player);
            }
            SeatNews::Confirmed => {
                if let Some(token) = &mut kept.token
                    && let Some(previous) = token.previous.take()
                {
                    self.tokens.forget(previous.id);
                    self.changes.push(*token);
                }
            }
        }
    }

    /// The session has given a seat up.
    pub(super) fn vacate(&mut self, player: PlayerId) {
        let Some(Kept { seat, token, has_left }) = self.seats.remove(&player) else { return };
        seat.session.control.seats.remove(player);
        let ending = if has_left { Ending::Left } else { Ending::Lost };
        token.iter().flat_map(SeatToken::keys).for_each(|key| self.tokens.retire(key.id, ending));
        seat.chat.vacate(ending);
    }

    /// The session has ended: nobody takes a seat back any more.
    pub(super) fn close(self) {
        let tokens = self.seats.values().filter_map(|kept| kept.token.as_ref());
        tokens.flat_map(SeatToken::keys).for_each(|key| self.tokens.retire(key.id, Ending::Left));
    }

    /// Counts what a tick consumes of whom.
    pub(super) fn note_inputs(&self, input: &TickInput) {
        for input in &input.inputs {
            if let Some(kept) = self.seats.get(&input.player) {
                kept.seat.facts.note_input(input);
            }
        }
    }

    /// Goes on with the seats of a session that has been restored: nobody has a stream yet, so that each is kept for the grace
    /// period from now on, and whoever has a token of `tokens` may resume it. Of several of a player the last holds; those of
    /// players without a seat are passed over.
    pub(super) fn restore(
        &mut self,
        session: &mut Session,
        handle: &Arc<SessionHandle>,
        tokens: impl IntoIterator<Item = SeatToken>,
    ) {
        let players: Vec<PlayerId> = session.frame().seats.iter().map(|seat| seat.player).collect();
        for player in players {
            session.disconnect(player);
            let seat = HeldSeat::new(Arc::clone(handle), player);
            self.seats.insert(player, Kept { seat, token: None, has_left: false });
        }
        let last: BTreeMap<PlayerId, SeatToken> = tokens.into_iter().map(|token| (token.player, token)).collect();
        for token in last.into_values() {
            let Some(kept) = self.seats.get_mut(&token.player) else { continue };
            let is_taken_in = token.keys().all(|key| self.tokens.insert(key, Arc::downgrade(&kept.seat)));
            kept.token = is_taken_in.then_some(token);
        }
    }

    /// Tokens that were issued, rotated or confirmed since the last call, in that order. With the seats that a tick's record
    /// gives up, this is all that [`restore`](Self::restore) needs.
    pub(super) fn take_changes(&mut self) -> impl Iterator<Item = SeatToken> + '_ {
        self.changes.drain(..)
    }
}

impl SeatToken {
    /// The newest one first.
    fn keys(&self) -> impl Iterator<Item = TokenKey> + use<> {
        [Some(self.newest), self.previous].into_iter().flatten()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        sync::{OnceLock, atomic::AtomicU8},
        time::{Duration, Instant, SystemTime},
    };

    use tickwire_arena::Arena;
    use tickwire_replication::{ReplicationConfig, Replicator};
    use tickwire_simulation::{Input, SeatChange, SessionConfig, SessionLimits};
    use tokio::sync::watch;

    use super::*;
    use crate::{
        config::ServerConfig,
        session::{
            SeatLedger, SessionCounters, SessionName, SessionState, SessionTerms, TickClock, handle::SessionControl,
            live::LiveEdge, mailbox::Mailbox, oust::OustedKind, recording::RecordingWatch, tokens::Found,
        },
    };

    /// A session with its keeper, stepped by hand.
    struct Table {
        session: Session,
        handle: Arc<SessionHandle>,
        keeper: SeatKeeper,
        tokens: Arc<ResumeTokens>,
    }

    const GRACE_TICKS: u64 = 5;

    pub(crate) fn session(grace_ticks: u64) -> Session {
        let limits = SessionLimits { grace_ticks, ..SessionLimits::default() };
        Session::new(Arc::new(Arena), SessionConfig { limits, ..SessionConfig::default() }).expect("valid")
    }

    /// A seat of a session that nobody steps.
    pub(crate) fn seat(session: &Arc<SessionHandle>, player: u32) -> Arc<HeldSeat> {
        HeldSeat::new(Arc::clone(session), PlayerId(player))
    }

    /// Has the session give a seat up, as when its player leaves.
    pub(crate) fn vacate(seat: &HeldSeat) {
        seat.chat.vacate(Ending::Left);
    }

    pub(crate) fn handle(session: &Session) -> Arc<SessionHandle> {
        let rate = session.config().tick_rate;
        let replicator = || {
            let game = Arc::clone(session.game());
            Replicator::new(game, session.schema(), ReplicationConfig::new(rate), Arc::clone(session.frame()))
        };
        Arc::new(SessionHandle {
            name: SessionName::numbered("arena", 1),
            place: 0,
            terms: SessionTerms::of_start(&ServerConfig::default()),
            seats: SeatLedger::new(session.config().limits.max_players, 0, Instant::now()),
            ending: OnceLock::new(),
            end_time: OnceLock::new(),
            over: watch::Sender::new(false),
            news: Arc::new(watch::Sender::new(())),
            schema: Arc::clone(session.schema()),
            schema_message: tickwire_wire::schema::to_proto(session.schema()),
            settings: Vec::new(),
            tick_rate: rate,
            epoch: 0,
            max_players: session.config().limits.max_players,
            create_time: SystemTime::UNIX_EPOCH,
            replicator: replicator(),
            live: LiveEdge::new(Duration::ZERO, rate, replicator),
            clock: TickClock::new(Instant::now(), rate, tickwire_shared::Tick::ZERO),
            mailbox: Mailbox::new(16),
            relays: Vec::new(),
            counters: Arc::<SessionCounters>::default(),
            recording: RecordingWatch::default(),
            chat: crate::chat::Room::new(0, false, Vec::new(), &crate::config::ChatLimits::default()),
            control: SessionControl::default(),
            state: AtomicU8::new(SessionState::Running as u8),
            seats_taken: AtomicU32::new(0),
            stuck: watch::Sender::new(false),
            task: OnceLock::new(),
            changed: Arc::default(),
        })
    }

    impl Table {
        fn of(session: Session) -> Self {
            let tokens = Arc::<ResumeTokens>::default();
            let keeper = SeatKeeper::new(Arc::clone(&tokens), &session);
            Self { handle: handle(&session), session, keeper, tokens }
        }

        fn join(&mut self) -> Admitted {
            let player = self.session.join("").expect("a free seat");
            let mut admitted = self.keeper.admit(&self.handle, player);
            admitted.seat.take_up();
            self.tick();
            admitted
        }

        /// As the network does it.
        fn resume(&mut self, token: &Token) -> Result<Admitted, &'static str> {
            let (seat, proof) = match self.tokens.find(token) {
                Found::Holder(seat, proof) => (seat, proof),
                Found::Ended(Ending::Left) => return Err("left"),
                Found::Ended(Ending::Lost) => return Err("lost"),
                Found::Unknown => return Err("unknown"),
            };
            self.keeper.resume(&mut self.session, seat.player, proof).map_err(|error| match error {
                NotResumed::Superseded => "superseded",
                NotResumed::Ended(_) => "ended",
            })
        }

        /// Reads the news, and steps.
        fn tick(&mut self) -> Vec<SeatChange> {
            let mut letters = crate::session::mailbox::Letters::default();
            self.handle.mailbox.swap(&mut letters);
            for (player, sitting, news) in letters.news.drain(..) {
                self.keeper.hear(&mut self.session, player, sitting, news);
            }
            let input = self.session.begin_tick();
            for change in &input.seat_changes {
                if let SeatChange::Left { player } = change {
                    self.keeper.vacate(*player);
                }
            }
            self.session.finish_tick(&input).expect("no panic");
            input.seat_changes
        }

        fn changes(&mut self) -> Vec<SeatToken> {
            self.keeper.take_changes().collect()
        }
    }

    fn token(admitted: &Admitted) -> Token {
        admitted.token.expect("seats are kept")
    }

    #[test]
    fn each_resume_rotates_the_token_and_the_one_before_is_good_until_the_first_input() {
        let mut table = Table::of(session(GRACE_TICKS));
        let first = table.join();
        let a = token(&first);
        let second = table.resume(&a).expect("it is the newest");
        let b = token(&second);
        // The client has not heard of it: it shows the one before once more.
        let third = table.resume(&a).expect("no input has come yet");
        let c = token(&third);
        assert_eq!(table.resume(&b).unwrap_err(), "unknown");
        third.seat.confirm();
        table.tick();
        assert_eq!(table.resume(&a).unwrap_err(), "unknown");
        table.resume(&c).expect("it is the newest");
        assert!([&first, &second, &third].iter().all(|sitting| sitting.seat.is_displaced()));

        let changes = table.changes();
        let [issued, rotated, again, confirmed, last] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!((issued.previous, confirmed.previous), (None, None));
        assert_eq!((rotated.previous, again.previous), (Some(issued.newest), Some(issued.newest)));
        assert_eq!((confirmed.newest, last.previous), (again.newest, Some(again.newest)));
        assert_eq!(table.changes(), []);
    }

    #[test]
    fn what_a_displaced_sitting_says_is_of_nobody() {
        let mut table = Table::of(session(GRACE_TICKS));
        let mut first = table.join();
        let player = first.seat.seat().player;
        let second = table.resume(&token(&first)).expect("it is the newest");
        assert!(!table.keeper.is_current(player, 0) && table.keeper.is_current(player, second.seat.sitting()));
        first.seat.leave();
        drop(first);
        assert_eq!(table.tick(), []);
        drop(second);
        assert_eq!(table.tick(), [SeatChange::Disconnected { player }]);
    }

    #[test]
    fn a_loss_that_is_told_after_the_resume_it_came_before_is_passed_over() {
        let mut table = Table::of(session(GRACE_TICKS));
        let first = table.join();
        let a = token(&first);
        // The runner reads commands first, and then the news.
        drop(first);
        let second = table.resume(&a).expect("it is the newest");
        assert_eq!(table.tick(), []);
        assert!(!second.seat.is_displaced());
    }

    #[test]
    fn a_token_says_why_its_seat_is_not_kept_any_more() {
        let mut table = Table::of(session(GRACE_TICKS));
        let [lost, mut left] = [(); 2].map(|()| table.join());
        let [a, b] = [&lost, &left].map(token);
        let player = lost.seat.seat().player;
        drop(lost);
        left.seat.leave();
        table.tick();
        assert_eq!(table.resume(&b).unwrap_err(), "left");
        for _ in 1..GRACE_TICKS {
            assert_eq!(table.tick(), []);
        }
        assert_eq!(table.tick(), [SeatChange::Left { player }]);
        assert_eq!(table.resume(&a).unwrap_err(), "lost");
    }

    #[test]
    fn a_player_who_is_leaving_cannot_resume() {
        let mut table = Table::of(session(GRACE_TICKS));
        let mut admitted = table.join();
        let player = admitted.seat.seat().player;
        let target = table.session.tick().0 + 3;
        let input = Input::new(table.session.schema(), 1, target, Vec::new()).expect("valid");
        table.session.input(player, input);
        admitted.seat.leave();
        table.tick();
        assert_eq!(table.resume(&token(&admitted)).unwrap_err(), "ended");
        assert!(!admitted.seat.is_displaced());
    }

    #[test]
    fn who_is_taken_out_has_lost_the_seat_whatever_comes_of_any_sitting() {
        let mut table = Table::of(session(GRACE_TICKS));
        let first = table.join();
        let player = first.seat.seat().player;
        let seat = table.handle.control.seats.get(player).expect("it is taken");
        let ousted = || Ousted { kind: OustedKind::Kicked, text: "for swearing".into() };
        let second = table.resume(&token(&first)).expect("it is the newest");
        // Whoever kicks may have seen an earlier sitting.
        assert!(seat.oust(ousted()) && !seat.oust(ousted()));
        assert_eq!(table.resume(&token(&second)).unwrap_err(), "ended");
        let changes = table.tick();
        assert!(changes.contains(&SeatChange::Left { player }), "{changes:?}");
        assert!(table.handle.control.seats.get(player).is_none());
        assert_eq!(table.resume(&token(&second)).unwrap_err(), "left");
        drop((first, second));
        assert_eq!(table.tick(), []);
    }

    #[test]
    fn without_a_grace_there_are_no_tokens() {
        let mut table = Table::of(session(0));
        assert_eq!(table.join().token, None);
        assert_eq!(table.changes(), []);
    }

    #[test]
    fn tokens_that_were_written_down_are_good_for_the_seats_of_a_restored_session() {
        let mut before = Table::of(session(GRACE_TICKS));
        let [ada, bob, eve] = [(); 3].map(|()| before.join());
        let [a, b, e] = [&ada, &bob, &eve].map(token);
        let bob = before.resume(&b).expect("it is the newest");
        let newest_of_b = token(&bob);
        let written = before.changes();

        // The crash has lost Eve's token, and somebody's is of no seat that there is.
        let stray = SeatToken { player: PlayerId(9), ..written[2] };
        let kept = written.iter().copied().filter(|token| token.player != eve.seat.seat().player).chain([stray]);
        let Table { session, handle, .. } = before;
        let tokens = Arc::<ResumeTokens>::default();
        let mut keeper = SeatKeeper::new(Arc::clone(&tokens), &session);
        let mut session = session;
        keeper.restore(&mut session, &handle, kept);
        let mut after = Table { session, handle, keeper, tokens };

        // Bob may have heard of the newest, or not.
        assert_eq!(after.resume(&e).unwrap_err(), "unknown");
        after.resume(&newest_of_b).expect("it was written down").seat.confirm();
        let ada = after.resume(&a).expect("it was written down");
        after.tick();
        assert_eq!((after.session.seats_taken(), ada.seat.seat().player), (3, PlayerId(1)));
        for _ in 0..=GRACE_TICKS {
            after.tick();
        }
        // Nobody came for the other.
        assert_eq!(after.session.seats_taken(), 1);
        assert_eq!(after.changes().len(), 3);
    }
}
