//! What commands print: the only place that writes to the terminal.

use std::{
    error::Error,
    fmt,
    io::{self, Write as _},
};

use super::CliError;

/// Where a command's result goes that is not of lines.
pub(super) fn pipe() -> impl io::Write {
    io::stdout().lock()
}

/// Prints a line of a command's result.
pub(super) fn line(text: impl fmt::Display) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// Tells something beside a command's result.
pub(super) fn note(text: impl fmt::Display) {
    // Where standard error is gone, nobody can be told.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints what went wrong.
pub(super) fn complain(error: &CliError) {
    note(format_args!("error: {error}"));
}

/// Whether a command failed only because nobody reads its output any more, as with `head`.
pub(super) fn is_broken_pipe(error: &CliError) -> bool {
    let mut error: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = error {
        if cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return true;
        }
        error = cause.source();
    }
    false
}
