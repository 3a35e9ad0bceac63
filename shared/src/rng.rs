//! Random numbers that are the same on every machine.

use bevy_ecs::resource::Resource;
use rand::{SeedableRng as _, rngs::ChaCha8Rng};

use crate::Tick;

/// The session's source of random numbers: a stream for each (seed, purpose, tick, id), as a resource of the game's world.
///
/// A stream depends on nothing else, so the order in which systems draw does not matter.
#[derive(Resource, Clone, Copy, Debug)]
pub struct Randomness {
    /// The session's seed.
    pub seed: u64,
    /// The current tick.
    pub tick: Tick,
}

impl Randomness {
    /// The stream of `purpose` for `id` (an entity's or a player's number, or 0) at the current tick.
    #[must_use]
    pub fn stream(&self, purpose: &str, id: u64) -> ChaCha8Rng {
        let mut seed = [0; 32];
        for (bytes, word) in seed.chunks_exact_mut(8).zip([self.seed, fnv1a(purpose), self.tick.0, id]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        ChaCha8Rng::from_seed(seed)
    }
}

/// FNV-1a in 64 bits (Fowler, Noll, Vo).
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;

    #[test]
    fn a_stream_is_the_same_everywhere_and_others_differ() {
        let draw = |seed, tick, purpose: &str, id| Randomness { seed, tick: Tick(tick) }.stream(purpose, id).next_u64();
        // Recordings depend on this number.
        assert_eq!(draw(1, 2, "spawn", 3), 3_944_198_866_327_974_552);
        let others = [draw(2, 2, "spawn", 3), draw(1, 3, "spawn", 3), draw(1, 2, "aim", 3), draw(1, 2, "spawn", 4)];
        assert!(others.iter().all(|&other| other != draw(1, 2, "spawn", 3)));
    }
}
