//! Log lines, to standard error: never at the cost of who writes them.
//!
//! A thread of its own writes them, so that no tick waits for a terminal, a pipe or a disk that takes nothing; and where
//! nobody reads them any more, the server goes on without.

use std::{
    io::{self, IsTerminal as _},
    sync::{Mutex, OnceLock},
};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, filter::ParseError, reload};

use super::{CliError, options::LogFormat};

/// Which log lines are written: as in `info,tickwire_server=debug`.
pub(super) const VARIABLE: &str = "TICKWIRE_LOG";
/// What is written where nobody says.
pub(super) const DEFAULT: &str = "info";
/// Lines that may wait to be written; more are dropped.
const LINES_MAX: usize = 16 * 1024;

/// Writes what still waits when it is dropped.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Changes which lines are written.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;
static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// Reads which log lines are to be written.
pub(super) fn filter(wanted: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(wanted)
}

/// Which are, where only the environment says.
///
/// # Errors
/// Where it says nothing that can be understood.
pub(super) fn filter_of_environment() -> Result<EnvFilter, CliError> {
    let wanted = std::env::var(VARIABLE).unwrap_or_else(|_| DEFAULT.to_owned());
    filter(&wanted).map_err(|source| CliError::LogFilter { wanted, source })
}

/// Has other log lines written from now on, where they are written at all.
pub(super) fn set(filter: EnvFilter) {
    if let Some(set) = SET_FILTER.get() {
        // An error says that nothing is logged any more.
        let _ = set(filter);
    }
}

/// Has log lines written from now on.
pub(super) fn start(format: LogFormat, filter: EnvFilter) {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).thread_name("tickwire-log").finish(io::stderr());
    let colours = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(writer)
        // It would go to standard error, too, and panic where that is gone.
        .log_internal_errors(false);
    // An error says that the program around the server logs already.
    let (started, set): (_, SetFilter) = match format {
        LogFormat::Text => {
            let log = log.with_target(false).with_filter_reloading();
            let handle = log.reload_handle();
            (log.try_init(), Box::new(move |filter| handle.reload(filter)))
        }
        LogFormat::Json => {
            let log = log.json().with_filter_reloading();
            let handle = log.reload_handle();
            (log.try_init(), Box::new(move |filter| handle.reload(filter)))
        }
    };
    if started.is_ok() {
        *WRITER.lock().expect("no holder of this lock panics") = Some(guard);
        // A program starts it once.
        let _ = SET_FILTER.set(set);
    }
}

/// Writes what waits, for about a second at most; nothing is written after it.
pub(super) fn finish() {
    let guard = WRITER.lock().expect("no holder of this lock panics").take();
    drop(guard);
}
