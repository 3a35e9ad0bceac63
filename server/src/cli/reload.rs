//! Reads the options anew while the server runs: limits and log level apply, of everything else it is said what differs, if a
//! server could be started with it.

use std::sync::{Arc, Mutex};

use serde_json::{Map, Value as Json};
use tickwire_shared::Game;
use tracing::warn;

use super::{
    options::{Layers, RELOADABLE, ServeFlags},
    soundness,
};
use crate::{
    LogControl, log_control,
    reload::{Control, Staged},
};

/// Options with their values, as `--print-config` has them.
type Values = Map<String, Json>;

/// How options differ.
#[derive(Debug, PartialEq, Eq)]
struct Differences {
    /// In what can be changed while the server runs.
    changed: Vec<String>,
    /// In the rest.
    needs_restart: Vec<String>,
}

/// What reads the options anew, with the flags and the games that the server was started with. `running` is what it runs with.
pub(super) fn of_options(
    flags: ServeFlags,
    games: Vec<Arc<dyn Game>>,
    running: Values,
    control: Control,
    log: LogControl,
) -> impl Fn() -> Result<Staged, String> + Send + Sync + 'static {
    let running = Arc::new(Mutex::new(running));
    move || {
        let in_words = |error: &dyn std::fmt::Display| error.to_string();
        let layers = Layers::new(&flags).map_err(|error| in_words(&error))?;
        let config = layers.resolve().map_err(|error| in_words(&error))?;
        log_control::parse(&config.log).map_err(|error| in_words(&error))?;
        let values = layers.values().map_err(|error| in_words(&error))?;
        let limits = config.server.limits.clone().with_those_that_stay(&control.limits());
        limits.check().map_err(|error| in_words(&error))?;
        let known = running.lock().expect("no holder of this lock panics").clone();
        let Differences { mut changed, needs_restart } = differences(&known, &values, &layers);
        let is_new = known.get("log") != values.get("log");
        let was_set = log.differs_from(&config.log);
        if let Some(current) = log.filter().filter(|_| was_set && !is_new) {
            let (wanted, origin) = (&config.log, layers.origin("log"));
            changed.push(format!("log: {current:?}, set since, is {wanted:?} again (from {origin})"));
        }
        if !needs_restart.is_empty() {
            // Nobody is told to restart a server that would not start. Where nothing asks for it, a disk or a game that fails
            // by now does not keep limits from changing.
            soundness::check(&layers, &config, &games).map_err(|error| in_words(&error))?;
        }
        let (running, control, log) = (Arc::clone(&running), control.clone(), log.clone());
        let apply = move || {
            if let Err(error) = control.set_limits(limits) {
                // They have been checked.
                warn!(%error, "limits stay as they were");
            }
            // Also over what an admin has set since.
            if (is_new || was_set)
                && let Err(error) = log.set(&config.log)
            {
                warn!(%error, "the log's filter stays as it was");
            }
            let mut running = running.lock().expect("no holder of this lock panics");
            for option in RELOADABLE {
                if let Some(value) = values.get(*option) {
                    running.insert((*option).to_owned(), value.clone());
                }
            }
        };
        Ok(Staged::new(changed, apply).needs_restart(needs_restart))
    }
}

fn differences(running: &Values, values: &Values, layers: &Layers) -> Differences {
    let mut differences = Differences { changed: Vec::new(), needs_restart: Vec::new() };
    for (option, value) in values {
        let before = running.get(option).unwrap_or(&Json::Null);
        if before == value {
            continue;
        }
        let line = format!("{option}: {before} is {value} now (from {})", layers.origin(option));
        let lines = if RELOADABLE.contains(&option.as_str()) {
            &mut differences.changed
        } else {
            &mut differences.needs_restart
        };
        lines.push(line);
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_anew_is_an_option_and_differs_in_one_place_or_the_other() {
        let layers = Layers::new(&ServeFlags::default()).expect("nothing is wrong with none");
        let values = layers.values().expect("defaults are sound");
        assert!(RELOADABLE.iter().all(|option| values.contains_key(*option)));
        let mut before = values.clone();
        before.insert("connections_max".into(), 9.into());
        before.insert("tick_rate".into(), 20.into());
        let Differences { changed, needs_restart } = differences(&before, &values, &layers);
        assert_eq!(changed, ["connections_max: 9 is 8192 now (from default)"]);
        assert_eq!(needs_restart, ["tick_rate: 20 is 60 now (from default)"]);
    }
}
