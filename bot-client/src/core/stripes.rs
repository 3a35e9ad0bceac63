//! How many streams a player is to have, and what a caller is to do about them.

use std::{fmt, str::FromStr};

use tickwire_wire::STRIPES_MAX;

#[cfg(doc)]
use super::Core;

/// How many streams on separate connections a client is to have, where the server allows as many. Under packet loss one
/// stalls while the others go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stripes {
    /// So many, 1 to 4.
    Fixed(u32),
    /// As many as the loss that is seen and the round trip make worthwhile: one without loss; else two up to about 50 ms,
    /// three up to 100 ms, four beyond.
    Auto {
        /// And never more than this.
        max: u32,
    },
}

/// What is to be done about a stream: see [`Core::poll_stripe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StripeChange {
    /// Open a connection for this stripe and send [`Core::attach_hello`]; then tell with [`Core::stripe_opened`], or with
    /// [`Core::stripe_failed`].
    Open(usize),
    /// Half-close this one, and go on reading it to its end; then tell with [`Core::stripe_closed`].
    Close(usize),
    /// Drop this one, on which nothing comes any more; it need not be told.
    Drop(usize),
    /// Drop all of them, on which nothing comes any more, and those that are being opened.
    DropAll,
    /// Open a connection for stripe 0 and send [`Core::resume_hello`]; then tell with [`Core::resumed`], or with
    /// [`Core::resume_failed`].
    Resume,
}

/// One that is no number of stripes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no number of stripes: choose auto, or 1 to {STRIPES_MAX}")]
pub struct StripesError(String);

impl Stripes {
    /// A single stream.
    pub const ONE: Self = Self::Fixed(1);
    /// As many as are worthwhile.
    pub const AUTO: Self = Self::Auto { max: STRIPES_MAX as u32 };

    /// The most that there may be.
    pub(super) fn max(self) -> usize {
        let (Self::Fixed(max) | Self::Auto { max }) = self;
        (max as usize).clamp(1, STRIPES_MAX)
    }
}

impl Default for Stripes {
    fn default() -> Self {
        Self::ONE
    }
}

impl FromStr for Stripes {
    type Err = StripesError;

    fn from_str(word: &str) -> Result<Self, StripesError> {
        match (word, word.parse()) {
            ("auto", _) => Ok(Self::AUTO),
            (_, Ok(count @ 1..=4)) => Ok(Self::Fixed(count)),
            _ => Err(StripesError(word.to_owned())),
        }
    }
}

impl fmt::Display for Stripes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(count) => count.fmt(f),
            Self::Auto { .. } => f.write_str("auto"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_refused() {
        assert_eq!("auto".parse(), Ok(Stripes::AUTO));
        assert_eq!("4".parse(), Ok(Stripes::Fixed(4)));
        for wrong in ["", "0", "5", "-1", "Auto"] {
            let error = wrong.parse::<Stripes>().unwrap_err();
            assert!(error.to_string().contains("choose auto, or 1 to 4"), "{error}");
        }
        assert_eq!([Stripes::AUTO, Stripes::ONE].map(|stripes| stripes.to_string()), ["auto", "1"]);
    }
}
