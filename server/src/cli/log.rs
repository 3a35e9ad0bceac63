//! Log lines, to standard error: never at the cost of who writes them. And traces, to a collector.
//!
//! A thread of its own writes lines, so that no tick waits for a terminal, a pipe or a disk that takes nothing; and where
//! nobody reads them any more, the server goes on without.

use std::{
    io::{self, IsTerminal as _},
    sync::Mutex,
};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{Layer, Registry, fmt, layer::SubscriberExt as _, registry, util::SubscriberInitExt as _};

use super::{CliError, options::LogFormat, traces::Traces};
use crate::{LogControl, log_control};

/// Which log lines are written: as in `info,tickwire_server=debug`.
pub(super) const VARIABLE: &str = "TICKWIRE_LOG";
/// What is written where nobody says.
pub(super) const DEFAULT: &str = "info";
/// Lines that may wait to be written; more are dropped.
const LINES_MAX: usize = 16 * 1024;

/// Writes what still waits when it is dropped.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Which lines are written, where only the environment says.
pub(super) fn filter_of_environment() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| DEFAULT.to_owned())
}

/// Has log lines written from now on, those that `filter` lets through, and traces sent, where they are to be.
///
/// # Errors
/// Where the filter is none.
pub(super) fn start(format: LogFormat, filter: &str, traces: Option<&Traces>) -> Result<LogControl, CliError> {
    let (filter, control) = LogControl::of(log_control::parse(filter)?);
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).thread_name("tickwire-log").finish(io::stderr());
    let colours = io::stderr().is_terminal();
    let lines = fmt::layer()
        .with_ansi(colours)
        .with_writer(writer)
        // It would go to standard error, too, and panic where that is gone.
        .log_internal_errors(false);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => lines.with_target(false).with_filter(filter).boxed(),
        // All of the spans that a line is in are listed, the innermost among them.
        LogFormat::Json => lines.json().with_current_span(false).with_filter(filter).boxed(),
    };
    // An error says that the program around the server logs already.
    if registry().with(lines).with(traces.map(Traces::layer)).try_init().is_err() {
        return Ok(LogControl::default());
    }
    *WRITER.lock().expect("no holder of this lock panics") = Some(guard);
    Ok(control)
}

/// Writes what waits, for about a second at most; nothing is written after it.
pub(super) fn finish() {
    let guard = WRITER.lock().expect("no holder of this lock panics").take();
    drop(guard);
}
