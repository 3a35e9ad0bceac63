//! HTTP/2 by hand: frames that no library sends, in numbers that no client has.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{TestServer, within_patience};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A path that every server answers.
pub(crate) const GET_SESSION: &str = "/tickwire.v1.SessionService/GetSession";

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How a connection ended.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// The code of the server's GOAWAY, if the client got to read it: a reset overtakes it.
    pub(crate) goaway: Option<u32>,
    /// What that says beside it.
    pub(crate) words: String,
    /// The codes of streams that the server has reset.
    pub(crate) resets: Vec<u32>,
}

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A block of headers, each written out.
pub(crate) fn header_block(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in usual.iter().chain(more) {
        // Literal, without indexing, with a new name.
        block.push(0);
        for text in [name, value] {
            put_length(text.len(), &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A length with a prefix of seven bits (RFC 7541, section 5.1).
fn put_length(length: usize, block: &mut Vec<u8>) {
    if length < 127 {
        block.push(length as u8);
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// A whole request without a body, on `stream`.
pub(crate) fn request(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &header_block(path, &[]))
}

/// What a client says first.
pub(crate) fn greeting() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// Sends all of `bytes` to the server, and reads until it closes the connection, which it must.
pub(crate) async fn send_to_the_end(server: &TestServer, bytes: Vec<u8>) -> Ending {
    let socket = TcpStream::connect(server.address).await.expect("the server accepts");
    let (mut down, mut up) = socket.into_split();
    let sends = async move {
        // An error says that the server has closed it: that is what it is to do. The client's side stays open until then.
        let _ = up.write_all(&bytes).await;
        up
    };
    let reads = async move {
        let mut read = Vec::new();
        // Closed or reset: either says that the server has let go.
        let _ = down.read_to_end(&mut read).await;
        read
    };
    let (_up, read) = within_patience(async { tokio::join!(sends, reads) }).await;
    ending(&read)
}

fn ending(mut read: &[u8]) -> Ending {
    let mut ending = Ending::default();
    while let Some((&[a, b, c, kind, _flags, ..], _)) = read.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some(payload) = read.get(9..9 + length) else { break };
        let code = |place: usize| payload.get(place..place + 4).and_then(|code| code.try_into().ok());
        match kind {
            GOAWAY => {
                ending.goaway = code(4).map(u32::from_be_bytes);
                ending.words = String::from_utf8_lossy(payload.get(8..).unwrap_or_default()).into_owned();
            }
            RST_STREAM => ending.resets.extend(code(0).map(u32::from_be_bytes)),
            _ => {}
        }
        read = &read[9 + length..];
    }
    ending
}
