//! What the player is shown, and what of it the server is told.

use std::{sync::Arc, time::Duration};

use tickwire_shared::{NetId, Tick};
use tickwire_wire::Mirror;

use super::{Core, OwnState, Scene, interpolation::Interpolation, present};

impl Core {
    /// The own entity at the tick of the newest input, exactly as the server will have it unless something comes in between;
    /// `None` while there is none, or nothing is [predicted](Self::predict).
    #[must_use]
    pub fn own_state(&self) -> Option<OwnState<'_>> {
        self.prediction.as_ref()?.state()
    }

    /// What is to be drawn now: the own entity as predicted, with corrections shown bit by bit, and others a little in the
    /// past, between two ticks that have come. Call it once for each frame that is drawn.
    ///
    /// From the first call on others' ways are kept, and inputs tell the server what the player was shown.
    pub fn view(&mut self, now: Duration) -> &Scene {
        let mut scene = self.scene.take().unwrap_or_else(|| Scene::new(Arc::clone(self.schema())));
        self.view_into(now, &mut scene);
        self.scene.insert(scene)
    }

    /// As [`view`](Self::view), into a scene of this session's schema, whatever that held.
    pub fn view_into(&mut self, now: Duration, scene: &mut Scene) {
        scene.clear();
        let present = present(&self.input_clock, &self.inputs, now);
        if let Some(prediction) = &mut self.prediction
            && let Some((net_id, kind)) = prediction.show(&self.ledger, &present, self.rate, &mut self.own_values)
        {
            scene.push(net_id, kind, true, self.own_values.iter().copied());
            self.seen.own = Some(net_id);
        }
        let seconds = now.as_secs_f64();
        let server = self.clock.ticks(seconds);
        let interpolation = self.interpolation.get_or_insert_with(|| {
            let mut interpolation = Interpolation::new(Arc::clone(self.mirror.schema()), self.clock.timeline());
            interpolation.applied(seconds, self.mirror.tick(), server, &self.mirror);
            interpolation
        });
        let predicted = self.seen.own.filter(|_| self.prediction.is_some());
        self.seen.shown = interpolation.show(seconds, server, &self.mirror, predicted, scene);
        scene.finish(self.seen.shown.unwrap_or_default(), self.mirror.owner());
    }

    /// The moment at which others were shown in the newest frame: a tick, and how far it was to the next, in 1/256. `None` where
    /// none was drawn.
    #[must_use]
    pub fn seen(&self) -> Option<(Tick, u8)> {
        self.seen.shown
    }

    /// How far behind the server's time others are shown: the way down, a snapshot's interval, and their jitter. `None` before
    /// the first [`view`](Self::view).
    #[must_use]
    pub fn display_delay(&self) -> Option<Duration> {
        let ticks = self.interpolation.as_ref()?.delay_ticks();
        Duration::try_from_secs_f64(ticks / f64::from(self.rate.hz())).ok()
    }
}

/// What of others the player was shown.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// In the newest frame.
    pub(super) shown: Option<(Tick, u8)>,
    /// When the player last chose an input that is not sent yet.
    pub(super) at_input: Option<(Tick, u8)>,
    /// The own entity that was last shown as predicted.
    pub(super) own: Option<NetId>,
}

impl Seen {
    /// What an input that is sent now was made by. A client that draws nothing goes by the mirror.
    pub(super) fn take(&mut self, mirror: &Mirror) -> (u64, u32) {
        let (tick, fraction) = self.at_input.take().or(self.shown).unwrap_or((mirror.tick(), 0));
        (tick.0, fraction.into())
    }
}
