//! All that a session goes on from, so that it need not be played again from its first tick.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tickwire_shared::{
    Digest, Frame, FrameState, FrameStateError, LoadError, NetId, PlayerId, PlayerInput, Saves, Schema, SchemaHash,
    Tick, Truth,
};

use crate::{SessionError, intake::SavedIntake, simulation::SavedSimulation};

/// What of a keyframe is the engine's, as a number that rises with it.
const ENGINE_LAYOUT: u64 = 1;

/// A session between two ticks, all of it: what the game saves, canonical state and the truth behind it, the frames that
/// games look back at, seats, roster and scores, and the inputs that wait for their ticks.
///
/// A session that is [restored](crate::Session::restore) from it goes on bit for bit as the one that it was
/// [taken](crate::Session::keyframe) of. To take one costs the simulation a copy of the world's numbers; frames are shared, and
/// are put into [bytes](Self::to_bytes) later, by whoever needs those.
#[derive(Clone, Debug)]
pub struct Keyframe {
    schema: SchemaHash,
    layout: u64,
    simulation: SavedSimulation,
    intake: SavedIntake,
    frames: FrameState,
}

/// Bytes that are no keyframe of a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyframeError {
    /// Cut off, or something else.
    #[error("keyframe: {0}")]
    Form(String),
    /// Canonical state that contradicts itself, or the schema.
    #[error("keyframe: {0}")]
    Frames(#[from] FrameStateError),
}

/// Why a session does not go on from a keyframe. There may be an older one, and there is always the first tick.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RestoreError {
    /// There could not even be a new session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The game has no [`saves`](tickwire_shared::Game::saves).
    #[error("game {game:?} saves nothing, so that no keyframe is of any use to it; implement Game::saves")]
    NothingSaved {
        /// The game's name.
        game: String,
    },
    /// Of another game, or another version of it.
    #[error("the keyframe is of schema {found}, the game's is {expected}")]
    Schema {
        /// The game's.
        expected: SchemaHash,
        /// The keyframe's.
        found: SchemaHash,
    },
    /// Of a game that saved other things, or in another order; or of another version of the engine.
    #[error("the keyframe's layout is {found:016x}, that of this build of the game {expected:016x}")]
    Layout {
        /// What the game saves here.
        expected: u64,
        /// What it saved there.
        found: u64,
    },
    /// The game's part.
    #[error("the world cannot be loaded: {0}")]
    World(LoadError),
    /// The engine's part contradicts itself.
    #[error("the keyframe contradicts itself: {0}")]
    State(String),
    /// The restored world is not the one whose truth the keyframe has.
    #[error("the restored world differs: kind {kind}, entity {net_id}{}; does Game::saves leave something out?", told(.field))]
    Truth {
        /// The entity's kind.
        kind: String,
        /// Which entity.
        net_id: NetId,
        /// The field, with its value in the keyframe and in the restored world, in quanta of `quantum / 2^owner_shift`;
        /// `None`: only one of the two has the entity.
        field: Option<(String, i32, i32)>,
    },
    /// What is not replicated is not what it was.
    #[error(
        "the restored world's hidden state differs at tick {tick}: state hash {kept:016x} in the keyframe, \
         {rebuilt:016x} restored; does Game::saves leave something out?"
    )]
    Hash {
        /// The keyframe's tick.
        tick: Tick,
        /// What it was.
        kept: u64,
        /// What it is.
        rebuilt: u64,
    },
}

fn told(field: &Option<(String, i32, i32)>) -> String {
    match field {
        Some((name, kept, rebuilt)) => format!(", field {name}: {kept} in the keyframe, {rebuilt} restored"),
        None => ", which only one of them has".to_owned(),
    }
}

#[derive(Serialize, Deserialize)]
struct Form<S, I, F> {
    layout: u64,
    simulation: S,
    intake: I,
    frames: F,
}

impl Keyframe {
    /// The tick after which it stands.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.frames.frame().tick
    }

    /// The truth, and the game's hidden state, in one number: that of the tick's
    /// [result](crate::TickResult::state_hash).
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        self.frames.frame().state_hash
    }

    /// What it is made of, in one number: only a build with the same one can use it.
    #[must_use]
    pub const fn layout(&self) -> u64 {
        self.layout
    }

    /// The truth at field quanta at its tick: what all results' [`TruthDelta`](tickwire_shared::TruthDelta)s up to there add
    /// up to.
    #[must_use]
    pub fn truth(&self, schema: &Schema) -> Truth {
        self.frames.truth(schema)
    }

    /// The newest frame.
    #[must_use]
    pub fn frame(&self) -> &Arc<Frame> {
        self.frames.frame()
    }

    /// What the inputs of everybody who sits counted as in its tick.
    pub fn inputs(&self) -> impl Iterator<Item = (PlayerId, &PlayerInput)> {
        self.simulation.inputs()
    }

    /// About how much memory it takes beside what it shares with frames, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.simulation.memory_bytes() + self.frames.memory_bytes()
    }

    /// In bytes, which compress well.
    ///
    /// # Panics
    /// Never: plain numbers, names and lists of them fit.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { schema: _, layout, simulation, intake, frames } = self;
        let form = Form { layout: *layout, simulation, intake, frames: frames.to_bytes() };
        postcard::to_stdvec(&form).expect("plain numbers, names and lists of them go into memory")
    }

    /// From such bytes, of a session of a schema. Whatever they are, they cost no more memory than some dozen times their own.
    ///
    /// # Errors
    /// Where they are none.
    pub fn from_bytes(schema: &Schema, bytes: &[u8]) -> Result<Self, KeyframeError> {
        type Owned = Form<SavedSimulation, SavedIntake, Vec<u8>>;
        let form: Owned = postcard::from_bytes(bytes).map_err(|error| KeyframeError::Form(error.to_string()))?;
        let Form { layout, simulation, intake, frames } = form;
        let roster = simulation.roster().map_err(KeyframeError::Form)?;
        let frames = FrameState::from_bytes(schema, roster, &frames)?;
        Ok(Self { schema: schema.hash(), layout, simulation, intake, frames })
    }

    pub(crate) fn new(
        (schema, saves): (&Schema, &Saves),
        (simulation, frames): (SavedSimulation, FrameState),
        intake: SavedIntake,
    ) -> Self {
        Self { schema: schema.hash(), layout: layout(saves), simulation, intake, frames }
    }

    /// Of which schema it is.
    #[must_use]
    pub(crate) const fn schema(&self) -> SchemaHash {
        self.schema
    }

    pub(crate) fn parts(&self) -> (&SavedSimulation, &SavedIntake, &FrameState) {
        (&self.simulation, &self.intake, &self.frames)
    }
}

pub(crate) fn layout(saves: &Saves) -> u64 {
    let mut digest = Digest::default();
    digest.write(ENGINE_LAYOUT);
    digest.write(saves.layout());
    digest.finish()
}
