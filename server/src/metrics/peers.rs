//! How streams of players and spectators begin and end, as totals since the server's start.

use tickwire_proto::v1::GoodbyeReason;

use super::Reasons;

/// Counts beginnings and ends.
#[derive(Debug, Default)]
pub(crate) struct PeerCounters {
    /// Who came, and what came of it.
    pub(crate) joins: Reasons<(Arrival, &'static str)>,
    /// Streams that were let in, and how they ended.
    pub(crate) ends: Reasons<(PeerKind, &'static str)>,
}

/// How somebody comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arrival {
    /// Nobody knows: the stream ended before its Hello was understood.
    Unknown,
    /// As a new player.
    Join,
    /// By a resume token.
    Resume,
    /// As a further stream of a player.
    Attach,
    /// As a spectator of a session.
    Watch,
    /// As a spectator of a recording.
    Replay,
}

/// Whose stream it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PeerKind {
    Player,
    Spectator,
}

/// The outcome of who was let in.
pub(crate) const LET_IN: &str = "OK";
/// The end of a stream that was reset, or whose connection was lost.
pub(crate) const LOST: &str = "LOST";
/// The end of a stream whose client closed its side of it, and with it left.
pub(crate) const CLOSED: &str = "CLOSED";
/// The end of a stream that carried something else than gRPC messages.
pub(crate) const MALFORMED: &str = "MALFORMED";

impl Arrival {
    pub(crate) const ALL: [Self; 6] =
        [Self::Unknown, Self::Join, Self::Resume, Self::Attach, Self::Watch, Self::Replay];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Join => "join",
            Self::Resume => "resume",
            Self::Attach => "attach",
            Self::Watch => "watch",
            Self::Replay => "replay",
        }
    }
}

impl PeerKind {
    pub(crate) const ALL: [Self; 2] = [Self::Player, Self::Spectator];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Player => "player",
            Self::Spectator => "spectator",
        }
    }
}

/// The end of a stream that says goodbye so: the value's name, without what all of them begin with.
pub(crate) fn of_goodbye(reason: GoodbyeReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("GOODBYE_REASON_").unwrap_or(name)
}

/// The ends that all streams may come to. Others have the reason of a refusal.
pub(crate) fn known_ends() -> impl Iterator<Item = &'static str> {
    let goodbyes = (1..).map_while(|number| GoodbyeReason::try_from(number).ok()).map(of_goodbye);
    goodbyes.chain([LOST, CLOSED, MALFORMED])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_that_are_known_are_all_goodbyes_and_those_without() {
        let ends: Vec<_> = known_ends().collect();
        for end in
            ["LEFT", "SHUTDOWN", "SESSION_ENDED", "SESSION_FAILED", "STRIPE_CLOSED", "DISPLACED", "LOST", "CLOSED"]
        {
            assert!(ends.contains(&end), "{end} is not among {ends:?}");
        }
        assert!(!ends.contains(&"UNSPECIFIED"));
    }
}
