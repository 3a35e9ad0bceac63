//! A session's room: who may talk and listen there, what was said, and whom the operator has silenced.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use tickwire_proto::v1::{self as pb, chat_message::Kind};
use tickwire_recording::ChatRecord;
use tickwire_shared::{Frame, PlayerId};
use tokio::sync::watch;
use tonic::Code;

use super::{
    allowance::Allowance,
    counters::{ChatCounters, Rejected, Rejection},
    line::{Audience, History, Line, Recipient},
    parse::{Say, To},
    reader::Reader,
};
use crate::{
    config::ChatLimits,
    session::{HeldSeat, SessionHandle},
    status::Refusal,
};

/// Teams of which something is remembered. More than the seats of any game that has teams.
const TEAMS_MAX: usize = 64;
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

#[derive(Debug, Default)]
struct Talk {
    newest_id: u64,
    /// Whoever has sat down, until somebody else does after they are gone.
    members: BTreeMap<PlayerId, Member>,
    spectators: Vec<(watch::Receiver<()>, Arc<Reader>)>,
    /// To everyone, the server's lines among them.
    everyone: History,
    teams: BTreeMap<u32, History>,
}

/// A player's part in it, which outlives their streams.
#[derive(Debug)]
struct Member {
    seat: Weak<HeldSeat>,
    reader: Option<Arc<Reader>>,
    /// Whom they do not hear.
    mutes: BTreeSet<PlayerId>,
    allowance: Allowance,
    silence: Option<Silence>,
    direct: History,
}

/// Somebody is not to talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Silence {
    /// None: until further notice.
    until: Option<SystemTime>,
}

/// Who listens.
#[derive(Clone, Debug)]
pub(super) enum Listener {
    Player(Arc<HeldSeat>),
    /// Who watches, for as long as this is open.
    Spectator(watch::Receiver<()>),
}

/// What a line needs of the session at the moment at which it is said.
struct Moment {
    frame: Arc<Frame>,
    /// The teams of those who sit: known only where it matters.
    teams: BTreeMap<PlayerId, u32>,
}

impl Listener {
    pub(super) fn player(&self) -> Option<PlayerId> {
        match self {
            Self::Player(seat) => Some(seat.player),
            Self::Spectator(_) => None,
        }
    }
}

impl Silence {
    fn holds(self) -> bool {
        self.until.is_none_or(|until| SystemTime::now() < until)
    }

    fn to_proto(self) -> pb::ChatSilence {
        pb::ChatSilence { silenced: true, until: self.until.map(Into::into) }
    }
}

impl Moment {
    fn of(session: &SessionHandle) -> Self {
        Self { frame: session.replicator.newest(), teams: BTreeMap::new() }
    }

    fn with_teams(self, session: &SessionHandle) -> Self {
        let game = session.replicator.game();
        let seats = self.frame.seats.iter();
        let teams = seats.filter_map(|seat| Some((seat.player, game.team(seat.player, &self.frame)?))).collect();
        Self { teams, ..self }
    }

    fn name(&self, player: PlayerId) -> Arc<str> {
        self.frame.roster.row(player).map_or_else(|| Arc::from(""), |row| Arc::clone(&row.name))
    }
}

