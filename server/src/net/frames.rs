//! HTTP/2's frames, as far as they are looked at below HTTP/2 itself: where each begins and ends (RFC 9113, section 4).

use h2::Reason;

/// What stands before each payload.
pub(super) const HEAD_BYTES: usize = 9;
/// What a client says before its first frame.
pub(super) const PREFACE_BYTES: usize = 24;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Of DATA and HEADERS.
pub(super) const END_STREAM: u8 = 1;
/// Of SETTINGS and PING.
pub(super) const ACK: u8 = 1;
/// Of HEADERS, PUSH_PROMISE and CONTINUATION.
pub(super) const END_HEADERS: u8 = 4;
/// Of DATA.
pub(super) const PADDED: u8 = 8;

/// What stands before a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Of the payload, in bytes: below 2^24.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// 0: the connection.
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn parse(bytes: &[u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        Self { length, kind, flags, stream: u31(stream) }
    }

    pub(super) fn bytes(self) -> [u8; HEAD_BYTES] {
        let [_, a, b, c] = u32::try_from(self.length).expect("no frame has 16 MiB").to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    /// Whether it asks something of the server, or nothing at all, and carries nothing.
    pub(super) fn is_control(self) -> bool {
        match self.kind {
            PING | SETTINGS => !self.has(ACK),
            PRIORITY | PUSH_PROMISE | GOAWAY => true,
            kind => kind > CONTINUATION,
        }
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A number whose first bit says nothing.
pub(super) fn u31(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes) & (u32::MAX >> 1)
}

/// A WINDOW_UPDATE.
pub(super) fn window_update(stream: u32, increment: u32) -> [u8; HEAD_BYTES + 4] {
    let mut frame = [0; HEAD_BYTES + 4];
    frame[..HEAD_BYTES].copy_from_slice(&Head { length: 4, kind: WINDOW_UPDATE, flags: 0, stream }.bytes());
    frame[HEAD_BYTES..].copy_from_slice(&increment.to_be_bytes());
    frame
}

/// A GOAWAY that asks the client to calm down, and says why. Of the client's streams, those after `last_stream` have not been
/// looked at.
pub(super) fn calm_down(last_stream: u32, why: &str) -> Vec<u8> {
    let length = 8 + why.len();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + length);
    bytes.extend_from_slice(&Head { length, kind: GOAWAY, flags: 0, stream: 0 }.bytes());
    bytes.extend_from_slice(&last_stream.to_be_bytes());
    bytes.extend_from_slice(&u32::from(Reason::ENHANCE_YOUR_CALM).to_be_bytes());
    bytes.extend_from_slice(why.as_bytes());
    bytes
}

/// The head of a frame that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PartialHead {
    bytes: [u8; HEAD_BYTES],
    filled: usize,
}

impl PartialHead {
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// What it lacks, in bytes.
    pub(super) fn rest(&self) -> usize {
        HEAD_BYTES - self.filled
    }

    /// Takes from the front of `bytes` what it lacks. Whole, it is empty again.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        if self.filled == 0
            && let Some((head, rest)) = bytes.split_first_chunk()
        {
            *bytes = rest;
            return Some(Head::parse(head));
        }
        let count = self.rest().min(bytes.len());
        let (part, rest) = bytes.split_at(count);
        self.bytes[self.filled..self.filled + count].copy_from_slice(part);
        self.filled += count;
        *bytes = rest;
        if self.filled < HEAD_BYTES {
            return None;
        }
        self.filled = 0;
        Some(Head::parse(&self.bytes))
    }
}

/// Follows frames that go by in pieces, and knows where one ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Follower {
    head: PartialHead,
    /// Of the payload.
    left: usize,
    /// Headers come in several frames, between which nothing else may come.
    in_headers: bool,
    /// What has begun is a RST_STREAM, whose last bytes were these: in the end, its error code.
    reset: Option<u32>,
    resets: Resets,
}

/// Streams that were reset, as far as they are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Resets {
    /// With REFUSED_STREAM.
    pub(super) refused: u32,
    /// With FLOW_CONTROL_ERROR.
    pub(super) flow_control: u32,
}

impl Follower {
    /// Nothing of a frame has gone by of which more is to come, nor of headers.
    pub(super) fn is_between_frames(&self) -> bool {
        self.left == 0 && self.head.is_empty() && !self.in_headers
    }

