//! A connection's task: whatever wakes it, what there is to read, to handle and to send is done in one go, with one write.

use std::{
    future::Future,
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use h2::{Reason, RecvStream, server::SendResponse};
use http::Request;
use tracing::{Instrument as _, Level, Span, debug, enabled};

use super::{
    super::{
        Bell, Lane, Outgoing,
        budget::{self, FrameBudget},
        connection_end::ConnectionError,
        frames::{self, Resets},
        requests,
        transport::Transport,
        wake::{Calls, Task},
        wire::{Socket, TooMuch, Wire},
    },
    Connection, PeerAddress, Pending,
    keep_alive::KeepAlive,
    timer::Timer,
};
use crate::{
    limits::{Permit, RefusalReason},
    play::{self, MessageRate, PlayStream},
    server::{Phase, Serving, Shared},
};

const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Room for thousands of small unread messages: below that a burst of inputs trips HTTP/2's flood protection.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// How often a task looks around before it lets others run.
const ROUNDS_MAX: usize = 8;

/// A connection's task.
pub(super) struct Served {
    wire: Arc<Wire>,
    http: Http,
    /// Calls for what HTTP/2 does.
    waker: Waker,
    streams: Vec<OpenStream>,
    keep_alive: KeepAlive,
    started: Instant,
    /// Until there is one: by when.
    first_request_due: Option<Instant>,
    requests: MessageRate,
    /// It has had requests, and has none, since then.
    idle_since: Option<Instant>,
    /// It has been idle for too long, and the client has been told.
    is_asked_to_go: bool,
    /// It has been told to end, and is cut off then.
    end_due: Option<Instant>,
    timer: Timer,
    /// The newest request that has been looked at; 0: none has.
    last_stream: u32,
    /// Requests of `Play` that have come.
    plays: usize,
    task: Arc<Task>,
    connection: Arc<Connection>,
    server: Arc<Serving>,
}

enum Http {
    Handshaking(h2::server::Handshake<Socket, Outgoing>),
    Open(h2::server::Connection<Socket, Outgoing>),
}

/// A `Play` stream, and what calls for it.
struct OpenStream {
    calls: Calls,
    play: PlayStream,
    _place: Permit,
    _pending: Pending,
}

impl Future for Served {
    type Output = Result<(), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        // Lines of information are written where their span is at hand. This is for those of HTTP/2, which few want to read, and
        // entering a span for each message costs something.
        let span = enabled!(Level::DEBUG).then(|| this.connection.span.clone());
        let _entered = span.as_ref().map(Span::enter);
        let mut calls = this.task.begin(cx.waker());
        for _ in 0..ROUNDS_MAX {
            calls = match this.answer(calls) {
                ControlFlow::Continue(more) => more,
                ControlFlow::Break(end) => return Poll::Ready(end),
            };
            if calls == Calls::NONE && this.task.rest() {
                return Poll::Pending;
            }
            calls = calls.and(this.task.take());
        }
        this.task.pause(calls);
        Poll::Pending
    }
}

impl Served {
    pub(super) fn new(transport: Transport, connection: Arc<Connection>, server: Arc<Serving>) -> Self {
        let now = Instant::now();
        let shared = &server.shared;
        let limits = shared.limits();
        let wire = Wire::new(transport, FrameBudget::new(&limits), &connection.task);
        let socket = Socket::new(&wire);
        let first_request_due = now + shared.timeouts.hello;
        if *shared.phase.borrow() == Phase::Ending {
            // It came too late to be told.
            connection.end();
        }
        Self {
            wire,
            http: Http::Handshaking(http2_builder(shared).handshake(socket)),
            waker: Arc::clone(&connection.task).into(),
            streams: Vec::new(),
            keep_alive: KeepAlive::new(shared.timeouts.keep_alive, now),
            started: now,
            first_request_due: Some(first_request_due),
            requests: budget::rate(limits.requests_per_second_max),
            idle_since: None,
            is_asked_to_go: false,
            end_due: None,
            timer: Timer::new(&connection.task, first_request_due),
            last_stream: 0,
            plays: 0,
            task: Arc::clone(&connection.task),
            connection,
            server,
        }
    }