impl Room {
    /// Of a new session, or of one that goes on after what was `said`, as far as it is known: oldest first.
    pub(crate) fn new(is_recorded: bool, said: Vec<ChatRecord>, limits: &ChatLimits) -> Self {
        let mut talk = Talk::default();
        for record in said {
            talk.newest_id = talk.newest_id.max(record.id);
            // What was said to one player is of the seat, whose reader's place is not known yet.
            let audience = match (record.from, record.to, record.team) {
                (_, Some(_), _) => continue,
                (_, None, Some(team)) => Audience::Team(team),
                (None, None, None) => Audience::System,
                (Some(_), None, None) => Audience::Everyone,
            };
            let ChatRecord { id, tick, time, from, from_name, text, .. } = record;
            talk.remember(
                &Arc::new(Line { id, tick, time, audience, from, from_name: from_name.into(), text }),
                limits,
            );
        }
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
        let member = talk.members.entry(seat.player).or_insert_with(|| Member {
            seat: Weak::new(),
            reader: None,
            mutes: BTreeSet::new(),
            allowance: Allowance::default(),
            silence: None,
            direct: History::default(),
        });
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
        let moment = Moment::of(session).with_teams(session);
        let mut talk = self.lock();
        let welcome = talk.welcome(session, &moment, listener, after_id, limits)?;
        // Before any line: it is the first message.
        reader.word(Kind::Welcome(welcome));
        let before = match listener {
            Listener::Player(seat) => {
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
            Listener::Player(seat) => {
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
        player: PlayerId,
        say: &Say,
        limits: &ChatLimits,
    ) -> Result<(), Rejected> {
        if say.to == To::Team {
            team_of(session, player)?;
        }
        let now = self.started.elapsed();
        let mut talk = self.lock();
        talk.check_silence(player)?;
        if let To::Direct(to) = say.to {
            talk.check_recipient(to)?;
        }
        let Some(member) = talk.members.get_mut(&player) else { return Ok(()) };
        let interval = Duration::from_secs(60) / limits.per_minute.get();
        member.allowance.take(now, interval, limits.burst.get()).map_err(|wait| {
            let message =
                format!("more than {} lines at once, or {} a minute: slower", limits.burst, limits.per_minute);
            Rejected::new(Rejection::Flooding, message).retry_after(wait)
        })
    }

    /// Passes on what a player says.
    pub(super) fn say(
        &self,
        session: &SessionHandle,
        player: PlayerId,
        say: Say,
        limits: &ChatLimits,
    ) -> Result<(), Rejected> {
        let Say { to, text, client_ref } = say;
        let moment = Moment::of(session);
        let (audience, moment) = match to {
            To::Everyone => (Audience::Everyone, moment),
            To::Direct(to) => (Audience::Direct(to), moment),
            // Once more: between the two, a moderator may have taken a while.
            To::Team => (Audience::Team(team_of(session, player)?), moment.with_teams(session)),
        };
        let from = Some((player, moment.name(player)));
        let mut talk = self.lock();
        talk.check_silence(player)?;
        if let Audience::Direct(to) = audience {
            talk.check_recipient(to)?;
        }
        self.pass_on(session, &mut talk, &moment, audience, from, text, client_ref, limits);
        Ok(())
    }

    /// Says something in the server's name, to everyone.
    pub(super) fn announce(&self, session: &SessionHandle, text: String, limits: &ChatLimits) {
        let moment = Moment::of(session);
        let mut talk = self.lock();
        self.pass_on(session, &mut talk, &moment, Audience::System, None, text, 0, limits);
    }

    #[expect(clippy::too_many_arguments, reason = "all that makes a line, from its two callers alone")]
    fn pass_on(
        &self,
        session: &SessionHandle,
        talk: &mut Talk,
        moment: &Moment,
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
        let bytes = line.encode(0);
        for (&player, member) in &talk.members {
            let Some(reader) = &member.reader else { continue };
            let recipient = Recipient { player: Some(player), team: moment.teams.get(&player).copied() };
            if !line.is_for(recipient) || member.has_muted(&line) {
                continue;
            }
            // The sender's own says which of theirs it is.
            let is_own = client_ref != 0 && line.from == Some(player);
            reader.line(if is_own { line.encode(client_ref) } else { bytes.clone() });
        }
        if line.is_for(Recipient { player: None, team: None }) {
            talk.spectators.iter().for_each(|(_, reader)| reader.line(bytes.clone()));
        }
    }

    fn record(&self, line: &Line) {
        let Some(unrecorded) = &self.unrecorded else { return };
        let (to, team) = match line.audience {
            Audience::Everyone | Audience::System => (None, None),
            Audience::Team(team) => (None, Some(team)),
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
        player: PlayerId,
        other: PlayerId,
        is_muted: bool,
        limits: &ChatLimits,
    ) -> Result<(), Rejected> {
        let mut talk = self.lock();
        let Some(Member { mutes, reader, .. }) = talk.members.get_mut(&player) else { return Ok(()) };
        if !is_muted {
            mutes.remove(&other);
        } else if mutes.len() >= limits.mutes_max && !mutes.contains(&other) {
            let message = format!("{} players are muted, which is the most: unmute one first", mutes.len());
            return Err(Rejected::new(Rejection::MutesFull, message));
        } else {
            mutes.insert(other);
        }
        if let Some(reader) = reader {
            let players = mutes.iter().map(|player| player.0).collect();
            reader.word(Kind::Mutes(pb::ChatMutes { players }));
        }
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

impl Talk {
    /// A player's part, if they sit.
    fn member(&mut self, player: PlayerId) -> Option<&mut Member> {
        self.members.get_mut(&player).filter(|member| member.sits())
    }

    fn check_silence(&mut self, player: PlayerId) -> Result<(), Rejected> {
        match self.member(player).and_then(|member| member.silence).filter(|silence| silence.holds()) {
            None => Ok(()),
            Some(Silence { until }) => {
                let rejected = Rejected::new(Rejection::Silenced, "whoever runs the server has silenced you");
                let left = until.and_then(|until| until.duration_since(SystemTime::now()).ok());
                Err(match left {
                    Some(left) => rejected.retry_after(left),
                    None => rejected,
                })
            }
        }
    }

    fn check_recipient(&mut self, player: PlayerId) -> Result<(), Rejected> {
        match self.member(player) {
            Some(_) => Ok(()),
            None => Err(Rejected::new(Rejection::NoSuchPlayer, format!("nobody here is player {player}"))),
        }
    }

    fn remember(&mut self, line: &Arc<Line>, limits: &ChatLimits) {
        let most = limits.history_max;
        match line.audience {
            Audience::Everyone | Audience::System => self.everyone.push(line, most),
            Audience::Team(team) => {
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

    fn welcome(
        &self,
        session: &SessionHandle,
        moment: &Moment,
        listener: &Listener,
        after_id: u64,
        limits: &ChatLimits,
    ) -> Result<pb::ChatWelcome, Refusal> {
        let player = listener.player();
        let member = match player {
            None => None,
            Some(player) => Some(self.members.get(&player).filter(|member| member.sits()).ok_or_else(seat_ended)?),
        };
        let recipient = Recipient { player, team: player.and_then(|player| moment.teams.get(&player).copied()) };
        let may_talk = [pb::ChatChannel::Everyone, pb::ChatChannel::Direct];
        let team_talk = recipient.team.map(|_| pb::ChatChannel::Team);
        let channels = may_talk.into_iter().chain(team_talk).filter(|_| player.is_some()).map(i32::from).collect();
        let histories = [Some(&self.everyone), recipient.team.and_then(|team| self.teams.get(&team))];
        let histories = histories.into_iter().chain([member.map(|member| &member.direct)]).flatten();
        let heard = |line: &&Arc<Line>| line.id > after_id && member.is_none_or(|member| !member.has_muted(line));
        let mut history: Vec<&Arc<Line>> = histories.flat_map(History::iter).filter(heard).collect();
        history.sort_unstable_by_key(|line| line.id);
        let excess = history.len().saturating_sub(limits.history_max);
        Ok(pb::ChatWelcome {
            session: session.name.to_string(),
            player: player.map_or(0, |player| player.0),
            name: player.map_or_else(String::new, |player| moment.name(player).to_string()),
            channels,
            team: recipient.team,
            limits: Some(limits.to_proto()),
            muted_players: member.iter().flat_map(|member| &member.mutes).map(|player| player.0).collect(),
            silence: member.and_then(|member| member.silence).filter(|silence| silence.holds()).map(Silence::to_proto),
            history: history[excess..].iter().map(|line| line.to_proto(0)).collect(),
        })
    }
}

impl Member {
    fn sits(&self) -> bool {
        self.seat.upgrade().is_some_and(|seat| seat.chat.ending().is_none())
    }

    fn has_muted(&self, line: &Line) -> bool {
        line.from.is_some_and(|from| self.mutes.contains(&from))
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

/// The team that a player talks to. It asks the game, so that no lock may be held.
fn team_of(session: &SessionHandle, player: PlayerId) -> Result<u32, Rejected> {
    let frame = session.replicator.newest();
    let team = session.replicator.game().team(player, &frame);
    team.ok_or_else(|| Rejected::new(Rejection::NoTeam, "the game has you in no team"))
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
