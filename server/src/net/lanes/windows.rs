//! Windows for sending, as the client's settings and window updates have them, and HTTP/2's share of the connection's.

use super::{
    super::{
        frames::{ACK, DATA, Head, SETTINGS, window_update},
        wake::Calls,
    },
    FRAME_BYTES_MIN, FlowControlError, Lanes, WINDOW_BYTES,
};

pub(super) const WINDOW_BYTES_MAX: i64 = (1 << 31) - 1;
const FRAME_BYTES_LIMIT: usize = (1 << 24) - 1;
pub(super) const SETTING_INITIAL_WINDOW: u16 = 4;
pub(super) const SETTING_FRAME_BYTES_MAX: u16 = 5;
/// Bytes that HTTP/2 has sent after which it gets them back.
const OWED_BYTES_MAX: i64 = 16 * 1024;

impl Lanes {
    pub(super) fn apply(&mut self, settings: &[u8]) -> Result<(), FlowControlError> {
        for setting in settings.chunks_exact(6) {
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                SETTING_INITIAL_WINDOW if i64::from(value) <= WINDOW_BYTES_MAX => {
                    self.said_initial_window = value.into();
                    self.initial_window = self.initial_window.min(value.into());
                }
                SETTING_FRAME_BYTES_MAX if (FRAME_BYTES_MIN..=FRAME_BYTES_LIMIT).contains(&(value as usize)) => {
                    self.said_frame_bytes_max = value as usize;
                    self.frame_bytes_max = self.frame_bytes_max.min(value as usize);
                }
                _ => {}
            }
        }
        self.unacknowledged += 1;
        let widest = self.lanes.iter().map(|lane| lane.window).max().unwrap_or_default();
        if self.said_initial_window + widest > WINDOW_BYTES_MAX { Err(FlowControlError) } else { Ok(()) }
    }

    /// HTTP/2 acknowledges settings, which it does one after another.
    fn acknowledge(&mut self) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        if self.unacknowledged == 0 {
            self.initial_window = self.said_initial_window;
            self.frame_bytes_max = self.said_frame_bytes_max;
            // What waits for a window may go out.
            self.calls = self.calls.and(Calls::SOCKET);
        }
    }

    /// True: it is HTTP/2's to know.
    pub(super) fn widen(&mut self, stream: u32, increment: u32) -> Result<bool, FlowControlError> {
        let initial_window = self.initial_window;
        let by = i64::from(increment);
        if increment == 0 {
            return Ok(true);
        }
        if stream == 0 {
            self.pool += by;
            // What is owed to HTTP/2 is not in the client's window.
            if self.pool - self.owed > WINDOW_BYTES_MAX - WINDOW_BYTES {
                return Err(FlowControlError);
            }
            self.repay(1);
            return Ok(false);
        }
        if let Some(lane) = self.lane(stream) {
            lane.window += by;
            return if initial_window + lane.window > WINDOW_BYTES_MAX {
                Err(FlowControlError)
            } else {
                Ok(!lane.is_open)
            };
        }
        if let Some((_, window)) = self.young.iter_mut().find(|(young, _)| *young == stream) {
            *window = (*window + by).min(WINDOW_BYTES_MAX);
        }
        Ok(true)
    }

    /// Gives HTTP/2 back what it has sent of the connection's window, where that is at least `least` bytes.
    fn repay(&mut self, least: i64) {
        let due = self.owed.min(self.pool);
        if due >= least {
            self.owed -= due;
            self.pool -= due;
            self.tell_http(&window_update(0, u32::try_from(due).expect("no window is longer")));
        }
    }

    /// HTTP/2 begins a frame.
    pub(in crate::net) fn http_sends(&mut self, head: Head) {
        if head.kind == SETTINGS && head.has(ACK) {
            self.acknowledge();
        }
        if head.kind != DATA {
            return;
        }
        let length = head.length as i64;
        self.owed += length;
        if let Some(lane) = self.lane(head.stream) {
            lane.window -= length;
        }
        self.repay(OWED_BYTES_MAX);
    }
}
