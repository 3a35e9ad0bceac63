//! A recording's first and last words.

use std::{sync::Arc, time::SystemTime};

use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::{REWIND_MS_DEFAULT, Schema, Tick, TickRate};
use tickwire_simulation::{Session, SessionConfig, SessionLimits};
use tickwire_wire::schema;

use crate::{FORMAT_VERSION, RecordingError, record};

/// What a session was created with: all that replay needs beside the game and the ticks' inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingMeta {
    /// The session's name, such as `sessions/arena-1`.
    pub session: String,
    /// The version of Tickwire that wrote the file.
    pub tickwire_version: String,
    /// What the session's game replicates.
    pub schema: Arc<Schema>,
    /// In the schema's order, in quanta.
    pub settings: Vec<i32>,
    /// What all random numbers derive from.
    pub seed: u64,
    /// Ticks per second.
    pub tick_rate: TickRate,
    /// How often the session has been recovered.
    pub epoch: u32,
    /// When the session was created.
    pub created: SystemTime,
    /// The most seats.
    pub max_players: u32,
    /// How far the session rewinds at most, in milliseconds.
    pub rewind_ms: u32,
    /// Which part of the session's recording this is.
    pub segment: Segment,
    /// On what terms it was created while its server ran; `None`: it was started with its server. They decide no tick, and
    /// one is a secret, which only the file has that grows: the code by which the session is joined.
    pub terms: Option<pb::SessionTerms>,
}

/// Which part of a session's recording a file is. Each is a recording by itself: one behind the first begins with a keyframe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// From 1.
    pub number: u32,
    /// The first tick that there can be in it.
    pub first_tick: Tick,
    /// Behind the first one: the name of the one before, without directory and ending.
    pub predecessor: Option<String>,
}

impl Default for Segment {
    /// The only one, or the first.
    fn default() -> Self {
        Self::FIRST
    }
}

impl Segment {
    /// The only one, or the first.
    pub const FIRST: Self = Self { number: 1, first_tick: Tick(1), predecessor: None };

    /// The tick that it goes on from: 0, or that of the keyframe that it begins with.
    #[must_use]
    pub const fn origin(&self) -> Tick {
        Tick(self.first_tick.0 - 1)
    }
}

/// How a recording ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// The last tick begun. Of a recording that was [limited](EndReason::Limited), the last one that it has.
    pub tick: Tick,
    /// Ticks that could not be written.
    pub ticks_missing: u64,
}

/// Why a recording ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The server was shut down.
    Shutdown,
    /// The match was over, or somebody ended the session.
    Ended {
        /// What it ended with, as JSON; empty: nothing.
        result_json: String,
    },
    /// The game panicked at the last tick.
    Failed {
        /// The panic's message.
        message: String,
    },
    /// The server was killed, or went down, at the last tick, which may have no result; or the rest of the file is lost:
    /// then [`repair`](crate::repair) wrote this. Or the game hung in the last tick, and the server ended without it.
    Killed,
    /// The recording had reached its limit of size, and is whole up to there; the session went on.
    Limited,
    /// The disk did not take the rest.
    Stopped {
        /// Why.
        problem: String,
    },
    /// It is whole, and the session goes on in the next [segment](Segment).
    Continued,
}

impl EndReason {
    /// As `ended`: what logs and exports call it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Ended { .. } => "ended",
            Self::Failed { .. } => "failed",
            Self::Killed => "killed",
            Self::Limited => "limited",
            Self::Stopped { .. } => "stopped",
            Self::Continued => "continued",
        }
    }
}

impl RecordingMeta {
    /// Of a session.
    #[must_use]
    pub fn of(session: &Session, name: &str, created: SystemTime) -> Self {
        let SessionConfig { seed, tick_rate, epoch, limits, .. } = *session.config();
        Self {
            session: name.to_owned(),
            tickwire_version: env!("CARGO_PKG_VERSION").to_owned(),
            schema: Arc::clone(session.schema()),
            settings: session.settings().values().to_vec(),
            seed,
            tick_rate,
            epoch,
            created,
            max_players: limits.max_players,
            rewind_ms: limits.rewind_ms,
            segment: Segment::FIRST,
            terms: None,
        }
    }

    /// As a file has it that no session goes on from: without the code by which that is joined, which is whoever's who has the
    /// file.
    pub(crate) fn finished(&self) -> Self {
        let mut meta = self.clone();
        if let Some(terms) = &mut meta.terms {
            terms.join_code = 0;
        }
        meta
    }

    /// What a session that replays the recording is created with.
    #[must_use]
    pub fn session_config(&self) -> SessionConfig {
        SessionConfig {
            settings: self.settings.clone(),
            named_settings: Vec::new(),
            seed: self.seed,
            tick_rate: self.tick_rate,
            epoch: self.epoch,
            limits: SessionLimits {
                max_players: self.max_players,
                rewind_ms: self.rewind_ms,
                ..SessionLimits::at(self.tick_rate)
            },
        }
    }

