//! Where a recording begins: at the session's start, or, behind its first segment, at a keyframe.

use std::sync::Arc;

use tickwire_shared::{Game, Tick, Truth};
use tickwire_simulation::{Keyframe, Session, SessionConfig, SystemWatch};

use crate::{
    RecordedKeyframe, Recording, RecordingError, ReplayError,
    format::Topic,
    reader::Record,
    replay::{check_game, check_schema},
};

/// What a recording's first tick follows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin(Option<Box<(RecordedKeyframe, Keyframe)>>);

impl Origin {
    /// That of a recording: the keyframe that it begins with is read and opened.
    pub(crate) fn of(recording: &Recording) -> Result<Self, ReplayError> {
        let tick = recording.origin_tick();
        if tick == Tick::ZERO {
            return Ok(Self::default());
        }
        let recorded = first_keyframe(recording)?;
        let recorded = recorded.filter(|keyframe| keyframe.tick == tick).ok_or(ReplayError::NoOrigin { tick })?;
        let keyframe = recorded.open(&recording.meta().schema)?;
        Ok(Self(Some(Box::new((recorded, keyframe)))))
    }

    /// As it stands in the recording; `None`: it begins with the session.
    pub(crate) fn recorded(&self) -> Option<&RecordedKeyframe> {
        self.0.as_deref().map(|(recorded, _)| recorded)
    }

    /// What the recording begins with; `None`: with the session.
    pub(crate) fn keyframe(&self) -> Option<&Keyframe> {
        self.0.as_deref().map(|(_, keyframe)| keyframe)
    }

    /// The truth before the first tick.
    pub(crate) fn truth(&self, recording: &Recording) -> Truth {
        self.keyframe().map(|keyframe| keyframe.truth(&recording.meta().schema)).unwrap_or_default()
    }

    /// A session as the recording's was before its first tick, of the same schema.
    pub(crate) fn session(
        &self,
        recording: &Recording,
        game: &Arc<dyn Game>,
        config: SessionConfig,
        watch: Option<&SystemWatch>,
    ) -> Result<Session, ReplayError> {
        check_game(recording, game)?;
        let game = Arc::clone(game);
        let session = match (self.keyframe(), watch) {
            (None, None) => Session::new(game, config)?,
            (None, Some(watch)) => Session::watched(game, config, watch)?,
            (Some(keyframe), None) => Session::restore(game, config, keyframe)?,
            (Some(keyframe), Some(watch)) => Session::restore_watched(game, config, keyframe, watch)?,
        };
        check_schema(&recording.meta().schema, session.schema())?;
        Ok(session)
    }
}

/// The keyframe right behind the header.
fn first_keyframe(recording: &Recording) -> Result<Option<RecordedKeyframe>, RecordingError> {
    for record in recording.records()? {
        match record? {
            Record { topic: Topic::Header | Topic::SeatToken, .. } => {}
            // Its checksum is right: those that are damaged are passed over.
            Record { topic: Topic::Keyframe, data, .. } => return Ok(RecordedKeyframe::decode(&data).ok()),
            _ => break,
        }
    }
    Ok(None)
}
