//! Requests for all services but `Play`: tonic answers them, each in a task of its own.

use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use tokio::time::timeout;
use tonic::{Code, Status};
use tower_service::Service as _;
use tracing::debug;

use super::{Outgoing, arrival::Arrival, connection::Pending};
use crate::{limits::RefusalReason, server::Serving, status::Refusal};

/// Methods that ask the disk, or whose answers are long and worth compressing: nobody's stream is to wait for those.
const BULK: &[&str] = &[
    "/tickwire.v1.RecordingService/GetRecording",
    "/tickwire.v1.RecordingService/ListRecordings",
    "/tickwire.v1.RecordingService/DownloadRecording",
    "/tickwire.v1.SessionService/ListGames",
    "/tickwire.v1.SessionService/ListSessions",
    "/tickwire.v1.SessionService/WatchSessions",
];

/// A request's body, as HTTP/2 brings it.
#[derive(Debug)]
struct RequestBody {
    body: RecvStream,
    arrival: Arrival,
}

/// Why a request has no whole answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Http2(#[from] h2::Error),
    #[error("the client has reset the stream: {0}")]
    Reset(Reason),
    #[error("the client has read nothing for {0:?}")]
    NotReading(Duration),
    #[error("the answer's body: {0}")]
    Body(Status),
}

/// Counts a request when it has ended, however that came.
struct Counted {
    server: Arc<Serving>,
    path: String,
    /// What the client has been told.
    code: Option<Code>,
}

impl Counted {
    fn read(&mut self, headers: &HeaderMap) {
        self.code = headers.get(Status::GRPC_STATUS).map(|status| Code::from_bytes(status.as_bytes()));
        if let Some(reason) = RefusalReason::of_headers(headers) {
            self.server.shared.refusals.count(reason);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.server.shared.requests.note(&self.path, self.code);
    }
}

/// Whether a method's requests are answered where nobody waits but the caller.
pub(super) fn is_bulk(path: &str) -> bool {
    BULK.contains(&path)
}

/// Answers a request. A client that makes no room for the answer for a while gets no more of it.
pub(super) async fn answer(
    request: Request<RecvStream>,
    respond: SendResponse<Outgoing>,
    server: Arc<Serving>,
    pending: Pending,
) {
    let mut counted = Counted { server, path: request.uri().path().to_owned(), code: None };
    if let Err(error) = try_answer(request, respond, &mut counted).await {
        if let Failure::NotReading(_) = error {
            counted.server.shared.refusals.count(RefusalReason::NotReading);
        }
        debug!(%error, "a request was not answered to its end");
    }
    drop(pending);
}

/// Answers a request with nothing but a status.
pub(super) fn refuse(server: &Serving, mut respond: SendResponse<Outgoing>, refusal: Refusal) {
    server.shared.refusals.count(RefusalReason::of(refusal.reason));
    let (mut head, _) = Status::from(refusal).into_http::<()>().into_parts();
    head.headers.entry(header::DATE).or_insert_with(date);
    // It fails where the client does not want an answer any more.
    let _ = respond.send_response(Response::from_parts(head, ()), true);
}

/// What the `Date` header of an answer says.
pub(crate) fn date() -> HeaderValue {
    let date = httpdate::fmt_http_date(SystemTime::now());
    HeaderValue::try_from(date).expect("a date is ASCII")
}

async fn try_answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Outgoing>,
    counted: &mut Counted,
) -> Result<(), Failure> {
    let mut routes = counted.server.routes.clone();
    let patience = counted.server.shared.timeouts.request;
    let body = |body| RequestBody { body, arrival: Arrival::new(patience) };
    let mut answer = pin!(routes.call(request.map(body)));
    let answer = poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Ok(answer)),
        // Whoever does not want an answer any more does not get one.
        Poll::Pending => respond.poll_reset(cx).map(|reason| Err(reset(reason))),
    });
    let (mut head, body) = match answer.await? {
        Ok(answer) => answer.into_parts(),
        Err::<_, Infallible>(never) => match never {},
    };
    head.headers.entry(header::DATE).or_insert_with(date);
    counted.read(&head.headers);
    let is_whole = body.is_end_stream();
    let out = respond.send_response(Response::from_parts(head, ()), is_whole)?;
    if is_whole { Ok(()) } else { send_body(body, out, counted).await }
}

async fn send_body(
    body: tonic::body::Body,
    mut out: SendStream<Outgoing>,
    counted: &mut Counted,
) -> Result<(), Failure> {
    let patience = counted.server.shared.timeouts.unacknowledged;
    let mut body = pin!(body);
    loop {
        // No part is asked for before the one before it is on its way: so much waits here at most.
        out.reserve_capacity(1);
        match timeout(patience, poll_fn(|cx| poll_room(&mut out, cx))).await {
            Ok(room) => room?,
            Err(_) => {
                out.send_reset(Reason::CANCEL);
                return Err(Failure::NotReading(patience));
            }
        }
        let frame = poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => out.poll_reset(cx).map(|reason| Err(reset(reason))),
        });
        let frame = match frame.await? {
            Some(Ok(frame)) => frame,
            Some(Err(status)) => {
                out.send_reset(Reason::INTERNAL_ERROR);
                return Err(Failure::Body(status));
            }
            None => return Ok(out.send_data(Outgoing::Bytes(Bytes::new()), true)?),
        };
        match frame.into_data() {
            Ok(data) => out.send_data(Outgoing::Bytes(data), false)?,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    counted.read(&trailers);
                    return Ok(out.send_trailers(trailers)?);
                }
            }
        }
    }
}

fn poll_room(out: &mut SendStream<Outgoing>, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
    while out.capacity() == 0 {
        match ready!(out.poll_capacity(cx)) {
            Some(room) => room?,
            None => return out.poll_reset(cx).map(|reason| Err(reset(reason))),
        };
    }
    Poll::Ready(Ok(()))
}

fn reset(reason: Result<Reason, h2::Error>) -> Failure {
    reason.map_or_else(Failure::Http2, Failure::Reset)
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { body, arrival } = &mut *self;
        let Poll::Ready(data) = body.poll_data(cx) else {
            return arrival.poll_late(cx).map(|late| Some(Err(late.into())));
        };
        Poll::Ready(match data {
            Some(Ok(data)) => {
                body.flow_control().release_capacity(data.len())?;
                arrival.note(&data);
                Some(Ok(Frame::data(data)))
            }
            // Who resets a stream without an error wants no more said of it.
            Some(Err(error)) if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => None,
            Some(Err(error)) => Some(Err(error.into())),
            None => ready!(body.poll_trailers(cx))?.map(|trailers| Ok(Frame::trailers(trailers))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
