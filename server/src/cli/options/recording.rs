//! The options of what is recorded of matches, and for how long that is kept.

use std::{num::NonZeroU64, time::Duration};

use serde::{Deserialize, Serialize};
use tickwire_recording::{Durability, Retention};

use super::{OptionsError, layers::Layers};
use crate::{cli::values::OnOff, config::RecordingConfig};

/// A recording that ends with less is of no use: its header alone takes some KiB.
const RECORDING_BYTES_MIN: u64 = 65_536;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Flags of `serve` for recordings.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub(super) struct RecordingFlags {
    /// Whether matches are recorded [default: on]
    #[arg(long, value_name = "ON|OFF")]
    #[serde(skip_serializing_if = "Option::is_none")]
    recordings: Option<OnOff>,
    /// Whether matches go on that a killed server has left unfinished [default: on]
    #[arg(long, value_name = "ON|OFF")]
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery: Option<OnOff>,
    /// Whether recordings have what players say to each other, too [default: on]
    #[arg(long, value_name = "ON|OFF")]
    #[serde(skip_serializing_if = "Option::is_none")]
    record_chat: Option<OnOff>,
    /// What a recording survives: none; a killed server (flush); a loss of power, too, but for a second (sync)
    /// [default: sync]
    #[arg(long, value_name = "HOW")]
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<DurabilityOption>,
    /// Bytes of a running session's recording at which it ends, where it cannot go on in another file, 65536 or more; 0: any
    /// [default: 4294967296]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    recording_bytes_max: Option<u64>,
    /// Bytes of a running session's recording from which on it goes on in another file, at the next keyframe, 65536 or more;
    /// 0: any [default: 268435456]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_bytes: Option<u64>,
    /// Minutes of a match after which its recording goes on in another file; 0: any [default: 60]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_minutes: Option<u32>,
    /// Seconds of a match between two keyframes of its recording, at which replays can begin; 0: none [default: 10]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    keyframe_seconds: Option<u32>,
    /// Bytes of recordings to keep: the oldest finished ones are deleted, and what grows ends there; 65536 or more; 0: any
    /// [default: 17179869184]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    retain_bytes: Option<u64>,
    /// Finished recordings to keep, the newest; 0: any number [default: 10000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    retain_count: Option<usize>,
    /// Days for which finished recordings are kept; 0: for ever [default: 0]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    retain_days: Option<u32>,
}

/// What a recording survives, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DurabilityOption {
    None,
    Flush,
    Sync,
}

impl From<DurabilityOption> for Durability {
    fn from(option: DurabilityOption) -> Self {
        match option {
            DurabilityOption::None => Self::None,
            DurabilityOption::Flush => Self::Flush,
            DurabilityOption::Sync => Self::Sync,
        }
    }
}

/// How matches are recorded, as it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RecordingOptions {
    recordings: OnOff,
    recovery: OnOff,
    record_chat: OnOff,
    durability: DurabilityOption,
    recording_bytes_max: u64,
    segment_bytes: u64,
    segment_minutes: u32,
    keyframe_seconds: u32,
    retain_bytes: u64,
    retain_count: usize,
    retain_days: u32,
}

impl Default for RecordingOptions {
    fn default() -> Self {
        let config = RecordingConfig::default();
        Self {
            recordings: OnOff::On,
            recovery: OnOff::On,
            record_chat: OnOff::On,
            durability: DurabilityOption::Sync,
            recording_bytes_max: config.bytes_max,
            segment_bytes: config.segment_bytes.map_or(0, NonZeroU64::get),
            segment_minutes: 60,
            keyframe_seconds: 10,
            retain_bytes: config.retention.bytes_max,
            retain_count: config.retention.count_max,
            retain_days: 0,
        }
    }
}

impl RecordingOptions {
    /// Whether matches are recorded.
    pub(super) fn is_on(&self) -> bool {
        self.recordings == OnOff::On
    }

    /// What they come to, if they make sense.
    pub(super) fn resolve(&self, layers: &Layers) -> Result<RecordingConfig, OptionsError> {
        let recording_bytes_max = match self.recording_bytes_max {
            0 => u64::MAX,
            bytes @ RECORDING_BYTES_MIN.. => bytes,
            bytes => {
                let problem = format!("are too few: choose {RECORDING_BYTES_MIN} or more, or 0 for no limit");
                return Err(layers.invalid("recording_bytes_max", bytes, problem));
            }
        };
        for (name, bytes) in [("segment_bytes", self.segment_bytes), ("retain_bytes", self.retain_bytes)] {
            if (1..RECORDING_BYTES_MIN).contains(&bytes) {
                let problem = format!("are too few: choose {RECORDING_BYTES_MIN} or more, or 0 for no limit");
                return Err(layers.invalid(name, bytes, problem));
            }
        }
        Ok(RecordingConfig {
            durability: self.durability.into(),
            bytes_max: recording_bytes_max,
            segment_bytes: NonZeroU64::new(self.segment_bytes),
            segment_time: Duration::from_secs(60 * u64::from(self.segment_minutes)),
            keyframe_interval: Duration::from_secs(self.keyframe_seconds.into()),
            retention: Retention {
                bytes_max: if self.retain_bytes == 0 { u64::MAX } else { self.retain_bytes },
                count_max: if self.retain_count == 0 { usize::MAX } else { self.retain_count },
                age_max: (self.retain_days > 0).then(|| DAY * self.retain_days),
            },
            recovery: self.recovery == OnOff::On,
            chat: self.record_chat == OnOff::On,
        })
    }
}
