//! What comes from the client, frame by frame: what is for a lane, what is for HTTP/2, and what both have to know.

use super::{
    super::frames::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEAD_BYTES, HEADERS, Head, PADDED, PUSH_PROMISE, PartialHead,
        RST_STREAM, SETTINGS, WINDOW_UPDATE, u31,
    },
    FRAME_BYTES_MIN, FlowControlError, KEPT_BYTES_MAX, Lanes, Reading, Sink, report,
};

/// What may wait on a lane to be taken in: a client that sends more does not keep to its window.
const INBOX_BYTES_MAX: usize = 64 * 1024;
/// Streams that have begun, and of which nobody has said what they are.
pub(super) const YOUNG_MAX: usize = 256;

impl Lanes {
    /// Takes in what comes from the client.
    pub(in crate::net) fn receive(&mut self, mut bytes: &[u8]) -> Result<(), FlowControlError> {
        while !bytes.is_empty() {
            match &mut self.reading {
                Reading::Preface { left } => {
                    let count = bytes.len().min(*left);
                    *left -= count;
                    let is_whole = *left == 0;
                    let (part, rest) = bytes.split_at(count);
                    bytes = rest;
                    self.tell_http(part);
                    if is_whole {
                        self.reading = Reading::Head(PartialHead::default());
                    }
                }
                Reading::Head(partial) => {
                    let Some(head) = partial.take(&mut bytes) else { return Ok(()) };
                    self.begin(head)?;
                }
                &mut Reading::Payload { left, head, to } => {
                    let (part, rest) = bytes.split_at(bytes.len().min(left));
                    bytes = rest;
                    self.put(head, to, part)?;
                    self.go_on(left - part.len(), head, to)?;
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, head: Head) -> Result<(), FlowControlError> {
        self.frames.all += 1;
        self.frames.control += u32::from(head.is_control());
        let to = self.sink(head);
        match to {
            Sink::Http => self.tell_http(&head.bytes()),
            Sink::Held => self.held.extend_from_slice(&head.bytes()),
            Sink::Lane => {}
        }
        self.go_on(head.length, head, to)
    }

    fn go_on(&mut self, left: usize, head: Head, to: Sink) -> Result<(), FlowControlError> {
        if left > 0 {
            self.reading = Reading::Payload { left, head, to };
            return Ok(());
        }
        self.reading = Reading::Head(PartialHead::default());
        match to {
            Sink::Http => {}
            Sink::Lane if head.has(END_STREAM) => self.close(head.stream),
            Sink::Lane => {}
            Sink::Held => {
                let held = std::mem::take(&mut self.held);
                self.look_at(head, &held)?;
                if held.capacity() <= KEPT_BYTES_MAX {
                    self.held = held;
                    self.held.clear();
                }
            }
        }
        Ok(())
    }

    /// Where a frame goes. What is against the rules goes to HTTP/2, which says so.
    fn sink(&mut self, head: Head) -> Sink {
        let Head { length, kind, stream, .. } = head;
        if matches!(kind, HEADERS | PUSH_PROMISE) || self.in_headers && kind == CONTINUATION {
            self.in_headers = !head.has(END_HEADERS);
        }
        match kind {
            DATA if !self.in_headers && (1..=FRAME_BYTES_MIN).contains(&length) => match self.open_lane(stream) {
                Some(_) if head.has(PADDED) => Sink::Held,
                Some(_) => Sink::Lane,
                None => Sink::Http,
            },
            WINDOW_UPDATE if length == 4 && !self.in_headers => Sink::Held,
            SETTINGS if length <= FRAME_BYTES_MIN && !head.has(ACK) => Sink::Held,
            HEADERS | RST_STREAM | DATA => {
                let is_young = |(young, _): &(u32, i64)| *young == stream;
                if kind == HEADERS && self.lane(stream).is_none() && !self.young.iter().any(is_young) {
                    if self.young.len() == YOUNG_MAX {
                        self.young.remove(0);
                    }
                    self.young.push((stream, 0));
                }
                if (kind != DATA || head.has(END_STREAM))
                    && let Some(lane) = self.open_lane(stream)
                {
                    lane.is_closed = true;
                    let calls = lane.calls;
                    self.calls = self.calls.and(calls);
                }
                Sink::Http
            }
            _ => Sink::Http,
        }
    }

    fn put(&mut self, head: Head, to: Sink, part: &[u8]) -> Result<(), FlowControlError> {
        match to {
            Sink::Http => self.tell_http(part),
            Sink::Held => self.held.extend_from_slice(part),
            Sink::Lane => return self.deliver(head.stream, part, part.len()),
        }
        Ok(())
    }

    /// `window_bytes` is what it takes of the client's windows. The connection's outlives the stream.
    fn deliver(&mut self, stream: u32, bytes: &[u8], window_bytes: usize) -> Result<(), FlowControlError> {
        self.unreported += window_bytes;
        report(0, &mut self.unreported, &mut self.reports);
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.stream == stream) else { return Ok(()) };
        lane.unreported += window_bytes;
        if lane.is_deaf {
            report(stream, &mut lane.unreported, &mut self.reports);
            return Ok(());
        }
        if lane.inbox.len() + bytes.len() > INBOX_BYTES_MAX {
            return Err(FlowControlError);
        }
        lane.inbox.extend_from_slice(bytes);
        self.calls = self.calls.and(lane.calls);
        Ok(())
    }

    /// The client has closed its side of a lane's stream: HTTP/2 learns of it by a frame without bytes.
    fn close(&mut self, stream: u32) {
        self.tell_http(&Head { length: 0, kind: DATA, flags: END_STREAM, stream }.bytes());
        if let Some(lane) = self.lane(stream) {
            lane.is_closed = true;
            let calls = lane.calls;
            self.calls = self.calls.and(calls);
        }
    }

    /// Does what a whole frame says, and hands it on where HTTP/2 is to know it.
    fn look_at(&mut self, head: Head, frame: &[u8]) -> Result<(), FlowControlError> {
        let payload = &frame[HEAD_BYTES..];
        match head.kind {
            DATA => match payload.split_first() {
                Some((&padding, rest)) if usize::from(padding) <= rest.len() => {
                    let bytes = &rest[..rest.len() - usize::from(padding)];
                    self.deliver(head.stream, bytes, head.length)?;
                    if head.has(END_STREAM) {
                        self.close(head.stream);
                    }
                }
                _ => self.tell_http(frame),
            },
            SETTINGS => {
                self.apply(payload)?;
                self.tell_http(frame);
            }
            _ => {
                let increment = u31(payload.try_into().expect("it has four bytes"));
                if self.widen(head.stream, increment)? {
                    self.tell_http(frame);
                }
            }
        }
        Ok(())
    }
}
