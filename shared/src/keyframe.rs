//! The canonical state of a session as a keyframe has it: its newest frame, the truth behind it, and the frames that games
//! look back at.

mod form;

use std::sync::Arc;

use crate::{Frame, FrameBuilder, KindId, Past, Roster, Schema, TickRate, Truth, builder::TruthRows, past::Moment};

/// What a [`FrameBuilder`] and a [`Past`] go on from. Taking it costs a copy of the truth; all else is shared.
#[derive(Clone, Debug)]
pub struct FrameState {
    frame: Arc<Frame>,
    truth: Vec<TruthRows>,
    past: Vec<Moment>,
}

/// Bytes that are no [`FrameState`] of a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frames: {what}: {problem}")]
pub struct FrameStateError {
    what: &'static str,
    problem: String,
}

impl FrameState {
    /// That of a session between two ticks.
    #[must_use]
    pub fn of(builder: &FrameBuilder, past: &Past) -> Self {
        Self { frame: Arc::clone(builder.frame()), truth: builder.truth_rows(), past: past.moments() }
    }

    /// About how much memory it takes beside what it shares with frames, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let rows = |rows: &TruthRows| rows.ids.len() * 8 + rows.fine.len() * 12;
        self.truth.iter().map(rows).sum::<usize>() + size_of_val(&*self.past)
    }

    /// The truth at field quanta: what all of the session's [`TruthDelta`](crate::TruthDelta)s add up to.
    #[must_use]
    pub fn truth(&self, schema: &Schema) -> Truth {
        let mut truth = Truth::default();
        for ((kind, definition), rows) in (0..).map(KindId).zip(&schema.kinds).zip(&self.truth) {
            let width = definition.fields.len();
            for (row, &id) in rows.ids.iter().enumerate() {
                let fine = &rows.fine[row * width..(row + 1) * width];
                let values = definition.fields.iter().zip(fine).map(|(field, &fine)| field.coarse(fine)).collect();
                truth.rows.insert((kind, id), values);
            }
        }
        truth
    }

    /// The newest frame.
    #[must_use]
    pub fn frame(&self) -> &Arc<Frame> {
        &self.frame
    }

    /// A builder that goes on from here, under `epoch`.
    #[must_use]
    pub fn builder(&self, schema: &Schema, epoch: u32) -> FrameBuilder {
        let frame = Arc::new(Frame { epoch, ..Frame::clone(&self.frame) });
        FrameBuilder::going_on(schema, frame, &self.truth)
    }

    /// The past of here, for a session that rewinds by up to `rewind_ms` milliseconds.
    #[must_use]
    pub fn past(&self, schema: &Arc<Schema>, rate: TickRate, rewind_ms: u32) -> Past {
        Past::going_on(schema, rate, rewind_ms, &self.past)
    }

    /// In bytes, without the frame's roster. What frames share is there once.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        form::encode(self)
    }

    /// From such bytes, and the roster.
    ///
    /// # Errors
    /// Where they are none of this schema. Whatever they are, they cost no more memory than some dozen times their own.
    pub fn from_bytes(schema: &Schema, roster: Arc<Roster>, bytes: &[u8]) -> Result<Self, FrameStateError> {
        form::decode(schema, roster, bytes)
    }
}
