//! The options of limits that few servers need to change, which docs/limits.md explains.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::{OptionsError, layers::Layers};
use crate::config::{HEADER_LIST_BYTES_LIMIT, HEADER_LIST_BYTES_MIN, Limits, MESSAGE_BYTES_LIMIT, MESSAGE_BYTES_MIN};

/// Each message that may wait for a session takes room.
const MAILBOX_MESSAGES_MAX: usize = 1 << 20;
/// Each reset stream that is remembered takes room, and each call that looks at the disk a thread.
const COUNT_MAX: usize = 1 << 16;

/// Flags of `serve` for limits that few servers need to change.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub(super) struct FurtherLimitFlags {
    /// Bytes of one message from a client, 256 to 16777216 [default: 16384]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    message_bytes_max: Option<usize>,
    /// Messages that wait for one session's next tick, 1 to 1048576 [default: 16384]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    mailbox_messages_max: Option<usize>,
    /// HTTP/2's frames per second from one connection [default: 10000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    frames_per_second_max: Option<u32>,
    /// Those of them that carry nothing [default: 1000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    control_frames_per_second_max: Option<u32>,
    /// Bytes of a request's headers, 1024 to 1048576 [default: 8192]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    header_list_bytes_max: Option<u32>,
    /// Streams that a client has reset before they were looked at, 1 to 65536 [default: 20]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_pending_max: Option<usize>,
    /// Streams of one connection that were reset since the client broke a rule, 1 to 65536 [default: 64]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    faulty_streams_max: Option<usize>,
    /// Calls of the server that ask the disk what recordings there are at once, 1 to 65536 [default: 4]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listings_max: Option<usize>,
    /// The farthest that a player sees, in the game's metres, and what those get who do not ask [default: 1000.0]
    #[arg(long, value_name = "METRES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    view_radius_metres_max: Option<f64>,
}

/// The limits that few servers need to change, as they are written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FurtherLimitOptions {
    message_bytes_max: usize,
    mailbox_messages_max: usize,
    frames_per_second_max: u32,
    control_frames_per_second_max: u32,
    header_list_bytes_max: u32,
    resets_pending_max: usize,
    faulty_streams_max: usize,
    listings_max: usize,
    view_radius_metres_max: f64,
}

impl Default for FurtherLimitOptions {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            message_bytes_max: limits.message_bytes_max,
            mailbox_messages_max: limits.mailbox_messages_max,
            frames_per_second_max: limits.frames_per_second_max.get(),
            control_frames_per_second_max: limits.control_frames_per_second_max.get(),
            header_list_bytes_max: limits.header_list_bytes_max,
            resets_pending_max: limits.resets_pending_max,
            faulty_streams_max: limits.faulty_streams_max,
            listings_max: limits.listings_max,
            view_radius_metres_max: limits.view_radius_max,
        }
    }
}

impl FurtherLimitOptions {
    /// What they come to, if they make sense, with all other limits at their defaults.
    pub(super) fn resolve(&self, layers: &Layers) -> Result<Limits, OptionsError> {
        let some = |option, count: u32| {
            let problem = "is too few: choose 1 or more";
            NonZeroU32::new(count).ok_or_else(|| layers.invalid(option, count, problem))
        };
        let count = |option, count: usize| layers.within(option, count, 1..=COUNT_MAX);
        let radius = self.view_radius_metres_max;
        if !(radius.is_finite() && radius > 0.0) {
            let problem = "is no radius: choose a finite number of metres above 0";
            return Err(layers.invalid("view_radius_metres_max", radius, problem));
        }
        let messages = 1..=MAILBOX_MESSAGES_MAX;
        let (message, headers) =
            (MESSAGE_BYTES_MIN..=MESSAGE_BYTES_LIMIT, HEADER_LIST_BYTES_MIN..=HEADER_LIST_BYTES_LIMIT);
        Ok(Limits {
            message_bytes_max: layers.within("message_bytes_max", self.message_bytes_max, message)?,
            mailbox_messages_max: layers.within("mailbox_messages_max", self.mailbox_messages_max, messages)?,
            frames_per_second_max: some("frames_per_second_max", self.frames_per_second_max)?,
            control_frames_per_second_max: some("control_frames_per_second_max", self.control_frames_per_second_max)?,
            header_list_bytes_max: layers.within("header_list_bytes_max", self.header_list_bytes_max, headers)?,
            resets_pending_max: count("resets_pending_max", self.resets_pending_max)?,
            faulty_streams_max: count("faulty_streams_max", self.faulty_streams_max)?,
            listings_max: count("listings_max", self.listings_max)?,
            view_radius_max: radius,
            ..Limits::default()
        })
    }
}
