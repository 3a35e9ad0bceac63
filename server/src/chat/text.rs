//! Which texts are passed on. What is, is passed on as it is.

use super::counters::{Rejected, Rejection};
use crate::config::ChatLimits;

/// Says what is wrong with a text.
pub(super) fn check(text: &str, limits: &ChatLimits) -> Result<(), Rejected> {
    let &ChatLimits { chars_max, bytes_max, .. } = limits;
    // First: whatever follows looks at no more than so many bytes.
    if text.len() > bytes_max {
        let message = format!("{} bytes are more than {bytes_max}: say less", text.len());
        return Err(Rejected::new(Rejection::TooLong, message));
    }
    let chars = text.chars().count();
    if chars > chars_max {
        return Err(Rejected::new(
            Rejection::TooLong,
            format!("{chars} characters are more than {chars_max}: say less"),
        ));
    }
    if let Some(found) = text.chars().find(|&char| is_refused(char)) {
        let message = format!("U+{:04X} is a control character: leave it out", u32::from(found));
        return Err(Rejected::new(Rejection::ControlCharacter, message));
    }
    if text.chars().all(char::is_whitespace) {
        return Err(Rejected::new(Rejection::Empty, "there is nothing in it"));
    }
    Ok(())
}

/// Control characters, line breaks, and what changes the direction of the text around it: by that, a line could look like the
/// next one, or like another player's.
fn is_refused(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason(text: &str) -> Option<Rejection> {
        check(text, &ChatLimits::default()).err().map(|rejected| rejected.reason)
    }

    #[test]
    fn lengths_are_counted_in_characters_and_bounded_in_bytes() {
        let ChatLimits { chars_max, bytes_max, .. } = ChatLimits::default();
        assert_eq!((chars_max, bytes_max), (500, 2000));
        assert_eq!(reason(&"ö".repeat(500)), None);
        assert_eq!(reason(&"🙂".repeat(500)), None);
        assert_eq!(reason(&"a".repeat(501)), Some(Rejection::TooLong));
        assert_eq!(reason(&"🙂".repeat(501)), Some(Rejection::TooLong));
        let narrow = ChatLimits { bytes_max: 3, ..ChatLimits::default() };
        assert!(check("🙂", &narrow).is_err_and(|rejected| rejected.reason == Rejection::TooLong));
    }

    #[test]
    fn control_characters_line_breaks_and_overrides_of_direction_are_refused() {
        for refused in ["\n", "\r", "\t", "\0", "\u{7f}", "\u{85}", "\u{1b}[31m", "\u{2028}", "\u{202e}", "\u{2066}"] {
            let text = format!("a{refused}b");
            assert_eq!(reason(&text), Some(Rejection::ControlCharacter), "{text:?}");
        }
        // Joined emoji, marks that combine, and right-to-left scripts with their marks are text like any other.
        for taken in ["👩‍👩‍👧", "e\u{301}", "שלום\u{200f}", "a\u{a0}b", "ﷺ"] {
            assert_eq!(reason(taken), None, "{taken:?}");
        }
    }

    #[test]
    fn white_space_alone_is_nothing() {
        for empty in ["", " ", "\u{3000}\u{a0}"] {
            assert_eq!(reason(empty), Some(Rejection::Empty), "{empty:?}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_keeps_to_every_rule(text in "\\PC{0,20}|.{0,600}") {
            let passes = reason(&text).is_none();
            let keeps = text.chars().count() <= 500
                && text.len() <= 2000
                && !text.trim().is_empty()
                && !text.chars().any(|char| char.is_control() || ('\u{202a}'..='\u{202e}').contains(&char)
                    || ('\u{2066}'..='\u{2069}').contains(&char) || ('\u{2028}'..='\u{2029}').contains(&char));
            prop_assert_eq!(passes, keeps);
        }
    }
}
