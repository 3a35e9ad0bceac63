use futures_util::FutureExt as _;
use prost::Message as _;

use super::*;
use crate::session::{
    ChatSeat, ChatTokens, Found,
    testing::{handle, seat, session, vacate},
};

/// A room whose session nobody steps.
struct Scene {
    session: Arc<SessionHandle>,
    tokens: Arc<ChatTokens>,
    limits: ChatLimits,
}

/// Somebody who listens there.
struct Heard {
    listener: Listener,
    reader: Arc<Reader>,
}

impl Scene {
    fn new() -> Self {
        Self { session: handle(&session(9)), tokens: Arc::default(), limits: ChatLimits::default() }
    }

    fn room(&self) -> &Room {
        &self.session.chat
    }

    /// Has somebody sit down, for the first time or anew: who may listen by the token that they get.
    fn sit(&self, seat: &Arc<HeldSeat>) -> Listener {
        let token = ChatSeat::issue(seat, &self.tokens).expect("there is randomness");
        self.room().seat(seat);
        match self.tokens.find(&token) {
            Found::Holder(seat, token) => Listener::Player { seat, token },
            other => panic!("{other:?}"),
        }
    }

    fn enter(&self, listener: &Listener) -> Result<Heard, &'static str> {
        let reader = Arc::<Reader>::default();
        reader.join(&self.room().counters);
        let entered = self.room().enter(&self.session, listener, &reader, 0, &self.limits);
        entered.map(|()| Heard { listener: listener.clone(), reader }).map_err(|refusal| refusal.reason)
    }

    fn join(&self, player: u32) -> (Arc<HeldSeat>, Heard) {
        let seat = seat(&self.session, player);
        let listener = self.sit(&seat);
        (seat, self.enter(&listener).expect("the token is the newest"))
    }

    fn allow(&self, by: &Heard, say: &Say) -> Result<(), Option<Rejection>> {
        self.room().allow(&self.session, by.speaker(), say, &self.limits).map_err(reason)
    }

    fn say(&self, by: &Heard, say: Say) -> Result<(), Option<Rejection>> {
        self.room().say(&self.session, by.speaker(), say, &self.limits).map_err(reason)
    }

    fn sent(&self) -> u64 {
        self.room().counters.sent.load(Ordering::Relaxed)
    }
}

impl Heard {
    fn speaker(&self) -> Speaker<'_> {
        (self.listener.player().expect("a player"), &self.reader)
    }

    /// All that can be read now.
    fn read(&self) -> Vec<Kind> {
        let next = || self.reader.next().now_or_never()??.ok();
        std::iter::from_fn(next)
            .map(|bytes| pb::ChatMessage::decode(bytes).expect("a message"))
            .filter_map(|it| it.kind)
            .collect()
    }

    fn ids(&self) -> Vec<u64> {
        let id = |kind| if let Kind::Line(line) = kind { Some(line.id) } else { None };
        self.read().into_iter().filter_map(id).collect()
    }
}

/// Why something was rejected; `None`: nobody says it any more.
fn reason(unsaid: Unsaid) -> Option<Rejection> {
    match unsaid {
        Unsaid::Rejected(rejected) => Some(rejected.reason),
        Unsaid::Gone => None,
    }
}

fn say(to: To, text: &str) -> Say {
    Say { to, text: text.into(), client_ref: 0 }
}

#[test]
fn a_token_that_gives_way_while_it_is_shown_lets_nobody_in() {
    let scene = Scene::new();
    let seat = seat(&scene.session, 1);
    let stolen = scene.sit(&seat);
    let newest = scene.sit(&seat);
    assert_eq!(scene.enter(&stolen).err(), Some("UNKNOWN_TOKEN"));
    let heard = scene.enter(&newest).expect("it is the newest");
    assert_eq!(scene.enter(&stolen).err(), Some("UNKNOWN_TOKEN"));
    assert!(!heard.reader.has_ended(), "nobody displaces who may listen");
    scene.sit(&seat);
    assert!(heard.reader.has_ended());
    vacate(&seat);
    assert_eq!(scene.enter(&newest).err(), Some("SEAT_ENDED"));
}

