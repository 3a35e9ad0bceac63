//! Whether a configuration makes sense: what is made in code has met no option that would have said so.

use std::{fmt, num::NonZeroUsize, time::Duration};

use super::{BYTES_PER_SECOND_MIN, ChatLimits, Limits, ServerConfig, Timeouts};

/// The most sessions of a game: each has a world, a recording and three seconds of history of its own.
const SESSIONS_MAX: u32 = 1000;
/// More than any machine has cores for; each costs memory and files.
const THREADS_MAX: usize = 1024;
/// With fewer a Hello may not fit.
pub(crate) const MESSAGE_BYTES_MIN: usize = 256;
pub(crate) const MESSAGE_BYTES_LIMIT: usize = 16 << 20;
/// With fewer the headers of gRPC may not fit.
pub(crate) const HEADER_LIST_BYTES_MIN: u32 = 1024;
pub(crate) const HEADER_LIST_BYTES_LIMIT: u32 = 1 << 20;
/// The most lines, or players, that are kept for one reader.
const CHAT_KEPT_LIMIT: usize = 1 << 16;
/// What is counted from now on by such a time can be counted.
const TIMEOUT_LIMIT: Duration = Duration::from_secs(30 * 24 * 3600);

/// A value that no server can run with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value} {problem}")]
#[non_exhaustive]
pub struct ConfigError {
    /// Its path in [`ServerConfig`].
    pub field: &'static str,
    /// What it is.
    pub value: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

fn check(is_sound: bool, field: &'static str, value: impl fmt::Debug, problem: &str) -> Result<(), ConfigError> {
    if is_sound {
        return Ok(());
    }
    Err(ConfigError { field, value: format!("{value:?}"), problem: problem.to_owned() })
}

impl ServerConfig {
    /// Whether a server can run with it, as far as that can be said without its games, files and threads.
    ///
    /// # Errors
    /// The first field that makes no sense.
    pub fn check(&self) -> Result<(), ConfigError> {
        check(self.sessions <= SESSIONS_MAX, "sessions", self.sessions, "are too many: choose 0 to 1000")?;
        let are_few = |threads: Option<NonZeroUsize>| threads.is_none_or(|threads| threads.get() <= THREADS_MAX);
        const THREADS: &str = "is out of range: choose 1 to 1024";
        let threads = |threads: Option<NonZeroUsize>| threads.map_or(0, NonZeroUsize::get);
        check(are_few(self.network_threads), "network_threads", threads(self.network_threads), THREADS)?;
        check(are_few(self.simulation_threads), "simulation_threads", threads(self.simulation_threads), THREADS)?;
        self.timeouts.check()?;
        self.limits.check()
    }
}

impl Timeouts {
    fn check(&self) -> Result<(), ConfigError> {
        let Self {
            hello,
            request,
            idle,
            admin_idle,
            replay_idle,
            silence,
            unacknowledged,
            grace,
            drain,
            keep_alive,
            stuck,
            recovery,
            disk,
            moderation,
            end,
            close,
        } = *self;
        for (field, time) in [
            ("timeouts.hello", hello),
            ("timeouts.request", request),
            ("timeouts.idle", idle),
            ("timeouts.admin_idle", admin_idle),
            ("timeouts.replay_idle", replay_idle),
            ("timeouts.silence", silence),
            ("timeouts.unacknowledged", unacknowledged),
            ("timeouts.keep_alive", keep_alive),
            ("timeouts.stuck", stuck),
            ("timeouts.recovery", recovery),
            ("timeouts.disk", disk),
            ("timeouts.moderation", moderation),
        ] {
            check(
                !time.is_zero() && time <= TIMEOUT_LIMIT,
                field,
                time,
                "is out of range: choose more than 0, up to 30 days",
            )?;
        }
        // Without any patience at all is a way to end, too.
        for (field, time) in
            [("timeouts.grace", grace), ("timeouts.drain", drain), ("timeouts.end", end), ("timeouts.close", close)]
        {
            check(time <= TIMEOUT_LIMIT, field, time, "is out of range: choose up to 30 days")?;
        }
        Ok(())
    }
}

impl Limits {
    /// Whether they make sense.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (field, count) in [
            ("limits.mailbox_messages_max", self.mailbox_messages_max),
            ("limits.connections_max", self.connections_max),
            ("limits.connections_per_address_max", self.connections_per_address_max),
            ("limits.requests_per_connection_max", self.requests_per_connection_max as usize),
            ("limits.streams_per_connection_max", self.streams_per_connection_max),
            ("limits.listings_max", self.listings_max),
            ("limits.resets_pending_max", self.resets_pending_max),
            ("limits.faulty_streams_max", self.faulty_streams_max),
        ] {
            check(count > 0, field, count, "is out of range: choose 1 or more")?;
        }
        let bytes = self.message_bytes_max;
        let is_sound = (MESSAGE_BYTES_MIN..=MESSAGE_BYTES_LIMIT).contains(&bytes);
        check(is_sound, "limits.message_bytes_max", bytes, "is out of range: choose 256 to 16777216")?;
        let bytes = self.header_list_bytes_max;
        let is_sound = (HEADER_LIST_BYTES_MIN..=HEADER_LIST_BYTES_LIMIT).contains(&bytes);
        check(is_sound, "limits.header_list_bytes_max", bytes, "is out of range: choose 1024 to 1048576")?;
        let burst = self.received_bytes_burst_max;
        check(
            burst.get() as usize >= self.message_bytes_max,
            "limits.received_bytes_burst_max",
            burst,
            &format!("is less than one message may have, message_bytes_max, {}: raise it", self.message_bytes_max),
        )?;
        const FEW: &str = "is too few: choose 4096 or more";
        let (usual, most) = (self.bytes_per_second_default, self.bytes_per_second_max);
        check(most >= BYTES_PER_SECOND_MIN, "limits.bytes_per_second_max", most, FEW)?;
        check(usual >= BYTES_PER_SECOND_MIN, "limits.bytes_per_second_default", usual, FEW)?;
        let problem = format!("is more than bytes_per_second_max, {most}: lower it, or raise that");
        check(usual <= most, "limits.bytes_per_second_default", usual, &problem)?;
        let radius = self.view_radius_max;
        let is_sound = radius.is_finite() && radius > 0.0;
        check(is_sound, "limits.view_radius_max", radius, "is no radius: choose a finite number of metres above 0")?;
        self.chat.check()
    }
}

