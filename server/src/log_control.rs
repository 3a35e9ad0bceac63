//! Which log lines are written, changed while the program runs.

use std::fmt;

use tracing_subscriber::{
    EnvFilter, Registry,
    filter::LevelFilter,
    reload::{self, Handle},
};

/// Changes which log lines the program writes, from any thread. The default is that of a program that logs by other means,
/// and cannot.
#[derive(Clone, Default)]
pub struct LogControl(Option<Handle<EnvFilter, Registry>>);

/// Why the filter stays as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogFilterError {
    /// What was asked for is no filter.
    #[error("{wanted:?} is no filter of log lines: {problem}; write it as info, or info,tickwire_server=debug")]
    Filter {
        /// What was asked for.
        wanted: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The program around the server logs by itself.
    #[error("the program around the server writes its log by itself: change the filter there")]
    NotOurs,
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogControl").field(&self.filter()).finish()
    }
}

impl LogControl {
    /// A filter for a subscriber, and what changes it.
    pub(crate) fn of(filter: EnvFilter) -> (reload::Layer<EnvFilter, Registry>, Self) {
        let (layer, handle) = reload::Layer::new(filter);
        (layer, Self(Some(handle)))
    }

    /// Has lines written from now on as `filter` says: a level, or levels by module, as in `info,tickwire_server=debug`.
    ///
    /// # Errors
    /// Where it is no such filter, or the program logs by other means. All stays as it was then.
    pub fn set(&self, filter: &str) -> Result<(), LogFilterError> {
        let parsed = parse(filter)?;
        let handle = self.0.as_ref().ok_or(LogFilterError::NotOurs)?;
        // The subscriber is gone at the program's end alone.
        handle.reload(parsed).map_err(|_| LogFilterError::NotOurs)
    }

    /// Whether another filter than this one is in force; false where the program logs by other means, or it is none.
    pub(crate) fn differs_from(&self, filter: &str) -> bool {
        let wanted = parse(filter).map(|filter| filter.to_string());
        matches!((self.filter(), wanted), (Some(current), Ok(wanted)) if current != wanted)
    }

    /// What lines are written by now; none where the program logs by other means.
    #[must_use]
    pub fn filter(&self) -> Option<String> {
        self.0.as_ref().and_then(|handle| handle.with_current(EnvFilter::to_string).ok())
    }
}

/// Reads a filter.
///
/// # Errors
/// Where it is none.
pub(crate) fn parse(filter: &str) -> Result<EnvFilter, LogFilterError> {
    let wrong = |problem| LogFilterError::Filter { wanted: filter.to_owned(), problem };
    if let Some(problem) = silent_directive(filter) {
        return Err(wrong(problem));
    }
    EnvFilter::try_new(filter).map_err(|error| wrong(error.to_string()))
}

/// What is wrong with a directive that the filter's own syntax allows, and that lets nothing pass: a word that is no level is a
/// module's name to it, of which all lines are written, and of others none.
fn silent_directive(filter: &str) -> Option<String> {
    // Spans may have commas of their own.
    if filter.contains('[') {
        return None;
    }
    if filter.split(',').all(|directive| directive.trim().is_empty()) {
        return Some("it names no level, and would silence the log, as off is for".to_owned());
    }
    filter.split(',').filter(|directive| !directive.is_empty()).find_map(|directive| match directive.split_once('=') {
        None if directive.parse::<LevelFilter>().is_err() => {
            Some(format!("{directive:?} is no level: off, error, warn, info, debug or trace"))
        }
        Some((module, _)) if module.contains('-') => {
            Some(format!("no module is called {module:?}: they are written with _"))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled, subscriber::with_default};
    use tracing_subscriber::{Layer as _, fmt::layer, layer::SubscriberExt as _, registry};

    use super::*;

    #[test]
    fn a_filter_is_changed_while_lines_are_written_and_a_wrong_one_changes_nothing() {
        let (filter, control) = LogControl::of(parse("info").expect("a filter"));
        let subscriber = registry().with(layer().with_writer(std::io::sink).with_filter(filter));
        with_default(subscriber, || {
            assert!(enabled!(Level::INFO) && !enabled!(Level::DEBUG));
            control.set("warn,tickwire_server=debug").expect("a filter");
            assert!(enabled!(Level::DEBUG) && !enabled!(target: "h2", Level::INFO));
            let told = control.set("tickwire_server=loud").expect_err("no filter").to_string();
            assert!(told.starts_with("\"tickwire_server=loud\" is no filter of log lines"), "{told}");
            assert!(enabled!(Level::DEBUG));
            assert_eq!(control.filter().as_deref(), Some("tickwire_server=debug,warn"));
            assert!(control.differs_from("info") && control.differs_from("off"));
            assert!(
                !control.differs_from("warn,tickwire_server=debug") && !control.differs_from("tickwire_server=loud")
            );
        });
    }

    #[test]
    fn what_would_silence_the_log_by_a_slip_is_no_filter() {
        for (filter, problem) in [
            ("", "names no level, and would silence the log, as off is for"),
            (" ,,", "names no level"),
            ("inof", "\"inof\" is no level"),
            ("info;debug", "\"info;debug\" is no level"),
            ("warn,h2", "\"h2\" is no level"),
            ("tickwire-server=debug", "no module is called \"tickwire-server\": they are written with _"),
        ] {
            let told = parse(filter).expect_err("no filter").to_string();
            assert!(told.contains(problem), "{told}");
        }
        for filter in ["off", "INFO", "3", "warn,h2=debug", "info,tickwire_server[connection{peer}]=trace"] {
            parse(filter).expect("a filter");
        }
    }

    #[test]
    fn the_log_of_another_program_is_left_alone() {
        let control = LogControl::default();
        assert!(matches!(control.set("debug"), Err(LogFilterError::NotOurs)));
        assert_eq!((control.filter(), control.differs_from("debug")), (None, false));
    }
}
