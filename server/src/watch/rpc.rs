//! Calls of methods that no generated service carries: some of their answers are bytes that are composed elsewhere.

use std::{
    convert::Infallible,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut as _, Bytes};
use futures_util::Stream;
use prost::Message;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EnabledCompressionEncodings, EncodeBuf, Encoder},
    server::{Grpc, NamedService},
};
use tower_service::Service;

/// A service of such methods.
pub(crate) trait Methods: NamedService + Clone + Send + 'static {
    /// Answers a request for one of them, by its path.
    fn answer(self, request: http::Request<Body>) -> impl Future<Output = http::Response<Body>> + Send;
}

/// Such a service among tonic's.
#[derive(Clone, Debug)]
pub(crate) struct Routed<M>(pub(crate) M);

/// Requests as messages, answers as the bytes of messages.
struct Encoded<M>(PhantomData<fn() -> M>);

/// A function as a service.
struct Call<F>(Option<F>);

/// Answers with one message, compressed for whom it may be.
pub(super) async fn unary<M, R, F>(
    request: http::Request<Body>,
    bytes_max: usize,
    compressed: EnabledCompressionEncodings,
    call: impl FnOnce(M) -> F + Send,
) -> http::Response<Body>
where
    M: Message + Default + 'static,
    R: Message,
    F: Future<Output = Result<R, Status>> + Send,
{
    let call = Call(Some(|request: Request<M>| {
        let answer = call(request.into_inner());
        async { Ok(Response::new(Bytes::from(answer.await?.encode_to_vec()))) }
    }));
    grpc(bytes_max).apply_compression_config(accepted(), compressed).unary(call, request).await
}

/// Takes a stream of messages, and answers with one of messages' bytes.
pub(crate) async fn bidirectional<M, S, F>(
    request: http::Request<Body>,
    bytes_max: usize,
    call: impl FnOnce(Streaming<M>) -> F + Send,
) -> http::Response<Body>
where
    M: Message + Default + 'static,
    S: Stream<Item = Result<Bytes, Status>> + Send + 'static,
    F: Future<Output = Result<S, Status>> + Send,
{
    let call = Call(Some(|request: Request<Streaming<M>>| {
        let stream = call(request.into_inner());
        async { Ok(Response::new(stream.await?)) }
    }));
    grpc(bytes_max).streaming(call, request).await
}

/// Answers with a stream of messages' bytes, compressed for whom they may be.
pub(super) async fn streaming<M, S, F>(
    request: http::Request<Body>,
    bytes_max: usize,
    compressed: EnabledCompressionEncodings,
    call: impl FnOnce(M) -> F + Send,
) -> http::Response<Body>
where
    M: Message + Default + 'static,
    S: Stream<Item = Result<Bytes, Status>> + Send + 'static,
    F: Future<Output = Result<S, Status>> + Send,
{
    let call = Call(Some(|request: Request<M>| {
        let stream = call(request.into_inner());
        async { Ok(Response::new(stream.await?)) }
    }));
    grpc(bytes_max).apply_compression_config(accepted(), compressed).server_streaming(call, request).await
}

/// How requests may be compressed. A message counts by what it is when it is not.
fn accepted() -> EnabledCompressionEncodings {
    let mut accepted = EnabledCompressionEncodings::default();
    accepted.enable(CompressionEncoding::Gzip);
    accepted
}

/// Says that there is no such method.
pub(crate) fn unimplemented(path: &str) -> http::Response<Body> {
    Status::unimplemented(format!("{path} is not a method of this server")).into_http()
}

fn grpc<M: Message + Default + 'static>(bytes_max: usize) -> Grpc<Encoded<M>> {
    Grpc::new(Encoded(PhantomData)).apply_max_message_size_config(Some(bytes_max), None)
}

impl<M: Methods> NamedService for Routed<M> {
    const NAME: &'static str = M::NAME;
}

impl<M: Methods> Service<http::Request<Body>> for Routed<M> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.0.clone().answer(request);
        Box::pin(async { Ok(answer.await) })
    }
}

impl<F, A, M, R> Service<Request<M>> for Call<F>
where
    F: FnOnce(Request<M>) -> A,
    A: Future<Output = Result<Response<R>, Status>>,
{
    type Response = Response<R>;
    type Error = Status;
    type Future = A;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<M>) -> A {
        (self.0.take().expect("it is called for one request"))(request)
    }
}

impl<M: Message + Default + 'static> Codec for Encoded<M> {
    type Encode = Bytes;
    type Decode = M;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

impl<M> Encoder for Encoded<M> {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

impl<M: Message + Default> Decoder for Encoded<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        let length = buf.remaining();
        M::decode(buf).map(Some).map_err(|error| {
            Status::invalid_argument(format!("{length} bytes are not a message of this method: {error}"))
        })
    }
}
