//! What waits for one reader: bounded, so that nobody waits for them.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use prost::Message as _;
use tickwire_proto::v1::{self as pb, chat_message::Kind};
use tokio::sync::Notify;
use tonic::{Code, Status};

use super::counters::ChatCounters;
use crate::status::Refusal;

/// Answers that wait for a reader who reads none of them: more are more than a stream's limit of rejections lets come at once.
const WORDS_MAX: usize = 256;

/// A reader's queue, between whoever talks and the stream of who reads.
#[derive(Debug, Default)]
pub(super) struct Reader {
    queue: Mutex<Queue>,
    news: Notify,
    /// Those of the room; until it has entered one there is nothing to count.
    counters: OnceLock<Arc<ChatCounters>>,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    lines: usize,
    /// Lines that were dropped and have not been told of.
    dropped: u64,
    end: Option<Status>,
    is_over: bool,
}

#[derive(Debug)]
enum Item {
    /// It may be dropped.
    Line(Bytes),
    /// An answer to the reader. It is not dropped.
    Word(Bytes),
}

impl Reader {
    /// Begins to count with a room.
    pub(super) fn join(&self, counters: &Arc<ChatCounters>) {
        let _ = self.counters.set(Arc::clone(counters));
    }

    /// Takes a line, and drops the oldest ones that wait where there are more than `waiting_max`.
    pub(super) fn line(&self, line: Bytes, waiting_max: usize) {
        let mut queue = self.lock();
        if queue.end.is_some() {
            return;
        }
        queue.items.push_back(Item::Line(line));
        queue.lines += 1;
        while queue.lines > waiting_max
            && let Some(oldest) = queue.items.iter().position(|item| matches!(item, Item::Line(_)))
        {
            queue.items.remove(oldest);
            queue.lines -= 1;
            queue.dropped += 1;
            self.count(|counters| &counters.dropped);
        }
        drop(queue);
        self.news.notify_one();
    }

    /// Takes what is said to this reader alone.
    pub(super) fn word(&self, kind: Kind) {
        let mut queue = self.lock();
        if queue.end.is_some() {
            return;
        }
        if queue.items.len() - queue.lines >= WORDS_MAX {
            let message = "you do not read the answers to what you say: read the stream";
            queue.end = Some(Refusal::new(Code::ResourceExhausted, "NOT_READING", message).into());
        } else {
            queue.items.push_back(Item::Word(encoded(kind)));
        }
        drop(queue);
        self.news.notify_one();
    }

    /// Ends the stream behind what waits. Of several ends the first counts.
    pub(super) fn end(&self, status: Status) {
        self.lock().end.get_or_insert(status);
        self.news.notify_one();
    }

