//! What to type in a shell to see again what has ended a session, or has kept one from going on: the log says it.

use std::path::{self, Path};

use tickwire_shared::Tick;
use tracing::error;

use crate::session::SessionName;

/// Says how a panic is seen again that a recording ends with.
pub(crate) fn log_panic_command(session: &SessionName, tick: Tick, recording: &Path) {
    let command = replay_command(recording);
    error!(%session, tick = tick.0, "the panic comes again, and its system is named, by: {command}");
}

/// What to type to play a recording again, from wherever.
pub(crate) fn replay_command(recording: &Path) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "tickwire-server".into());
    // Where there is no current directory, the path is of more use as it is.
    let recording = path::absolute(recording).unwrap_or_else(|_| recording.to_owned());
    command(&program, &recording)
}

fn command(program: &Path, recording: &Path) -> String {
    let quoted = |path: &Path| {
        let path = path.display().to_string();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/+-".contains(&byte);
        if path.bytes().all(is_plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
    };
    format!("{} replay --verify {}", quoted(program), quoted(recording))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_replays_can_be_pasted_into_a_shell() {
        let command = |program: &str, file: &str| command(Path::new(program), Path::new(file));
        assert_eq!(
            command("target/release/tickwire-server", "data/recordings/arena-1-20260131T184502123Z.mcap"),
            "target/release/tickwire-server replay --verify data/recordings/arena-1-20260131T184502123Z.mcap"
        );
        assert_eq!(command("/opt/my game", "it's.mcap"), r"'/opt/my game' replay --verify 'it'\''s.mcap'");
    }
}
