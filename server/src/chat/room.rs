//! A session's room: who may talk and listen there, what was said, and whom the operator has silenced.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use tickwire_proto::v1::{self as pb, chat_message::Kind};
use tickwire_recording::ChatRecord;
use tickwire_shared::{Frame, PlayerId};
use tokio::sync::watch;
use tonic::Code;

use super::{
    counters::{ChatCounters, Rejected, Rejection},
    line::{Audience, Line, Recipient},
    parse::{Say, To},
    reader::Reader,
    talk::{Member, Silence, Talk, Unsaid},
};
use crate::{
    config::ChatLimits,
    session::{Ending, HeldSeat, SessionHandle, TokenId},
    status::Refusal,
};

/// Each epoch has so many ids, as a power of two: lines that were said and that no recording has do not give theirs to others.
const EPOCH_SHIFT: u32 = 32;
/// Lines that wait to be recorded with the next tick.
const UNRECORDED_MAX: usize = 1024;

/// A session's room.
#[derive(Debug)]
pub(crate) struct Room {
    /// What allowances are counted from.
    started: Instant,
    pub(crate) counters: Arc<ChatCounters>,
    talk: Mutex<Talk>,
    /// For the recorder; none where nothing is recorded. Its lock is held for a push or a swap, never longer: the session's
    /// thread takes it once a tick.
    unrecorded: Option<Mutex<Vec<ChatRecord>>>,
    ended: watch::Sender<bool>,
}

/// Who listens.
#[derive(Clone, Debug)]
pub(super) enum Listener {
    Player {
        seat: Arc<HeldSeat>,
        /// Which one was shown.
        token: TokenId,
    },
    /// Who watches, for as long as this is open.
    Spectator(watch::Receiver<()>),
}

/// Who says something: a player, by a stream.
type Speaker<'a> = (PlayerId, &'a Arc<Reader>);

/// A session as of its newest frame. It asks the game, so that the room's lock may not be held.
struct Moment<'a> {
    session: &'a SessionHandle,
    frame: Arc<Frame>,
}

impl Listener {
    pub(super) fn player(&self) -> Option<PlayerId> {
        match self {
            Self::Player { seat, .. } => Some(seat.player),
            Self::Spectator(_) => None,
        }
    }

    /// How their seat was given up, if it was.
    pub(super) fn ending(&self) -> Option<Ending> {
        match self {
            Self::Player { seat, .. } => seat.chat.ending(),
            Self::Spectator(_) => None,
        }
    }
}

impl<'a> Moment<'a> {
    fn of(session: &'a SessionHandle) -> Self {
        Self { session, frame: session.replicator.newest() }
    }

    fn team(&self, player: PlayerId) -> Option<u32> {
        self.session.replicator.game().team(player, &self.frame)
    }

    /// The team that a player talks to.
    fn team_of(&self, player: PlayerId) -> Result<u32, Rejected> {
        self.team(player).ok_or_else(|| Rejected::new(Rejection::NoTeam, "the game has you in no team"))
    }

    fn players_of(&self, team: u32) -> BTreeSet<PlayerId> {
        let players = self.frame.seats.iter().map(|seat| seat.player);
        players.filter(|player| self.team(*player) == Some(team)).collect()
    }

    fn name(&self, player: PlayerId) -> Arc<str> {
        self.frame.roster.row(player).map_or_else(|| Arc::from(""), |row| Arc::clone(&row.name))
    }
}

impl Room {
    /// Of a new session, or of one that goes on after what was `said`, as far as it is known: oldest first. The ids of lines
    /// rise over all epochs, also where nothing is known of those before.
    pub(crate) fn new(epoch: u32, is_recorded: bool, said: Vec<ChatRecord>, limits: &ChatLimits) -> Self {
        let mut talk = Talk::after(said, limits);
        talk.newest_id = talk.newest_id.max(u64::from(epoch) << EPOCH_SHIFT);
        Self {
            started: Instant::now(),
            counters: Arc::default(),
            talk: Mutex::new(talk),
            unrecorded: is_recorded.then(Mutex::default),
            ended: watch::Sender::new(false),
        }
    }

    /// Somebody has sat down, or sits down anew: their stream of before ends.
    pub(crate) fn seat(&self, seat: &Arc<HeldSeat>) {
        let mut talk = self.lock();
        talk.members.retain(|_, member| member.seat.strong_count() > 0);
        let member = talk.members.entry(seat.player).or_default();
        member.seat = Arc::downgrade(seat);
        if let Some(reader) = member.reader.take() {
            reader.end(displaced("the seat has been resumed by another stream").into());
        }
    }

    /// Ends all streams: the session is over.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Comes true when the session is over.
    pub(super) fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    /// What was said since the last call, for the recorder.
    pub(crate) fn take_unrecorded(&self) -> Vec<ChatRecord> {
        self.unrecorded.as_ref().map(|unrecorded| std::mem::take(&mut *lock(unrecorded))).unwrap_or_default()
    }

