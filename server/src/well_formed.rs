//! Generated services, and bytes that are no message of theirs.

use std::task::{Context, Poll};

use futures_util::{TryFutureExt as _, future::MapOk};
use http::{Request, Response};
use tonic::{Code, Status, body::Body, server::NamedService};
use tower_service::Service;

/// What a generated service says of a request that it cannot decode, with INTERNAL, begins so.
const UNDECODABLE: &str = "failed to decode Protobuf message";

/// A generated service that blames who has sent what is no message, with INVALID_ARGUMENT.
#[derive(Clone, Debug)]
pub(crate) struct WellFormed<S>(pub(crate) S);

impl<S: NamedService> NamedService for WellFormed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for WellFormed<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = MapOk<S::Future, fn(Response<Body>) -> Response<Body>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request).map_ok(blame)
    }
}

fn blame(response: Response<Body>) -> Response<Body> {
    // An answer that is a status alone has it here, too.
    let status = response.extensions().get::<Status>();
    match status.filter(|status| status.code() == Code::Internal && status.message().starts_with(UNDECODABLE)) {
        Some(status) => {
            let message = format!("the request is not a message of this method: {}", status.message());
            Status::invalid_argument(message).into_http()
        }
        None => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blamed(status: Status) -> (Code, String) {
        let response = blame(status.into_http());
        let status = Status::from_header_map(response.headers()).expect("it has one");
        (status.code(), status.message().to_owned())
    }

    #[test]
    fn only_what_cannot_be_decoded_is_the_callers_fault() {
        let error = <() as prost::Message>::decode(&[0xff; 40][..]).expect_err("it is no message");
        let (code, message) = blamed(Status::internal(error.to_string()));
        assert_eq!(code, Code::InvalidArgument);
        assert!(message.ends_with(&error.to_string()), "{message}");
        assert_eq!(blamed(Status::internal("a bug")), (Code::Internal, "a bug".to_owned()));
        assert_eq!(blamed(Status::not_found("no such session")), (Code::NotFound, "no such session".to_owned()));
    }
}
