//! The messages of the plain servers: a length, the moment at which the message was due, and filler.
//!
//! Nothing cheaper can be told apart in a stream of bytes, so what these servers cost is what the kernel costs.

/// Bytes before the body: its length, little-endian.
pub(crate) const LENGTH_BYTES: usize = 4;
/// Bytes of a body's start: nanoseconds of the machine's monotonic clock, little-endian.
const DUE_BYTES: usize = 8;
/// The shortest body.
pub(crate) const BODY_BYTES_MIN: usize = DUE_BYTES;
/// A body longer than this is no message of ours.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What a client sends each tick in `down+up`: 40 bytes with the length, about what an input of Tickwire's takes.
pub(crate) const INPUT_BYTES: usize = 40;
/// What a client sends where it acknowledges: about what an acknowledgement of Tickwire's takes.
pub(crate) const ACK_BYTES: usize = 24;

/// A message with a body of `body_bytes`, which is at least [`BODY_BYTES_MIN`].
pub(crate) fn message(body_bytes: usize) -> Vec<u8> {
    let mut message = vec![0xA5; LENGTH_BYTES + body_bytes.max(BODY_BYTES_MIN)];
    let length = u32::try_from(message.len() - LENGTH_BYTES).expect("a message is short");
    message[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    message
}

/// Writes the moment at which a message is due into it.
pub(crate) fn stamp(message: &mut [u8], due_ns: u64) {
    message[LENGTH_BYTES..LENGTH_BYTES + DUE_BYTES].copy_from_slice(&due_ns.to_le_bytes());
}

/// A length that no message has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes: the stream is out of step")]
pub(crate) struct FrameError(usize);

/// The first message of `bytes`: its body's length, and when it was due; `None` where it is not whole yet.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(usize, u64)>, FrameError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if !(BODY_BYTES_MIN..=BODY_BYTES_MAX).contains(&length) {
        return Err(FrameError(length));
    }
    let due = rest.get(..length).and_then(<[u8]>::first_chunk::<DUE_BYTES>);
    Ok(due.map(|due| (length, u64::from_le_bytes(*due))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_once_it_is_whole() {
        let mut bytes = message(100);
        stamp(&mut bytes, 77);
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(read(&bytes), Ok(Some((100, 77))));
    }

    #[test]
    fn a_stream_out_of_step_is_an_error() {
        assert_eq!(read(&[7, 0, 0, 0, 1]), Err(FrameError(7)));
        assert_eq!(read(&u32::MAX.to_le_bytes()), Err(FrameError(u32::MAX as usize)));
    }
}
