//! What the server's owner has to say about lines before anybody sees them: asked on threads of its own, so that a slow answer
//! delays the line and nothing else.

use std::{
    collections::VecDeque,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tickwire_shared::PlayerId;
use tokio::{sync::oneshot, time::timeout};
use tracing::error;

/// Threads that ask. One that never gets an answer is lost: with all of them lost, nothing passes any more.
const THREADS_MAX: usize = 4;
/// Lines that wait to be asked about. A stream has one at a time.
const WAITING_MAX: usize = 1024;

/// Decides what is said on a server: [`ServerConfig::moderator`](crate::ServerConfig::moderator).
///
/// It is called on threads of its own, several at a time, and may take its time: the line waits, and what its sender says after
/// it. After [`Timeouts::moderation`](crate::Timeouts::moderation) the line is rejected, as it is where the call panics.
pub trait Moderator: fmt::Debug + Send + Sync + 'static {
    /// Judges a line. It has passed all of the server's own rules.
    fn judge(&self, line: &ModeratedLine) -> Verdict;
}

/// A line that somebody wants to say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModeratedLine {
    /// The session's name, such as `sessions/arena-1`.
    pub session: String,
    /// Who says it.
    pub player: PlayerId,
    /// Under which name.
    pub name: String,
    /// To whom.
    pub channel: ModeratedChannel,
    /// What.
    pub text: String,
}

/// To whom a line is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeratedChannel {
    /// All of the session.
    Everyone,
    /// The sender's team.
    Team,
    /// One player.
    Direct(PlayerId),
}

/// What becomes of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes as it is.
    Allow,
    /// This passes in its place. It must keep to the rules for texts.
    Rewrite(String),
    /// It does not pass, and the sender is told why.
    Reject(String),
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoVerdict {
    Panicked,
    /// Not in time; or too many lines wait.
    Late,
}

/// The threads that ask a moderator.
#[derive(Debug)]
pub(crate) struct Moderation(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    moderator: Arc<dyn Moderator>,
    queue: Mutex<Queue>,
    asked: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Question>,
    threads: usize,
    idle: usize,
    closing: bool,
}

#[derive(Debug)]
struct Question {
    line: ModeratedLine,
    answer: oneshot::Sender<Option<Verdict>>,
}

impl Moderation {
    /// Without threads as yet: they come with what there is to ask.
    pub(crate) fn new(moderator: Arc<dyn Moderator>) -> Self {
        Self(Arc::new(Pool { moderator, queue: Mutex::default(), asked: Condvar::new() }))
    }

    pub(super) async fn judge(&self, line: ModeratedLine, deadline: Duration) -> Result<Verdict, NoVerdict> {
        let (answer, verdict) = oneshot::channel();
        self.ask(Question { line, answer })?;
        match timeout(deadline, verdict).await {
            Ok(Ok(Some(verdict))) => Ok(verdict),
            Ok(Ok(None) | Err(_)) => Err(NoVerdict::Panicked),
            Err(_) => Err(NoVerdict::Late),
        }
    }

    fn ask(&self, question: Question) -> Result<(), NoVerdict> {
        let mut queue = self.0.lock();
        // Nobody waits any more for those that are late.
        queue.waiting.retain(|question| !question.answer.is_closed());
        if queue.waiting.len() >= WAITING_MAX {
            return Err(NoVerdict::Late);
        }
        queue.waiting.push_back(question);
        if queue.waiting.len() > queue.idle && queue.threads < THREADS_MAX {
            match self.start_thread() {
                Ok(()) => queue.threads += 1,
                Err(error) if queue.threads == 0 => {
                    error!(%error, "no thread to ask the moderator: what is said does not pass");
                    queue.waiting.clear();
                    return Err(NoVerdict::Late);
                }
                // Those that there are do it, one after the other.
                Err(_) => {}
            }
        }
        drop(queue);
        self.0.asked.notify_one();
        Ok(())
    }

