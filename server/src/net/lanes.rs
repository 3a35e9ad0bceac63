//! Lanes: what comes and goes on `Play` streams, beside HTTP/2.
//!
//! A stream begins and ends as any other. While it plays, all that it carries is small DATA frames, and those need none of
//! what HTTP/2 does for a stream: they are taken out of what comes before HTTP/2 sees it, and go out between its frames. What
//! remains to be done for them are windows. The connection's window for sending is split: HTTP/2 never holds more than every
//! connection begins with, and the lanes have the rest.

use super::{
    frames::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEAD_BYTES, HEADERS, Head, PADDED, PREFACE_BYTES,
        PUSH_PROMISE, PartialHead, RST_STREAM, SETTINGS, WINDOW_UPDATE, u31, window_update,
    },
    wake::Calls,
};

/// Of HTTP/2: the window that streams begin with where no settings say otherwise, and the connection in any case.
const WINDOW_BYTES: i64 = 65_535;
const WINDOW_BYTES_MAX: i64 = (1 << 31) - 1;
const FRAME_BYTES_MIN: usize = 16 * 1024;
const FRAME_BYTES_LIMIT: usize = (1 << 24) - 1;
const SETTING_INITIAL_WINDOW: u16 = 4;
const SETTING_FRAME_BYTES_MAX: u16 = 5;

/// The window that the lanes must have for one more to open. Clients that leave the connection's window as it is have none
/// to spare.
const POOL_BYTES_MIN: i64 = 64 * 1024;
/// Bytes of a lane, or of all lanes together, after which the client gets them back: with what HTTP/2 may owe it, less than
/// the window.
const UNREPORTED_BYTES_MAX: usize = 16 * 1024;
/// What may wait on a lane to be taken in: a client that sends more does not keep to its window.
const INBOX_BYTES_MAX: usize = 64 * 1024;
/// A buffer that has grown beyond this is let go.
const KEPT_BYTES_MAX: usize = 4096;
/// Bytes that HTTP/2 has sent after which it gets them back.
const OWED_BYTES_MAX: i64 = 16 * 1024;
/// Streams that have begun, and of which nobody has said what they are.
const YOUNG_MAX: usize = 256;

/// The client does not keep to flow control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlowControlError;

/// The lanes of one connection, and what comes on it.
#[derive(Debug)]
pub(super) struct Lanes {
    reading: Reading,
    /// Headers come in several frames, between which nothing else may come.
    in_headers: bool,
    /// A frame that is looked at as a whole.
    held: Vec<u8>,
    for_http: Vec<u8>,
    /// HTTP/2 has asked for more than has come.
    http_waits: bool,
    /// The client's settings as they count: what they lower does at once, what they raise once the client knows that HTTP/2 has
    /// them all.
    initial_window: i64,
    frame_bytes_max: usize,
    /// The settings as they came last.
    said_initial_window: i64,
    said_frame_bytes_max: usize,
    /// Frames with settings that HTTP/2 has not acknowledged yet.
    unacknowledged: usize,
    /// The connection's window for sending, beyond what HTTP/2 holds.
    pool: i64,
    /// What HTTP/2 has sent of its own and not got back.
    owed: i64,
    /// Their windows beyond the initial one.
    young: Vec<(u32, i64)>,
    lanes: Vec<Lane>,
    /// What came for lanes, and has not been given back to the connection's window. Of all together: shares of each, however
    /// small, would add up to the whole window.
    unreported: usize,
    /// Window updates for the client.
    reports: Vec<u8>,
    calls: Calls,
}

#[derive(Clone, Copy, Debug)]
enum Reading {
    Preface { left: usize },
    Head(PartialHead),
    Payload { left: usize, head: Head, to: Sink },
}

/// Where a payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    Http,
    Lane,
    Held,
}

#[derive(Debug)]
struct Lane {
    stream: u32,
    calls: Calls,
    /// Its window for sending, beyond the initial one.
    window: i64,
    /// It carries what comes and goes on the stream.
    is_open: bool,
    /// HTTP/2 has been told more of the stream: its end, most often.
    is_closed: bool,
    /// What comes on it is dropped.
    is_deaf: bool,
    inbox: Vec<u8>,
    unreported: usize,
    /// The rest of a message that waits for a window.
    outbox: Vec<u8>,
    /// Something of it waits for the kernel.
    is_pending: bool,
    /// Who sends waits for room.
    is_awaited: bool,
}

