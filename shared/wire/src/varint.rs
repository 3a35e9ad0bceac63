//! The numbers of the packed streams: unsigned varints, signed ones as zigzag, rising positions as gaps.

/// A signed number as an unsigned one, small for small magnitudes.
#[must_use]
pub const fn zigzag(signed: i32) -> u32 {
    ((signed << 1) ^ (signed >> 31)) as u32
}

/// The signed number of a zigzag one.
#[must_use]
pub const fn unzigzag(unsigned: u32) -> i32 {
    (unsigned >> 1) as i32 ^ -((unsigned & 1) as i32)
}

/// The bytes that a varint takes.
#[must_use]
pub const fn varint_len(number: u64) -> usize {
    // 7 bits to the byte; `| 1` gives 0 its one byte.
    (63 - (number | 1).leading_zeros() as usize) / 7 + 1
}

/// Turns rising numbers into gaps, and back: each gap is the distance from the one before, less 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gaps(i64);

impl Gaps {
    /// For positions, from 0.
    pub(crate) const fn of_positions() -> Self {
        Self(-1)
    }

    /// For ids, from 1.
    pub(crate) const fn of_ids() -> Self {
        Self(0)
    }

    /// The gap to `number`, which is above the one before.
    pub(crate) fn gap_to(&mut self, number: u32) -> u32 {
        let gap = i64::from(number) - self.0 - 1;
        debug_assert!(gap >= 0, "positions and ids rise");
        self.0 = i64::from(number);
        gap as u32
    }

    /// The number that a gap leads to, where it is still one.
    pub(crate) fn skip(&mut self, gap: u32) -> Option<u32> {
        self.0 += i64::from(gap) + 1;
        u32::try_from(self.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn zigzag_goes_there_and_back(signed in any::<i32>()) {
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }

        #[test]
        fn lengths_are_those_that_prost_computes(number in any::<u64>(), shift in 0..64_u32) {
            let number = number >> shift;
            prop_assert_eq!(varint_len(number), prost::encoding::encoded_len_varint(number));
        }

        #[test]
        fn gaps_lead_back_to_their_numbers(numbers in proptest::collection::btree_set(1..u32::MAX, 0..50)) {
            let (mut there, mut back) = (Gaps::of_ids(), Gaps::of_ids());
            for number in numbers {
                prop_assert_eq!(back.skip(there.gap_to(number)), Some(number));
            }
        }
    }
}