    /// Whether its end has been decided on.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().end.is_some()
    }

    /// What goes out next; `None` once the stream has ended in order, or after its status.
    pub(super) async fn next(&self) -> Option<Result<Bytes, Status>> {
        loop {
            match self.look() {
                Look::Message(message) => return Some(Ok(message)),
                Look::End(status) if status.code() == Code::Ok => return None,
                Look::End(status) => return Some(Err(status)),
                Look::Over => return None,
                Look::Nothing => self.news.notified().await,
            }
        }
    }

    fn look(&self) -> Look {
        let mut queue = self.lock();
        // What was dropped came before any line that waits.
        if queue.dropped > 0 && !matches!(queue.items.front(), Some(Item::Word(_))) {
            let lines = std::mem::take(&mut queue.dropped);
            return Look::Message(encoded(Kind::Dropped(pb::ChatDropped { lines })));
        }
        match queue.items.pop_front() {
            Some(Item::Word(word)) => Look::Message(word),
            Some(Item::Line(line)) => {
                queue.lines -= 1;
                self.count(|counters| &counters.delivered);
                Look::Message(line)
            }
            None if queue.is_over => Look::Over,
            None => match queue.end.clone() {
                None => Look::Nothing,
                Some(status) => {
                    queue.is_over = true;
                    Look::End(status)
                }
            },
        }
    }

    fn count(&self, counter: impl FnOnce(&ChatCounters) -> &AtomicU64) {
        if let Some(counters) = self.counters.get() {
            counter(counters).fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a look at the queue comes to.
enum Look {
    Message(Bytes),
    End(Status),
    /// The end has been told.
    Over,
    Nothing,
}

/// A message as the wire has it.
pub(super) fn encoded(kind: Kind) -> Bytes {
    pb::ChatMessage { kind: Some(kind) }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn reader() -> Reader {
        let reader = Reader::default();
        reader.join(&Arc::default());
        reader
    }

    fn line(id: u64) -> Bytes {
        encoded(Kind::Line(pb::ChatLine { id, ..pb::ChatLine::default() }))
    }

    fn rejected(client_ref: u64) -> Kind {
        Kind::Rejected(pb::ChatRejected { client_ref, ..pb::ChatRejected::default() })
    }

    /// What can be had now.
    fn read(reader: &Reader) -> Option<Result<Kind, Code>> {
        let next = reader.next().now_or_never()??;
        let message = |bytes: Bytes| pb::ChatMessage::decode(bytes).expect("a message").kind.expect("with a kind");
        Some(next.map(message).map_err(|status| status.code()))
    }

    #[test]
    fn of_too_many_lines_the_oldest_are_dropped_and_the_reader_is_told_before_the_next() {
        let reader = reader();
        reader.word(rejected(9));
        (1..=5).for_each(|id| reader.line(line(id), 2));
        assert_eq!(read(&reader), Some(Ok(rejected(9))));
        assert_eq!(read(&reader), Some(Ok(Kind::Dropped(pb::ChatDropped { lines: 3 }))));
        let ids: Vec<_> = std::iter::from_fn(|| read(&reader)).collect();
        assert!(
            matches!(&ids[..], [Ok(Kind::Line(four)), Ok(Kind::Line(five))] if (four.id, five.id) == (4, 5)),
            "{ids:?}"
        );
        let ChatCounters { dropped, delivered, .. } = &**reader.counters.get().expect("it has joined");
        assert_eq!((dropped.load(Ordering::Relaxed), delivered.load(Ordering::Relaxed)), (3, 2));
    }

    #[test]
    fn a_limit_that_is_lowered_holds_with_the_next_line() {
        let reader = reader();
        (1..=5).for_each(|id| reader.line(line(id), 9));
        reader.line(line(6), 2);
        assert_eq!(read(&reader), Some(Ok(Kind::Dropped(pb::ChatDropped { lines: 4 }))));
        assert_eq!(std::iter::from_fn(|| read(&reader)).count(), 2);
    }

    #[test]
    fn the_first_end_counts_and_comes_behind_what_waits() {
        let reader = reader();
        reader.line(line(1), 2);
        reader.end(Status::aborted("first"));
        reader.end(Status::ok("second"));
        reader.line(line(2), 2);
        assert!(matches!(read(&reader), Some(Ok(Kind::Line(_)))));
        assert_eq!(read(&reader), Some(Err(Code::Aborted)));
        assert!(reader.next().now_or_never().is_some_and(|next| next.is_none()));
    }

    #[test]
    fn who_reads_no_answers_is_let_go() {
        let reader = reader();
        for answer in 0..=WORDS_MAX as u64 {
            assert!(!reader.has_ended());
            reader.word(rejected(answer));
        }
        assert!(reader.has_ended());
        let all: Vec<_> = std::iter::from_fn(|| read(&reader)).collect();
        assert_eq!((all.len(), all.last()), (WORDS_MAX + 1, Some(&Err(Code::ResourceExhausted))));
    }

    proptest! {
        /// Whenever lines come and are read, what is read and what is told to be dropped is all that there was, in order.
        #[test]
        fn every_line_is_read_in_order_or_told_to_be_dropped(steps in vec((0..9_usize, 0..9_usize), 1..40), most in 1..5_usize) {
            let reader = reader();
            let (mut sent, mut heard) = (0, 0);
            let mut hear = |kind| match kind {
                Kind::Line(line) => { heard += 1; assert_eq!(line.id, heard); }
                Kind::Dropped(dropped) => { assert!(dropped.lines > 0); heard += dropped.lines; }
                other => panic!("{other:?}"),
            };
            for (lines, reads) in steps {
                for _ in 0..lines {
                    sent += 1;
                    reader.line(line(sent), most);
                }
                for _ in 0..reads {
                    read(&reader).into_iter().flatten().for_each(&mut hear);
                }
            }
            std::iter::from_fn(|| read(&reader)).flatten().for_each(&mut hear);
            prop_assert_eq!(heard, sent);
        }
    }
}
