//! `RecordingService`: the server's recordings, for those who may have them.

use std::{
    fs::File,
    io::{self, Read as _},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::HeaderMap;
use prost::Message as _;
use tickwire_proto::v1::{self as pb, recording_service_server};
use tokio::task;
use tonic::{
    Code, Status,
    body::Body,
    codec::{CompressionEncoding, EnabledCompressionEncodings},
    server::NamedService,
};

use super::{
    join,
    library::{Found, Library, RecordingName, RecordingNameError},
    rpc::{self, Methods},
};
use crate::{
    identity::{Admission, Purpose},
    limits::Permit,
    metrics::Arrival,
    net::Connection,
    play::needs_ticket,
    server::Shared,
    status::Refusal,
};

const PAGE_SIZE_DEFAULT: usize = 50;
const PAGE_SIZE_MAX: usize = 200;
/// Of a file at once.
const PART_BYTES: usize = 64 * 1024;
const LISTINGS_RETRY: std::time::Duration = std::time::Duration::from_secs(1);
const DOWNLOADS_RETRY: std::time::Duration = std::time::Duration::from_secs(10);

/// `tickwire.v1.RecordingService`.
#[derive(Clone, Debug)]
pub(crate) struct RecordingService {
    shared: Arc<Shared>,
}

impl RecordingService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl NamedService for RecordingService {
    const NAME: &'static str = recording_service_server::SERVICE_NAME;
}

impl Methods for RecordingService {
    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        let Self { shared } = self;
        let bytes_max = shared.limits().message_bytes_max;
        let (none, mut gzip) = (EnabledCompressionEncodings::default(), EnabledCompressionEncodings::default());
        gzip.enable(CompressionEncoding::Gzip);
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        let headers = request.headers().clone();
        match request.uri().path() {
            "/tickwire.v1.RecordingService/GetRecording" => {
                let get = async move |request: pb::GetRecordingRequest| {
                    permit(&shared, &headers)?;
                    let described = blocking(&shared, move |shared| {
                        let found = find(&shared.library, &request.name)?;
                        Ok(found.describe(&shared.registry))
                    });
                    Ok(described.await?)
                };
                rpc::unary(request, bytes_max, none, get).await
            }
            "/tickwire.v1.RecordingService/ListRecordings" => {
                let list = async move |request| {
                    permit(&shared, &headers)?;
                    Ok(blocking(&shared, move |shared| list(shared, &request)).await?)
                };
                rpc::unary(request, bytes_max, gzip, list).await
            }
            "/tickwire.v1.RecordingService/DownloadRecording" => {
                let download = async move |request: pb::DownloadRecordingRequest| {
                    permit(&shared, &headers)?;
                    download(&shared, &headers, request.name).await
                };
                rpc::streaming(request, bytes_max, gzip, download).await
            }
            "/tickwire.v1.RecordingService/Replay" => {
                let replay = async move |request: pb::ReplayRequest| {
                    let joined = replay(&shared, connection.as_deref(), &headers, request).await;
                    join::counted(&shared, Arrival::Replay, joined)
                };
                rpc::streaming(request, bytes_max, none, replay).await
            }
            path => rpc::unimplemented(path),
        }
    }
}

/// Lets a spectator of a recording in.
async fn replay(
    shared: &Arc<Shared>,
    connection: Option<&Connection>,
    headers: &HeaderMap,
    mut request: pb::ReplayRequest,
) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + use<>, Refusal> {
    let mut hello = request.hello.take().map(join::hello_of).transpose()?;
    let admission = match shared.library.is_public {
        true => None,
        false => Some(shared.identity.admit_to_replay(headers, hello.as_mut()).await?),
    };
    let mut hello = hello.ok_or_else(join::no_hello)?;
    let name = request.name.clone();
    let source = blocking(shared, move |shared| {
        let found = find(&shared.library, &name)?;
        let source = shared.library.source(&found, &shared.registry)?;
        let watched = source.session().cloned().or_else(|| found.running_by_code(&shared.registry));
        Ok((source, watched))
    });
    let (source, watched) = source.await?;
    let admission = match (admission, watched) {
        // Of a match that is being played it is as if it were watched, whoever may have recordings.
        (None, Some(session)) => {
            let mut admission = shared.identity.admit(&mut hello, Purpose::Watch)?;
            if session.terms.visibility.takes_tickets_only() && !admission.names_a_session() {
                let ticket = hello.ticket.as_ref().ok_or_else(|| needs_ticket(&session.name))?;
                if shared.reservations.resolve(ticket.reveal())?.session.name != session.name {
                    return Err(needs_ticket(&session.name));
                }
            }
            admission.record().await?;
            Some(admission)
        }
        (admission, _) => admission,
    };
    if let Some(admission) = &admission {
        admission.fits(&source.name(), &source.schema().game)?;
    }
    let stream = join::replay(shared, connection, source, &hello, &request)?;
    admission.into_iter().for_each(Admission::admitted);
    Ok(stream)
}

