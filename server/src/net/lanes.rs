//! Lanes: what comes and goes on `Play` streams, beside HTTP/2.
//!
//! A stream begins and ends as any other. While it plays, all that it carries is small DATA frames, and those need none of
//! what HTTP/2 does for a stream: they are taken out of what comes before HTTP/2 sees it, and go out between its frames. What
//! remains to be done for them are windows. The connection's window for sending is split: HTTP/2 never holds more than every
//! connection begins with, and the lanes have the rest.

mod receiving;
#[cfg(test)]
mod tests;
mod windows;

use super::{
    budget::FrameCounts,
    frames::{DATA, Head, PREFACE_BYTES, PartialHead, window_update},
    wake::Calls,
};

/// Of HTTP/2: the window that streams begin with where no settings say otherwise, and the connection in any case.
const WINDOW_BYTES: i64 = 65_535;
const FRAME_BYTES_MIN: usize = 16 * 1024;

/// The window that the lanes must have for one more to open. Clients that leave the connection's window as it is have none
/// to spare.
const POOL_BYTES_MIN: i64 = 64 * 1024;
/// Bytes of a lane, or of all lanes together, after which the client gets them back: with what HTTP/2 may owe it, less than
/// the window.
const UNREPORTED_BYTES_MAX: usize = 16 * 1024;
/// A buffer that has grown beyond this is let go.
const KEPT_BYTES_MAX: usize = 4096;

/// The client does not keep to flow control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlowControlError;

/// The lanes of one connection, and what comes on it.
#[derive(Debug)]
pub(super) struct Lanes {
    reading: Reading,
    /// Frames that have begun to come, and control frames among them, since somebody asked.
    frames: FrameCounts,
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
            frames: FrameCounts::default(),
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

    /// The frames that have come since this was asked last.
    pub(super) fn take_frames(&mut self) -> FrameCounts {
        std::mem::take(&mut self.frames)
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
