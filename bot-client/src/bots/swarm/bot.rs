//! One bot, from its join to its end.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
};

use tickwire_arena::Arena;
use tokio::time::{Instant, sleep_until};
use tonic::Code;

use super::{
    super::{
        behaviour::{Behaviour, Moment},
        chatter::Chatter,
        roles::Role,
        tickets::Tickets,
        timeline::Diary,
    },
    end::End,
    handle::SwarmHandle,
    outcome::Outcome,
};
use crate::{
    connection::{Client, ClientError, ConnectOptions, code_name},
    core::{Event, JoinOptions, Stripes},
};

pub(super) struct Bot {
    pub(super) url: String,
    pub(super) options: JoinOptions,
    pub(super) tickets: Tickets,
    pub(super) connect_options: ConnectOptions,
    pub(super) role: Role,
    pub(super) predict: bool,
    pub(super) chat_per_minute: u32,
    pub(super) seed: u64,
    pub(super) swarm_start: Instant,
    pub(super) start: Instant,
    pub(super) deadline: Instant,
}

impl Bot {
    pub(super) async fn play(self, handle: SwarmHandle, end: Arc<End>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut end = pin!(end.wait());
        let join = async {
            sleep_until(self.start).await;
            // Only now: it would expire meanwhile.
            let JoinOptions { player_name, session, .. } = &self.options;
            let ticket = self.tickets.issue(tickwire_ticket::Role::Player, player_name, session);
            let ticket = ticket.map_err(|error| (Code::Internal, error.to_string()))?;
            let options = JoinOptions { ticket, ..self.options.clone() };
            let client = Client::connect_with(&self.url, &options, &self.connect_options).await;
            client.map_err(|failure| (failure.code(), failure.to_string()))
        };
        let joined = tokio::select! {
            biased;
            () = &mut end => {
                // One that an early end kept from joining has not failed.
                if Instant::now() >= self.deadline {
                    handle.shared.failed.fetch_add(1, Ordering::Relaxed);
                    let text = "the time was over before the server answered: is it a Tickwire server?";
                    outcome.fail(code_name(Code::DeadlineExceeded), text.to_owned());
                }
                return outcome;
            }
            joined = join => joined,
        };
        let failure = match joined {
            Ok(mut client) => {
                let mut playing = Playing { handle: &handle, is_counted: false };
                playing.set(true);
                let mut chatter = Chatter::new(self.chat_per_minute, self.seed);
                let played = tokio::select! {
                    biased;
                    () = &mut end => Ok(()),
                    Err(failure) = self.act(&mut client, &mut chatter, &mut playing) => Err(failure),
                };
                outcome.chat = chatter.map(|chatter| chatter.counts).unwrap_or_default();
                client.sample_age();
                outcome.measure(&client, self.options.snapshot_copies);
                drop(playing);
                let ended = match played {
                    Ok(()) => client.leave().await,
                    Err(failure) => Err(failure),
                };
                ended.map_err(|failure| (failure.code(), failure.to_string()))
            }
            Err(failure) => Err(failure),
        };
        if let Err((code, text)) = failure {
            handle.shared.failed.fetch_add(1, Ordering::Relaxed);
            outcome.fail(code_name(code), text);
        }
        outcome
    }

    /// Plays until the stream ends, which for a bot is a failure.
    async fn act(
        &self,
        client: &mut Client,
        chatter: &mut Option<Chatter>,
        playing: &mut Playing<'_>,
    ) -> Result<Never, ClientError> {
        let handle = playing.handle;
        if self.predict {
            match client.predict(&Arena) {
                Ok(_) => {}
                Err(error) => handle.note(format!("nothing is predicted: {error}")),
            }
        }
        let granted = client.core().stripes_max();
        if let Stripes::Fixed(wanted) = self.options.stripes
            && (granted as u64) < u64::from(wanted)
        {
            handle.note(format!("--stripes {wanted}: the server grants {granted}"));
        }
        let mut behaviour = Behaviour::new(&self.role, client.core().schema(), self.seed);
        let mut input = client.core().schema().neutral_input();
        let rate = client.core().tick_rate();
        let mut diary = Diary::new(self.swarm_start.elapsed().saturating_sub(client.connected_for()));
        talk(client, chatter, handle).await;
        loop {
            let event = match chatter {
                None => client.next().await?,
                Some(chatter) => tokio::select! {
                    biased;
                    event = client.next() => event?,
                    () = chatter.talk() => {
                        chatter.lose();
                        continue;
                    }
                },
            };
            match event {
                Some(Event::InputDue(tick)) => {
                    behaviour.choose(&Moment { tick, rate, mirror: client.mirror() }, &mut input);
                    client.set_input(&input)?;
                }
                Some(Event::Snapshot(_)) => {
                    handle.shared.snapshots.fetch_add(1, Ordering::Relaxed);
                    diary.keep(client, &handle.shared.timeline);
                }
                Some(Event::Goodbye { reason, text }) => return Err(ClientError::Goodbye { reason, text }),
                Some(Event::ConnectionLost) => playing.set(false),
                Some(Event::Reconnected { .. }) => {
                    playing.set(true);
                    talk(client, chatter, handle).await;
                }
                Some(
                    // The next call says why.
                    Event::GaveUp(_)
                    | Event::Desync(_)
                    | Event::Predicted { .. }
                    | Event::Draining(_)
                    | Event::DrainCancelled
                    | Event::Announcement(_)
                    | Event::Paused
                    | Event::Resumed,
                ) => {}
                None => return Err(ClientError::Ended),
            }
        }
    }
}

/// Counts a bot among those that play, while it does.
struct Playing<'a> {
    handle: &'a SwarmHandle,
    is_counted: bool,
}

impl Playing<'_> {
    fn set(&mut self, plays: bool) {
        match (std::mem::replace(&mut self.is_counted, plays), plays) {
            (false, true) => self.handle.shared.playing.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.handle.shared.playing.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
    }
}

impl Drop for Playing<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// Has a bot begin to talk, where it is to.
async fn talk(client: &mut Client, chatter: &mut Option<Chatter>, handle: &SwarmHandle) {
    if let Some(chatter) = chatter
        && let Err(error) = chatter.join(client).await
    {
        handle.note(format!("nobody talks: {error}"));
    }
}

/// What there is none of.
enum Never {}
