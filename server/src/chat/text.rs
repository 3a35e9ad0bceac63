//! Which texts are passed on. What is, is passed on as it is.

use unicode_normalization::char::is_combining_mark;

use super::counters::{Rejected, Rejection};
use crate::config::ChatLimits;

/// Marks of one character: more would cover the lines above and below. No script has so many.
const MARKS_MAX: usize = 8;
/// What flags of regions begin with.
const BLACK_FLAG: char = '\u{1f3f4}';

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
    check_characters(text).map_err(|problem| Rejected::new(Rejection::ControlCharacter, problem))?;
    if text.chars().all(is_blank) {
        return Err(Rejected::new(Rejection::Empty, "there is nothing in it to be seen"));
    }
    Ok(())
}

/// Says which character of a text would mislead those who read it, as it does of all texts that people are shown.
pub(crate) fn check_characters(text: &str) -> Result<(), String> {
    if let Some(found) = first_refused(text) {
        return Err(format!("U+{:04X} is a control character, or nobody sees it: leave it out", u32::from(found)));
    }
    if longest_stack(text) > MARKS_MAX {
        return Err(format!("there are more than {MARKS_MAX} marks on one character: leave some out"));
    }
    Ok(())
}

/// The first character that is not passed on.
fn first_refused(text: &str) -> Option<char> {
    // Tags are part of some flags, and hide text anywhere else.
    let mut is_flag = false;
    text.chars().find(|&char| {
        let is_tag = matches!(char, '\u{e0020}'..='\u{e007f}');
        let is_refused = is_refused(char) && !(is_tag && is_flag);
        is_flag = char == BLACK_FLAG || (is_flag && is_tag);
        is_refused
    })
}

/// Control characters, line breaks, and what changes the direction of the text around it: by that, a line could look like the
/// next one, or like another player's. And what has no width, other than what joins characters and marks of direction, which
/// scripts and emoji need: words that look alike would not be.
fn is_refused(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{180e}' | '\u{200b}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The most marks that one character has upon and below it.
fn longest_stack(text: &str) -> usize {
    let stacks = text.chars().scan(0, |stack, char| {
        *stack = if is_combining_mark(char) { *stack + 1 } else { 0 };
        Some(*stack)
    });
    stacks.max().unwrap_or(0)
}

/// Whether nothing is to be seen of a character by itself.
fn is_blank(char: char) -> bool {
    char.is_whitespace()
        || is_combining_mark(char)
        || matches!(
            char,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{200c}'
                ..='\u{200f}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}'
        )
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
        for taken in ["👩‍👩‍👧", "e\u{301}", "שלום\u{200f}", "a\u{a0}b", "ﷺ", "می\u{200c}خواهم", "❤️ 1️⃣"]
        {
            assert_eq!(reason(taken), None, "{taken:?}");
        }
    }

    #[test]
    fn what_nobody_sees_is_refused_and_is_nothing_by_itself() {
        for hidden in ["\u{200b}", "\u{2060}", "\u{feff}", "\u{180e}", "\u{fffa}", "\u{e0041}"] {
            let text = format!("a{hidden}b");
            assert_eq!(reason(&text), Some(Rejection::ControlCharacter), "{text:?}");
        }
        // The flag of Wales, and the same tags without a flag before them.
        const WALES: &str = "\u{1f3f4}\u{e0067}\u{e0062}\u{e0077}\u{e006c}\u{e0073}\u{e007f}";
        assert_eq!(reason(WALES), None);
        assert_eq!(reason(&WALES.replace('\u{1f3f4}', "\u{1f3f4}x")), Some(Rejection::ControlCharacter));
        for blank in ["\u{200d}", " \u{200c}\u{200e} ", "\u{301}", "\u{3164}", "\u{2800}\u{ad}"] {
            assert_eq!(reason(blank), Some(Rejection::Empty), "{blank:?}");
        }
    }

    #[test]
    fn marks_are_not_piled_up_over_the_lines_of_others() {
        assert_eq!(reason(&format!("a{}b", "\u{316}".repeat(8))), None);
        assert_eq!(reason(&format!("a{}b", "\u{316}".repeat(9))), Some(Rejection::ControlCharacter));
        assert_eq!(reason(&"a\u{316}\u{301}".repeat(100)), None);
        // Neither of the two ways to write a letter is changed into the other.
        assert_eq!([reason("\u{e9}"), reason("e\u{301}")], [None, None]);
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
                && first_refused(&text).is_none()
                && longest_stack(&text) <= MARKS_MAX
                && !text.chars().all(is_blank);
            let overrides = ['\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}', '\u{2028}'..='\u{2029}'];
            let is_harmful = |char: char| char.is_control() || overrides.iter().any(|range| range.contains(&char));
            prop_assert!(!passes || !text.chars().any(is_harmful));
            prop_assert_eq!(passes, keeps);
        }
    }
}
