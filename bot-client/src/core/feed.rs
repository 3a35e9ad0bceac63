//! What happens as a game loop wants to hear of it: when the player sees it happen.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tickwire_shared::{Action, EventKind, PlayerId, Schema, Tick};
use tickwire_wire::MirrorEvent;

use super::{Core, Event, GaveUp};

/// Something for a game loop.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// The player has a seat: from now on there is something to draw, and inputs are sent.
    Joined(PlayerId),
    /// Something happened in the game.
    Happened(Happening),
    /// The player does something at a tick to come, by the game's prediction: show it at once.
    Predicted {
        /// The tick at which the server will do it.
        tick: Tick,
        /// What.
        action: Action,
    },
    /// The server will close its streams in this time.
    Draining(Duration),
    /// The server goes on after all.
    DrainCancelled,
    /// Whoever runs the server has something to say to the player.
    Announcement(String),
    /// The session stands still.
    Paused,
    /// The session goes on.
    Resumed,
    /// The connection is lost; the client is taking the seat back. Meanwhile what is shown stands still, and what the player does
    /// is not sent.
    ConnectionLost,
    /// The seat is taken back: the player goes on where they were.
    Reconnected {
        /// The server has been through a crash meanwhile: its ticks may have gone back, and all that was held is discarded.
        epoch_changed: bool,
    },
    /// The seat is not asked for any longer: the end follows.
    GaveUp(GaveUp),
}

/// An event of the game.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// When it happened.
    pub tick: Tick,
    /// Whether it is for this player alone.
    pub own: bool,
    schema: Arc<Schema>,
    event: tickwire_shared::Event,
}

/// Turns what a [`Core`] tells into what a game loop wants to hear, and when.
///
/// What happens to others is told when the display clock has reached its tick, so that a bang is heard when the shot is seen.
/// What is for the player alone, and all else, is told at once; where nothing is drawn, so is everything.
#[derive(Debug, Default)]
pub struct Feed {
    ready: VecDeque<ClientEvent>,
    /// In order of arrival.
    unseen: VecDeque<Happening>,
}

impl Feed {
    /// Takes in what the core told.
    pub fn take(&mut self, event: Event, core: &Core) {
        match event {
            Event::Snapshot(applied) => {
                for MirrorEvent { received, own } in applied.events {
                    let schema = Arc::clone(core.schema());
                    let happening = Happening { tick: received.tick, own, schema, event: received.event };
                    match own {
                        true => self.ready.push_back(ClientEvent::Happened(happening)),
                        false => self.unseen.push_back(happening),
                    }
                }
            }
            Event::Predicted { tick, action } => self.ready.push_back(ClientEvent::Predicted { tick, action }),
            Event::Draining(time) => self.ready.push_back(ClientEvent::Draining(time)),
            Event::DrainCancelled => self.ready.push_back(ClientEvent::DrainCancelled),
            Event::Announcement(text) => self.ready.push_back(ClientEvent::Announcement(text)),
            Event::Paused => self.ready.push_back(ClientEvent::Paused),
            Event::Resumed => self.ready.push_back(ClientEvent::Resumed),
            Event::ConnectionLost => self.ready.push_back(ClientEvent::ConnectionLost),
            Event::Reconnected { epoch_changed } => {
                if epoch_changed {
                    // It may happen otherwise now, if at all.
                    self.unseen.clear();
                }
                self.ready.push_back(ClientEvent::Reconnected { epoch_changed });
            }
            Event::GaveUp(why) => self.ready.push_back(ClientEvent::GaveUp(why)),
            // The connection tells the end.
            Event::InputDue(_) | Event::Desync(_) | Event::Goodbye { .. } => {}
        }
    }

    /// What to tell next, if anything.
    pub fn poll(&mut self, core: &Core) -> Option<ClientEvent> {
        if let Some(event) = self.ready.pop_front() {
            return Some(event);
        }
        // Nobody waits for longer than a second for a frame to be drawn.
        let old = core.mirror().tick().0.saturating_sub(core.tick_rate().hz().into());
        let seen = core.seen().map_or(Tick::MAX, |(tick, _)| tick.max(Tick(old)));
        let i = self.unseen.iter().position(|happening| happening.tick <= seen)?;
        self.unseen.remove(i).map(ClientEvent::Happened)
    }
}

impl Happening {
    /// What sort of event it is.
    #[must_use]
    pub fn kind(&self) -> &EventKind {
        &self.schema.events[self.event.kind.0 as usize]
    }

    /// Its name in the schema, such as `"shot"`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.kind().name
    }

    /// One of its numbers by name, in its unit.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<f64> {
        let fields = &self.kind().fields;
        let i = fields.iter().position(|candidate| candidate.name == field)?;
        Some(fields[i].quantity.dequantize(*self.event.values.get(i)?))
    }
}