    /// Does what it is called for, but for what comes up meanwhile.
    fn answer(&mut self, mut calls: Calls) -> ControlFlow<Result<(), ConnectionError>, Calls> {
        if calls.has(Calls::ABORT) {
            return ControlFlow::Break(Err(ConnectionError::Aborted));
        }
        if calls.has(Calls::END) {
            self.begin_to_end();
        }
        if calls.has(Calls::TIMER) {
            match self.look_at_the_time() {
                Ok(due) => calls = calls.and(due),
                Err(error) => return ControlFlow::Break(Err(error)),
            }
        }
        // What has been answered is cleared before anything more is taken: that would be lost else.
        calls = calls.without(Calls::END.and(Calls::TIMER));
        if calls.has(Calls::SOCKET) {
            calls = calls.without(Calls::SOCKET);
            match self.wire.turn() {
                Ok(more) => calls = calls.and(more),
                Err(TooMuch::Bytes) => {
                    self.shut_down(Reason::FLOW_CONTROL_ERROR);
                    return ControlFlow::Break(Err(ConnectionError::FlowControl));
                }
                Err(TooMuch::Frames(limit)) => {
                    self.calm_down(limit);
                    return ControlFlow::Break(Err(ConnectionError::FrameFlood(limit)));
                }
            }
        }
        let streams = calls.streams();
        if streams != Calls::NONE && calls.has(Calls::HTTP) && self.wire.http_is_blocked() {
            // It has its turn before streams fill what room there is.
            calls = self.serve_http(calls)?;
        }
        if streams != Calls::NONE {
            self.poll_streams(|stream| streams.has(stream.calls));
            // Most often there is something to send now, and for that HTTP/2 has called.
            calls = calls.without(streams).and(self.task.take());
        }
        if calls.has(Calls::HTTP) {
            calls = self.serve_http(calls)?;
        }
        ControlFlow::Continue(calls)
    }

    /// Has HTTP/2 do what it can: what else there is to do then.
    fn serve_http(&mut self, calls: Calls) -> ControlFlow<Result<(), ConnectionError>, Calls> {
        if let Poll::Ready(result) = self.poll_http() {
            if let Err(ConnectionError::FrameFlood(limit)) = result {
                self.calm_down(limit);
            }
            // What came before the end still counts.
            self.wire.close_lanes();
            self.poll_streams(|_| true);
            return ControlFlow::Break(result);
        }
        ControlFlow::Continue(calls.without(Calls::HTTP).and(self.wire.flush()))
    }

    /// Has streams take in what has come, and send. Those that end are let go.
    fn poll_streams(&mut self, is_called: impl Fn(&OpenStream) -> bool) {
        let now = Instant::now();
        let mut place = 0;
        while let Some(stream) = self.streams.get_mut(place) {
            if !is_called(stream) {
                place += 1;
                continue;
            }
            if stream.play.poll(now).is_ready() {
                self.streams.swap_remove(place);
                continue;
            }
            if let Some(due) = stream.play.due() {
                self.timer.not_later_than(due);
            }
            place += 1;
        }
        self.note_received(now);
    }

    /// Reads, takes requests in, and writes.
    fn poll_http(&mut self) -> Poll<Result<(), ConnectionError>> {
        let result = self.poll_requests();
        // HTTP/2 itself tells nobody of these.
        let Resets { refused, flow_control } = self.wire.take_resets();
        for (reason, count) in [(RefusalReason::RefusedStream, refused), (RefusalReason::FlowControl, flow_control)] {
            for _ in 0..count {
                self.server.shared.refusals.count(reason);
            }
        }
        result
    }

    fn poll_requests(&mut self) -> Poll<Result<(), ConnectionError>> {
        while let Some((request, respond)) = ready!(self.poll_request())? {
            if !self.requests.allows(self.started.elapsed()) {
                return Poll::Ready(Err(ConnectionError::FrameFlood("requests_per_second_max")));
            }
            (self.first_request_due, self.idle_since) = (None, None);
            self.take(request, respond);
        }
        Poll::Ready(Ok(()))
    }

    #[expect(clippy::type_complexity, reason = "it is what HTTP/2 accepts")]
    fn poll_request(&mut self) -> Poll<Result<Option<(Request<RecvStream>, SendResponse<Outgoing>)>, ConnectionError>> {
        let mut cx = Context::from_waker(&self.waker);
        if let Http::Handshaking(handshake) = &mut self.http {
            let mut http = ready!(Pin::new(handshake).poll(&mut cx))?;
            if self.end_due.is_some() {
                http.graceful_shutdown();
            }
            self.http = Http::Open(http);
        }
        let Http::Open(http) = &mut self.http else { return Poll::Pending };
        let accepted = pin!(http.accept()).poll(&mut cx);
        accepted.map(|request| request.transpose().map_err(Into::into))
    }

    fn take(&mut self, mut request: Request<RecvStream>, respond: SendResponse<Outgoing>) {
        let stream = request.body().stream_id();
        self.last_stream = stream.into();
        let shared = &self.server.shared;
        if let Err(refusal) = shared.identity.check_request(&request) {
            debug!(reason = refusal.reason, "a request was refused");
            self.wire.forget(stream);
            requests::refuse(&self.server, respond, refusal);
            return;
        }
        let pending = self.connection.begin_request();
        if !play::is_played_here(&request) {
            self.wire.forget(stream);
            let is_bulk = requests::is_bulk(request.uri().path());
            request.extensions_mut().insert(PeerAddress(self.connection.peer.ip()));
            request.extensions_mut().insert(Arc::clone(&self.connection));
            let answer = requests::answer(request, respond, Arc::clone(&self.server), pending);
            let answer = answer.instrument(self.connection.span.clone());
            if is_bulk {
                self.server.bulk.spawn(answer);
            } else {
                tokio::spawn(answer);
            }
            return;
        }
        let place = match self.connection.open_stream(&shared.limits()) {
            Ok(place) => place,
            Err(refusal) => {
                self.wire.forget(stream);
                requests::refuse(&self.server, respond, refusal);
                return;
            }
        };
        let calls = Calls::stream(self.plays);
        self.plays += 1;
        let bell = Bell::new(&self.task, calls);
        bell.ring();
        let lane = Lane::new(&self.wire, stream, calls);
        match PlayStream::open(shared, &self.connection, bell, lane, request.into_body(), respond) {
            Ok(play) => self.streams.push(OpenStream { calls, play, _place: place, _pending: pending }),
            Err(error) => {
                self.connection.span.in_scope(|| debug!(%error, "a stream was lost before it was answered"));
            }
        }
    }

