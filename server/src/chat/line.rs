//! A line that was said, and who gets it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use tickwire_proto::v1::{self as pb, chat_message::Kind};
use tickwire_shared::{PlayerId, Tick};

use super::reader::encoded;

/// To whom something is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    Everyone,
    Team {
        team: u32,
        /// Who was in it. Whoever changes sides hears no more of it, and nothing of what the other side has said before. `None`:
        /// that is not known any more, since the server was killed; it is for those who are in the team now.
        players: Option<BTreeSet<PlayerId>>,
    },
    Direct(PlayerId),
    /// Everyone, by the server.
    System,
}

/// Who a line is handed to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipient {
    /// None: a spectator.
    pub(super) player: Option<PlayerId>,
    pub(super) team: Option<u32>,
}

/// A line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: u64,
    pub(super) tick: Tick,
    pub(super) time: SystemTime,
    pub(super) audience: Audience,
    /// None: the server.
    pub(super) from: Option<PlayerId>,
    pub(super) from_name: Arc<str>,
    pub(super) text: String,
}

impl Line {
    /// Whether it is for somebody.
    pub(super) fn is_for(&self, Recipient { player, team }: Recipient) -> bool {
        let is_own = player.is_some() && player == self.from;
        match &self.audience {
            Audience::Everyone | Audience::System => true,
            // Whoever has said it sees it, wherever they are by now.
            Audience::Team { players: Some(players), .. } => {
                is_own || player.is_some_and(|player| players.contains(&player))
            }
            Audience::Team { team: of, players: None } => is_own || (player.is_some() && team == Some(*of)),
            Audience::Direct(to) => is_own || player == Some(*to),
        }
    }

    pub(super) fn to_proto(&self, client_ref: u64) -> pb::ChatLine {
        let (channel, to, team) = match self.audience {
            Audience::Everyone => (pb::ChatChannel::Everyone, 0, None),
            Audience::Team { team, .. } => (pb::ChatChannel::Team, 0, Some(team)),
            Audience::Direct(to) => (pb::ChatChannel::Direct, to.0, None),
            Audience::System => (pb::ChatChannel::System, 0, None),
        };
        pb::ChatLine {
            id: self.id,
            tick: self.tick.0,
            time: Some(self.time.into()),
            channel: channel.into(),
            from_player: self.from.map_or(0, |player| player.0),
            from_name: self.from_name.to_string(),
            to_player: to,
            team,
            text: self.text.clone(),
            client_ref,
        }
    }

    pub(super) fn encode(&self, client_ref: u64) -> Bytes {
        encoded(Kind::Line(self.to_proto(client_ref)))
    }
}

/// The newest lines of a channel.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Arc<Line>>);

impl History {
    /// Keeps a line, and of all no more than `most`.
    pub(super) fn push(&mut self, line: &Arc<Line>, most: usize) {
        self.0.push_back(Arc::clone(line));
        let excess = self.0.len().saturating_sub(most);
        self.0.drain(..excess);
    }

    pub(super) fn newest_id(&self) -> u64 {
        self.0.back().map_or(0, |line| line.id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Line>> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_for_its_audience_and_its_sender() {
        let line = |audience| Line {
            id: 1,
            tick: Tick(1),
            time: SystemTime::UNIX_EPOCH,
            audience,
            from: Some(PlayerId(1)),
            from_name: "Ada".into(),
            text: "hi".into(),
        };
        let recipient = |player, team| Recipient { player: Some(PlayerId(player)), team };
        let spectator = Recipient { player: None, team: None };
        let all = [recipient(1, None), recipient(2, Some(7)), recipient(3, Some(8)), recipient(4, None), spectator];
        let gets = |audience: Audience| all.map(|recipient| line(audience.clone()).is_for(recipient));
        let team = |players: Option<&[u32]>| Audience::Team {
            team: 7,
            players: players.map(|players| players.iter().copied().map(PlayerId).collect()),
        };
        assert_eq!(gets(Audience::Everyone), [true; 5]);
        assert_eq!(gets(Audience::System), [true; 5]);
        // Of whom it is known who was in the team then, it counts; else who is in it now.
        assert_eq!(gets(team(Some(&[1, 3]))), [true, false, true, false, false]);
        assert_eq!(gets(team(None)), [true, true, false, false, false]);
        assert_eq!(gets(Audience::Direct(PlayerId(4))), [true, false, false, true, false]);
        let server = Line { from: None, ..line(team(None)) };
        assert!(!server.is_for(spectator));
    }
}
