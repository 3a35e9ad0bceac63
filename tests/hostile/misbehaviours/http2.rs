//! HTTP/2 against its rules, and what is no HTTP/2.

use std::time::Duration;

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Act, Expected, Misbehaviour, PLAY, Verdict, it};
use crate::{
    harness::{TestServer, within_patience},
    raw_http2::{
        CONTINUATION, DATA, END_HEADERS, GET_SESSION, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
        frame, greeting, header_block, request,
    },
};

pub(super) const HTTP2: &[Misbehaviour] = &[
    it(
        "asks and resets without end",
        Act::Frames(|| {
            (0..500)
                .flat_map(|at| {
                    [request(1 + 2 * at, GET_SESSION), frame(RST_STREAM, 0, 1 + 2 * at, &[0, 0, 0, 8])].concat()
                })
                .collect()
        }),
        Expected::Closed,
    ),
    it("pings HTTP/2 without end", Act::Frames(|| frame(PING, 0, 0, &[0; 8]).repeat(5000)), Expected::Closed),
    it(
        "has settings without end",
        Act::Frames(|| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).repeat(5000)),
        Expected::Closed,
    ),
    it("has priorities without end", Act::Frames(|| frame(PRIORITY, 0, 1, &[0; 5]).repeat(5000)), Expected::Closed),
    it(
        "has headers without end",
        Act::Frames(|| {
            [frame(HEADERS, 0, 1, &header_block(GET_SESSION, &[])), frame(CONTINUATION, 0, 1, &[0]).repeat(5000)]
                .concat()
        }),
        Expected::Closed,
    ),
    it(
        "opens windows without end",
        Act::Frames(|| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(20_000)),
        Expected::Closed,
    ),
    it(
        "opens a window too wide",
        Act::Frames(|| frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(3)),
        Expected::Closed,
    ),
    it(
        "has empty frames without end",
        Act::Frames(|| [request(1, PLAY), frame(DATA, 0, 1, &[]).repeat(20_000)].concat()),
        Expected::Closed,
    ),
    it("sends data on no stream", Act::Frames(|| frame(DATA, 0, 0, b"hello")), Expected::Closed),
    it("has headers that are none", Act::Frames(|| frame(HEADERS, END_HEADERS, 1, &[0xff; 100])), Expected::Closed),
    it("has a frame that is too long", Act::Frames(|| vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]), Expected::Closed),
    it("speaks HTTP/1.1", Act::Socket(|| b"GET / HTTP/1.1\r\nhost: tickwire\r\n\r\n".to_vec()), Expected::Closed),
    it(
        "speaks TLS",
        Act::Socket(|| [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x5a; 512]].concat()),
        Expected::Closed,
    ),
    it("connects and says nothing", Act::Socket(Vec::new), Expected::Closed),
    it("greets and asks nothing", Act::Frames(Vec::new), Expected::Closed),
    it("greets byte by byte", Act::Else(greets_byte_by_byte), Expected::Closed),
];

fn greets_byte_by_byte(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let mut socket = TcpStream::connect(server.address).await.expect("the server accepts");
        let (mut down, mut up) = socket.split();
        let greets = async {
            for byte in greeting().into_iter().cycle() {
                if up.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            std::future::pending::<()>().await;
        };
        let mut read = Vec::new();
        tokio::select! {
            // Closed or reset: either says that the server has let go.
            _ = within_patience(down.read_to_end(&mut read)) => {}
            () = greets => {}
        }
        Verdict::Closed
    }
    .boxed()
}
