//! What a game, the server and clients share: ticks, ids, the schema, quantization, prediction, frames, inputs, and the
//! [`Game`] trait. No network, no clock, no protobuf; nothing here assumes how many dimensions a game has.
//!
//! Start at [`Game`]; the crate `tickwire-arena` is a whole one.

#![forbid(unsafe_code)]

mod binding;
mod builder;
pub mod delta;
mod event;
mod frame;
mod game;
mod hash;
mod id;
mod input;
mod keyframe;
mod past;
mod predict;
mod predictor;
mod quantize;
mod ramp;
mod rng;
mod roster;
mod saves;
mod schema;
mod seen;
mod tick;
mod truth;
mod world;

pub use binding::KindBinding;
pub use builder::{CELLS_MAX, EntityWriter, FrameBuilder, SeatExtras, TickExtras, TruthDifference};
pub use event::{Audience, Event, GameEvent};
pub use frame::{
    CellFrame, CellState, CellTable, Column, Columns, Frame, OwnerRow, OwnerValues, Places, Reading, SeatFrame,
};
pub use game::{Blueprint, Definition, Game, KindDefinition, Settings, SettingsError, Systems, schema_of};
pub use hash::{Digest, Murmur3};
pub use id::{CellId, CellKey, EventId, InputId, KindId, NetId, NumberMap, Place, PlayerId};
pub use input::{HOLD_REPEAT_MS, INPUT_LEAD_MS_MAX, INPUTS_PER_MESSAGE_MAX, Inputs, PlayerInput, Provenance};
pub use keyframe::{FrameState, FrameStateError};
pub use past::{Past, PastEntity, PastView, REWIND_MS_DEFAULT, REWIND_MS_MAX};
pub use predict::{Action, Predict, Predicted};
pub use predictor::{ANCHOR_AGE_MAX, Anchor, Line};
pub use quantize::{Quantity, coarse};
pub use ramp::{Motion, RAMP_MAX, RAMP_STEPS, Ramp, Ramped};
pub use rng::Randomness;
pub use roster::{NAME_CHARS_MAX, PlayerStatus, Roster, RosterRow};
pub use saves::{ChangeTimes, LoadError, SaveError, SavedTicks, Saves};
pub use schema::{
    ENTRIES_MAX, EventField, EventKind, Field, InputField, InputMode, Kind, MASK_BITS_MAX, Predictor, Schema,
    SchemaError, SchemaHash, SchemaParts, Setting, Visibility,
};
pub use seen::{SEEN_STEPS, Seen, SeenError};
pub use tick::{Tick, TickRate, TickRateError};
pub use truth::{KindTruth, Truth, TruthDelta, TruthError};
pub use world::{Clock, Emitted, MatchEnd, NetIds, Outbox, Owner, RESULT_JSON_BYTES_MAX, ScoreId, Scores, Seat, Seats};
