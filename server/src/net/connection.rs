//! One connection: HTTP/2 over a socket, until either side ends it. One task does all of it, its `Play` streams among it:
//! whatever wakes it, what there is to read, to handle and to send is done in one go, with one write.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use h2::{Ping, PingPong, Reason, RecvStream, server::SendResponse};
use http::Request;
use tokio::{
    net::TcpStream,
    time::{Sleep, sleep_until, timeout},
};
use tonic::Code;
use tracing::{Instrument as _, Level, Span, debug, enabled, error_span};

use super::{
    Bell, Lane, NetworkThread, Outgoing,
    budget::{self, FrameBudget},
    connection_end::{CLOSED, ConnectionError},
    counters::REFUSED_AS_BANNED,
    requests,
    transport::Transport,
    wake::{Calls, Task},
    wire::{Socket, TooMuch, Wire},
};
use crate::{
    config::Limits,
    limits::{Admitted, Permit, Quota, RefusalReason},
    play::{self, MessageRate, PlayStream},
    server::{Phase, Serving, Shared},
    status::Refusal,
};

const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Room for thousands of small unread messages: below that a burst of inputs trips HTTP/2's flood protection.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// How often a task looks around before it lets others run.
const ROUNDS_MAX: usize = 8;

/// Where a request's connection comes from, among the request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

/// What others know of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The network thread that serves it.
    pub(crate) thread: Arc<NetworkThread>,
    /// Who is at its other end.
    pub(crate) peer: SocketAddr,
    /// Log lines of all that goes on there belong to it.
    pub(crate) span: Span,
    /// Its place among those of its address.
    admitted: Admitted,
    /// Requests that have come and are not answered to their end.
    requests: Arc<Quota>,
    /// Those of them that are streams of `Play`, or of spectators.
    streams: Arc<Quota>,
    task: Arc<Task>,
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Pending {
    connection: Arc<Connection>,
    permit: Option<Permit>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.permit = None;
        if self.connection.requests.taken() == 0 {
            // From here on it is idle.
            self.connection.task.call(Calls::TIMER);
        }
    }
}

impl Connection {
    fn new(thread: Arc<NetworkThread>, (number, peer): (u64, SocketAddr), admitted: Admitted) -> Self {
        // Of the highest level, so that its lines name it whatever the filter.
        let span = error_span!(parent: None, "connection", connection = number);
        let (requests, streams) = (Arc::default(), Arc::default());
        Self { thread, peer, span, admitted, requests, streams, task: Task::new() }
    }

    fn begin_request(self: &Arc<Self>) -> Pending {
        Pending { connection: Arc::clone(self), permit: self.requests.take(usize::MAX) }
    }

    /// A place for one more stream of `Play`, or of a spectator.
    pub(crate) fn open_stream(&self, limits: &Limits) -> Result<Permit, Refusal> {
        let most = limits.streams_per_connection_max;
        self.streams.take(most).ok_or_else(|| {
            let message =
                format!("{most} streams are open on this connection, which is the most: open another connection");
            Refusal::new(Code::ResourceExhausted, "STREAMS", message)
        })
    }

    /// Counts a join that comes by this connection.
    pub(crate) fn join(&self, limits: &Limits) -> Result<(), Refusal> {
        self.admitted.join(limits).map_err(|wait| {
            let message = "there are too many joins per second, of your address or in all";
            Refusal::new(Code::ResourceExhausted, "JOINS", message).retry_after(wait)
        })
    }

    /// Cuts the connection off, with all its requests.
    pub(crate) fn abort(&self) {
        self.task.call(Calls::ABORT);
    }

    /// Has the connection end, once its requests have.
    pub(crate) fn end(&self) {
        self.task.call(Calls::END);
    }
}

/// An open connection, as its thread knows it.
#[derive(Debug)]
struct Registered {
    connection: Arc<Connection>,
    number: usize,
}

impl Registered {
    fn new(connection: Arc<Connection>) -> Self {
        let number = connection.thread.register(Arc::clone(&connection));
        Self { connection, number }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connection.thread.deregister(self.number);
    }
}

/// Counts an open connection.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    thread: Arc<NetworkThread>,
}

