//! The named hashes of the protocol and of recordings.

/// MurmurHash3, x86, 32 bits, seed 0, over 32-bit words (each as its four little-endian bytes).
///
/// Cells are hashed with it: it is fast in any language, JavaScript's `Math.imul` included.
/// Source: Austin Appleby, SMHasher, `MurmurHash3_x86_32` (public domain).
#[derive(Clone, Copy, Debug, Default)]
pub struct Murmur3 {
    state: u32,
    words: u32,
}

impl Murmur3 {
    /// Mixes one word in.
    #[inline]
    pub fn write(&mut self, word: u32) {
        let k = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
        self.state = (self.state ^ k).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
        self.words = self.words.wrapping_add(1);
    }

    /// The hash of the words so far.
    #[inline]
    #[must_use]
    pub fn finish(self) -> u32 {
        let mut h = self.state ^ self.words.wrapping_mul(4);
        h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
        h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
        h ^ (h >> 16)
    }
}

/// The 64-bit hash of truth and hidden state, for recordings: words are folded with a multiplication and a rotation and
/// finished as in SplitMix64 (Steele, Lea, Flood, 2014). Not meant to resist an adversary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Mixes one word in.
    #[inline]
    pub fn write(&mut self, word: u64) {
        self.0 = splitmix(self.0.rotate_left(23) ^ word);
    }

    /// The hash of a single word.
    #[inline]
    #[must_use]
    pub fn of(word: u64) -> u64 {
        splitmix(word)
    }

    /// Mixes the bits of a float in, so that even −0 and 0 differ.
    #[inline]
    pub fn write_f32(&mut self, value: f32) {
        self.write(u64::from(value.to_bits()));
    }

    /// The hash of the words so far.
    #[inline]
    #[must_use]
    pub fn finish(self) -> u64 {
        splitmix(self.0)
    }
}

#[inline]
fn splitmix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the reference implementation, for inputs of whole words.
    #[test]
    fn murmur3_agrees_with_its_reference() {
        assert_eq!(Murmur3::default().finish(), 0);
        let mut zero = Murmur3::default();
        zero.write(0);
        assert_eq!(zero.finish(), 0x2362_f9de);
        let mut word = Murmur3::default();
        word.write(0x8765_4321);
        assert_eq!(word.finish(), 0xf55b_516b);
    }

    #[test]
    fn a_digest_depends_on_the_order_of_its_words() {
        let (mut ab, mut ba) = (Digest::default(), Digest::default());
        ab.write(1);
        ab.write(2);
        ba.write(2);
        ba.write(1);
        assert_ne!(ab.finish(), ba.finish());
    }
}
