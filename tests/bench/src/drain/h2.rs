//! As much HTTP/2 (RFC 9113) as one stream of one connection needs from a client: frames are told apart, flow control is
//! kept, and headers are passed over.

/// Bytes before a frame's payload.
pub(super) const FRAME_HEADER_BYTES: usize = 9;
/// The longest payload that a server may send while it has not been told otherwise.
const PAYLOAD_BYTES_MAX: usize = 16_384;
/// What may be sent on a connection before a WINDOW_UPDATE.
const CONNECTION_WINDOW_BYTES: i64 = 65_535;
/// The window that the client gives, for the stream and for the connection; half of it is given back at a time.
const WINDOW_BYTES: u32 = 1 << 20;
/// The only stream.
const STREAM: u32 = 1;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

const SETTINGS_HEADER_TABLE_SIZE: u16 = 0x1;
const SETTINGS_ENABLE_PUSH: u16 = 0x2;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 0x4;

/// How a stream or its connection ends, or what is wrong with what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum H2Error {
    #[error("the server ended the stream")]
    Ended,
    #[error("the server reset the stream (error {0})")]
    Reset(u32),
    #[error("the server closes the connection (error {0})")]
    GoAway(u32),
    #[error("not HTTP/2: a frame of type {kind} with {length} bytes")]
    Frame { kind: u8, length: usize },
    #[error("the server takes nothing in: its flow-control window is used up")]
    WindowUsedUp,
}