    /// The header as it stands in a file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // What a recording of one file has said all along.
        let (segment, first_tick) = match &self.segment {
            Segment { number: 1, first_tick: Tick(1), .. } => (0, 0),
            Segment { number, first_tick, .. } => (*number, first_tick.0),
        };
        record::with_checksum(&pb::RecordingHeader {
            format_version: FORMAT_VERSION,
            session: self.session.clone(),
            tickwire_version: self.tickwire_version.clone(),
            schema: Some(schema::to_proto(&self.schema)),
            settings: self.settings.clone(),
            seed: self.seed,
            tick_rate: self.tick_rate.hz(),
            epoch: self.epoch,
            create_time: Some(self.created.into()),
            max_players: self.max_players,
            rewind_ms: Some(self.rewind_ms),
            segment,
            first_tick,
            predecessor: self.segment.predecessor.clone().unwrap_or_default(),
            terms: self.terms.clone(),
            crc32: 0,
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordingError> {
        let wrong = |reason: &dyn std::fmt::Display| RecordingError::Header(reason.to_string());
        let header = pb::RecordingHeader::decode(bytes).map_err(|error| wrong(&error))?;
        match header.format_version {
            2..=FORMAT_VERSION => record::check(bytes).map_err(|error| wrong(&error))?,
            // It has no checksum; where there is one, it is of a later version, and damaged.
            1 if header.crc32 == 0 => {}
            1 => return Err(wrong(&"format_version: damaged")),
            found => return Err(RecordingError::FormatVersion { found }),
        }
        let message = header.schema.as_ref().ok_or_else(|| wrong(&"schema: missing"))?;
        let schema = Arc::new(schema::from_proto(message).map_err(|error| wrong(&error))?);
        let tick_rate = TickRate::new(header.tick_rate).map_err(|error| wrong(&error))?;
        let created = header.create_time.ok_or_else(|| wrong(&"create_time: missing"))?;
        let created = SystemTime::try_from(created).map_err(|error| wrong(&error))?;
        let pb::RecordingHeader { session, tickwire_version, settings, seed, epoch, max_players, terms, .. } = header;
        let first_tick = Tick(header.first_tick.max(1));
        if first_tick > Tick::MAX {
            return Err(wrong(&format_args!("first_tick: {first_tick} is beyond 2^53")));
        }
        let predecessor = Some(header.predecessor).filter(|name| !name.is_empty());
        let segment = Segment { number: header.segment.max(1), first_tick, predecessor };
        // Nothing of an older recording says what anybody saw.
        let rewind_ms = header.rewind_ms.unwrap_or(REWIND_MS_DEFAULT);
        Ok(Self {
            session,
            tickwire_version,
            schema,
            settings,
            seed,
            tick_rate,
            epoch,
            created,
            max_players,
            rewind_ms,
            segment,
            terms,
        })
    }
}

impl End {
    /// The end as it stands in a file of so many whole ticks.
    pub(crate) fn encode(&self, ticks: u64) -> Vec<u8> {
        let mut result_json = String::new();
        let (reason, message) = match &self.reason {
            EndReason::Shutdown => (pb::RecordingEndReason::Shutdown, String::new()),
            EndReason::Ended { result_json: result } => {
                result_json.clone_from(result);
                (pb::RecordingEndReason::Ended, String::new())
            }
            EndReason::Failed { message } => (pb::RecordingEndReason::Failed, message.clone()),
            EndReason::Killed => (pb::RecordingEndReason::Killed, String::new()),
            EndReason::Limited => (pb::RecordingEndReason::Limited, String::new()),
            EndReason::Stopped { problem } => (pb::RecordingEndReason::Stopped, problem.clone()),
            EndReason::Continued => (pb::RecordingEndReason::Continued, String::new()),
        };
        let (reason, tick, ticks_missing) = (reason as i32, self.tick.0, self.ticks_missing);
        record::with_checksum(&pb::RecordingEnd { reason, tick, message, ticks_missing, ticks, result_json, crc32: 0 })
    }

    /// The end, and how many whole ticks it says that the file has: `None` in a file of the first version.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, Option<u64>), String> {
        let end = pb::RecordingEnd::decode(bytes).map_err(|error| error.to_string())?;
        let ticks = match record::check(bytes) {
            Ok(()) => Some(end.ticks),
            // One of the first version has neither.
            Err(_) if end.crc32 == 0 && end.ticks == 0 => None,
            Err(error) => return Err(error),
        };
        let reason = match end.reason() {
            pb::RecordingEndReason::Unspecified => return Err(format!("end.reason: {} is unknown", end.reason)),
            pb::RecordingEndReason::Shutdown => EndReason::Shutdown,
            pb::RecordingEndReason::Ended => EndReason::Ended { result_json: end.result_json },
            pb::RecordingEndReason::Failed => EndReason::Failed { message: end.message },
            pb::RecordingEndReason::Killed => EndReason::Killed,
            pb::RecordingEndReason::Limited => EndReason::Limited,
            pb::RecordingEndReason::Stopped => EndReason::Stopped { problem: end.message },
            pb::RecordingEndReason::Continued => EndReason::Continued,
        };
        Ok((Self { reason, tick: Tick(end.tick), ticks_missing: end.ticks_missing }, ticks))
    }
}
