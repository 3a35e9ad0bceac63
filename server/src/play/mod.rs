//! `GameService.Play`: one player's stream, in both directions at once, in the task of its connection. What comes is taken in
//! whatever the downlink does; what goes is composed only when there is room for it.

mod attach;
mod downlink;
mod framing;
mod hello;
mod inputs;
mod parse;
mod peer;
mod rate;
mod resume;
mod service;
mod stream;
mod uplink;

use http::Request;

pub(crate) use attach::granted;
pub(crate) use hello::{check_schema, find_session, needs_ticket};
pub(crate) use parse::{FirstHello, Hello, hello as read_hello};
pub(crate) use rate::MessageRate;
pub(crate) use service::refuse;
pub(crate) use stream::PlayStream;

const PLAY: &str = "/tickwire.v1.GameService/Play";
/// The header that says how messages are compressed.
const ENCODING: &str = "grpc-encoding";

/// Whether a request is for [`PlayStream`]. Others are for the services, which also say what is wrong with those of this
/// method that are not.
pub(crate) fn is_played_here<T>(request: &Request<T>) -> bool {
    request.uri().path() == PLAY && request.headers().get(ENCODING).is_none_or(|encoding| encoding == "identity")
}
