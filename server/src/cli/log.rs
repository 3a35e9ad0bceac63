//! Log lines, to standard error: never at the cost of who writes them.
//!
//! A thread of its own writes them, so that no tick waits for a terminal, a pipe or a disk that takes nothing; and where
//! nobody reads them any more, the server goes on without.

use std::{
    io::{self, IsTerminal as _},
    sync::Mutex,
};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::{CliError, options::LogFormat};

/// Which log lines are written: as in `info,tickwire_server=debug`.
pub(super) const VARIABLE: &str = "TICKWIRE_LOG";
/// What is written where the variable says nothing.
const DEFAULT: &str = "info";
/// Lines that may wait to be written; more are dropped.
const LINES_MAX: usize = 16 * 1024;

/// Writes what still waits when it is dropped.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Has log lines written from now on.
///
/// # Errors
/// Where the variable says nothing that can be understood.
pub(super) fn start(format: LogFormat) -> Result<(), CliError> {
    let wanted = std::env::var(VARIABLE).unwrap_or_else(|_| DEFAULT.to_owned());
    let filter = EnvFilter::try_new(&wanted).map_err(|source| CliError::LogFilter { wanted, source })?;
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
    let started = match format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    if started.is_ok() {
        *WRITER.lock().expect("no holder of this lock panics") = Some(guard);
    }
    Ok(())
}

/// Writes what waits, for about a second at most; nothing is written after it.
pub(super) fn finish() {
    let guard = WRITER.lock().expect("no holder of this lock panics").take();
    drop(guard);
}