/// What has come on a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Nothing,
    Bytes,
    /// No more comes on it: what else there is, HTTP/2 knows.
    Closed,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self {
            reading: Reading::Preface { left: PREFACE_BYTES },
            in_headers: false,
            held: Vec::new(),
            for_http: Vec::new(),
            http_waits: false,
            initial_window: WINDOW_BYTES,
            frame_bytes_max: FRAME_BYTES_MIN,
            said_initial_window: WINDOW_BYTES,
            said_frame_bytes_max: FRAME_BYTES_MIN,
            unacknowledged: 0,
            pool: 0,
            owed: 0,
            young: Vec::new(),
            lanes: Vec::new(),
            unreported: 0,
            reports: Vec::new(),
            calls: Calls::NONE,
        }
    }

    /// What has come up for the connection's task to do.
    pub(super) fn take_calls(&mut self) -> Calls {
        std::mem::replace(&mut self.calls, Calls::NONE)
    }

    /// Takes in what comes from the client.
    pub(super) fn receive(&mut self, mut bytes: &[u8]) -> Result<(), FlowControlError> {
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

    fn apply(&mut self, settings: &[u8]) -> Result<(), FlowControlError> {
        for setting in settings.chunks_exact(6) {
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                SETTING_INITIAL_WINDOW if i64::from(value) <= WINDOW_BYTES_MAX => {
                    self.said_initial_window = value.into();
                    self.initial_window = self.initial_window.min(value.into());
                }
                SETTING_FRAME_BYTES_MAX if (FRAME_BYTES_MIN..=FRAME_BYTES_LIMIT).contains(&(value as usize)) => {
                    self.said_frame_bytes_max = value as usize;
                    self.frame_bytes_max = self.frame_bytes_max.min(value as usize);
                }
                _ => {}
            }
        }
        self.unacknowledged += 1;
        let widest = self.lanes.iter().map(|lane| lane.window).max().unwrap_or_default();
        if self.said_initial_window + widest > WINDOW_BYTES_MAX { Err(FlowControlError) } else { Ok(()) }
    }

    /// HTTP/2 acknowledges settings, which it does one after another.
    fn acknowledge(&mut self) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        if self.unacknowledged == 0 {
            self.initial_window = self.said_initial_window;
            self.frame_bytes_max = self.said_frame_bytes_max;
            // What waits for a window may go out.
            self.calls = self.calls.and(Calls::SOCKET);
        }
    }

    /// True: it is HTTP/2's to know.
    fn widen(&mut self, stream: u32, increment: u32) -> Result<bool, FlowControlError> {
        let initial_window = self.initial_window;
        let by = i64::from(increment);
        if increment == 0 {
            return Ok(true);
        }
        if stream == 0 {
            self.pool += by;
            // What is owed to HTTP/2 is not in the client's window.
            if self.pool - self.owed > WINDOW_BYTES_MAX - WINDOW_BYTES {
                return Err(FlowControlError);
            }
            self.repay(1);
            return Ok(false);
        }
        if let Some(lane) = self.lane(stream) {
            lane.window += by;
            return if initial_window + lane.window > WINDOW_BYTES_MAX {
                Err(FlowControlError)
            } else {
                Ok(!lane.is_open)
            };
        }
        if let Some((_, window)) = self.young.iter_mut().find(|(young, _)| *young == stream) {
            *window = (*window + by).min(WINDOW_BYTES_MAX);
        }
        Ok(true)
    }

    /// Gives HTTP/2 back what it has sent of the connection's window, where that is at least `least` bytes.
    fn repay(&mut self, least: i64) {
        let due = self.owed.min(self.pool);
        if due >= least {
            self.owed -= due;
            self.pool -= due;
            self.tell_http(&window_update(0, u32::try_from(due).expect("no window is longer")));
        }
    }

    fn tell_http(&mut self, bytes: &[u8]) {
        self.for_http.extend_from_slice(bytes);
        self.http_waits = false;
        self.calls = self.calls.and(Calls::HTTP);
    }

    /// What HTTP/2 is to read next.
    pub(super) fn for_http(&self) -> &[u8] {
        &self.for_http
    }

    /// HTTP/2 has read so much of it.
    pub(super) fn http_has_read(&mut self, count: usize) {
        self.for_http.drain(..count);
        if self.for_http.is_empty() && self.for_http.capacity() > KEPT_BYTES_MAX {
            self.for_http = Vec::new();
        }
    }

    /// HTTP/2 has asked for more than has come: it has done all that it was told.
    pub(super) fn http_waits(&mut self) {
        self.http_waits = true;
    }

    /// HTTP/2 begins a frame.
    pub(super) fn http_sends(&mut self, head: Head) {
        if head.kind == SETTINGS && head.has(ACK) {
            self.acknowledge();
        }
        if head.kind != DATA {
            return;
        }
        let length = head.length as i64;
        self.owed += length;
        if let Some(lane) = self.lane(head.stream) {
            lane.window -= length;
        }
        self.repay(OWED_BYTES_MAX);
    }

    /// A stream that may become a lane. False: its windows are not known.
    pub(super) fn register(&mut self, stream: u32, calls: Calls) -> bool {
        let Some(place) = self.young.iter().position(|(young, _)| *young == stream) else { return false };
        // In their order: the oldest go first where they are too many.
        let (_, window) = self.young.remove(place);
        self.lanes.push(Lane {
            stream,
            calls,
            window,
            is_open: false,
            is_closed: false,
            is_deaf: false,
            inbox: Vec::new(),
            unreported: 0,
            outbox: Vec::new(),
            is_pending: false,
            is_awaited: false,
        });
        true
    }

    /// A stream is none, or has ended.
    pub(super) fn forget(&mut self, stream: u32) {
        self.young.retain(|(young, _)| *young != stream);
        self.lanes.retain(|lane| lane.stream != stream);
    }

    /// Opens a lane. False: not now. HTTP/2 must have nothing of what came, and have sent all it had of the stream.
    pub(super) fn open(&mut self, stream: u32) -> bool {
        let is_between_frames = matches!(self.reading, Reading::Head(partial) if partial.is_empty());
        let is_quiet = is_between_frames && !self.in_headers && self.for_http.is_empty() && self.http_waits;
        if !is_quiet || self.pool < POOL_BYTES_MIN {
            return false;
        }
        let Some(lane) = self.lane(stream) else { return false };
        lane.is_open = true;
        true
    }

    /// The connection has ended: streams ask HTTP/2 how.
    pub(super) fn close_all(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.is_closed = true);
    }

    /// Moves what has come on a lane to `bytes`, and gives the client back what that took of the stream's window.
    pub(super) fn take_in(&mut self, stream: u32, bytes: &mut Vec<u8>) -> Incoming {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.stream == stream) else { return Incoming::Closed };
        report(stream, &mut lane.unreported, &mut self.reports);
        if lane.inbox.is_empty() {
            return if lane.is_closed { Incoming::Closed } else { Incoming::Nothing };
        }
        if bytes.is_empty() {
            std::mem::swap(bytes, &mut lane.inbox);
        } else {
            bytes.append(&mut lane.inbox);
        }
        Incoming::Bytes
    }

    /// Nobody takes in any more what comes on a lane.
    pub(super) fn deafen(&mut self, stream: u32) {
        if let Some(lane) = self.lane(stream) {
            lane.is_deaf = true;
            lane.inbox = Vec::new();
        }
    }

    /// Whether a lane has room for a message, as far as windows go.
    pub(super) fn has_room(&mut self, stream: u32) -> bool {
        let (initial_window, pool) = (self.initial_window, self.pool);
        self.lane(stream).is_some_and(|lane| lane.outbox.is_empty() && initial_window + lane.window > 0 && pool > 0)
    }

    /// Has the stream called once there may be room.
    pub(super) fn await_room(&mut self, stream: u32) {
        if let Some(lane) = self.lane(stream) {
            lane.is_awaited = true;
        }
    }

    /// There may be room: calls those who wait for it.
    pub(super) fn call_awaiting(&mut self) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.is_awaited) {
            lane.is_awaited = false;
            self.calls = self.calls.and(lane.calls);
        }
    }

    /// Something of a lane waits for the kernel.
    pub(super) fn note_pending(&mut self, stream: u32) {
        if let Some(lane) = self.lane(stream) {
            lane.is_pending = true;
        }
    }

    /// The kernel has taken all that waited for it.
    pub(super) fn note_written(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.is_pending = false);
        self.call_awaiting();
    }

    /// Whether all has been written that was sent on a lane, whatever waits on others.
    pub(super) fn has_sent_all(&mut self, stream: u32) -> bool {
        self.lane(stream).is_none_or(|lane| lane.outbox.is_empty() && !lane.is_pending)
    }

    /// Takes the windows of a frame of so many bytes, if they suffice for it.
    pub(super) fn pay(&mut self, stream: u32, length: usize) -> bool {
        let (initial_window, pool) = (self.initial_window, self.pool);
        let bytes = length as i64;
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.stream == stream) else { return false };
        let suffices = length <= self.frame_bytes_max && bytes <= pool && bytes <= initial_window + lane.window;
        if suffices && lane.outbox.is_empty() {
            lane.window -= bytes;
            self.pool -= bytes;
            return true;
        }
        false
    }

    /// Keeps a message that goes out as windows allow.
    pub(super) fn keep(&mut self, stream: u32, message: &[u8]) {
        if let Some(lane) = self.lane(stream) {
            lane.outbox.extend_from_slice(message);
        }
    }

    /// Whether there is anything for [`pump`](Self::pump) to do.
    pub(super) fn has_kept(&self) -> bool {
        !self.reports.is_empty() || self.lanes.iter().any(|lane| !lane.outbox.is_empty())
    }

    /// Puts into `out` window updates that are due, and what windows allow of the messages that are kept.
    pub(super) fn pump(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.reports);
        for lane in self.lanes.iter_mut().filter(|lane| !lane.outbox.is_empty()) {
            let mut sent = 0;
            loop {
                let window = self.pool.min(self.initial_window + lane.window).max(0) as usize;
                let length = (lane.outbox.len() - sent).min(self.frame_bytes_max).min(window);
                if length == 0 {
                    break;
                }
                out.extend_from_slice(&Head { length, kind: DATA, flags: 0, stream: lane.stream }.bytes());
                out.extend_from_slice(&lane.outbox[sent..sent + length]);
                sent += length;
                lane.window -= length as i64;
                self.pool -= length as i64;
            }
            lane.is_pending |= sent > 0;
            lane.outbox.drain(..sent);
            if lane.outbox.is_empty() {
                lane.outbox = Vec::new();
            }
        }
    }

    fn lane(&mut self, stream: u32) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.stream == stream)
    }

    fn open_lane(&mut self, stream: u32) -> Option<&mut Lane> {
        self.lane(stream).filter(|lane| lane.is_open && !lane.is_closed)
    }
}

