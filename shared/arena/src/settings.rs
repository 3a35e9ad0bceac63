//! What a session is created with, and what follows from it.

use bevy_ecs::resource::Resource;
use tickwire_shared::{Definition, Quantity, Settings, TickRate};

/// The side of the arena, in metres.
pub const SIZE: &str = "size";
/// Which of all maps of a size and cover it is.
pub const MAP_SEED: &str = "map_seed";
/// The share of plots that hold cover: 0 is flat ground.
pub const COVER: &str = "cover";
/// Points of health that a rifle's hit takes.
pub const RIFLE_DAMAGE: &str = "rifle_damage";
/// Points of health that a rocket takes of those whom it hits.
pub const ROCKET_DAMAGE: &str = "rocket_damage";
/// From a death to the next life.
pub const RESPAWN_SECONDS: &str = "respawn_seconds";

/// The longest side that [`SIZE`] can be set to, in metres.
pub const SIZE_MAX: i32 = 2000;

/// From one shot of a rifle to the next.
const RIFLE_MS: u64 = 120;
/// From one rocket of a player to the next.
const ROCKET_MS: u64 = 1000;
/// How long a rocket flies.
const ROCKET_LIFE_MS: u64 = 4000;

pub(crate) fn define(definition: &mut Definition) {
    let metres = Quantity { unit: "m".into(), ..Quantity::count(32..=SIZE_MAX) };
    let damage = Quantity::count(0..=1000);
    definition.setting(SIZE, metres, 200.0);
    definition.setting(MAP_SEED, Quantity::count(0..=i32::MAX), 1.0);
    definition.setting(COVER, Quantity::new("", 0.01, 0.0..=1.0), 0.3);
    definition.setting(RIFLE_DAMAGE, damage.clone(), 12.0);
    definition.setting(ROCKET_DAMAGE, damage, 90.0);
    definition.setting(RESPAWN_SECONDS, Quantity::new("s", 0.1, 0.0..=60.0), 3.0);
}

/// The session's rules in the units that systems use: whole points and ticks.
#[derive(Resource, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Points that a rifle's hit takes.
    pub rifle_damage: i32,
    /// Points that a rocket takes of those whom it hits.
    pub rocket_damage: i32,
    /// From one shot of a rifle to the next, in ticks: at least 1.
    pub rifle_ticks: u16,
    /// From one rocket of a player to the next, in ticks: at least 1.
    pub rocket_ticks: u16,
    /// How long a rocket flies, in ticks.
    pub rocket_life_ticks: u64,
    /// From a death to the next life, in ticks.
    pub respawn_ticks: u64,
}

impl Rules {
    /// The rules of a session with these settings.
    #[must_use]
    pub fn of(settings: &Settings, rate: TickRate) -> Self {
        let whole = |name| settings.get(name).round() as i32;
        // A weapon's pause fits: it is a second or less, of at most 240 ticks.
        let pause = |ms| rate.ticks_in_ms(ms) as u16;
        Self {
            rifle_damage: whole(RIFLE_DAMAGE),
            rocket_damage: whole(ROCKET_DAMAGE),
            rifle_ticks: pause(RIFLE_MS),
            rocket_ticks: pause(ROCKET_MS),
            rocket_life_ticks: rate.ticks_in_ms(ROCKET_LIFE_MS),
            respawn_ticks: rate.ticks_in_ms((settings.get(RESPAWN_SECONDS) * 1000.0).round() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use tickwire_shared::{Settings, schema_of};

    use super::*;
    use crate::Arena;

    #[test]
    fn rules_are_in_ticks_of_the_sessions_rate() {
        let schema = schema_of(&Arena).expect("the definition is valid");
        let mut settings = Settings::defaults(&schema);
        settings.set(RESPAWN_SECONDS, 1.5).expect("in range");
        let rules = |hz| Rules::of(&settings, TickRate::new(hz).expect("in range"));
        assert_eq!((rules(60).respawn_ticks, rules(60).rifle_ticks, rules(60).rocket_ticks), (90, 8, 60));
        assert_eq!((rules(1).respawn_ticks, rules(1).rifle_ticks, rules(1).rocket_ticks), (2, 1, 1));
    }
}
