//! A connection's socket, which HTTP/2 and the lanes of `Play` streams share.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker, ready},
};

use h2::StreamId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Bell,
    budget::FrameBudget,
    frames::{DATA, Follower, HEAD_BYTES, Head, Resets},
    lanes::{FlowControlError, Incoming, Lanes},
    transport::Transport,
    wake::{Calls, Task},
};

const READ_BYTES: usize = 16 * 1024;
/// How often in a row it is read before what has come is looked at.
const READS_MAX: usize = 4;
/// What may wait for HTTP/2, which does not read while it cannot write: beyond that the socket is not read, either.
const FOR_HTTP_BYTES_MAX: usize = 64 * 1024;
/// A buffer that has grown beyond this is let go.
const KEPT_BYTES_MAX: usize = 4096;

thread_local! {
    /// What is read is handed on before anybody else reads.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// A connection's socket. Only the connection's task uses it, so its lock is never waited for.
#[derive(Debug)]
pub(super) struct Wire(Mutex<State>);

#[derive(Debug)]
struct State {
    transport: Transport,
    lanes: Lanes,
    budget: FrameBudget,
    /// What the kernel has not taken yet. It goes out between two frames of HTTP/2.
    pending: Vec<u8>,
    /// How much of `pending` has been written.
    written: usize,
    /// What HTTP/2 writes.
    http: Follower,
    /// HTTP/2 has more to write than the kernel took.
    http_is_blocked: bool,
    /// Nothing more comes, or can be written.
    has_ended: bool,
    /// Nothing more of HTTP/2's is written.
    has_said_last: bool,
    /// Why, until HTTP/2 has been told.
    error: Option<io::Error>,
    task: Arc<Task>,
    /// Calls for the socket.
    waker: Waker,
}

/// The socket as HTTP/2 knows it.
#[derive(Debug)]
pub(super) struct Socket(Arc<Wire>);

/// A stream's part of a socket: its lane, once that is open.
#[derive(Debug)]
pub(crate) struct Lane {
    wire: Arc<Wire>,
    stream: u32,
    is_known: bool,
}

/// Room for a message, and for what goes before it: messages are written in one piece.
#[derive(Debug)]
pub(crate) struct Framed(Vec<u8>);

/// What the client brings is more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooMuch {
    /// Bytes beyond its windows.
    Bytes,
    /// Frames beyond its budget: the limit's name.
    Frames(&'static str),
}

impl From<FlowControlError> for TooMuch {
    fn from(FlowControlError: FlowControlError) -> Self {
        Self::Bytes
    }
}

impl Wire {
    pub(super) fn new(transport: Transport, budget: FrameBudget, task: &Arc<Task>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            transport,
            lanes: Lanes::new(),
            budget,
            pending: Vec::new(),
            written: 0,
            http: Follower::default(),
            http_is_blocked: false,
            has_ended: false,
            has_said_last: false,
            error: None,
            task: Arc::clone(task),
            waker: Bell::new(task, Calls::SOCKET).waker(),
        })))
    }

    /// Writes what waits and reads what has come: what that calls for.
    pub(super) fn turn(&self) -> Result<Calls, TooMuch> {
        let mut state = self.lock();
        state.flush();
        let result = state.read();
        if state.lanes.has_kept() {
            state.pump();
        }
        if state.has_written_all() {
            // A window may have been opened.
            state.lanes.call_awaiting();
        }
        if state.http_is_blocked || state.has_ended {
            return result.map(|calls| calls.and(Calls::HTTP).and(state.lanes.take_calls()));
        }
        result.map(|calls| calls.and(state.lanes.take_calls()))
    }

    /// Whether HTTP/2 has more to write than it could.
    pub(super) fn http_is_blocked(&self) -> bool {
        self.lock().http_is_blocked
    }

    /// Streams that HTTP/2 has reset since this was asked last.
    pub(super) fn take_resets(&self) -> Resets {
        self.lock().http.take_resets()
    }

    /// HTTP/2 has done what it had to: what waited for that is written, if it can be.
    pub(super) fn flush(&self) -> Calls {
        let mut state = self.lock();
        if !state.pending.is_empty() {
            state.flush();
        }
        state.lanes.take_calls()
    }

    /// Writes a last frame, as far as that can be done at once. What HTTP/2 says from here on goes nowhere.
    pub(super) fn write_last(&self, frame: &[u8]) {
        let mut state = self.lock();
        state.pending.extend_from_slice(frame);
        state.flush();
        state.has_said_last = true;
    }

    /// The connection has ended: its streams ask HTTP/2 how.
    pub(super) fn close_lanes(&self) {
        self.lock().lanes.close_all();
    }

    /// A request that is no stream of `Play`.
    pub(super) fn forget(&self, stream: StreamId) {
        self.lock().lanes.forget(stream.into());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl State {
    fn read(&mut self) -> Result<Calls, TooMuch> {
        let mut cx = Context::from_waker(&self.waker);
        READ.with_borrow_mut(|bytes| {
            for _ in 0..READS_MAX {
                if self.has_ended || self.lanes.for_http().len() > FOR_HTTP_BYTES_MAX {
                    // HTTP/2 calls when it has read.
                    return Ok(Calls::NONE);
                }
                let mut buffer = ReadBuf::new(bytes);
                match self.transport.poll_read(&mut cx, &mut buffer) {
                    Poll::Pending => return Ok(Calls::NONE),
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => self.has_ended = true,
                    Poll::Ready(Ok(())) => {
                        self.task.note_received();
                        self.lanes.receive(buffer.filled())?;
                        self.budget.take(self.lanes.take_frames()).map_err(TooMuch::Frames)?;
                    }
                    Poll::Ready(Err(error)) => {
                        self.has_ended = true;
                        self.error = Some(error);
                    }
                }
            }
            Ok(Calls::SOCKET)
        })
    }

    /// Writes what waits, as far as that is possible now.
    fn flush(&mut self) {
        if self.has_ended || !self.flush_transport() || !self.http.is_between_frames() {
            return;
        }
        while self.written < self.pending.len() {
            match self.write(self.written) {
                Poll::Pending => return,
                Poll::Ready(count) => self.written += count,
            }
            if self.has_ended {
                return;
            }
        }
        if self.http_is_blocked && !self.pending.is_empty() {
            // HTTP/2 waited for that, and the socket need not call any more.
            self.task.call(Calls::HTTP);
        }
        self.written = 0;
        self.pending.clear();
        if self.pending.capacity() > KEPT_BYTES_MAX {
            self.pending = Vec::new();
        }
        self.lanes.note_written();
    }

    /// Whether the kernel has all that the transport has accepted.
    fn flush_transport(&mut self) -> bool {
        if self.transport.is_flushed() {
            return true;
        }
        let mut cx = Context::from_waker(&self.waker);
        match self.transport.poll_flush(&mut cx) {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                self.fail(error);
                false
            }
        }
    }

    /// Whether the kernel has all that was sent.
    fn has_written_all(&self) -> bool {
        self.pending.is_empty() && self.transport.is_flushed()
    }

    fn write(&mut self, from: usize) -> Poll<usize> {
        let mut cx = Context::from_waker(&self.waker);
        let result = ready!(self.transport.poll_write(&mut cx, &self.pending[from..]));
        Poll::Ready(self.count(result))
    }

    fn count(&mut self, result: io::Result<usize>) -> usize {
        result.unwrap_or_else(|error| {
            self.fail(error);
            0
        })
    }

    fn fail(&mut self, error: io::Error) {
        self.has_ended = true;
        self.error.get_or_insert(error);
        self.task.call(Calls::HTTP);
    }

    fn pump(&mut self) {
        self.lanes.pump(&mut self.pending);
        self.flush();
    }

    fn send(&mut self, stream: u32, framed: &mut [u8]) {
        let length = framed.len() - HEAD_BYTES;
        if !self.lanes.pay(stream, length) {
            self.lanes.keep(stream, &framed[HEAD_BYTES..]);
            self.pump();
            return;
        }
        framed[..HEAD_BYTES].copy_from_slice(&Head { length, kind: DATA, flags: 0, stream }.bytes());
        let mut written = 0;
        if self.pending.is_empty() && self.http.is_between_frames() {
            let mut cx = Context::from_waker(&self.waker);
            if let Poll::Ready(result) = self.transport.poll_write(&mut cx, framed) {
                written = self.count(result);
            }
        }
        if written < framed.len() {
            self.pending.extend_from_slice(&framed[written..]);
            self.lanes.note_pending(stream);
            // So that its waker is set, or what HTTP/2 is in the midst of goes first.
            self.flush();
        }
    }

    fn http_write(&mut self, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        if self.has_ended && !self.pending.is_empty() {
            // It never goes out, and nothing can before it.
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.has_said_last {
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        self.http_is_blocked = false;
        self.flush();
        let mut cx = Context::from_waker(&self.waker);
        let mut given = parts.iter().filter(|part| !part.is_empty());
        let first = given.next().map_or(&[][..], |part| &**part);
        let result = if !self.pending.is_empty() {
            // What waits has its turn when this frame is whole.
            let rest = self.http.frame_rest().min(first.len());
            if rest == 0 {
                self.http_is_blocked = true;
                return Poll::Pending;
            }
            self.transport.poll_write(&mut cx, &first[..rest])
        } else if given.next().is_none() {
            self.transport.poll_write(&mut cx, first)
        } else {
            self.transport.poll_write_vectored(&mut cx, parts)
        };
        self.http_is_blocked = result.is_pending();
        let written = ready!(result)?;
        let mut left = written;
        for part in parts {
            let count = part.len().min(left);
            self.http.follow(&part[..count], |head| self.lanes.http_sends(head));
            left -= count;
        }
        let calls = self.lanes.take_calls();
        if calls != Calls::NONE {
            self.task.call(calls);
        }
        Poll::Ready(Ok(written))
    }

    fn http_read(&mut self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let bytes = self.lanes.for_http();
        if !bytes.is_empty() {
            let count = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..count]);
            let was_full = bytes.len() > FOR_HTTP_BYTES_MAX;
            self.lanes.http_has_read(count);
            if was_full {
                self.task.call(Calls::SOCKET);
            }
            return Poll::Ready(Ok(()));
        }
        if self.has_ended {
            return Poll::Ready(self.error.take().map_or(Ok(()), Err));
        }
        // The task is called when there is more.
        self.lanes.http_waits();
        Poll::Pending
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.lock().http_read(buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().http_write(&[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().http_write(parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().http_is_blocked = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().transport.poll_shutdown(cx)
    }
}

impl Socket {
    pub(super) fn new(wire: &Arc<Wire>) -> Self {
        Self(Arc::clone(wire))
    }
}

impl Lane {
    pub(super) fn new(wire: &Arc<Wire>, stream: StreamId, calls: Calls) -> Self {
        let stream = stream.into();
        let is_known = wire.lock().lanes.register(stream, calls);
        Self { wire: Arc::clone(wire), stream, is_known }
    }

    /// Has what comes and goes on the stream take the lane from now on. False: not now. HTTP/2 must have handed out and sent
    /// all it had of the stream, which the caller knows.
    pub(crate) fn open(&self) -> bool {
        if !self.is_known {
            return false;
        }
        let mut state = self.wire.lock();
        let is_quiet = !state.http_is_blocked && !state.has_ended && state.http.is_between_frames();
        is_quiet && state.lanes.open(self.stream)
    }

    /// Moves what has come to `bytes`.
    pub(crate) fn take_in(&self, bytes: &mut Vec<u8>) -> Incoming {
        let mut state = self.wire.lock();
        let incoming = state.lanes.take_in(self.stream, bytes);
        if state.lanes.has_kept() {
            state.pump();
        }
        incoming
    }

    /// Drops what else comes.
    pub(crate) fn deafen(&self) {
        self.wire.lock().lanes.deafen(self.stream);
    }

    /// Whether there is room for a message: the one before has been written, and the client takes more. If not, the stream is
    /// called when there may be.
    pub(crate) fn has_room(&self) -> bool {
        let mut state = self.wire.lock();
        let has_room = state.has_written_all() && state.lanes.has_room(self.stream);
        if !has_room {
            state.lanes.await_room(self.stream);
        }
        has_room
    }

    /// Whether all has been written that was sent on this stream. Others of the connection may wait, for their windows or for
    /// the kernel.
    pub(crate) fn has_sent_all(&self) -> bool {
        let mut state = self.wire.lock();
        let has_sent_all = state.transport.is_flushed() && state.lanes.has_sent_all(self.stream);
        if !has_sent_all {
            state.lanes.await_room(self.stream);
        }
        has_sent_all
    }

    /// Sends a message, for which there was room.
    pub(crate) fn send(&self, framed: &mut Framed) {
        self.wire.lock().send(self.stream, &mut framed.0);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.wire.lock().lanes.forget(self.stream);
    }
}

impl Framed {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Room for a message, which is to be appended.
    pub(crate) fn start(&mut self) -> &mut Vec<u8> {
        self.0.clear();
        self.0.extend_from_slice(&[0; HEAD_BYTES]);
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::{
        super::wake::tests::{is_called, resting},
        *,
    };
    use crate::config::Limits;

    /// Both ends of a connection, the server's first.
    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let client = TcpStream::connect(listener.local_addr().expect("it is bound")).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("a client connects");
        (stream, client)
    }

    #[tokio::test]
    async fn http2_is_called_once_what_it_waited_for_is_written() {
        let (stream, _client) = connected().await;
        stream.writable().await.expect("it is connected");
        let task = resting();
        let wire = Wire::new(Transport::Plain(stream), FrameBudget::new(&Limits::default()), &task);
        let mut state = wire.lock();
        (state.pending, state.http_is_blocked) = (vec![1], true);
        state.flush();
        assert!(state.pending.is_empty() && is_called(&task, Calls::HTTP));
        state.flush();
        assert!(is_called(&task, Calls::NONE), "once");
    }

    #[tokio::test]
    async fn what_cannot_go_out_any_more_does_not_hold_up_the_end() {
        let (stream, client) = connected().await;
        drop(client);
        stream.readable().await.expect("its end comes");
        let wire = Wire::new(Transport::Plain(stream), FrameBudget::new(&Limits::default()), &resting());
        wire.lock().pending.push(1);
        wire.lock().read().expect("nothing comes");
        let result = wire.lock().http_write(&[io::IoSlice::new(b"frame")]);
        assert!(matches!(result, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe));
    }
}
