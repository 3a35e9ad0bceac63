//! What streams are told beside their match: of the server, and of their session. Of each kind the newest counts.

use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

use tickwire_proto::v1 as pb;

/// What there is to tell of a server, or of a session.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    /// How often anything was posted: most who look find nothing new, and take no lock.
    number: AtomicU64,
    newest: Mutex<Newest>,
}

#[derive(Debug, Default)]
struct Newest {
    state: Posted,
    /// Whether who comes later is to be told of the state, too.
    lasts: bool,
    text: Posted,
}

#[derive(Debug, Default)]
struct Posted {
    /// Its number; 0 before the first.
    number: u64,
    notice: Option<pb::Notice>,
}

/// What a stream has been told: of its server, and of its session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    server: u64,
    session: u64,
}

impl Notices {
    /// Tells of a state that lasts, in the place of the one before. Who comes later is told, too.
    pub(crate) fn begin(&self, notice: pb::Notice) {
        self.post(|newest, posted| (newest.state, newest.lasts) = (posted, true), notice);
    }

    /// Tells that such a state is over. Who comes later has nothing to hear of it.
    pub(crate) fn end(&self, notice: pb::Notice) {
        self.post(|newest, posted| (newest.state, newest.lasts) = (posted, false), notice);
    }

    /// Says something to all who are there.
    pub(crate) fn say(&self, text: String) {
        let notice = pb::Notice { kind: pb::NoticeKind::Announcement.into(), text, ..pb::Notice::default() };
        self.post(|newest, posted| newest.text = posted, notice);
    }

    fn post(&self, place: impl FnOnce(&mut Newest, Posted), mut notice: pb::Notice) {
        let mut newest = self.lock();
        let number = self.number.load(Ordering::Relaxed) + 1;
        notice.number = number;
        place(&mut newest, Posted { number, notice: Some(notice) });
        self.number.store(number, Ordering::Release);
    }

    /// From where somebody who comes now is told.
    fn newcomer(&self) -> u64 {
        let newest = self.lock();
        let number = self.number.load(Ordering::Relaxed);
        if newest.lasts { newest.state.number - 1 } else { number }
    }

    fn has_news(&self, seen: u64) -> bool {
        self.number.load(Ordering::Acquire) != seen
    }

    /// The oldest of what is new since `seen`, which goes on to there.
    fn next(&self, seen: &mut u64) -> Option<pb::Notice> {
        let newest = self.lock();
        let posted = [&newest.state, &newest.text].into_iter().filter(|posted| posted.number > *seen);
        let Some(posted) = posted.min_by_key(|posted| posted.number) else {
            // What was between has been replaced.
            *seen = self.number.load(Ordering::Relaxed);
            return None;
        };
        *seen = posted.number;
        posted.notice.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().expect("no holder of this lock panics")
    }
}

impl Told {
    /// Somebody who comes now.
    pub(crate) fn newcomer(server: &Notices, session: Option<&Notices>) -> Self {
        Self { server: server.newcomer(), session: session.map_or(0, Notices::newcomer) }
    }

    /// Whether there may be something to tell.
    pub(crate) fn is_behind(&self, server: &Notices, session: Option<&Notices>) -> bool {
        server.has_news(self.server) || session.is_some_and(|session| session.has_news(self.session))
    }

    /// What is to be told next.
    pub(crate) fn next(&mut self, server: &Notices, session: Option<&Notices>) -> Option<pb::Notice> {
        server.next(&mut self.server).or_else(|| session.and_then(|session| session.next(&mut self.session)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(kind: pb::NoticeKind) -> pb::Notice {
        pb::Notice { kind: kind.into(), ..pb::Notice::default() }
    }

    fn told(told: &mut Told, server: &Notices, session: &Notices) -> Vec<pb::NoticeKind> {
        let mut kinds = Vec::new();
        while told.is_behind(server, Some(session)) {
            kinds.extend(told.next(server, Some(session)).map(|notice| notice.kind()));
        }
        kinds
    }

    #[test]
    fn each_is_told_once_and_a_text_takes_no_states_place() {
        use pb::NoticeKind::{Announcement, Draining, Paused};
        let (server, session) = (Notices::default(), Notices::default());
        let mut stream = Told::newcomer(&server, Some(&session));
        assert_eq!(told(&mut stream, &server, &session), []);
        session.begin(notice(Paused));
        session.say("a".into());
        session.say("b".into());
        server.begin(notice(Draining));
        assert_eq!(told(&mut stream, &server, &session), [Draining, Paused, Announcement]);
        assert_eq!(told(&mut stream, &server, &session), []);
    }

    #[test]
    fn who_comes_later_is_told_what_lasts_and_nothing_that_is_over() {
        use pb::NoticeKind::{Announcement, Paused, Resumed};
        let (server, session) = (Notices::default(), Notices::default());
        session.say("a".into());
        session.begin(notice(Paused));
        let mut during = Told::newcomer(&server, Some(&session));
        assert_eq!(told(&mut during, &server, &session), [Paused]);
        session.end(notice(Resumed));
        let mut after = Told::newcomer(&server, Some(&session));
        assert_eq!(told(&mut during, &server, &session), [Resumed]);
        session.say("b".into());
        assert_eq!(told(&mut after, &server, &session), [Announcement]);
    }

    #[test]
    fn of_what_nobody_read_in_time_the_newest_is_told() {
        use pb::NoticeKind::{Paused, Resumed};
        let (server, session) = (Notices::default(), Notices::default());
        let mut stream = Told::newcomer(&server, Some(&session));
        for _ in 0..3 {
            session.begin(notice(Paused));
            session.end(notice(Resumed));
        }
        assert_eq!(told(&mut stream, &server, &session), [Resumed]);
    }
}
