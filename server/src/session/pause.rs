//! Whether a session stands still, as an admin wants it to.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

/// The most ticks that a session which stands still may owe.
pub(crate) const STEPS_MAX: u32 = 10_000;

/// Has a session stand still, and go on. Nothing is lost by it: ticks are just not stepped.
#[derive(Debug, Default)]
pub(crate) struct PauseSwitch {
    state: Mutex<Wanted>,
    /// What the session does.
    stands: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Wanted {
    paused: bool,
    /// Ticks that it is to step all the same.
    steps: u32,
}

/// What a session is to do about its next tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Go,
    /// This one, and then to look again.
    Step,
    Stand,
}

/// Why no ticks are stepped one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotStepped {
    /// The session does not stand still.
    Running,
    /// More than [`STEPS_MAX`] would be owed.
    TooMany,
}

impl PauseSwitch {
    /// What is wanted from now on.
    pub(super) fn set(&self, paused: bool) {
        *self.lock() = Wanted { paused, steps: 0 };
    }

    /// Has a session that stands still step some ticks, at its pace.
    pub(super) fn step(&self, ticks: u32) -> Result<(), NotStepped> {
        let mut wanted = self.lock();
        if !wanted.paused {
            return Err(NotStepped::Running);
        }
        let steps = wanted.steps.checked_add(ticks).filter(|steps| *steps <= STEPS_MAX);
        wanted.steps = steps.ok_or(NotStepped::TooMany)?;
        Ok(())
    }

    /// Whether it is to stand still, but for steps.
    pub(crate) fn is_paused(&self) -> bool {
        self.lock().paused
    }

    /// Waits until the session does as it is wanted to: it stands, or it goes. Steps are to be done by then.
    pub(crate) async fn settled(&self) {
        let is_settled = |stands: &bool| {
            let wanted = self.lock();
            wanted.paused == *stands && wanted.steps == 0
        };
        // The sender is this very switch's.
        let _ = self.stands.subscribe().wait_for(is_settled).await;
    }

    /// Waits until the session stands still.
    pub(crate) async fn stands_still(&self) {
        // As above.
        let _ = self.stands.subscribe().wait_for(|stands| *stands).await;
    }

    /// For the session: what its next tick is.
    pub(super) fn turn(&self) -> Turn {
        match *self.lock() {
            Wanted { paused: false, .. } => Turn::Go,
            Wanted { steps: 0, .. } => Turn::Stand,
            Wanted { .. } => Turn::Step,
        }
    }

    /// A tick was stepped.
    pub(super) fn note_step(&self) {
        let mut wanted = self.lock();
        wanted.steps = wanted.steps.saturating_sub(1);
    }

    /// The session stands, or goes, as it says again whenever it looks. True: that is new.
    pub(super) fn note(&self, stands: bool) -> bool {
        self.stands.send_replace(stands) != stands
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_stands_still_steps_what_it_owes_and_stands_again() {
        let switch = PauseSwitch::default();
        assert_eq!((switch.turn(), switch.step(1)), (Turn::Go, Err(NotStepped::Running)));
        switch.set(true);
        assert_eq!((switch.turn(), switch.step(2)), (Turn::Stand, Ok(())));
        for _ in 0..2 {
            assert_eq!(switch.turn(), Turn::Step);
            switch.note_step();
        }
        assert_eq!(switch.turn(), Turn::Stand);
        assert_eq!((switch.step(STEPS_MAX), switch.step(1)), (Ok(()), Err(NotStepped::TooMany)));
        switch.set(false);
        assert_eq!(switch.turn(), Turn::Go);
        switch.set(true);
        assert_eq!(switch.turn(), Turn::Stand);
    }
}
