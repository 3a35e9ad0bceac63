//! Sessions as they change, for whoever watches: what is told is the difference from what was told before, made when there is
//! room for it, so that nothing piles up before a slow reader.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use tickwire_proto::v1 as pb;
use tokio::{sync::OwnedSemaphorePermit, time::sleep};
use tonic::{Code, Status};

use super::{
    describe::{describe, state_of},
    filter::Filter,
};
use crate::{
    server::{Phase, Shared},
    session::{SessionHandle, SessionName},
    status::Refusal,
};

/// How often somebody is told at most.
const INTERVAL: Duration = Duration::from_millis(250);
/// Sessions in one message: of 2 KiB each at most.
const PART_MAX: usize = 200;
/// When somebody who finds no room among those who watch may try again.
const FULL_RETRY: Duration = Duration::from_secs(5);

pub(super) type Changes = Pin<Box<dyn Stream<Item = Result<pb::WatchSessionsResponse, Status>> + Send>>;

/// What changes of a session tell, as far as they are worth a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    /// Which session of the name.
    place: u32,
    state: pb::SessionState,
    players: u32,
    reserved: u32,
}

struct Watcher {
    shared: Arc<Shared>,
    filter: Filter,
    told: BTreeMap<SessionName, Look>,
    /// What is still to be told of the last look.
    parts: Vec<pb::WatchSessionsResponse>,
    is_first: bool,
    news: tokio::sync::watch::Receiver<()>,
    phase: tokio::sync::watch::Receiver<Phase>,
    has_ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// Tells of sessions until the caller has enough, or the server ends.
pub(super) fn watch(shared: &Arc<Shared>, request: pb::WatchSessionsRequest) -> Result<Changes, Refusal> {
    let filter = Filter::new(request.game, request.filter)?;
    let permit = Arc::clone(&shared.session_watchers).try_acquire_owned().map_err(|_| {
        let message = "as many as may watch the sessions of this server at once";
        Refusal::new(Code::ResourceExhausted, "WATCHERS", message).retry_after(FULL_RETRY)
    })?;
    let watcher = Watcher {
        shared: Arc::clone(shared),
        filter,
        told: BTreeMap::new(),
        parts: Vec::new(),
        is_first: true,
        news: shared.registry.news().subscribe(),
        phase: shared.phase.subscribe(),
        has_ended: false,
        _permit: permit,
    };
    Ok(Box::pin(stream::unfold(watcher, |mut watcher| async move {
        let next = watcher.next().await?;
        Some((next, watcher))
    })))
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<pb::WatchSessionsResponse, Status>> {
        loop {
            if let Some(part) = self.parts.pop() {
                return Some(Ok(part));
            }
            if self.has_ended {
                return None;
            }
            if !self.is_first {
                let news = async {
                    // What comes in the meantime is one.
                    sleep(INTERVAL).await;
                    // The registry outlives who asks.
                    let _ = self.news.changed().await;
                };
                tokio::select! {
                    () = news => {}
                    // Sessions are draining now: that is to be told.
                    _ = self.phase.changed() => {}
                }
            }
            if *self.phase.borrow_and_update() == Phase::Ending {
                self.has_ended = true;
                return Some(Err(Refusal::shutting_down().into()));
            }
            self.news.mark_unchanged();
            self.look();
        }
    }

    fn look(&mut self) {
        let listing = self.shared.registry.all();
        let seen: BTreeMap<&SessionName, (&Arc<SessionHandle>, Look)> = listing
            .after(None)
            .filter(|session| session.ending().is_none() && self.filter.takes(&self.shared, session))
            .map(|session| (&session.name, (session, self.look_at(session))))
            .collect();
        let before = std::mem::take(&mut self.told);
        let mut changes = Vec::new();
        for (name, (session, look)) in &seen {
            match before.get(*name) {
                Some(told) if told == look => {}
                Some(told) if told.place == look.place => {
                    changes.push(Change::Updated(describe(&self.shared, session)));
                }
                Some(_) => {
                    changes.push(Change::Removed(name.to_string()));
                    changes.push(Change::Added(describe(&self.shared, session)));
                }
                None => changes.push(Change::Added(describe(&self.shared, session))),
            }
        }
        let gone = before.keys().filter(|name| !seen.contains_key(name));
        changes.extend(gone.map(|name| Change::Removed(name.to_string())));
        self.told = seen.iter().map(|(name, (_, look))| ((*name).clone(), *look)).collect();
        self.parts = into_parts(changes, std::mem::take(&mut self.is_first));
        // The first is taken from the end.
        self.parts.reverse();
    }

    fn look_at(&self, session: &SessionHandle) -> Look {
        Look {
            place: session.place,
            state: state_of(&self.shared, session),
            players: session.seats_taken(),
            reserved: session.seats.counts().reserved,
        }
    }
}

enum Change {
    Added(pb::Session),
    Updated(pb::Session),
    Removed(String),
}

/// Changes in messages of a bounded size; the first of all comes even if there is nothing to tell.
fn into_parts(changes: Vec<Change>, is_first: bool) -> Vec<pb::WatchSessionsResponse> {
    let mut parts = Vec::new();
    let mut part = pb::WatchSessionsResponse { reset: is_first, ..pb::WatchSessionsResponse::default() };
    let mut count = 0;
    for change in changes {
        if count == PART_MAX {
            part.more = true;
            parts.push(std::mem::take(&mut part));
            count = 0;
        }
        match change {
            // A name that another session has now: what was removed is to be read first.
            Change::Added(session) if part.removed.contains(&session.name) => {
                part.more = true;
                parts.push(std::mem::take(&mut part));
                count = 0;
                part.added.push(session);
            }
            Change::Added(session) => part.added.push(session),
            Change::Updated(session) => part.updated.push(session),
            Change::Removed(name) => part.removed.push(name),
        }
        count += 1;
    }
    if count > 0 || part.reset {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(name: &str) -> pb::Session {
        pb::Session { name: name.into(), ..pb::Session::default() }
    }

    #[test]
    fn many_changes_come_in_parts_of_which_the_last_says_so() {
        let changes = (0..2 * PART_MAX + 1).map(|i| Change::Added(session(&i.to_string()))).collect();
        let parts = into_parts(changes, true);
        let shape: Vec<_> = parts.iter().map(|part| (part.reset, part.added.len(), part.more)).collect();
        assert_eq!(shape, [(true, PART_MAX, true), (false, PART_MAX, true), (false, 1, false)]);
        assert_eq!(into_parts(Vec::new(), false), []);
        assert_eq!(into_parts(Vec::new(), true).len(), 1);
    }

    #[test]
    fn a_session_that_took_anothers_name_is_added_after_the_other_is_removed() {
        let parts = into_parts(vec![Change::Removed("a".into()), Change::Added(session("a"))], false);
        assert_eq!(
            parts.iter().map(|part| (part.removed.len(), part.added.len())).collect::<Vec<_>>(),
            [(1, 0), (0, 1)]
        );
    }
}