    fn start_thread(&self) -> io::Result<()> {
        let pool = Arc::clone(&self.0);
        thread::Builder::new().name("tickwire-moderate".into()).spawn(move || pool.run()).map(drop)
    }
}

impl Drop for Moderation {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closing = true;
        queue.waiting.clear();
        drop(queue);
        self.0.asked.notify_all();
    }
}

impl Pool {
    fn run(&self) {
        let mut queue = self.lock();
        while !queue.closing {
            let Some(Question { line, answer }) = queue.waiting.pop_front() else {
                queue.idle += 1;
                queue = self.asked.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
                continue;
            };
            drop(queue);
            if !answer.is_closed() {
                let verdict = catch_unwind(AssertUnwindSafe(|| self.moderator.judge(&line))).ok();
                if verdict.is_none() {
                    error!(
                        session = line.session,
                        player = line.player.0,
                        "the moderator panicked: the line does not pass"
                    );
                }
                // Where nobody waits any more it is too late.
                let _ = answer.send(verdict);
            }
            queue = self.lock();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Answers by the text, or not before it is let, which it says.
    #[derive(Debug)]
    struct Scripted {
        let_go: Mutex<mpsc::Receiver<()>>,
        waits: mpsc::Sender<()>,
    }

    /// What lets it go, and what it says.
    fn scripted() -> (Moderation, mpsc::Sender<()>, mpsc::Receiver<()>) {
        let ((let_go, wait), (waits, stuck)) = (mpsc::channel(), mpsc::channel());
        (Moderation::new(Arc::new(Scripted { let_go: Mutex::new(wait), waits })), let_go, stuck)
    }

    impl Moderator for Scripted {
        fn judge(&self, line: &ModeratedLine) -> Verdict {
            match line.text.as_str() {
                "wait" => {
                    // An error lets it go, too.
                    let _ = self.waits.send(());
                    let _ = self.let_go.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    Verdict::Allow
                }
                "panic" => panic!("as the test wants it"),
                text => Verdict::Rewrite(text.to_uppercase()),
            }
        }
    }

    fn line(text: &str) -> ModeratedLine {
        ModeratedLine {
            session: "sessions/a-1".into(),
            player: PlayerId(1),
            name: "Ada".into(),
            channel: ModeratedChannel::Everyone,
            text: text.into(),
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_panic_or_no_answer_costs_one_line_and_others_are_judged_meanwhile() {
        let (moderation, let_go, _stuck) = scripted();
        assert_eq!(moderation.judge(line("hi"), LONG).await, Ok(Verdict::Rewrite("HI".into())));
        assert_eq!(moderation.judge(line("panic"), LONG).await, Err(NoVerdict::Panicked));
        assert_eq!(moderation.judge(line("wait"), Duration::from_millis(1)).await, Err(NoVerdict::Late));
        assert_eq!(moderation.judge(line("hi"), LONG).await, Ok(Verdict::Rewrite("HI".into())));
        drop(let_go);
    }

    #[tokio::test]
    async fn with_all_threads_stuck_lines_are_late_and_no_more_of_them_wait_than_are_waited_for() {
        let (moderation, let_go, stuck) = scripted();
        let mut threads = 0;
        while threads < THREADS_MAX {
            // It may be late before a thread has it.
            assert_eq!(moderation.judge(line("wait"), Duration::from_millis(1)).await, Err(NoVerdict::Late));
            threads += stuck.try_iter().count();
        }
        for _ in 0..3 {
            assert_eq!(moderation.judge(line("wait"), Duration::from_millis(1)).await, Err(NoVerdict::Late));
        }
        assert_eq!(moderation.judge(line("hi"), Duration::from_millis(1)).await, Err(NoVerdict::Late));
        assert!(moderation.0.lock().waiting.len() <= 1);
        drop(let_go);
        assert_eq!(moderation.judge(line("hi"), LONG).await, Ok(Verdict::Rewrite("HI".into())));
    }
}
