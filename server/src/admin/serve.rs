//! HTTP for admins, and for who asks for metrics: plain or encrypted, of version 1.1 or 2.

use std::{error::Error, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{Status, body::Body, service::Routes, transport::server::TcpConnectInfo};
use tower_service::Service as _;
use tracing::{debug, warn};

use super::visits::{Place, Visit, Visits};
use crate::{limits::RefusalReason, net::Tls, server::Shared, status::Refusal};

const CONNECTIONS_MAX: usize = 64;
const REQUESTS_PER_CONNECTION_MAX: u32 = 32;
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// Of HTTP/1.1: a request's line and headers, or a part of an answer.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long to wait where the process has no descriptor or memory left for one more socket.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// How long requests that are under way have at a connection's end.
pub(super) const END_TIMEOUT: Duration = Duration::from_millis(500);

/// What is answered, and how.
pub(crate) struct Site {
    pub(crate) shared: Arc<Shared>,
    pub(crate) routes: Routes,
    pub(crate) tls: Option<Arc<Tls>>,
}

/// Why a connection ends that has not ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    /// The server does.
    End,
    /// It has wanted nothing for too long.
    Idle(RefusalReason),
    /// Another one needs its place.
    Evicted,
}

impl Leave {
    /// For the log.
    fn as_str(self) -> &'static str {
        match self {
            Self::End => "the server ends",
            Self::Idle(reason) => reason.label(),
            Self::Evicted => RefusalReason::AdminConnections.label(),
        }
    }
}

/// Answers until it is told to stop.
pub(crate) async fn serve(listener: TcpListener, site: Site, stopped: oneshot::Receiver<()>) {
    let (site, visits) = (Arc::new(site), Visits::new(CONNECTIONS_MAX));
    let (begin_end, ends) = watch::channel(());
    let mut served = JoinSet::new();
    let mut stopped = pin!(stopped);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // A panic in there has been reported by the panic hook.
            Some(_) = served.join_next() => continue,
            // Whether it is told or the sender is gone: it is to stop.
            _ = &mut stopped => break,
        };
        match accepted {
            Ok((stream, peer)) => match visits.enter() {
                Ok((place, is_anothers)) => {
                    if is_anothers {
                        note_full(&site.shared);
                    }
                    served.spawn(attend(stream, peer, place, Arc::clone(&site), ends.clone()));
                }
                Err(_) => note_full(&site.shared),
            },
            Err(error) => {
                warn!(%error, "cannot accept a connection of an admin, or of who asks for metrics");
                sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
    drop((listener, begin_end));
    let all_ended = async { while served.join_next().await.is_some() {} };
    // Those who do not come to an end are cut off.
    let _ = timeout(END_TIMEOUT, all_ended).await;
}

fn note_full(shared: &Shared) {
    let times = shared.refusals.count(RefusalReason::AdminConnections);
    // Whoever can make connections could fill the log with them.
    if times.is_power_of_two() {
        warn!(
            times,
            "{CONNECTIONS_MAX} connections of admins, or of who asks for metrics, are open, which is the most"
        );
    }
}

/// Serves a connection to its end.
async fn attend(stream: TcpStream, peer: SocketAddr, place: Place, site: Arc<Site>, mut ends: watch::Receiver<()>) {
    // Without it answers come a little later.
    let _ = stream.set_nodelay(true);
    let leave = async {
        tokio::select! {
            _ = ends.changed() => Leave::End,
            reason = place.visit.is_idle(&site.shared.timeouts) => {
                site.shared.refusals.count(reason);
                Leave::Idle(reason)
            }
            () = place.visit.is_to_leave() => Leave::Evicted,
        }
    };
    let mut leave = pin!(leave);
    let info = TcpConnectInfo { local_addr: stream.local_addr().ok(), remote_addr: Some(peer) };
    let answered = match &site.tls {
        None => answer(stream, info, &place.visit, &site, leave.as_mut()).await,
        Some(tls) => tokio::select! {
            agreed = tls.accept(stream) => match agreed {
                Ok(stream) => answer(stream, info, &place.visit, &site, leave.as_mut()).await,
                Err(error) => Err(error.into()),
            },
            why = leave.as_mut() => Ok(Some(why)),
        },
    };
    match answered {
        Ok(None) => {}
        Ok(Some(why)) => {
            debug!(%peer, why = why.as_str(), "a connection of an admin, or of who asks for metrics, is closed");
        }
        Err(error) => debug!(%peer, %error, "a connection of an admin, or of who asks for metrics, was lost"),
    }
}

/// Answers what is asked on a connection, until it ends or has to leave.
async fn answer<S>(
    stream: S,
    info: TcpConnectInfo,
    visit: &Arc<Visit>,
    site: &Arc<Site>,
    leave: impl Future<Output = Leave>,
) -> Result<Option<Leave>, Box<dyn Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|mut request: Request<Incoming>| {
        visit.ask();
        let from = info.remote_addr.expect("it is that of the connection").ip();
        let answered = match site.shared.identity.check_request_beside(&request, from) {
            Ok(()) => {
                request.extensions_mut().insert(info.clone());
                request.extensions_mut().insert(Arc::clone(visit));
                Ok(site.routes.clone().call(request))
            }
            Err(refusal) => Err(refuse(&request, refusal)),
        };
        let shared = Arc::clone(&site.shared);
        async move {
            let answer = match answered {
                Ok(answer) => answer.await,
                Err(refused) => Ok(refused),
            };
            let reason = answer.as_ref().ok().and_then(|answer| RefusalReason::of_headers(answer.headers()));
            if let Some(reason) = reason {
                shared.refusals.count(reason);
            }
            answer
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    // For those who ask with plain HTTP.
    builder.http1().max_buf_size(BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(REQUESTS_PER_CONNECTION_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .keep_alive_timeout(KEEP_ALIVE);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let why = tokio::select! {
        served = connection.as_mut() => return served.map(|()| None),
        why = leave => why,
    };
    if why != Leave::Evicted {
        connection.as_mut().graceful_shutdown();
        // Who does not take the end is cut off.
        let _ = timeout(END_TIMEOUT, connection).await;
    }
    Ok(Some(why))
}

/// Refuses a request in the words of whoever asks.
fn refuse(request: &Request<Incoming>, refusal: Refusal) -> Response<Body> {
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|content| content.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        return Status::from(refusal).into_http();
    }
    let mut response = Response::new(Body::new(format!("{}\n", refusal.message)));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}