#[test]
fn what_is_judged_while_its_sender_gives_way_leaves_or_is_silenced_is_not_said() {
    let scene = Scene::new();
    let (adas, ada) = scene.join(1);
    let (_bobs, bob) = scene.join(2);
    let line = || say(To::Everyone, "hi");
    assert_eq!(scene.allow(&ada, &line()), Ok(()));
    let back = scene.enter(&scene.sit(&adas)).expect("it is the newest");
    assert_eq!(scene.say(&ada, line()), Err(None));
    assert_eq!(scene.allow(&ada, &line()), Err(None));
    let muted = scene.room().mute(ada.speaker(), PlayerId(2), true, &scene.limits);
    assert_eq!(muted.map_err(reason), Err(None), "nor does she change whom the newer stream hears");

    assert_eq!(scene.allow(&back, &line()), Ok(()));
    assert!(scene.room().silence(PlayerId(1), Some(None)));
    assert_eq!(scene.say(&back, line()), Err(Some(Rejection::Silenced)));
    assert!(scene.room().silence(PlayerId(1), None));

    let direct = || say(To::Direct(PlayerId(1)), "psst");
    assert_eq!((scene.allow(&back, &line()), scene.allow(&bob, &direct())), (Ok(()), Ok(())));
    vacate(&adas);
    assert_eq!(scene.say(&back, line()), Err(None));
    assert_eq!(scene.say(&bob, direct()), Err(Some(Rejection::NoSuchPlayer)));
    assert_eq!((scene.sent(), bob.ids()), (0, Vec::new()));
    assert_eq!(scene.say(&bob, line()), Ok(()));
    assert_eq!(bob.ids(), [1]);
}

#[test]
fn a_thousand_listeners_who_do_not_read_are_told_what_they_miss_and_those_who_do_miss_nothing() {
    const LISTENERS: u32 = 1000;
    const LINES: u64 = 100;
    let scene = Scene::new();
    let (_seat, ada) = scene.join(1);
    let others: Vec<_> = (2..=LISTENERS).map(|player| scene.join(player)).collect();
    for id in 1..=LINES {
        assert_eq!(scene.say(&ada, say(To::Everyone, "hi")), Ok(()));
        assert_eq!(ada.ids(), [id]);
    }
    let waiting = scene.limits.waiting_max.get() as u64;
    for (_, other) in &others {
        let read = other.read();
        assert_eq!(read[1], Kind::Dropped(pb::ChatDropped { lines: LINES - waiting }), "behind the welcome");
        assert_eq!(read.len() as u64, 2 + waiting);
    }
    let dropped = scene.room().counters.dropped.load(Ordering::Relaxed);
    assert_eq!(dropped, (LINES - waiting) * u64::from(LISTENERS - 1));
}

#[test]
fn a_welcome_has_as_many_of_the_newest_lines_as_a_client_takes() {
    let mut scene = Scene::new();
    scene.limits.history_max = 5000;
    let (_seat, ada) = scene.join(1);
    let text = "x".repeat(2000);
    for _ in 0..600 {
        assert_eq!(scene.say(&ada, say(To::Everyone, &text)), Ok(()));
    }
    let (_seat, bob) = scene.join(2);
    let read = bob.read();
    let [Kind::Welcome(welcome)] = read.as_slice() else { panic!("no welcome, or more than that: {}", read.len()) };
    let bytes: usize = welcome.history.iter().map(|line| line.encoded_len()).sum();
    assert!((1 << 19..=1 << 20).contains(&bytes), "{bytes}");
    let ids: Vec<u64> = welcome.history.iter().map(|line| line.id).collect();
    assert!(ids.is_sorted() && ids.last() == Some(&600) && ids[0] == 601 - ids.len() as u64, "{ids:?}");
}

#[test]
fn ids_rise_over_epochs_whatever_is_known_of_those_before() {
    let limits = ChatLimits::default();
    let newest = |epoch, said| Room::new(epoch, false, said, &limits).lock().newest_id;
    let record = |id| ChatRecord {
        id,
        tick: tickwire_shared::Tick(1),
        time: SystemTime::UNIX_EPOCH,
        from: None,
        from_name: String::new(),
        to: None,
        team: None,
        text: "hi".into(),
    };
    assert_eq!((newest(0, Vec::new()), newest(0, vec![record(7)])), (0, 7));
    assert_eq!((newest(2, Vec::new()), newest(2, vec![record(7)])), (2 << 32, 2 << 32));
    assert_eq!(newest(2, vec![record((2 << 32) + 9)]), (2 << 32) + 9);
}
