//! Whether a request's messages arrive in time: who begins one is to finish it, and the first is to come.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};
use tonic::{Code, Status};

use crate::status::Refusal;

/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Follows the messages of a body.
#[derive(Debug)]
pub(super) struct Arrival {
    patience: Duration,
    progress: Progress,
    /// Set while a message is awaited: the first, or the rest of one that has begun.
    due: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    /// Of the message, once its prefix is whole.
    left: usize,
}

impl Progress {
    /// Goes on by so many bytes: whether a message has ended among them.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut has_ended = false;
        while !bytes.is_empty() {
            if self.prefix_bytes < PREFIX_BYTES {
                let count = bytes.len().min(PREFIX_BYTES - self.prefix_bytes);
                let (part, rest) = bytes.split_at(count);
                self.prefix[self.prefix_bytes..self.prefix_bytes + count].copy_from_slice(part);
                self.prefix_bytes += count;
                bytes = rest;
                let [_, length @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length) as usize;
            } else {
                let count = bytes.len().min(self.left);
                bytes = &bytes[count..];
                self.left -= count;
            }
            if self.prefix_bytes == PREFIX_BYTES && self.left == 0 {
                self.prefix_bytes = 0;
                has_ended = true;
            }
        }
        has_ended
    }

    fn is_between_messages(&self) -> bool {
        self.prefix_bytes == 0
    }
}

impl Arrival {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, progress: Progress::default(), due: Some(Box::pin(sleep(patience))) }
    }

    /// Bytes have come.
    pub(super) fn note(&mut self, bytes: &[u8]) {
        let has_begun = self.progress.is_between_messages();
        let has_ended = self.progress.take(bytes);
        if self.progress.is_between_messages() {
            // A stream may be quiet for as long as it likes.
            self.due = None;
        } else if has_begun || has_ended {
            let by = Instant::now() + self.patience;
            match &mut self.due {
                Some(due) => due.as_mut().reset(by),
                None => self.due = Some(Box::pin(sleep(self.patience))),
            }
        }
    }

    /// Ready: what is awaited is late.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let Some(due) = &mut self.due else { return Poll::Pending };
        due.as_mut().poll(cx).map(|()| {
            let message = format!("no message, or not the whole of one, came within {:?}", self.patience);
            Refusal::new(Code::DeadlineExceeded, "NO_MESSAGE", message).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn is_late_after(arrival: &mut Arrival, time: Duration) -> bool {
        tokio::time::timeout(time, poll_fn(|cx| arrival.poll_late(cx))).await.is_ok()
    }

    #[test]
    fn messages_end_where_their_prefixes_say() {
        let mut progress = Progress::default();
        assert!(!progress.take(&[0, 0, 0]) && !progress.take(&[0, 2, 7]) && !progress.is_between_messages());
        assert!(progress.take(&[7, 0, 0, 0, 0, 0]) && progress.is_between_messages(), "the second is empty");
        assert!(progress.take(&[0, 0, 0, 0, 0, 1]) && !progress.is_between_messages());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_message_and_the_rest_of_each_are_awaited_and_nothing_else_is() {
        let mut arrival = Arrival::new(PATIENCE);
        assert!(!is_late_after(&mut arrival, PATIENCE - Duration::from_secs(1)).await);
        arrival.note(&[0, 0]);
        assert!(!is_late_after(&mut arrival, PATIENCE - Duration::from_secs(1)).await, "it has begun");
        arrival.note(&[0, 0, 1]);
        assert!(is_late_after(&mut arrival, Duration::from_secs(2)).await, "a byte now and then is not enough");

        let mut arrival = Arrival::new(PATIENCE);
        arrival.note(&[0, 0, 0, 0, 1, 5]);
        assert!(!is_late_after(&mut arrival, PATIENCE * 100).await, "who has said something may be quiet");
        arrival.note(&[0]);
        assert!(is_late_after(&mut arrival, PATIENCE + Duration::from_secs(1)).await);
    }
}