    /// Lets somebody listen: a stream of theirs of before ends, and this one gets a welcome.
    pub(super) fn enter(
        &self,
        session: &SessionHandle,
        listener: &Listener,
        reader: &Arc<Reader>,
        after_id: u64,
        limits: &ChatLimits,
    ) -> Result<(), Refusal> {
        let moment = Moment::of(session);
        let player = listener.player();
        let recipient = Recipient { player, team: player.and_then(|player| moment.team(player)) };
        let mut talk = self.lock();
        let member = talk.part(listener)?;
        let history = talk.history(recipient, member, after_id, limits);
        let welcome = welcome(&moment, recipient, member, history, limits);
        // Before any line: it is the first message.
        reader.word(Kind::Welcome(welcome));
        let before = match listener {
            Listener::Player { seat, .. } => {
                talk.members.get_mut(&seat.player).and_then(|member| member.reader.replace(Arc::clone(reader)))
            }
            Listener::Spectator(stream) => {
                let others = &mut talk.spectators;
                let before = others.iter().position(|(other, _)| other.same_channel(stream));
                let before = before.map(|before| others.swap_remove(before).1);
                others.push((stream.clone(), Arc::clone(reader)));
                before
            }
        };
        drop(talk);
        if let Some(before) = before {
            before.end(displaced("a newer stream has taken the place of this one").into());
        }
        Ok(())
    }

    /// A stream is gone.
    pub(super) fn exit(&self, listener: &Listener, reader: &Arc<Reader>) {
        let mut talk = self.lock();
        match listener {
            Listener::Player { seat, .. } => {
                if let Some(member) = talk.members.get_mut(&seat.player) {
                    member.reader.take_if(|current| Arc::ptr_eq(current, reader));
                }
            }
            Listener::Spectator(_) => talk.spectators.retain(|(_, other)| !Arc::ptr_eq(other, reader)),
        }
    }

    /// Whether a player may say something now; if so, it is counted as said.
    pub(super) fn allow(
        &self,
        session: &SessionHandle,
        (player, reader): Speaker<'_>,
        say: &Say,
        limits: &ChatLimits,
    ) -> Result<(), Unsaid> {
        if say.to == To::Team {
            Moment::of(session).team_of(player)?;
        }
        let now = self.started.elapsed();
        let mut talk = self.lock();
        talk.speaker(player, reader)?.check_silence()?;
        if let To::Direct(to) = say.to {
            talk.check_recipient(to)?;
        }
        let interval = Duration::from_secs(60) / limits.per_minute.get();
        let allowance = &mut talk.speaker(player, reader)?.allowance;
        Ok(allowance.take(now, interval, limits.burst.get()).map_err(|wait| {
            let message =
                format!("more than {} lines at once, or {} a minute: slower", limits.burst, limits.per_minute);
            Rejected::new(Rejection::Flooding, message).retry_after(wait)
        })?)
    }

    /// Passes on what a player says. Since it was allowed, a moderator may have taken a while: all that matters is looked at
    /// anew.
    pub(super) fn say(
        &self,
        session: &SessionHandle,
        (player, reader): Speaker<'_>,
        say: Say,
        limits: &ChatLimits,
    ) -> Result<(), Unsaid> {
        let Say { to, text, client_ref } = say;
        let moment = Moment::of(session);
        let audience = match to {
            To::Everyone => Audience::Everyone,
            To::Direct(to) => Audience::Direct(to),
            To::Team => {
                let team = moment.team_of(player)?;
                Audience::Team { team, players: Some(moment.players_of(team)) }
            }
        };
        let from = Some((player, moment.name(player)));
        let mut talk = self.lock();
        talk.speaker(player, reader)?.check_silence()?;
        if let Audience::Direct(to) = audience {
            talk.check_recipient(to)?;
        }
        self.pass_on(session, &mut talk, audience, from, text, client_ref, limits);
        Ok(())
    }

    /// Says something in the server's name, to everyone.
    pub(super) fn announce(&self, session: &SessionHandle, text: String, limits: &ChatLimits) {
        let mut talk = self.lock();
        self.pass_on(session, &mut talk, Audience::System, None, text, 0, limits);
    }

