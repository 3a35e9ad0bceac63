//! The options of how long the server waits for what, which docs/limits.md explains.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{OptionsError, layers::Layers};
use crate::config::Timeouts;

/// The longest that anything is waited for: a day.
const SECONDS_MAX: u32 = 24 * 60 * 60;
/// A server that ends waits for some of these.
const END_SECONDS_MAX: u32 = 60;

/// Flags of `serve` for how long it waits for what.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub(super) struct TimeFlags {
    /// Seconds for which a player's seat is kept whose connection is lost, 0 to 86400 [default: 30]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_seconds: Option<u32>,
    /// Seconds that a connection has for its first request, and a stream for its Hello, 1 to 86400 [default: 5]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    hello_seconds: Option<u32>,
    /// Seconds that a call has for its first message, and a message for its last byte, 1 to 86400 [default: 10]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    request_seconds: Option<u32>,
    /// Seconds without a request after which a connection is asked to go, 1 to 86400 [default: 300]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_seconds: Option<u32>,
    /// Seconds without a request after which a connection of an admin, or of who asks for metrics, is closed, 1 to 86400
    /// [default: 60]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_idle_seconds: Option<u32>,
    /// Seconds that a spectator in the past may do nothing, paused or at the end, 1 to 86400 [default: 600]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_idle_seconds: Option<u32>,
    /// Seconds without a byte of a player's stream after which the player is gone, 1 to 86400; clients say something each half
    /// second [default: 8]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    silence_seconds: Option<u32>,
    /// Seconds for which a client may read or acknowledge nothing, 1 to 86400 [default: 8]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    unacknowledged_seconds: Option<u32>,
    /// Seconds after which a quiet connection is pinged, and those that it has to answer, 1 to 86400 [default: 5]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive_seconds: Option<u32>,
    /// Seconds that a peer has to take the end of its stream or connection, 0 to 60 [default: 1]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    end_seconds: Option<u32>,
    /// Seconds that players have to come to an end after SIGINT, as by Ctrl-C, 0 to 86400 [default: 1]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    interrupt_seconds: Option<u32>,
    /// Seconds of one tick after which a session counts as stuck, and takes nobody in, 1 to 86400 [default: 1]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    stuck_seconds: Option<u32>,
    /// Seconds in which a session of a killed server must get through as many ticks as in a match, or it is set aside, 1 to 86400
    /// [default: 60]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_seconds: Option<u32>,
    /// Seconds of a match for which its recording waits for a disk that has stalled or fails, 1 to 86400 [default: 10]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_seconds: Option<u32>,
}

/// How long the server waits for what, as it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TimeOptions {
    grace_seconds: u32,
    hello_seconds: u32,
    request_seconds: u32,
    idle_seconds: u32,
    admin_idle_seconds: u32,
    replay_idle_seconds: u32,
    silence_seconds: u32,
    unacknowledged_seconds: u32,
    keep_alive_seconds: u32,
    end_seconds: u32,
    interrupt_seconds: u32,
    stuck_seconds: u32,
    recovery_seconds: u32,
    disk_seconds: u32,
}

impl Default for TimeOptions {
    fn default() -> Self {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).expect("no default is years");
        let times = Timeouts::default();
        Self {
            grace_seconds: seconds(times.grace),
            hello_seconds: seconds(times.hello),
            request_seconds: seconds(times.request),
            idle_seconds: seconds(times.idle),
            admin_idle_seconds: seconds(times.admin_idle),
            replay_idle_seconds: seconds(times.replay_idle),
            silence_seconds: seconds(times.silence),
            unacknowledged_seconds: seconds(times.unacknowledged),
            keep_alive_seconds: seconds(times.keep_alive),
            end_seconds: seconds(times.end),
            interrupt_seconds: seconds(times.drain),
            stuck_seconds: seconds(times.stuck),
            recovery_seconds: seconds(times.recovery),
            disk_seconds: seconds(times.disk),
        }
    }
}

impl TimeOptions {
    /// What they come to, if they make sense. What lets lines of chat pass is no option, and neither is its time; nor is by
    /// when a server has ended at the latest.
    pub(super) fn resolve(&self, layers: &Layers) -> Result<Timeouts, OptionsError> {
        let seconds = |option, seconds: u32, least, most| {
            layers.within(option, seconds, least..=most).map(|seconds| Duration::from_secs(seconds.into()))
        };
        let some = |option, count| seconds(option, count, 1, SECONDS_MAX);
        let any = |option, count| seconds(option, count, 0, SECONDS_MAX);
        Ok(Timeouts {
            grace: any("grace_seconds", self.grace_seconds)?,
            hello: some("hello_seconds", self.hello_seconds)?,
            request: some("request_seconds", self.request_seconds)?,
            idle: some("idle_seconds", self.idle_seconds)?,
            admin_idle: some("admin_idle_seconds", self.admin_idle_seconds)?,
            replay_idle: some("replay_idle_seconds", self.replay_idle_seconds)?,
            silence: some("silence_seconds", self.silence_seconds)?,
            unacknowledged: some("unacknowledged_seconds", self.unacknowledged_seconds)?,
            keep_alive: some("keep_alive_seconds", self.keep_alive_seconds)?,
            end: seconds("end_seconds", self.end_seconds, 0, END_SECONDS_MAX)?,
            drain: any("interrupt_seconds", self.interrupt_seconds)?,
            stuck: some("stuck_seconds", self.stuck_seconds)?,
            recovery: some("recovery_seconds", self.recovery_seconds)?,
            disk: some("disk_seconds", self.disk_seconds)?,
            ..Timeouts::default()
        })
    }
}
