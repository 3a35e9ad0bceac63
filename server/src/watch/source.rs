//! What can be watched: a session that runs, or a recording.

use std::sync::Arc;

use tickwire_proto::v1 as pb;
use tickwire_replication::ReplicationConfig;
use tickwire_shared::{Schema, Tick, TickRate};
use tickwire_wire::schema;

use super::tape::{Extent, Tape};
use crate::session::SessionHandle;

/// What a spectator watches.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Session(Arc<SessionHandle>),
    Recording(Arc<Tape>),
}

/// Opens a tape, which may take its time.
pub(super) type Opener = Box<dyn FnOnce() -> Result<Tape, String> + Send>;

impl Source {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Session(session) => session.name.to_string(),
            Self::Recording(tape) => tape.meta().session.clone(),
        }
    }

    pub(super) fn schema(&self) -> &Arc<Schema> {
        match self {
            Self::Session(session) => &session.schema,
            Self::Recording(tape) => &tape.meta().schema,
        }
    }

    pub(super) fn schema_message(&self) -> pb::Schema {
        match self {
            Self::Session(session) => session.schema_message.clone(),
            Self::Recording(_) => schema::to_proto(self.schema()),
        }
    }

    pub(super) fn settings(&self) -> Vec<i32> {
        match self {
            Self::Session(session) => session.settings.clone(),
            Self::Recording(tape) => tape.meta().settings.clone(),
        }
    }

    pub(super) fn tick_rate(&self) -> TickRate {
        match self {
            Self::Session(session) => session.tick_rate,
            Self::Recording(tape) => tape.meta().tick_rate,
        }
    }

    pub(super) fn epoch(&self) -> u32 {
        match self {
            Self::Session(session) => session.epoch,
            Self::Recording(tape) => tape.meta().epoch,
        }
    }

    pub(super) fn replication(&self) -> ReplicationConfig {
        ReplicationConfig::new(self.tick_rate())
    }

    /// The session that runs, where it is one.
    pub(super) fn session(&self) -> Option<&Arc<SessionHandle>> {
        match self {
            Self::Session(session) => Some(session),
            Self::Recording(_) => None,
        }
    }

    /// The newest tick that may be seen by now.
    pub(super) fn newest(&self) -> Tick {
        match self {
            Self::Session(session) => session.live_tick(),
            Self::Recording(tape) => tape.last(),
        }
    }

    /// The first tick that there is; of a session that runs the first that there ever was.
    pub(super) fn first(&self) -> Tick {
        match self {
            Self::Session(_) => Tick(1),
            Self::Recording(tape) => tape.first(),
        }
    }

    /// Whether there is a past to go to.
    pub(super) fn has_past(&self) -> bool {
        match self {
            Self::Session(session) => session.recording.path().is_some(),
            Self::Recording(_) => true,
        }
    }

    /// What opens the past; `None` where there is none.
    pub(super) fn opener(&self) -> Option<Opener> {
        match self {
            Self::Recording(tape) => {
                let tape = Tape::clone(tape);
                Some(Box::new(|| Ok(tape)))
            }
            Self::Session(session) => {
                let path = session.recording.path()?;
                let session = Arc::clone(session);
                Some(Box::new(move || {
                    let extent = Extent::Live(Arc::clone(&session));
                    Tape::of_session(extent, &session, &path).map_err(|error| error.to_string())
                }))
            }
        }
    }
}