    /// How many of the next bytes surely belong to the frame, or to the headers, that have begun.
    pub(super) fn frame_rest(&self) -> usize {
        match self.left {
            0 if self.is_between_frames() => 0,
            0 => self.head.rest(),
            left => left,
        }
    }

    pub(super) fn follow(&mut self, mut bytes: &[u8], mut begin: impl FnMut(Head)) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let Some(head) = self.head.take(&mut bytes) else { return };
                begin(head);
                self.left = head.length;
                self.reset = (head.kind == RST_STREAM).then_some(0);
                if matches!(head.kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
                    self.in_headers = !head.has(END_HEADERS);
                }
            }
            let count = self.left.min(bytes.len());
            let (part, rest) = bytes.split_at(count);
            bytes = rest;
            self.left -= count;
            self.follow_reset(part);
        }
    }

    fn follow_reset(&mut self, part: &[u8]) {
        let Some(code) = &mut self.reset else { return };
        *code = part.iter().fold(*code, |code, byte| code << 8 | u32::from(*byte));
        if self.left == 0 {
            match Reason::from(*code) {
                Reason::REFUSED_STREAM => self.resets.refused += 1,
                Reason::FLOW_CONTROL_ERROR => self.resets.flow_control += 1,
                _ => {}
            }
            self.reset = None;
        }
    }

    /// Those since it was asked last.
    pub(super) fn take_resets(&mut self) -> Resets {
        std::mem::take(&mut self.resets)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn heads_are_read_as_they_are_written(length in 0..1_usize << 24, kind: u8, flags: u8, stream in 0..1_u32 << 31) {
            let head = Head { length, kind, flags, stream };
            prop_assert_eq!(Head::parse(&head.bytes()), head);
        }

        #[test]
        fn frames_are_followed_however_they_are_cut(lengths in vec(0..40_usize, 0..12), cuts in vec(1..30_usize, 1..20)) {
            let head = |length| Head { length, kind: 7, flags: 3, stream: 5 };
            let frame = |length: &usize| [&head(*length).bytes()[..], &vec![0xff; *length]].concat();
            let ends: Vec<usize> = lengths.iter().scan(0, |end, length| { *end += HEAD_BYTES + length; Some(*end) }).collect();
            let bytes = lengths.iter().flat_map(frame).collect::<Vec<_>>();
            let (mut follower, mut begun, mut at) = (Follower::default(), Vec::new(), 0);
            for cut in cuts.into_iter().cycle() {
                let end = (at + cut).min(bytes.len());
                follower.follow(&bytes[at..end], |head| begun.push(head));
                at = end;
                prop_assert_eq!(follower.is_between_frames(), at == 0 || ends.contains(&at));
                prop_assert!(ends.iter().all(|end| *end <= at || *end >= at + follower.frame_rest()));
                if at == bytes.len() { break }
            }
            prop_assert_eq!(begun, lengths.into_iter().map(head).collect::<Vec<_>>());
        }
    }

    #[test]
    fn resets_are_counted_by_their_error_codes() {
        let head = |kind| Head { length: 4, kind, flags: 0, stream: 5 }.bytes();
        let refused = [&head(RST_STREAM)[..], &[0, 0, 0, 7]].concat();
        let frames = [
            &refused[..],
            &[&head(RST_STREAM)[..], &[0, 0, 0, 3]].concat(),
            &refused,
            &[&head(RST_STREAM)[..], &[0, 0, 0, 8]].concat(),
            &[&head(WINDOW_UPDATE)[..], &[0, 0, 0, 7]].concat(),
        ];
        for size in 1..20 {
            let mut follower = Follower::default();
            for part in frames.concat().chunks(size) {
                follower.follow(part, |_| {});
            }
            assert_eq!(follower.take_resets(), Resets { refused: 2, flow_control: 1 });
            assert_eq!(follower.take_resets(), Resets::default());
        }
    }

    #[test]
    fn headers_that_come_in_several_frames_count_as_one() {
        let mut follower = Follower::default();
        for (kind, flags, is_whole) in [
            (HEADERS, 0, false),
            (CONTINUATION, 0, false),
            (CONTINUATION, END_HEADERS, true),
            (HEADERS, END_HEADERS, true),
        ] {
            let head = Head { length: 2, kind, flags, stream: 5 }.bytes();
            follower.follow(&[&head[..], b"ab"].concat(), |_| {});
            assert_eq!(follower.is_between_frames(), is_whole);
            assert_eq!(follower.frame_rest(), if is_whole { 0 } else { HEAD_BYTES });
        }
    }
}
