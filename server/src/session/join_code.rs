//! Join codes: what people read to each other.

use std::{fmt, str::FromStr};

use tracing::error;

/// Digits and letters without I, L, O and U, which are taken for 1, 1, 0 and V: Crockford's base 32.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CHARS: usize = 9;
const BITS_PER_CHAR: usize = 5;
const BITS: usize = CHARS * BITS_PER_CHAR;
/// Where the dash is.
const FIRST_CHARS: usize = 4;
/// With dashes and blanks wherever somebody may put them.
const TEXT_CHARS_MAX: usize = 32;

/// A session's join code: 45 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JoinCode(u64);

/// What cannot be any session's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoJoinCode;

impl JoinCode {
    /// A new one; `None` where the operating system has no randomness, which it says to the log.
    pub(crate) fn random() -> Option<Self> {
        let mut bytes = [0; size_of::<u64>()];
        if let Err(error) = getrandom::fill(&mut bytes) {
            error!(%error, "no randomness for a join code");
            return None;
        }
        Some(Self(u64::from_le_bytes(bytes) >> (u64::BITS as usize - BITS)))
    }

    /// As it is written down.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// From what was written down; `None`: it is none.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        (bits >> BITS == 0).then_some(Self(bits))
    }
}

impl fmt::Display for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for i in 0..CHARS {
            if i == FIRST_CHARS {
                f.write_str("-")?;
            }
            let digit = self.0 >> (BITS - BITS_PER_CHAR * (i + 1)) & (ALPHABET.len() as u64 - 1);
            write!(f, "{}", ALPHABET[digit as usize] as char)?;
        }
        Ok(())
    }
}

/// It is a secret, and in no log.
impl fmt::Debug for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinCode(…)")
    }
}

impl FromStr for JoinCode {
    type Err = NoJoinCode;

    fn from_str(text: &str) -> Result<Self, NoJoinCode> {
        if text.len() > TEXT_CHARS_MAX {
            return Err(NoJoinCode);
        }
        let (mut bits, mut chars) = (0, 0);
        for c in text.chars().filter(|c| !matches!(c, '-' | ' ')) {
            let c = match c.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                'U' => 'V',
                c => c,
            };
            let digit = ALPHABET.iter().position(|letter| *letter as char == c).ok_or(NoJoinCode)?;
            bits = bits << BITS_PER_CHAR | digit as u64;
            chars += 1;
            if chars > CHARS {
                return Err(NoJoinCode);
            }
        }
        if chars == CHARS { Ok(Self(bits)) } else { Err(NoJoinCode) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_code_is_read_as_it_is_written_in_either_case_and_with_any_dashes(bits in 0_u64..1 << BITS) {
            let code = JoinCode::from_bits(bits).expect("45 bits");
            let text = code.to_string();
            prop_assert_eq!(text.len(), CHARS + 1);
            prop_assert_eq!(text.parse(), Ok(code));
            prop_assert_eq!(text.to_lowercase().replace('-', "").parse(), Ok(code));
            prop_assert_eq!(format!(" {} ", text.replace('0', "o").replace('1', "l")).parse(), Ok(code));
            prop_assert_eq!(JoinCode::from_bits(code.bits()), Some(code));
        }
    }

    #[test]
    fn what_is_no_code_is_none() {
        for wrong in ["", "7K2M", "7K2M-9X4Q", "7K2M-9X4QAA", "7K2M-9X4Q!", "ÄÄÄÄ-ÄÄÄÄÄ", &"-".repeat(64)] {
            assert_eq!(wrong.parse::<JoinCode>(), Err(NoJoinCode), "{wrong:?}");
        }
        assert_eq!(JoinCode::from_bits(1 << BITS), None);
    }

    #[test]
    fn codes_differ_and_are_in_no_log() {
        let [a, b] = [(); 2].map(|()| JoinCode::random().expect("there is randomness"));
        assert_ne!(a, b);
        assert!(!format!("{a:?}").contains(&a.to_string()));
    }
}