    #[expect(clippy::too_many_arguments, reason = "all that makes a line, from its two callers alone")]
    fn pass_on(
        &self,
        session: &SessionHandle,
        talk: &mut Talk,
        audience: Audience,
        from: Option<(PlayerId, Arc<str>)>,
        text: String,
        client_ref: u64,
        limits: &ChatLimits,
    ) {
        talk.newest_id += 1;
        let (from, from_name) = from.map_or_else(|| (None, Arc::from("")), |(player, name)| (Some(player), name));
        let (id, tick, time) = (talk.newest_id, session.clock.tick(), SystemTime::now());
        let line = Arc::new(Line { id, tick, time, audience, from, from_name, text });
        self.counters.sent.fetch_add(1, Ordering::Relaxed);
        self.record(&line);
        talk.remember(&line, limits);
        let (bytes, waiting_max) = (line.encode(0), limits.waiting_max.get());
        for (&player, member) in &talk.members {
            let Some(reader) = &member.reader else { continue };
            let recipient = Recipient { player: Some(player), team: None };
            if !line.is_for(recipient) || member.has_muted(&line) {
                continue;
            }
            // The sender's own says which of theirs it is.
            let is_own = client_ref != 0 && line.from == Some(player);
            reader.line(if is_own { line.encode(client_ref) } else { bytes.clone() }, waiting_max);
        }
        if line.is_for(Recipient { player: None, team: None }) {
            talk.spectators.iter().for_each(|(_, reader)| reader.line(bytes.clone(), waiting_max));
        }
    }

    fn record(&self, line: &Line) {
        let Some(unrecorded) = &self.unrecorded else { return };
        let (to, team) = match line.audience {
            Audience::Everyone | Audience::System => (None, None),
            Audience::Team { team, .. } => (None, Some(team)),
            Audience::Direct(to) => (Some(to), None),
        };
        let mut unrecorded = lock(unrecorded);
        if unrecorded.len() >= UNRECORDED_MAX {
            // The session's thread is stuck.
            self.counters.unrecorded.fetch_add(1, Ordering::Relaxed);
            return;
        }
        unrecorded.push(ChatRecord {
            id: line.id,
            tick: line.tick,
            time: line.time,
            from: line.from,
            from_name: line.from_name.to_string(),
            to,
            team,
            text: line.text.clone(),
        });
    }

    /// Changes whom a player hears.
    pub(super) fn mute(
        &self,
        (player, reader): Speaker<'_>,
        other: PlayerId,
        is_muted: bool,
        limits: &ChatLimits,
    ) -> Result<(), Unsaid> {
        let mut talk = self.lock();
        let Member { mutes, .. } = talk.speaker(player, reader)?;
        if !is_muted {
            mutes.remove(&other);
        } else if mutes.len() >= limits.mutes_max && !mutes.contains(&other) {
            let message = format!("{} players are muted, which is the most: unmute one first", mutes.len());
            return Err(Rejected::new(Rejection::MutesFull, message).into());
        } else {
            mutes.insert(other);
        }
        let players = mutes.iter().map(|player| player.0).collect();
        reader.word(Kind::Mutes(pb::ChatMutes { players }));
        Ok(())
    }

    /// Has a player not talk until a time, or until further notice; or lets them again. False where nobody sits there.
    pub(super) fn silence(&self, player: PlayerId, silence: Option<Option<SystemTime>>) -> bool {
        let mut talk = self.lock();
        let Some(member) = talk.member(player) else { return false };
        member.silence = silence.map(|until| Silence { until });
        if let Some(reader) = &member.reader {
            let lifted = pb::ChatSilence { silenced: false, until: None };
            reader.word(Kind::Silence(member.silence.map_or(lifted, Silence::to_proto)));
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Talk> {
        lock(&self.talk)
    }
}

impl ChatLimits {
    fn to_proto(self) -> pb::ChatLimits {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        pb::ChatLimits {
            text_chars_max: number(self.chars_max),
            text_bytes_max: number(self.bytes_max),
            burst: self.burst.get(),
            per_minute: self.per_minute.get(),
            waiting_max: number(self.waiting_max.get()),
            mutes_max: number(self.mutes_max),
        }
    }
}

/// The first message of a stream.
fn welcome(
    moment: &Moment<'_>,
    Recipient { player, team }: Recipient,
    member: Option<&Member>,
    history: Vec<pb::ChatLine>,
    limits: &ChatLimits,
) -> pb::ChatWelcome {
    let may_talk = [pb::ChatChannel::Everyone, pb::ChatChannel::Direct];
    let team_talk = team.map(|_| pb::ChatChannel::Team);
    pb::ChatWelcome {
        session: moment.session.name.to_string(),
        player: player.map_or(0, |player| player.0),
        name: player.map_or_else(String::new, |player| moment.name(player).to_string()),
        channels: may_talk.into_iter().chain(team_talk).filter(|_| player.is_some()).map(i32::from).collect(),
        team,
        limits: Some(limits.to_proto()),
        muted_players: member.iter().flat_map(|member| &member.mutes).map(|player| player.0).collect(),
        silence: member.and_then(Member::silence).map(Silence::to_proto),
        history,
    }
}

fn displaced(message: &str) -> Refusal {
    Refusal::new(Code::Aborted, "DISPLACED", message)
}

/// Of a seat that was given up before its stream came to listen.
pub(super) fn seat_ended() -> Refusal {
    let message = "the seat was given up, or its session has ended: join as a new player";
    Refusal::new(Code::FailedPrecondition, "SEAT_ENDED", message).field("hello.chat_token")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
