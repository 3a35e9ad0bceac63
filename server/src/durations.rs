//! Durations that calls give.

use std::{ops::RangeInclusive, time::Duration};

use tonic::Code;

use crate::status::Refusal;

const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// That of a call's field, in whatever range.
pub(crate) fn duration(asked: prost_types::Duration, field: &'static str) -> Result<Duration, Refusal> {
    read(asked).ok_or_else(|| out_of_range(field, asked, "a duration that is not negative"))
}

/// The same within a range; `advice` says what to choose, as in `1 s to 100 years`.
pub(crate) fn duration_within(
    asked: prost_types::Duration,
    range: RangeInclusive<Duration>,
    field: &'static str,
    advice: &str,
) -> Result<Duration, Refusal> {
    read(asked).filter(|duration| range.contains(duration)).ok_or_else(|| out_of_range(field, asked, advice))
}

fn read(prost_types::Duration { seconds, nanos }: prost_types::Duration) -> Option<Duration> {
    // Seconds and nanoseconds of different signs are no duration, and would be added up.
    let (seconds, nanos) = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok())?;
    (nanos < NANOS_PER_SECOND).then(|| Duration::new(seconds, nanos))
}

fn out_of_range(field: &'static str, asked: prost_types::Duration, advice: &str) -> Refusal {
    let prost_types::Duration { seconds, nanos } = asked;
    let message = format!("{seconds} s and {nanos} ns are out of range: choose {advice}");
    Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", message).field(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_and_not_negative() {
        let read = |seconds, nanos| duration(prost_types::Duration { seconds, nanos }, "f");
        assert_eq!(read(1, 999_999_999).expect("it is one"), Duration::new(1, 999_999_999));
        assert_eq!(read(i64::MAX, 0).expect("it is one").as_secs(), i64::MAX.unsigned_abs());
        for (seconds, nanos) in [(1, -1), (-1, 0), (-1, 1), (0, -1), (1, 1_000_000_000), (1, i32::MIN), (i64::MIN, 0)] {
            let refusal = read(seconds, nanos).expect_err("it is none");
            assert_eq!(refusal.reason, "OUT_OF_RANGE", "{seconds} s and {nanos} ns");
        }
    }

    #[test]
    fn what_is_out_of_range_is_told_what_to_choose() {
        let within = |seconds, nanos| {
            let asked = prost_types::Duration { seconds, nanos };
            duration_within(asked, Duration::from_secs(1)..=Duration::from_secs(60), "f", "1 s to 1 min")
        };
        assert_eq!(within(60, 0).expect("it is within"), Duration::from_secs(60));
        for (seconds, nanos) in [(0, 999_999_999), (60, 1), (2, -1)] {
            let message = within(seconds, nanos).expect_err("it is not").message;
            assert_eq!(message, format!("{seconds} s and {nanos} ns are out of range: choose 1 s to 1 min"));
        }
    }
}
