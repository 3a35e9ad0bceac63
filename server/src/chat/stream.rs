//! A stream of the room: what comes up is taken in by a task of its own, whatever becomes of what goes down.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use tickwire_proto::v1::{self as pb, chat_message::Kind};
use tickwire_shared::PlayerId;
use tokio::{sync::watch, task::AbortHandle, time::timeout};
use tonic::{Code, Status, Streaming};
use tracing::{
    Instrument as _, Span, debug, error_span,
    field::{Empty, display},
    warn,
};

use super::{
    allowance::Allowance,
    counters::{Rejected, Rejection},
    hello,
    moderation::{ModeratedChannel, ModeratedLine, NoVerdict, Verdict},
    parse::{self, Say, To, Word},
    reader::Reader,
    room::Listener,
    talk::Unsaid,
    text,
};
use crate::{
    config::ChatLimits,
    server::{Phase, Shared},
    session::{SessionHandle, SessionState},
    status::Refusal,
};

/// How long it takes until one rejection is forgiven.
const FORGIVEN_AFTER: Duration = Duration::from_secs(2);

/// The messages of a new stream, as bytes.
pub(super) fn open(
    shared: Arc<Shared>,
    up: Streaming<pb::ChatMessage>,
) -> impl Stream<Item = Result<Bytes, Status>> + Send + use<> {
    let reader = Arc::<Reader>::default();
    // Of the highest level, so that its lines name it whatever the filter. The request's span is around it.
    let span = error_span!("chat", session = Empty, player = Empty);
    let uplink = run(shared, up, Uplink(Arc::clone(&reader))).instrument(span);
    let uplink = tokio::spawn(uplink).abort_handle();
    stream::unfold(Downlink { reader, uplink }, |downlink| async move {
        let message = downlink.reader.next().await?;
        Some((message, downlink))
    })
}

/// What goes down. Dropped, it ends what comes up, too.
struct Downlink {
    reader: Arc<Reader>,
    uplink: AbortHandle,
}

impl Drop for Downlink {
    fn drop(&mut self) {
        self.uplink.abort();
    }
}

/// What comes up. Dropped before its end, as by a panic of the game's, it ends what goes down.
struct Uplink(Arc<Reader>);

impl Drop for Uplink {
    fn drop(&mut self) {
        self.0.end(Status::internal("the stream's task has failed"));
    }
}

async fn run(shared: Arc<Shared>, mut up: Streaming<pb::ChatMessage>, uplink: Uplink) {
    let reader = &uplink.0;
    let status = match attend(&shared, &mut up, reader).await {
        Ok(()) => {
            debug!("a chat stream ends");
            Status::ok("")
        }
        Err(refusal) => {
            debug!(reason = refusal.reason, message = refusal.message, "a chat stream ends");
            refusal.into()
        }
    };
    reader.end(status);
}

/// Takes in what comes until the client closes its side, or the stream is to end.
async fn attend(
    shared: &Arc<Shared>,
    up: &mut Streaming<pb::ChatMessage>,
    reader: &Arc<Reader>,
) -> Result<(), Refusal> {
    let patience = shared.timeouts.hello;
    let first = timeout(patience, next(up)).await.map_err(|_| {
        Refusal::new(Code::DeadlineExceeded, "NO_HELLO", format!("no hello came within {patience:?}")).field("hello")
    })?;
    let Some(first) = first? else {
        let message = "the stream was closed before its hello";
        return Err(Refusal::new(Code::FailedPrecondition, "HELLO_MISSING", message).field("hello"));
    };
    let hello = parse::hello(first)?;
    let (session, listener) = hello::find(shared, &hello)?;
    let span = Span::current();
    span.record("session", display(&session.name));
    if let Some(player) = listener.player() {
        span.record("player", player.0);
    }
    debug!("a chat stream is let in");
    // Before anything is handed out, so that none of it comes too late to be noticed.
    let ended = session.chat.ended();
    let guest = Guest { shared, session: &session, listener: &listener, reader };
    let limits = guest.limits();
    reader.join(&session.chat.counters);
    session.chat.enter(&session, &listener, reader, hello.after_id, &limits)?;
    tokio::select! {
        biased;
        refusal = guest.gone(ended) => Err(refusal),
        talked = guest.talk(up) => talked,
    }
}

/// The client's next message; `None` once it has closed its side.
async fn next(up: &mut Streaming<pb::ChatMessage>) -> Result<Option<pb::ChatMessage>, Refusal> {
    up.message().await.map_err(|status| match status.code() {
        Code::OutOfRange => Refusal::new(Code::ResourceExhausted, "MESSAGE_TOO_LONG", status.message()),
        // One that has begun does not come to its end.
        Code::DeadlineExceeded => Refusal::new(Code::DeadlineExceeded, "NO_MESSAGE", status.message()),
        code => Refusal::new(code, "MALFORMED", status.message()),
    })
}

/// Somebody in the room. Dropped, they are out of it.
struct Guest<'a> {
    shared: &'a Arc<Shared>,
    session: &'a Arc<SessionHandle>,
    listener: &'a Listener,
    reader: &'a Arc<Reader>,
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.session.chat.exit(self.listener, self.reader);
    }
}

