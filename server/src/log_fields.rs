//! Numbers of log lines: in JSON they are numbers, too, with their unit in the field's name.

use std::time::Duration;

/// For a field `…_ms`.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// For a field `…_us`.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
