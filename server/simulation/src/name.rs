//! Players' names.

use std::sync::Arc;

use tickwire_shared::{NAME_CHARS_MAX, PlayerId};

/// A name that nobody may bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Longer than [`NAME_CHARS_MAX`].
    #[error("{chars} characters are more than {NAME_CHARS_MAX}; choose a shorter name")]
    TooLong {
        /// How long it is.
        chars: usize,
    },
    /// With a character that would upset terminals and logs, or that nobody sees.
    #[error("it has the control character U+{:04X}; leave it out", *.character as u32)]
    ControlCharacter {
        /// The first of them.
        character: char,
    },
    /// Without a visible character. Only in a record: a player who joins without a name is given one.
    #[error("it is empty")]
    Empty,
}

/// The name of a player who asks for `name`: without the white space around it, and a made one where nothing is left.
pub(crate) fn choose(name: &str, player: PlayerId) -> Result<Arc<str>, NameError> {
    match name.trim() {
        "" => Ok(format!("player-{player}").into()),
        name => check(name).map(|()| name.into()),
    }
}

pub(crate) fn check(name: &str) -> Result<(), NameError> {
    let chars = name.chars().count();
    if let Some(character) = name.chars().find(|&c| c.is_control() || is_invisible(c)) {
        return Err(NameError::ControlCharacter { character });
    }
    match chars {
        0 => Err(NameError::Empty),
        1..=NAME_CHARS_MAX => Ok(()),
        _ => Err(NameError::TooLong { chars }),
    }
}

/// Whether a character turns the direction of text, or has no width: names that look alike must be alike.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_counted_in_characters_and_made_where_missing() {
        let choose = |name: &str| choose(name, PlayerId(7)).map(|name| name.to_string());
        assert_eq!(choose("  Ada "), Ok("Ada".into()));
        assert_eq!(choose(" \t "), Ok("player-7".into()));
        assert_eq!(choose(&"ä".repeat(32)), Ok("ä".repeat(32)));
        assert_eq!(choose(&"ä".repeat(33)), Err(NameError::TooLong { chars: 33 }));
        assert_eq!(choose("a\u{7}b"), Err(NameError::ControlCharacter { character: '\u{7}' }));
        assert_eq!(choose("a\u{202e}b"), Err(NameError::ControlCharacter { character: '\u{202e}' }));
        assert_eq!(
            NameError::ControlCharacter { character: '\u{7}' }.to_string(),
            "it has the control character U+0007; leave it out"
        );
    }
}