impl Guest<'_> {
    fn limits(&self) -> ChatLimits {
        self.shared.limits().chat
    }

    /// Waits until nobody can listen here any more: why.
    async fn gone(&self, mut ended: watch::Receiver<bool>) -> Refusal {
        let mut phase = self.shared.phase.subscribe();
        tokio::select! {
            biased;
            // An error says that the server is gone, and with it all of its tasks.
            _ = phase.wait_for(|phase| *phase == Phase::Ending) => Refusal::shutting_down(),
            _ = ended.wait_for(|ended| *ended) => match self.session.state() {
                SessionState::Failed => {
                    let message = format!("{}: the game of this session failed", self.session.name);
                    Refusal::new(Code::Aborted, "SESSION_FAILED", message)
                }
                SessionState::Ended => {
                    let message = format!("{} has ended", self.session.name);
                    Refusal::new(Code::FailedPrecondition, "SESSION_ENDED", message)
                }
                SessionState::Running | SessionState::Stopped => Refusal::shutting_down(),
            },
            refusal = hello::gone(self.listener) => refusal,
        }
    }

    async fn talk(&self, up: &mut Streaming<pb::ChatMessage>) -> Result<(), Refusal> {
        let (started, mut patience) = (Instant::now(), Allowance::default());
        while let Some(message) = next(up).await? {
            // Another one may have taken the place of this one, or its answers are not read.
            if self.reader.has_ended() {
                break;
            }
            let limits = self.limits();
            let word = parse::word(message)?;
            let (client_ref, is_said) = match &word {
                Word::Say(say) => (say.client_ref, true),
                Word::Mute(_) | Word::Unmute(_) => (0, false),
            };
            let done = self.take(word, &limits).await;
            // What is said is bounded by its own allowance; all else by this.
            let costs_patience = done.is_err() || !is_said;
            match done {
                Ok(()) => {}
                Err(Unsaid::Rejected(rejected)) => {
                    self.session.chat.counters.note_rejected(rejected.reason);
                    self.reader.word(Kind::Rejected(rejected.to_proto(client_ref)));
                }
                // Of a stream that has given way to a newer one the end has been told.
                Err(Unsaid::Gone) => {
                    return self.listener.ending().map_or(Ok(()), |ending| Err(hello::seat_gone(ending)));
                }
            }
            if costs_patience
                && let Err(wait) = patience.take(started.elapsed(), FORGIVEN_AFTER, limits.rejections_max.get())
            {
                let message = format!("{} rejections and changes of mutes at once are the most", limits.rejections_max);
                return Err(Refusal::new(Code::ResourceExhausted, "FLOODING", message).retry_after(wait));
            }
        }
        Ok(())
    }

    async fn take(&self, word: Word, limits: &ChatLimits) -> Result<(), Unsaid> {
        let room = &self.session.chat;
        let Some(player) = self.listener.player() else {
            return Err(Rejected::new(Rejection::ReadOnly, "spectators only read").into());
        };
        let by = (player, self.reader);
        match word {
            Word::Mute(other) => room.mute(by, other, true, limits),
            Word::Unmute(other) => room.mute(by, other, false, limits),
            Word::Say(say) => {
                text::check(&say.text, limits)?;
                room.allow(self.session, by, &say, limits)?;
                let say = self.moderate(player, say, limits).await?;
                room.say(self.session, by, say, limits)
            }
        }
    }

    /// Asks the server's moderator, where there is one.
    async fn moderate(&self, player: PlayerId, say: Say, limits: &ChatLimits) -> Result<Say, Rejected> {
        let Some(moderation) = &self.shared.moderation else { return Ok(say) };
        let frame = self.session.replicator.newest();
        let line = ModeratedLine {
            session: self.session.name.to_string(),
            player,
            name: frame.roster.row(player).map_or_else(String::new, |row| row.name.to_string()),
            channel: match say.to {
                To::Everyone => ModeratedChannel::Everyone,
                To::Team => ModeratedChannel::Team,
                To::Direct(to) => ModeratedChannel::Direct(to),
            },
            text: say.text.clone(),
        };
        let unmoderated = |message: &str| Rejected::new(Rejection::Unmoderated, message);
        match moderation.judge(line, self.shared.timeouts.moderation).await {
            Ok(Verdict::Allow) => Ok(say),
            Ok(Verdict::Reject(reason)) => Err(Rejected::new(Rejection::Moderated, reason)),
            Ok(Verdict::Rewrite(text)) => match text::check(&text, limits) {
                Ok(()) => Ok(Say { text, ..say }),
                Err(Rejected { message, .. }) => {
                    warn!(session = %self.session.name, message, "the moderator's text is none that can be passed on");
                    Err(unmoderated("the server's moderation has failed"))
                }
            },
            Err(NoVerdict::Panicked) => Err(unmoderated("the server's moderation has failed")),
            Err(NoVerdict::Late) => Err(unmoderated("the server's moderation does not answer: try again later")),
        }
    }
}
