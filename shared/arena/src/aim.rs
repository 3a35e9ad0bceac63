//! Where a player aims: whole steps of a turn, so that both ends compute the same direction.

use std::f32::consts::TAU;

use bevy_ecs::component::Component;
use glam::Vec2;
use serde::{Deserialize, Serialize};
use tickwire_shared::Quantity;

/// A direction, in steps of 1/4096 turn from east, counter-clockwise.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aim {
    steps: u16,
}

impl Aim {
    /// Steps in a whole turn.
    pub const STEPS: i32 = 4096;

    /// From a number of steps; whole turns are taken away.
    #[must_use]
    pub const fn from_steps(steps: i32) -> Self {
        // Fits: a remainder by 4096.
        Self { steps: steps.rem_euclid(Self::STEPS) as u16 }
    }

    /// The aim that is nearest to the direction of `way`; east for a vector of no length.
    #[must_use]
    pub fn toward(way: Vec2) -> Self {
        let turns = libm::atan2f(way.y, way.x) / TAU;
        // A cast of a float saturates, and makes NaN 0.
        Self::from_steps((turns * Self::STEPS as f32).round() as i32)
    }

    /// The number of steps: 0 up to, but not including, [`Self::STEPS`].
    #[must_use]
    pub const fn steps(self) -> i32 {
        self.steps as i32
    }

    /// The direction, of length 1.
    #[must_use]
    pub fn direction(self) -> Vec2 {
        let (sine, cosine) = libm::sincosf(f32::from(self.steps) / Self::STEPS as f32 * TAU);
        Vec2::new(cosine, sine)
    }

    /// The angle in turns: 0 up to, but not including, 1.
    #[must_use]
    pub fn turns(self) -> f64 {
        f64::from(self.steps) / f64::from(Self::STEPS)
    }

    /// How an aim is held in inputs and events.
    pub(crate) fn quantity() -> Quantity {
        Quantity { unit: "turn".into(), quantum: 1.0 / f64::from(Self::STEPS), min: 0, max: Self::STEPS - 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_aim_is_found_again_from_its_direction() {
        for steps in 0..Aim::STEPS {
            let aim = Aim::from_steps(steps);
            assert_eq!(Aim::toward(aim.direction()), aim);
            assert_eq!(Aim::quantity().quantize(aim.turns()), steps);
        }
    }

    #[test]
    fn a_quarter_turn_is_north_and_angles_wrap() {
        assert!(Aim::from_steps(1024).direction().abs_diff_eq(Vec2::Y, 1e-6));
        assert_eq!(Aim::from_steps(-1), Aim::from_steps(4095));
    }
}