    /// GOAWAY: requests that are under way may end, and get a little time for that.
    fn begin_to_end(&mut self) {
        if self.end_due.is_some() {
            return;
        }
        let due = Instant::now() + self.server.shared.timeouts.end;
        self.end_due = Some(due);
        self.timer.not_later_than(due);
        if let Http::Open(http) = &mut self.http {
            http.graceful_shutdown();
            self.task.call(Calls::HTTP);
        }
    }

    /// Does what is due by now, and sees when there is more. Streams are only called for.
    fn look_at_the_time(&mut self) -> Result<Calls, ConnectionError> {
        let now = Instant::now();
        let is_due = |due: &Option<Instant>| due.is_some_and(|due| now >= due);
        if is_due(&self.end_due) {
            return Err(ConnectionError::Aborted);
        }
        if is_due(&self.first_request_due) {
            return Err(ConnectionError::NoRequest);
        }
        self.note_received(now);
        if let Http::Open(http) = &mut self.http
            && let Err(dead) = self.keep_alive.look(now, http, &self.task, &self.timer.waker)
        {
            self.shut_down(Reason::NO_ERROR);
            return Err(dead);
        }
        let idle_due = self.idle_due(now);
        if is_due(&idle_due) {
            self.ask_to_go();
        }
        let keep_alive_due = matches!(self.http, Http::Open(_)).then(|| self.keep_alive.due());
        let own = [self.first_request_due, self.end_due, keep_alive_due, idle_due.filter(|due| now < *due)];
        let (past, to_come): (Vec<_>, Vec<_>) = self.streams.iter().partition(|stream| is_due(&stream.play.due()));
        let next = own.into_iter().chain(to_come.into_iter().map(|stream| stream.play.due())).flatten().min();
        if let Some(next) = next {
            self.timer.set(next);
        }
        // Their next times are seen to when they have been polled.
        Ok(past.into_iter().fold(Calls::NONE, |calls, stream| calls.and(stream.calls)))
    }

    /// GOAWAY, for which nobody is hurried: a request that has been sent meanwhile is served as any other.
    fn ask_to_go(&mut self) {
        if let Http::Open(http) = &mut self.http
            && self.end_due.is_none()
            && !self.is_asked_to_go
        {
            self.is_asked_to_go = true;
            self.server.shared.refusals.count(RefusalReason::Idle);
            debug!("a connection without requests is asked to go");
            http.graceful_shutdown();
            self.task.call(Calls::HTTP);
        }
    }

    /// By when it is to have a request again.
    fn idle_due(&mut self, now: Instant) -> Option<Instant> {
        if self.first_request_due.is_some() || self.connection.requests.taken() > 0 {
            self.idle_since = None;
            return None;
        }
        Some(*self.idle_since.get_or_insert(now) + self.server.shared.timeouts.idle)
    }

    /// GOAWAY. As much of that as can be written is; nobody waits for the rest.
    fn shut_down(&mut self, reason: Reason) {
        if let Http::Open(http) = &mut self.http {
            http.abrupt_shutdown(reason);
            let _ = self.poll_http();
        }
    }

    /// The same, with the name of the limit that the client is beyond, for which HTTP/2 itself has no place.
    fn calm_down(&mut self, limit: &str) {
        // Before it has sent its settings, nothing may come.
        if let Http::Open(_) = self.http {
            self.wire.write_last(&frames::calm_down(self.last_stream, &format!("{limit} is exceeded")));
            self.shut_down(Reason::ENHANCE_YOUR_CALM);
        }
    }

    fn note_received(&mut self, now: Instant) {
        if self.task.has_received() {
            self.keep_alive.heard(now);
        }
    }
}

fn http2_builder(shared: &Shared) -> h2::server::Builder {
    let limits = shared.limits();
    let mut builder = h2::server::Builder::new();
    builder
        // What is buffered behind a slow receiver is stale by the time that it is sent.
        .max_send_buffer_size(1)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(limits.requests_per_connection_max)
        .max_header_list_size(limits.header_list_bytes_max)
        .max_pending_accept_reset_streams(limits.resets_pending_max)
        .max_local_error_reset_streams(Some(limits.faulty_streams_max));
    builder
}
