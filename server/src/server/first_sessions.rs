//! The sessions that a server begins with: those that go on, and new ones.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tickwire_shared::Game;

use super::RunError;
use crate::{
    recovery::RecoveredSessions,
    session::{
        Host, Origin, Place, RecoveredSession, SessionHandle, SessionName, SessionOrder, SessionShape, SessionTerms,
        StartError,
    },
};

/// The games to host, in the order in which they were asked for.
pub(super) fn choose_games(names: &[String], games: &[Arc<dyn Game>]) -> Result<Vec<Arc<dyn Game>>, RunError> {
    if let Some(twice) = first_repeated(games.iter().map(|game| game.name())) {
        return Err(RunError::GameTwice(twice.to_owned()));
    }
    if let Some(twice) = first_repeated(names.iter().map(String::as_str)) {
        return Err(RunError::GameTwice(twice.to_owned()));
    }
    if names.is_empty() {
        return games.first().map(|game| vec![Arc::clone(game)]).ok_or(RunError::NoGames);
    }
    let find = |name: &String| {
        games.iter().find(|game| game.name() == name).map(Arc::clone).ok_or_else(|| {
            let known: Vec<&str> = games.iter().map(|game| game.name()).collect();
            RunError::UnknownGame { name: name.clone(), known: known.join(", ") }
        })
    };
    names.iter().map(find).collect()
}

fn first_repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = std::collections::BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

/// Starts sessions: those that go on, and new ones until there are as many of each game as are asked for.
pub(super) fn start_sessions(
    stop: &AtomicBool,
    games: &[Arc<dyn Game>],
    recovered: RecoveredSessions,
    host: &Host,
) -> Result<(), RunError> {
    let config = &host.config;
    let mut seeds = config.seed.unwrap_or_else(random_seed)..;
    let mut planned = plan_sessions(games, config.sessions, recovered);
    let count = u32::try_from(planned.len()).unwrap_or(u32::MAX);
    for (place, planned) in (0..).zip(&mut planned) {
        planned.place = place;
        planned.seed = seeds.next().expect("as good as endless");
    }
    // New ones first: where one of them cannot be had, those that go on are left for the next start.
    planned.sort_by_key(|planned| planned.recovered.is_some());
    for Planned { game, name, recovered, place, seed } in planned {
        if stop.load(Ordering::Relaxed) {
            return Err(RunError::Stopped);
        }
        let terms = recovered.as_ref().and_then(|recovered| recovered.terms.clone());
        let order = SessionOrder {
            name: name.clone(),
            origin: recovered.map_or(Origin::Seed(seed), |recovered| Origin::Recovered(Box::new(recovered))),
            shape: SessionShape::of(config),
            terms: terms.unwrap_or_else(|| SessionTerms::of_start(config)),
            place: Place::Of(place, count),
        };
        let publish = |session: &Arc<SessionHandle>| host.registry.insert(session);
        host.start(order, game, publish).map_err(|error| match error {
            StartError::Session(source) => RunError::Session { name: name.to_string(), source },
            StartError::Recording { directory, source } => RunError::Recording { directory, source },
            StartError::Thread(error) => RunError::Threads(error),
        })?;
    }
    Ok(())
}

/// A session to be started.
struct Planned {
    game: Arc<dyn Game>,
    name: SessionName,
    recovered: Option<RecoveredSession>,
    place: u32,
    seed: u64,
}

/// The sessions of each game, in order of their numbers; then those that go on and that callers had created.
fn plan_sessions(games: &[Arc<dyn Game>], count: u32, mut recovered: RecoveredSessions) -> Vec<Planned> {
    let mut planned = Vec::new();
    let mut created: RecoveredSessions =
        recovered.extract_if(.., |_, session: &mut RecoveredSession| session.terms.is_some()).collect();
    for game in games {
        let is_of_game = |_: &SessionName, session: &mut RecoveredSession| session.session.game().name() == game.name();
        let mut sessions: BTreeMap<(u32, SessionName), Option<RecoveredSession>> = recovered
            .extract_if(.., is_of_game)
            .map(|(name, session)| ((name.number(game.name()).unwrap_or(u32::MAX), name), Some(session)))
            .collect();
        for number in 1.. {
            if sessions.len() >= count as usize {
                break;
            }
            let name = SessionName::numbered(game.name(), number);
            if !created.contains_key(&name) {
                sessions.entry((number, name)).or_insert(None);
            }
        }
        let plan = |((_, name), recovered)| Planned { game: Arc::clone(game), name, recovered, place: 0, seed: 0 };
        planned.extend(sessions.into_iter().map(plan));
    }
    for game in games {
        let is_of_game = |_: &SessionName, session: &mut RecoveredSession| session.session.game().name() == game.name();
        let plan =
            |(name, recovered)| Planned { game: Arc::clone(game), name, recovered: Some(recovered), place: 0, seed: 0 };
        planned.extend(created.extract_if(.., is_of_game).map(plan));
    }
    planned
}

/// Another number at each start, from where the standard library takes the keys of its hash maps.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    RandomState::new().build_hasher().finish()
}
