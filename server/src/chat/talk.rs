//! What a room knows, under its lock: who is there, what was said, and who is not to talk.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::SystemTime,
};

use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_recording::ChatRecord;
use tickwire_shared::PlayerId;
use tokio::sync::watch;

use super::{
    allowance::Allowance,
    counters::{Rejected, Rejection},
    hello::unknown_token,
    line::{Audience, History, Line, Recipient},
    reader::Reader,
    room::{Listener, seat_ended},
};
use crate::{config::ChatLimits, session::HeldSeat, status::Refusal};

/// Teams of which something is remembered. More than the seats of any game that has teams.
const TEAMS_MAX: usize = 64;
/// Bytes of lines that a welcome has at most, whatever the limit of lines is: clients of gRPC take 4 MiB.
const HISTORY_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Talk {
    pub(super) newest_id: u64,
    /// Whoever has sat down, until somebody else does after they are gone. Players' numbers are never given again.
    pub(super) members: BTreeMap<PlayerId, Member>,
    pub(super) spectators: Vec<(watch::Receiver<()>, Arc<Reader>)>,
    /// To everyone, the server's lines among them.
    everyone: History,
    teams: BTreeMap<u32, History>,
}

/// A player's part in it, which outlives their streams.
#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) seat: Weak<HeldSeat>,
    pub(super) reader: Option<Arc<Reader>>,
    /// Whom they do not hear.
    pub(super) mutes: BTreeSet<PlayerId>,
    pub(super) allowance: Allowance,
    pub(super) silence: Option<Silence>,
    direct: History,
}

/// Somebody is not to talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// None: until further notice.
    pub(super) until: Option<SystemTime>,
}

/// Why something is not passed on.
#[derive(Debug)]
pub(super) enum Unsaid {
    Rejected(Rejected),
    /// Whoever says it does not talk here any more: the seat was given up, or a newer stream has taken this one's place.
    Gone,
}

impl From<Rejected> for Unsaid {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl Silence {
    fn holds(self) -> bool {
        self.until.is_none_or(|until| SystemTime::now() < until)
    }

    pub(super) fn to_proto(self) -> pb::ChatSilence {
        pb::ChatSilence { silenced: true, until: self.until.map(Into::into) }
    }
}

impl Talk {
    /// Of a session that goes on after what was `said`, as far as it is known: oldest first.
    pub(super) fn after(said: Vec<ChatRecord>, limits: &ChatLimits) -> Self {
        let mut talk = Self::default();
        for record in said {
            talk.newest_id = talk.newest_id.max(record.id);
            let audience = match (record.from, record.to, record.team) {
                // What was said to one player is of the seat, whose reader's place is not known yet.
                (_, Some(_), _) => continue,
                (_, None, Some(team)) => Audience::Team { team, players: None },
                (None, None, None) => Audience::System,
                (Some(_), None, None) => Audience::Everyone,
            };
            let ChatRecord { id, tick, time, from, from_name, text, .. } = record;
            let line = Line { id, tick, time, audience, from, from_name: from_name.into(), text };
            talk.remember(&Arc::new(line), limits);
        }
        talk
    }

    /// A player's part, if they sit.
    pub(super) fn member(&mut self, player: PlayerId) -> Option<&mut Member> {
        self.members.get_mut(&player).filter(|member| member.sits())
    }

    /// A player's part, if they sit, and this is the stream by which they talk.
    pub(super) fn speaker(&mut self, player: PlayerId, reader: &Arc<Reader>) -> Result<&mut Member, Unsaid> {
        let is_theirs = |member: &&mut Member| member.reader.as_ref().is_some_and(|own| Arc::ptr_eq(own, reader));
        self.member(player).filter(is_theirs).ok_or(Unsaid::Gone)
    }

    pub(super) fn check_recipient(&mut self, player: PlayerId) -> Result<(), Rejected> {
        match self.member(player) {
            Some(_) => Ok(()),
            None => Err(Rejected::new(Rejection::NoSuchPlayer, format!("nobody here is player {player}"))),
        }
    }

    pub(super) fn remember(&mut self, line: &Arc<Line>, limits: &ChatLimits) {
        let most = limits.history_max;
        match line.audience {
            Audience::Everyone | Audience::System => self.everyone.push(line, most),
            Audience::Team { team, .. } => {
                self.teams.entry(team).or_default().push(line, most);
                if self.teams.len() > TEAMS_MAX
                    && let Some((&oldest, _)) = self.teams.iter().min_by_key(|(_, history)| history.newest_id())
                {
                    self.teams.remove(&oldest);
                }
            }
            Audience::Direct(to) => {
                // A player may talk to themselves.
                let parties: BTreeSet<PlayerId> = line.from.into_iter().chain([to]).collect();
                for party in parties {
                    if let Some(member) = self.members.get_mut(&party) {
                        member.direct.push(line, most);
                    }
                }
            }
        }
    }

    /// The part of who comes to listen, if they are a player; or why they may not.
    pub(super) fn part(&self, listener: &Listener) -> Result<Option<&Member>, Refusal> {
        let Listener::Player { seat, token } = listener else { return Ok(None) };
        let member = self.members.get(&seat.player).filter(|member| member.sits()).ok_or_else(seat_ended)?;
        // Since it was looked up, the seat may have been resumed, which has given it a newer one.
        if seat.chat.is_newest(*token) { Ok(Some(member)) } else { Err(unknown_token()) }
    }

    /// What was said before that a listener would have got, oldest first.
    pub(super) fn history(
        &self,
        recipient: Recipient,
        member: Option<&Member>,
        after_id: u64,
        limits: &ChatLimits,
    ) -> Vec<pb::ChatLine> {
        let histories = [&self.everyone].into_iter().chain(self.teams.values()).chain(member.map(|it| &it.direct));
        let is_heard = |line: &&Arc<Line>| {
            line.id > after_id && line.is_for(recipient) && member.is_none_or(|member| !member.has_muted(line))
        };
        let mut lines: Vec<&Arc<Line>> = histories.flat_map(History::iter).filter(is_heard).collect();
        lines.sort_unstable_by_key(|line| line.id);
        let mut bytes_left = HISTORY_BYTES_MAX;
        let newest = lines.iter().rev().take(limits.history_max).map(|line| line.to_proto(0));
        let fits = |line: &pb::ChatLine| {
            let left = bytes_left.checked_sub(line.encoded_len());
            bytes_left = left.unwrap_or_default();
            left.is_some()
        };
        let mut history: Vec<pb::ChatLine> = newest.take_while(fits).collect();
        history.reverse();
        history
    }
}

impl Member {
    fn sits(&self) -> bool {
        self.seat.upgrade().is_some_and(|seat| seat.chat.ending().is_none())
    }

    pub(super) fn has_muted(&self, line: &Line) -> bool {
        line.from.is_some_and(|from| self.mutes.contains(&from))
    }

    /// That whoever runs the server has them not talk now.
    pub(super) fn silence(&self) -> Option<Silence> {
        self.silence.filter(|silence| silence.holds())
    }

    pub(super) fn check_silence(&self) -> Result<(), Rejected> {
        let Some(Silence { until }) = self.silence() else { return Ok(()) };
        let rejected = Rejected::new(Rejection::Silenced, "whoever runs the server has silenced you");
        let left = until.and_then(|until| until.duration_since(SystemTime::now()).ok());
        Err(match left {
            Some(left) => rejected.retry_after(left),
            None => rejected,
        })
    }
}