/// Gives the client back what was taken of a window, where that is enough to be worth a frame.
fn report(stream: u32, unreported: &mut usize, reports: &mut Vec<u8>) {
    if *unreported >= UNREPORTED_BYTES_MAX {
        let increment = u32::try_from(std::mem::take(unreported)).expect("no window is longer");
        reports.extend_from_slice(&window_update(stream, increment));
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const STREAM: u32 = 5;
    const CALLS: Calls = Calls::stream(0);
    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        [&Head { length: payload.len(), kind, flags, stream }.bytes()[..], payload].concat()
    }

    fn setting(number: u16, value: u32) -> Vec<u8> {
        frame(SETTINGS, 0, 0, &[&number.to_be_bytes()[..], &value.to_be_bytes()].concat())
    }

    fn take_for_http(lanes: &mut Lanes) -> Vec<u8> {
        let bytes = lanes.for_http().to_vec();
        lanes.http_has_read(bytes.len());
        lanes.http_waits();
        bytes
    }

    fn taken_in(lanes: &mut Lanes) -> (Vec<u8>, Incoming) {
        let mut bytes = Vec::new();
        loop {
            match lanes.take_in(STREAM, &mut bytes) {
                Incoming::Bytes => {}
                last => return (bytes, last),
            }
        }
    }

    fn pumped(lanes: &mut Lanes) -> Vec<u8> {
        let mut out = Vec::new();
        lanes.pump(&mut out);
        out
    }

    /// A lane whose connection has a window of `pool` bytes beyond the first 65,535.
    fn opened(pool: u32) -> Lanes {
        let mut lanes = Lanes::new();
        let said = [vec![7; PREFACE_BYTES], frame(HEADERS, END_HEADERS, STREAM, b"post")].concat();
        lanes.receive(&said).expect("within the rules");
        lanes.receive(&window_update(0, pool)).expect("within the rules");
        assert_eq!(take_for_http(&mut lanes), said, "its own window is all that HTTP/2 has");
        assert!(lanes.register(STREAM, CALLS));
        assert!(lanes.open(STREAM));
        lanes.take_calls();
        lanes
    }

    #[derive(Clone, Debug)]
    enum Sent {
        Lane(Vec<u8>),
        Padded(Vec<u8>, u8),
        Empty,
        Other(Vec<u8>),
        Ping,
        Window(u32, u32),
    }

    fn sent() -> impl Strategy<Value = Sent> {
        let bytes = || vec(any::<u8>(), 1..50);
        prop_oneof![
            4 => bytes().prop_map(Sent::Lane),
            1 => (bytes(), any::<u8>()).prop_map(|(bytes, padding)| Sent::Padded(bytes, padding)),
            1 => Just(Sent::Empty),
            1 => bytes().prop_map(Sent::Other),
            1 => Just(Sent::Ping),
            2 => (prop_oneof![Just(0), Just(3), Just(STREAM)], 1..1000_u32).prop_map(|(stream, by)| Sent::Window(stream, by)),
        ]
    }

    proptest! {
        #[test]
        fn each_gets_its_own_however_it_is_cut(sent in vec(sent(), 0..20), cuts in vec(1..40_usize, 1..20), ends: bool) {
            let (mut bytes, mut of_lane, mut of_http) = (Vec::new(), Vec::new(), Vec::new());
            for sent in sent {
                let (frame, is_http) = match sent {
                    Sent::Lane(payload) => {
                        of_lane.extend_from_slice(&payload);
                        (frame(DATA, 0, STREAM, &payload), false)
                    }
                    Sent::Padded(payload, padding) => {
                        of_lane.extend_from_slice(&payload);
                        let padded = [&[padding], &payload[..], &vec![0; padding.into()]].concat();
                        (frame(DATA, PADDED, STREAM, &padded), false)
                    }
                    Sent::Empty => (frame(DATA, 0, STREAM, &[]), true),
                    Sent::Other(payload) => (frame(DATA, 0, 3, &payload), true),
                    Sent::Ping => (frame(PING, 0, 0, &[1; 8]), true),
                    Sent::Window(stream, by) => (window_update(stream, by).to_vec(), stream == 3),
                };
                if is_http {
                    of_http.extend_from_slice(&frame);
                }
                bytes.extend(frame);
            }
            if ends {
                bytes.extend(frame(DATA, END_STREAM, STREAM, b"last"));
                of_lane.extend(b"last");
                of_http.extend(frame(DATA, END_STREAM, STREAM, &[]));
            }
            let mut lanes = opened(1 << 20);
            let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
            while at < bytes.len() {
                let end = (at + cuts.next().expect("endless")).min(bytes.len());
                prop_assert_eq!(lanes.receive(&bytes[at..end]), Ok(()));
                at = end;
            }
            let last = if ends { Incoming::Closed } else { Incoming::Nothing };
            prop_assert_eq!(taken_in(&mut lanes), (of_lane, last));
            prop_assert_eq!(take_for_http(&mut lanes), of_http);
        }

        #[test]
        fn a_message_goes_out_whole_and_never_beyond_a_window(
            length in 0..60_000_usize, stream_window in 0..2000_u32, updates in vec((prop::bool::ANY, 1..9000_u32), 0..40),
        ) {
            let mut lanes = opened(1 << 20);
            lanes.receive(&setting(SETTING_INITIAL_WINDOW, stream_window)).expect("within the rules");
            lanes.pool = 1000;
            let (mut left, mut pool) = (i64::from(stream_window), 1000);
            let message: Vec<u8> = (0..length).map(|i| i as u8).collect();
            lanes.keep(STREAM, &message);
            let mut received = Vec::new();
            for (of_stream, by) in updates.into_iter().chain([(true, 60_000), (false, 60_000)]) {
                lanes.receive(&window_update(if of_stream { STREAM } else { 0 }, by)).expect("within the rules");
                *(if of_stream { &mut left } else { &mut pool }) += i64::from(by);
                let out = pumped(&mut lanes);
                let mut out = &out[..];
                while let Some((head, rest)) = out.split_first_chunk() {
                    let head = Head::parse(head);
                    prop_assert_eq!((head.kind, head.flags, head.stream), (DATA, 0, STREAM));
                    prop_assert!((1..=FRAME_BYTES_MIN).contains(&head.length));
                    received.extend_from_slice(&rest[..head.length]);
                    left -= head.length as i64;
                    pool -= head.length as i64;
                    out = &rest[head.length..];
                }
                prop_assert!(left >= 0 && pool >= 0);
            }
            prop_assert_eq!(received, message);
            prop_assert!(!lanes.has_kept());
        }
    }

    #[test]
    fn a_lane_opens_between_frames_once_http2_has_done_all_that_it_was_told() {
        let mut lanes = opened(1 << 20);
        lanes.receive(&frame(HEADERS, END_HEADERS, 7, b"post")).expect("within the rules");
        assert!(lanes.register(7, CALLS) && !lanes.open(7), "HTTP/2 has not read it");
        take_for_http(&mut lanes);
        lanes.receive(&frame(DATA, 0, 7, b"hello")[..11]).expect("within the rules");
        take_for_http(&mut lanes);
        assert!(!lanes.open(7), "in the midst of a frame");
        lanes.receive(b"llo").expect("within the rules");
        take_for_http(&mut lanes);
        assert!(lanes.open(7) && !lanes.open(9) && !lanes.register(9, CALLS), "nobody knows of 9");

        let mut lanes = opened(POOL_BYTES_MIN as u32);
        lanes.pay(STREAM, 1);
        lanes.receive(&frame(HEADERS, END_HEADERS, 7, b"post")).expect("within the rules");
        take_for_http(&mut lanes);
        assert!(lanes.register(7, CALLS) && !lanes.open(7), "the connection's window is too small");
    }

    #[test]
    fn windows_that_were_opened_before_a_stream_was_known_count() {
        let mut lanes = opened(1 << 20);
        lanes.receive(&setting(SETTING_INITIAL_WINDOW, 10)).expect("within the rules");
        lanes.receive(&frame(HEADERS, END_HEADERS, 7, b"post")).expect("within the rules");
        lanes.receive(&window_update(7, 90)).expect("within the rules");
        assert!(lanes.register(7, CALLS));
        lanes.http_sends(Head { length: 30, kind: DATA, flags: 0, stream: 7 });
        take_for_http(&mut lanes);
        assert!(lanes.open(7));
        assert!(
            !lanes.pay(7, 71)
                && lanes.pay(7, 70)
                && !lanes.has_room(7)
                && lanes.has_room(STREAM) == lanes.pay(STREAM, 10)
        );
    }

    #[test]
    fn settings_that_raise_a_limit_count_once_they_are_acknowledged() {
        let acknowledgement = Head { length: 0, kind: SETTINGS, flags: ACK, stream: 0 };
        let mut lanes = opened(1 << 20);
        lanes.receive(&setting(SETTING_INITIAL_WINDOW, 100)).expect("within the rules");
        lanes.http_sends(acknowledgement);
        lanes.receive(&setting(SETTING_INITIAL_WINDOW, 70_000)).expect("within the rules");
        lanes.receive(&setting(SETTING_FRAME_BYTES_MAX, 20_000)).expect("within the rules");
        lanes.receive(&setting(SETTING_INITIAL_WINDOW, 50_000)).expect("within the rules");
        lanes.take_calls();
        for _ in 0..3 {
            assert_eq!((lanes.initial_window, lanes.frame_bytes_max), (100, FRAME_BYTES_MIN));
            assert!(!lanes.take_calls().has(Calls::SOCKET));
            lanes.http_sends(acknowledgement);
        }
        assert_eq!((lanes.initial_window, lanes.frame_bytes_max), (50_000, 20_000));
        assert!(lanes.take_calls().has(Calls::SOCKET), "it sends what waited for that");
        lanes.receive(&setting(SETTING_INITIAL_WINDOW, 10)).expect("within the rules");
        assert_eq!(lanes.initial_window, 10, "what is lowered counts at once");
    }

    #[test]
    fn the_oldest_streams_that_nobody_has_named_are_forgotten_first() {
        let mut lanes = opened(1 << 20);
        let begin = |lanes: &mut Lanes, stream| {
            lanes.receive(&frame(HEADERS, END_HEADERS, stream, b"post")).expect("within the rules");
        };
        let streams: Vec<u32> = (0..YOUNG_MAX as u32).map(|number| 7 + 2 * number).collect();
        streams.iter().for_each(|stream| begin(&mut lanes, *stream));
        assert!(lanes.register(streams[0], CALLS));
        (0..2).for_each(|number| begin(&mut lanes, 1001 + 2 * number));
        assert!(!lanes.register(streams[1], CALLS), "the oldest");
        assert!(lanes.register(streams[YOUNG_MAX - 1], CALLS));
    }

    #[test]
    fn http2_gets_back_what_it_sent_as_long_as_there_is_any() {
        let mut lanes = opened(80_000);
        let data = |length| Head { length, kind: DATA, flags: 0, stream: 3 };
        lanes.http_sends(data(16_000));
        assert!(take_for_http(&mut lanes).is_empty());
        lanes.http_sends(data(384));
        assert_eq!(take_for_http(&mut lanes), window_update(0, 16_384));
        assert!(lanes.take_calls().has(Calls::HTTP));
        for _ in 0..5 {
            lanes.http_sends(data(16_384));
        }
        // 80,000 in all: what the pool has not is owed until the client gives more.
        take_for_http(&mut lanes);
        assert_eq!(lanes.pool + 65_535 - lanes.owed, 80_000 + 65_535 - 6 * 16_384);
        lanes.receive(&window_update(0, 60_000)).expect("within the rules");
        assert_eq!(lanes.owed, 0);
    }

    #[test]
    fn the_widest_window_may_be_filled_up_again() {
        let widest = (WINDOW_BYTES_MAX - WINDOW_BYTES) as u32;
        let mut lanes = opened(widest);
        lanes.http_sends(Head { length: 10, kind: DATA, flags: 0, stream: 3 });
        assert_eq!(lanes.receive(&window_update(0, 10)), Ok(()));
        assert_eq!(take_for_http(&mut lanes), window_update(0, 10));
        assert_eq!(lanes.receive(&window_update(0, 1)), Err(FlowControlError));
    }

    #[test]
    fn clients_get_their_windows_back() {
        let mut lanes = opened(1 << 20);
        lanes.receive(&frame(DATA, 0, STREAM, &[1; 16_000])).expect("within its window");
        taken_in(&mut lanes);
        assert!(pumped(&mut lanes).is_empty());
        lanes.receive(&frame(DATA, 0, STREAM, &[1; 400])).expect("within its window");
        taken_in(&mut lanes);
        assert_eq!(pumped(&mut lanes), [window_update(0, 16_400), window_update(STREAM, 16_400)].concat());
        lanes.deafen(STREAM);
        lanes.receive(&frame(DATA, 0, STREAM, &[1; 16_384])).expect("within its window");
        assert_eq!(pumped(&mut lanes), [window_update(0, 16_384), window_update(STREAM, 16_384)].concat());
    }

    #[test]
    fn the_rest_of_a_frame_whose_stream_has_ended_is_given_back_to_the_connection() {
        let mut lanes = opened(1 << 20);
        let data = frame(DATA, 0, STREAM, &[1; 16_384]);
        lanes.receive(&data[..100]).expect("within its window");
        lanes.forget(STREAM);
        lanes.receive(&data[100..]).expect("within its window");
        assert_eq!(pumped(&mut lanes), window_update(0, 16_384));
    }

    #[test]
    fn many_lanes_in_lockstep_never_use_up_the_window_of_their_connection() {
        let mut lanes = opened(1 << 20);
        let streams: Vec<u32> = (0..70).map(|number| 7 + 2 * number).collect();
        for stream in &streams {
            lanes.receive(&frame(HEADERS, END_HEADERS, *stream, b"post")).expect("within the rules");
            take_for_http(&mut lanes);
            assert!(lanes.register(*stream, CALLS) && lanes.open(*stream));
        }
        let (mut taken, mut given, mut bytes) = (0, 0, Vec::new());
        for _ in 0..UNREPORTED_BYTES_MAX / 1000 {
            for stream in &streams {
                lanes.receive(&frame(DATA, 0, *stream, &[1; 1000])).expect("within its window");
                taken += 1000;
                while lanes.take_in(*stream, &mut bytes) == Incoming::Bytes {
                    bytes.clear();
                }
            }
            for update in pumped(&mut lanes).chunks_exact(HEAD_BYTES + 4) {
                let (head, increment) = update.split_first_chunk().expect("a window update");
                assert_eq!(Head::parse(head), Head { length: 4, kind: WINDOW_UPDATE, flags: 0, stream: 0 });
                given += u31(increment.try_into().expect("it has four bytes")) as usize;
            }
            assert!(taken - given < UNREPORTED_BYTES_MAX, "{given} of {taken}");
        }
        assert!(taken > 1 << 20, "more than the window holds");
    }

    #[test]
    fn who_has_sent_all_does_not_wait_for_another_lane() {
        const OTHER: u32 = 7;
        let mut lanes = opened(1 << 20);
        lanes.receive(&frame(HEADERS, END_HEADERS, OTHER, b"post")).expect("within the rules");
        take_for_http(&mut lanes);
        assert!(lanes.register(OTHER, Calls::stream(1)) && lanes.open(OTHER));
        lanes.keep(STREAM, &vec![1; 65_536]);
        lanes.note_pending(OTHER);
        assert!(!pumped(&mut lanes).is_empty());
        assert!(!lanes.has_sent_all(STREAM) && !lanes.has_sent_all(OTHER));
        lanes.await_room(OTHER);
        lanes.note_written();
        assert!(lanes.take_calls().has(Calls::stream(1)));
        assert!(lanes.has_kept() && !lanes.has_sent_all(STREAM), "its window was too small");
        assert!(lanes.has_sent_all(OTHER));
    }

    #[test]
    fn who_does_not_keep_to_flow_control_is_found_out() {
        let mut lanes = opened(1 << 20);
        let data = frame(DATA, 0, STREAM, &[1; 16_384]);
        (0..4).for_each(|_| lanes.receive(&data).expect("within its window"));
        assert_eq!(lanes.receive(&data), Err(FlowControlError));
        for stream in [0, STREAM] {
            assert_eq!(opened(1 << 20).receive(&window_update(stream, u32::MAX >> 1)), Err(FlowControlError));
        }
    }

    #[test]
    fn what_ends_a_stream_goes_to_http2_and_what_comes_after_it_too() {
        for end in
            [frame(RST_STREAM, 0, STREAM, &[0; 4]), frame(HEADERS, END_HEADERS | END_STREAM, STREAM, b"trailers")]
        {
            let mut lanes = opened(1 << 20);
            let after = frame(DATA, 0, STREAM, b"late");
            lanes.receive(&frame(DATA, 0, STREAM, b"in time")).expect("within the rules");
            lanes.receive(&[&end[..], &after].concat()).expect("HTTP/2 judges it");
            assert!(lanes.take_calls().has(CALLS));
            assert_eq!(taken_in(&mut lanes), (b"in time".to_vec(), Incoming::Closed));
            assert_eq!(take_for_http(&mut lanes), [end, after].concat());
        }
    }

    #[test]
    fn nothing_is_taken_out_of_the_midst_of_headers() {
        let mut lanes = opened(1 << 20);
        let bytes = [frame(HEADERS, 0, 7, b"po"), frame(DATA, 0, STREAM, b"x"), window_update(0, 9).to_vec()].concat();
        lanes.receive(&bytes).expect("HTTP/2 judges it");
        assert_eq!(take_for_http(&mut lanes), bytes);
        lanes.receive(&frame(CONTINUATION, END_HEADERS, 7, b"st")).expect("HTTP/2 judges it");
        lanes.receive(&frame(DATA, 0, STREAM, b"y")).expect("within the rules");
        assert_eq!(taken_in(&mut lanes).0, b"y");
    }
}
