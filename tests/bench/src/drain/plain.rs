//! A client of the plain servers.

use super::{ClientError, Desk, Speaker, Uplink};
use crate::frame::{self, ACK_BYTES, INPUT_BYTES, LENGTH_BYTES};

pub(super) struct Plain {
    uplink: Uplink,
    messages: u32,
}

impl Plain {
    pub(super) fn new(uplink: Uplink) -> Self {
        Self { uplink, messages: 0 }
    }
}

impl Speaker for Plain {
    type Shared = ();

    fn open(&mut self, _: &mut Vec<u8>) -> Result<(), ClientError> {
        Ok(())
    }

    fn receive(&mut self, bytes: &[u8], desk: &mut Desk<'_, ()>) -> Result<usize, ClientError> {
        let mut taken = 0;
        while let Some((body_bytes, due_ns)) = frame::read(&bytes[taken..])? {
            let length = LENGTH_BYTES + body_bytes;
            taken += length;
            desk.tally.message(body_bytes, length, Some(due_ns), desk.now_ns);
            self.messages = self.messages.wrapping_add(1);
            if let Uplink::Acks { every } = self.uplink
                && self.messages.is_multiple_of(every)
            {
                desk.out.extend_from_slice(&[0; ACK_BYTES]);
            }
        }
        Ok(taken)
    }

    fn input(&mut self, desk: &mut Desk<'_, ()>) -> Result<(), ClientError> {
        desk.out.extend_from_slice(&[0; INPUT_BYTES]);
        Ok(())
    }

    fn plays(&self) -> bool {
        self.messages > 0
    }
}