impl ConnectionGuard {
    pub(super) fn new(thread: Arc<NetworkThread>) -> Self {
        thread.connections.fetch_add(1, Ordering::Relaxed);
        Self { thread }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.thread.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection to its end, on the thread that it was handed to.
pub(super) async fn serve(
    stream: std::net::TcpStream,
    (number, peer): (u64, SocketAddr),
    (guard, admitted): (ConnectionGuard, Admitted),
    server: Arc<Serving>,
) {
    let connection = Arc::new(Connection::new(Arc::clone(&guard.thread), (number, peer), admitted));
    let span = connection.span.clone();
    span.in_scope(|| debug!(%peer, "connected"));
    let registered = Registered::new(Arc::clone(&connection));
    // A ban of before is found now, and one that comes from now on finds the connection.
    if server.shared.bans.find(peer.ip()).is_some() {
        server.shared.connection_counters.refused.note(REFUSED_AS_BANNED);
        span.in_scope(|| debug!("a connection from an address that has just been banned is closed"));
        drop((registered, guard));
        server.shared.something_ended.notify_one();
        return;
    }
    let served = match establish(stream, &server).await {
        Ok(transport) => Served::new(transport, connection, Arc::clone(&server)).await,
        Err(error) => Err(error),
    };
    let reason = served.as_ref().map_or_else(ConnectionError::label, |()| CLOSED);
    server.shared.connection_counters.closed.note(reason);
    span.in_scope(|| match served {
        Ok(()) => debug!("connection closed"),
        Err(error) => {
            if let Some(reason) = error.refusal() {
                server.shared.refusals.count(reason);
            }
            debug!(%error, "connection lost");
        }
    });
    drop((registered, guard));
    server.shared.something_ended.notify_one();
}

/// Brings a socket to where HTTP/2 begins.
async fn establish(stream: std::net::TcpStream, server: &Serving) -> Result<Transport, ConnectionError> {
    let stream = TcpStream::from_std(stream)?;
    let Some(tls) = &server.tls else { return Ok(Transport::Plain(stream)) };
    let mut phase = server.shared.phase.subscribe();
    let agreed = timeout(server.shared.timeouts.hello, tls.accept(stream));
    tokio::select! {
        agreed = agreed => {
            let stream = agreed.map_err(|_| ConnectionError::NoHandshake)?.map_err(ConnectionError::Tls)?;
            Ok(Transport::encrypted(stream))
        }
        // An error says that the server is gone.
        _ = phase.wait_for(|phase| *phase == Phase::Ending) => Err(ConnectionError::Aborted),
    }
}

/// A connection's task.
struct Served {
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
    fn new(transport: Transport, connection: Arc<Connection>, server: Arc<Serving>) -> Self {
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
                Err(TooMuch::Frames) => {
                    self.shut_down(Reason::ENHANCE_YOUR_CALM);
                    return ControlFlow::Break(Err(ConnectionError::FrameFlood));
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
            if let Err(ConnectionError::FrameFlood) = result {
                self.shut_down(Reason::ENHANCE_YOUR_CALM);
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
        while let Some((request, respond)) = ready!(self.poll_request())? {
            if !self.requests.allows(self.started.elapsed()) {
                return Poll::Ready(Err(ConnectionError::FrameFlood));
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

/// Pings a peer of which nothing comes, and sees whether it answers.
struct KeepAlive {
    /// How long a peer may be quiet before it is pinged, and then again before it counts as dead.
    patience: Duration,
    heard_at: Instant,
    ping: Option<PingPong>,
    /// A ping is under way.
    pong_due: Option<Instant>,
}

impl KeepAlive {
    fn new(patience: Duration, now: Instant) -> Self {
        Self { patience, heard_at: now, ping: None, pong_due: None }
    }

    fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    fn due(&self) -> Instant {
        self.pong_due.unwrap_or(self.heard_at + self.patience)
    }

    /// Looks for a pong, and sends a ping where that is due. `waker` is woken by the pong.
    fn look(
        &mut self,
        now: Instant,
        http: &mut h2::server::Connection<Socket, Outgoing>,
        task: &Task,
        waker: &Waker,
    ) -> Result<(), ConnectionError> {
        let mut cx = Context::from_waker(waker);
        if let (Some(due), Some(ping)) = (self.pong_due, &mut self.ping) {
            match ping.poll_pong(&mut cx) {
                Poll::Pending if now >= due => return Err(ConnectionError::Dead),
                Poll::Pending => return Ok(()),
                Poll::Ready(pong) => {
                    pong?;
                    self.pong_due = None;
                    self.heard(now);
                }
            }
        }
        if now < self.due() {
            return Ok(());
        }
        if self.ping.is_none() {
            self.ping = http.ping_pong();
        }
        let ping = self.ping.as_mut().expect("HTTP/2 gives it out once");
        ping.send_ping(Ping::opaque())?;
        task.call(Calls::HTTP);
        self.pong_due = Some(now + self.patience);
        match ping.poll_pong(&mut cx) {
            Poll::Ready(pong) => pong.map(drop).map_err(Into::into),
            Poll::Pending => Ok(()),
        }
    }
}

/// The one timer of a connection, set to whatever is due first.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    at: Instant,
    waker: Waker,
    bell: Bell,
}

impl Timer {
    fn new(task: &Arc<Task>, at: Instant) -> Self {
        let bell = Bell::new(task, Calls::TIMER);
        Self { sleep: Box::pin(sleep_until(at.into())), at, waker: bell.waker(), bell }
    }

    fn not_later_than(&mut self, at: Instant) {
        if at < self.at {
            self.set(at);
        }
    }

    fn set(&mut self, at: Instant) {
        self.at = at;
        self.sleep.as_mut().reset(at.into());
        if self.sleep.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready() {
            self.bell.ring();
        }
    }
}