/// A frame, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame<'a> {
    Data { payload: &'a [u8], counted: usize, ends: bool },
    Headers { ends: bool },
    Settings { ack: bool, payload: &'a [u8] },
    Ping { ack: bool, opaque: [u8; 8] },
    WindowUpdate { stream: u32, increment: u32 },
    Reset { code: u32 },
    GoAway { code: u32 },
    Other,
}

/// A client's side of a connection with one stream.
#[derive(Debug)]
pub(crate) struct Connection {
    /// What has come and has not been given back.
    taken: u32,
    /// What the server lets the client send on the connection and on the stream.
    connection_window: i64,
    stream_window: i64,
    /// What the server gave each stream at its start.
    initial_window: i64,
}

impl Connection {
    /// Opens the connection and a gRPC request on it.
    pub(crate) fn open(authority: &str, path: &str, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(PREFACE);
        frame_header(SETTINGS, 0, 0, 18, out);
        let settings =
            [(SETTINGS_HEADER_TABLE_SIZE, 0), (SETTINGS_ENABLE_PUSH, 0), (SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES)];
        for (name, value) in settings {
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        window_update(0, WINDOW_BYTES - CONNECTION_WINDOW_BYTES as u32, out);

        let mut headers = Vec::new();
        // By their places in HPACK's static table: `:method: POST`, `:scheme: http`; then names from there with values.
        headers.extend_from_slice(&[0x83, 0x86]);
        literal(&[0x04], path, &mut headers);
        literal(&[0x01], authority, &mut headers);
        literal(&[0x0F, 0x10], "application/grpc", &mut headers);
        literal(&[0x00, 2, b't', b'e'], "trailers", &mut headers);
        frame_header(HEADERS, END_HEADERS, STREAM, headers.len(), out);
        out.extend_from_slice(&headers);
        Self {
            taken: 0,
            connection_window: CONNECTION_WINDOW_BYTES,
            stream_window: CONNECTION_WINDOW_BYTES,
            initial_window: CONNECTION_WINDOW_BYTES,
        }
    }

    /// Sends data. `write` appends it to what it is given.
    pub(crate) fn data(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), H2Error> {
        let start = out.len();
        frame_header(DATA, 0, STREAM, 0, out);
        write(out);
        let length = out.len() - start - FRAME_HEADER_BYTES;
        out[start..start + 3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
        self.connection_window -= length as i64;
        self.stream_window -= length as i64;
        if self.connection_window.min(self.stream_window) < 0 { Err(H2Error::WindowUsedUp) } else { Ok(()) }
    }

    /// Takes in the first frame of `bytes`, and answers it; hands out its data, and the length of the frame. `None` where
    /// it is not whole yet.
    pub(crate) fn receive<'a>(
        &mut self,
        bytes: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<(&'a [u8], usize)>, H2Error> {
        let Some((frame, length)) = read_frame(bytes)? else { return Ok(None) };
        let mut data: &[u8] = &[];
        match frame {
            Frame::Data { ends: true, .. } | Frame::Headers { ends: true } => return Err(H2Error::Ended),
            Frame::Data { payload, counted, ends: false } => {
                data = payload;
                self.give_back(counted, out);
            }
            Frame::Settings { ack: false, payload } => {
                self.obey(payload);
                frame_header(SETTINGS, ACK, 0, 0, out);
            }
            Frame::Ping { ack: false, opaque } => {
                frame_header(PING, ACK, 0, opaque.len(), out);
                out.extend_from_slice(&opaque);
            }
            Frame::WindowUpdate { stream: 0, increment } => self.connection_window += i64::from(increment),
            Frame::WindowUpdate { increment, .. } => self.stream_window += i64::from(increment),
            Frame::Reset { code } => return Err(H2Error::Reset(code)),
            Frame::GoAway { code } => return Err(H2Error::GoAway(code)),
            Frame::Headers { .. } | Frame::Settings { .. } | Frame::Ping { .. } | Frame::Other => {}
        }
        Ok(Some((data, length)))
    }

    fn give_back(&mut self, bytes: usize, out: &mut Vec<u8>) {
        // A frame is short, and half a window is the most that is kept.
        self.taken += bytes as u32;
        if self.taken >= WINDOW_BYTES / 2 {
            window_update(0, self.taken, out);
            window_update(STREAM, self.taken, out);
            self.taken = 0;
        }
    }

    fn obey(&mut self, settings: &[u8]) {
        for setting in settings.chunks_exact(6) {
            if setting[..2] == SETTINGS_INITIAL_WINDOW_SIZE.to_be_bytes() {
                let window = i64::from(number(&setting[2..]));
                self.stream_window += window - self.initial_window;
                self.initial_window = window;
            }
        }
    }
}

/// The first frame of `bytes` and its length, or `None` where it is not whole yet.
fn read_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, H2Error> {
    let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
    let length = number(&[0, header[0], header[1], header[2]]) as usize;
    let (kind, flags, stream) = (header[3], header[4], number(&header[5..]) & 0x7FFF_FFFF);
    let wrong = H2Error::Frame { kind, length };
    if length > PAYLOAD_BYTES_MAX {
        return Err(wrong);
    }
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let (ack, ends) = (flags & ACK != 0, flags & END_STREAM != 0);
    let frame = match (kind, length) {
        (DATA, _) => Frame::Data { payload: unpadded(payload, flags).ok_or(wrong)?, counted: length, ends },
        (HEADERS, _) => Frame::Headers { ends },
        (SETTINGS, _) => Frame::Settings { ack, payload },
        (PING, 8) => Frame::Ping { ack, opaque: payload.try_into().expect("its length is 8") },
        (WINDOW_UPDATE, 4) => Frame::WindowUpdate { stream, increment: number(payload) & 0x7FFF_FFFF },
        (RST_STREAM, 4) => Frame::Reset { code: number(payload) },
        (GOAWAY, 8..) => Frame::GoAway { code: number(&payload[4..8]) },
        (PING | WINDOW_UPDATE | RST_STREAM | GOAWAY, _) => return Err(wrong),
        _ => Frame::Other,
    };
    Ok(Some((frame, FRAME_HEADER_BYTES + length)))
}

fn unpadded(payload: &[u8], flags: u8) -> Option<&[u8]> {
    if flags & PADDED == 0 {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(padding.into())?)
}

/// A number of 4 bytes.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte))
}

fn frame_header(kind: u8, flags: u8, stream: u32, length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn window_update(stream: u32, increment: u32, out: &mut Vec<u8>) {
    frame_header(WINDOW_UPDATE, 0, stream, 4, out);
    out.extend_from_slice(&increment.to_be_bytes());
}

/// A header that the receiver is not to remember: its name as HPACK has it, and a short value.
fn literal(name: &[u8], value: &str, out: &mut Vec<u8>) {
    debug_assert!(value.len() < 127, "a longer length takes more bytes");
    out.extend_from_slice(name);
    out.push(value.len() as u8);
    out.extend_from_slice(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame_header(kind, flags, stream, payload.len(), &mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn connection() -> Connection {
        Connection::open("host", "/path", &mut Vec::new())
    }

    #[test]
    fn frames_are_read_once_they_are_whole() {
        let cases = [
            (frame(DATA, 0, 1, b"abc"), Frame::Data { payload: b"abc", counted: 3, ends: false }),
            (frame(DATA, PADDED, 1, b"\x02abc\0\0"), Frame::Data { payload: b"abc", counted: 6, ends: false }),
            (frame(DATA, END_STREAM, 1, b""), Frame::Data { payload: b"", counted: 0, ends: true }),
            (frame(HEADERS, END_HEADERS, 1, b"\x88"), Frame::Headers { ends: false }),
            (frame(HEADERS, END_HEADERS | END_STREAM, 1, b""), Frame::Headers { ends: true }),
            (frame(SETTINGS, ACK, 0, b""), Frame::Settings { ack: true, payload: b"" }),
            (frame(PING, 0, 0, b"12345678"), Frame::Ping { ack: false, opaque: *b"12345678" }),
            (frame(WINDOW_UPDATE, 0, 0, &[0x80, 0, 1, 2]), Frame::WindowUpdate { stream: 0, increment: 258 }),
            (frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), Frame::Reset { code: 8 }),
            (frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 11, b'x']), Frame::GoAway { code: 11 }),
            (frame(0x20, 0, 7, b"?"), Frame::Other),
        ];
        for (bytes, wanted) in cases {
            for cut in 0..bytes.len() {
                assert_eq!(read_frame(&bytes[..cut]), Ok(None), "{wanted:?} cut at {cut}");
            }
            let length = bytes.len();
            let followed = [bytes, vec![1, 2, 3]].concat();
            assert_eq!(read_frame(&followed), Ok(Some((wanted, length))));
        }
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        assert_eq!(read_frame(b"HTTP/1.1 400 Bad Request"), Err(H2Error::Frame { kind: b'P', length: 0x48_5454 }));
        assert_eq!(read_frame(&frame(PING, 0, 0, b"1")), Err(H2Error::Frame { kind: PING, length: 1 }));
        assert_eq!(read_frame(&frame(DATA, PADDED, 1, b"\x02a")), Err(H2Error::Frame { kind: DATA, length: 2 }));
    }

    #[test]
    fn the_window_is_given_back_by_halves() {
        let (mut connection, mut out) = (connection(), Vec::new());
        let data = frame(DATA, 0, STREAM, &[7; PAYLOAD_BYTES_MAX]);
        for round in 1..=WINDOW_BYTES as usize / PAYLOAD_BYTES_MAX {
            let (payload, length) = connection.receive(&data, &mut out).expect("a frame").expect("it is whole");
            assert_eq!((payload.len(), length), (PAYLOAD_BYTES_MAX, data.len()));
            let updates = if (round * PAYLOAD_BYTES_MAX).is_multiple_of(WINDOW_BYTES as usize / 2) { 2 } else { 0 };
            assert_eq!(out.len(), updates * (FRAME_HEADER_BYTES + 4), "round {round}");
            out.clear();
        }
    }

    #[test]
    fn settings_and_pings_are_answered_and_answers_are_not() {
        let (mut connection, mut out) = (connection(), Vec::new());
        for (asked, answer) in [
            (frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9]), frame(SETTINGS, ACK, 0, b"")),
            (frame(PING, 0, 0, b"12345678"), frame(PING, ACK, 0, b"12345678")),
            (frame(SETTINGS, ACK, 0, b""), Vec::new()),
            (frame(PING, ACK, 0, b"12345678"), Vec::new()),
        ] {
            connection.receive(&asked, &mut out).expect("a frame");
            assert_eq!(out, answer);
            out.clear();
        }
    }

    #[test]
    fn no_more_is_sent_than_the_server_lets() {
        let mut connection = connection();
        let send = |connection: &mut Connection, length| {
            let mut out = Vec::new();
            connection.data(&mut out, |out| out.resize(out.len() + length, 0)).map(|()| out.len())
        };
        connection.receive(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]), &mut Vec::new()).expect("a frame");
        assert_eq!(send(&mut connection, 10), Ok(FRAME_HEADER_BYTES + 10));
        connection.receive(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 5]), &mut Vec::new()).expect("a frame");
        assert_eq!(send(&mut connection, 5), Ok(FRAME_HEADER_BYTES + 5));
        assert_eq!(send(&mut connection, 1), Err(H2Error::WindowUsedUp));
    }

    #[test]
    fn the_end_of_a_stream_is_told() {
        let end = |bytes: Vec<u8>| connection().receive(&bytes, &mut Vec::new()).map(|_| ());
        assert_eq!(end(frame(HEADERS, END_STREAM, 1, b"")), Err(H2Error::Ended));
        assert_eq!(end(frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])), Err(H2Error::Reset(8)));
        assert_eq!(end(frame(GOAWAY, 0, 0, &[0; 8])), Err(H2Error::GoAway(0)));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_wild(bytes: Vec<u8>) {
            if let Ok(Some((_, length))) = read_frame(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
