//! Many bots on few threads.

mod bot;
mod config;
mod end;
mod handle;
mod outcome;
#[cfg(test)]
mod tests;

use std::{io, panic, pin::pin, sync::Arc, thread, time::Duration};

use tokio::{runtime, task::JoinSet, time::Instant};

pub(super) use self::outcome::Outcome;
use self::{bot::Bot, end::End};
pub use self::{config::SwarmConfig, handle::SwarmHandle, outcome::Failures};
use super::{report::Report, roles::assign, tickets::TicketsError, trace::TraceFileError};
use crate::core::JoinOptions;

/// A swarm that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// Bots without anything to do.
    #[error("behaviours: name at least one")]
    NoBehaviour,
    /// A trace that cannot be had.
    #[error(transparent)]
    Trace(#[from] TraceFileError),
    /// Tickets that cannot be issued.
    #[error(transparent)]
    Ticket(#[from] TicketsError),
    /// The operating system refused a thread or its event queue.
    #[error("cannot start a thread for the bots: {0}")]
    Thread(#[from] io::Error),
}

/// Plays a swarm to its end, on threads of its own, and reports. It blocks; do not call it from a task.
///
/// # Errors
/// Where it cannot be started. Bots that fail are reported, not returned.
pub fn run(config: &SwarmConfig, handle: &SwarmHandle) -> Result<(Report, Failures), SwarmError> {
    if config.behaviours.is_empty() {
        return Err(SwarmError::NoBehaviour);
    }
    let roles = assign(&config.behaviours, config.bots)?;
    // What keeps one bot from having a ticket keeps all.
    config.tickets.issue(tickwire_ticket::Role::Player, "nobody", &config.session)?;
    let cpu_before = process_cpu();
    let start = Instant::now();
    let all_joined = start + config.ramp();
    let deadline = all_joined + config.duration;

    let threads = config.threads.clamp(1, config.bots.max(1));
    let mut teams: Vec<Vec<Bot>> = (0..threads).map(|_| Vec::new()).collect();
    for (i, role) in roles.into_iter().enumerate() {
        teams[i % threads].push(Bot {
            url: config.url.clone(),
            options: JoinOptions {
                session: config.session.clone(),
                player_name: format!("bot-{}", i + 1),
                stripes: config.stripes,
                snapshot_copies: config.snapshot_copies,
                resume: config.resume,
                ..JoinOptions::default()
            },
            tickets: config.tickets.clone(),
            role,
            predict: config.predict,
            chat_per_minute: config.chat_per_minute,
            connect_options: config.connect_options(i),
            seed: config.seed.wrapping_add(bot_seed(i)),
            swarm_start: start,
            start: start + config.join_delay(i),
            deadline,
        });
    }
    let total = play_teams(teams, handle)?;
    let seconds = all_joined.elapsed().min(config.duration).as_secs_f64();
    let cpu = process_cpu().saturating_sub(cpu_before).as_secs_f64();
    let report = Report::of(config.bots, seconds, cpu, &total);
    Ok((report, total.errors))
}

/// What is added to a seed for a bot: distinct, and spread by the generator's own seeding.
fn bot_seed(bot: usize) -> u64 {
    (bot as u64) << 32
}

fn play_teams(teams: Vec<Vec<Bot>>, handle: &SwarmHandle) -> Result<Outcome, SwarmError> {
    let mut threads = Vec::new();
    for (i, team) in teams.into_iter().enumerate() {
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = handle.clone();
        let play = move || runtime.block_on(play_team(team, handle));
        threads.push(thread::Builder::new().name(format!("bots-{i}")).spawn(play)?);
    }
    let mut total = Outcome::default();
    for thread in threads {
        total.merge(thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause)));
    }
    Ok(total)
}

async fn play_team(team: Vec<Bot>, handle: SwarmHandle) -> Outcome {
    let Some(deadline) = team.first().map(|bot| bot.deadline) else { return Outcome::default() };
    let end = Arc::new(End::default());
    let mut bots = JoinSet::new();
    for bot in team {
        bots.spawn(bot.play(handle.clone(), Arc::clone(&end)));
    }
    let mut total = Outcome::default();
    let mut ended = pin!(handle.ended(deadline));
    loop {
        tokio::select! {
            outcome = bots.join_next() => match outcome {
                // Nobody aborts bots, so that a task that did not return has panicked.
                Some(outcome) => total.merge(outcome.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))),
                None => return total,
            },
            () = &mut ended, if !end.has_come() => end.come(),
        }
    }
}

/// The CPU time that this process has used, user and system.
fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