/// Lets those go on who may know of recordings.
fn permit(shared: &Shared, headers: &HeaderMap) -> Result<(), Refusal> {
    if shared.library.is_public { Ok(()) } else { shared.identity.admit_to_recordings(headers) }
}

/// Asks the disk, where nobody waits but the caller.
async fn blocking<R: Send + 'static>(
    shared: &Arc<Shared>,
    ask: impl FnOnce(&Shared) -> Result<R, Refusal> + Send + 'static,
) -> Result<R, Refusal> {
    let most = shared.limits().listings_max;
    let permit = shared.listings.take(most).ok_or_else(|| {
        let message = format!("{most} calls ask the disk for recordings, which is the most at once");
        Refusal::new(Code::ResourceExhausted, "LISTINGS", message).retry_after(LISTINGS_RETRY)
    })?;
    let shared = Arc::clone(shared);
    let answer = task::spawn_blocking(move || {
        let answer = ask(&shared);
        // Also where nobody waits for it any more.
        drop(permit);
        answer
    });
    let answer = answer.await;
    // A panic in there has been reported by the panic hook.
    answer.map_err(|_| {
        let message = "the recordings could not be read; the server's log says why";
        Refusal::new(Code::Internal, "UNREADABLE", message)
    })?
}

fn find(library: &Library, name: &str) -> Result<Found, Refusal> {
    let malformed = |error: RecordingNameError| {
        Refusal::new(Code::InvalidArgument, "MALFORMED_NAME", error.to_string()).field("name")
    };
    library.find(name.parse().map_err(malformed)?)
}

fn list(shared: &Shared, request: &pb::ListRecordingsRequest) -> Result<pb::ListRecordingsResponse, Refusal> {
    let page_size = match request.page_size as usize {
        0 => PAGE_SIZE_DEFAULT,
        size => size.min(PAGE_SIZE_MAX),
    };
    let after: Option<RecordingName> = match request.page_token.as_str() {
        "" => None,
        token => Some(token.parse().map_err(|_| {
            let message = "this is no page's token: pass the next_page_token of the last answer";
            Refusal::new(Code::InvalidArgument, "UNKNOWN_PAGE_TOKEN", message).field("page_token")
        })?),
    };
    let (page, next) = shared.library.page(after.as_ref(), page_size)?;
    let recordings: Vec<pb::Recording> = page.iter().map(|found| found.describe(&shared.registry)).collect();
    let next_page_token = next.map(|last| last.to_string()).unwrap_or_default();
    Ok(pb::ListRecordingsResponse { recordings, next_page_token })
}

async fn download(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    name: String,
) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + use<>, Status> {
    let is_public = shared.library.is_public;
    let found = blocking(shared, move |shared| {
        let found = find(&shared.library, &name)?;
        let is_by_code = is_public && found.running_by_code(&shared.registry).is_some();
        Ok((found, is_by_code))
    });
    let (found, is_by_code) = found.await?;
    // What is everybody's is still not the match of those who have its code.
    if is_by_code {
        shared.identity.admit_to_recordings(headers)?;
    }
    let file = blocking(shared, move |shared| {
        let most = shared.limits().downloads_max;
        let permit = shared.downloads.take(most).ok_or_else(|| {
            let message = format!("{most} downloads are under way, which is the most");
            Refusal::new(Code::ResourceExhausted, "DOWNLOADS", message).retry_after(DOWNLOADS_RETRY)
        })?;
        let opened = File::open(found.file(&shared.registry)?).map_err(|error| unreadable(&error))?;
        Ok(Reading { file: opened, _permit: permit })
    });
    let file = file.await?;
    Ok(stream::try_unfold(file, |file| async move {
        // Each part when there is room for it.
        let read = task::spawn_blocking(move || file.next()).await;
        let read = read.map_err(|_| Status::internal("the recording could not be read"))?;
        Ok(read.map_err(|error| unreadable(&error))?)
    }))
}

/// A file that is being sent.
struct Reading {
    file: File,
    _permit: Permit,
}

impl Reading {
    /// The next part as a message, if there is one.
    fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let mut data = Vec::with_capacity(PART_BYTES);
        (&mut self.file).take(PART_BYTES as u64).read_to_end(&mut data)?;
        let part = pb::DownloadRecordingResponse { data };
        Ok((!part.data.is_empty()).then(|| (part.encode_to_vec().into(), self)))
    }
}

fn unreadable(error: &io::Error) -> Refusal {
    Refusal::new(Code::Unavailable, "UNREADABLE", format!("the recording cannot be read: {error}"))
}