impl ChatLimits {
    fn check(&self) -> Result<(), ConfigError> {
        for (field, most) in [("limits.chat.chars_max", self.chars_max), ("limits.chat.bytes_max", self.bytes_max)] {
            let is_sound = (1..=MESSAGE_BYTES_LIMIT).contains(&most);
            check(is_sound, field, most, "is out of range: choose 1 to 16777216")?;
        }
        for (field, kept) in [
            ("limits.chat.waiting_max", self.waiting_max.get()),
            ("limits.chat.history_max", self.history_max),
            ("limits.chat.mutes_max", self.mutes_max),
        ] {
            check(kept <= CHAT_KEPT_LIMIT, field, kept, "are too many: choose up to 65536")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn what_servers_begin_with_makes_sense() {
        assert_eq!(ServerConfig::default().check(), Ok(()));
        assert_eq!(
            ServerConfig {
                timeouts: Timeouts { drain: Duration::ZERO, ..Timeouts::default() },
                ..ServerConfig::default()
            }
            .check(),
            Ok(())
        );
    }

    #[test]
    fn the_first_field_that_makes_none_is_named_with_what_to_do() {
        let refused = |change: fn(&mut ServerConfig)| {
            let mut config = ServerConfig::default();
            change(&mut config);
            let error = config.check().expect_err("it makes no sense");
            (error.field, error.value)
        };
        let is = |field, value: &str| (field, value.to_owned());
        assert_eq!(refused(|it| it.sessions = u32::MAX), is("sessions", "4294967295"));
        assert_eq!(refused(|it| it.limits.listings_max = 0), is("limits.listings_max", "0"));
        assert_eq!(refused(|it| it.limits.message_bytes_max = 1), is("limits.message_bytes_max", "1"));
        assert_eq!(
            refused(|it| it.limits.message_bytes_max = 1 << 20),
            is("limits.received_bytes_burst_max", "524288")
        );
        assert_eq!(refused(|it| it.limits.header_list_bytes_max = 100), is("limits.header_list_bytes_max", "100"));
        assert_eq!(refused(|it| it.limits.view_radius_max = f64::INFINITY), is("limits.view_radius_max", "inf"));
        assert_eq!(refused(|it| it.limits.chat.chars_max = 0), is("limits.chat.chars_max", "0"));
        assert_eq!(refused(|it| it.limits.chat.history_max = 70_000), is("limits.chat.history_max", "70000"));
        let much = |it: &mut ServerConfig| it.limits.bytes_per_second_default = NonZeroU32::MAX;
        assert_eq!(refused(much), is("limits.bytes_per_second_default", "4294967295"));
        assert_eq!(refused(|it| it.timeouts.idle = Duration::ZERO), is("timeouts.idle", "0ns"));
        assert_eq!(refused(|it| it.timeouts.grace = Duration::MAX).0, "timeouts.grace");
    }
}
