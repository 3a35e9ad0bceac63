//! Durations that calls give.

use std::{ops::RangeInclusive, time::Duration};

use tonic::Code;

use crate::status::Refusal;

const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// That of a call's field, in whatever range.
pub(crate) fn duration(asked: prost_types::Duration, field: &'static str) -> Result<Duration, Refusal> {
    // Seconds and nanoseconds of different signs are no duration, and would be added up.
    let read = u64::try_from(asked.seconds).ok().zip(u32::try_from(asked.nanos).ok());
    let (seconds, nanos) = read
        .filter(|(_, nanos)| *nanos < NANOS_PER_SECOND)
        .ok_or_else(|| out_of_range(field, "it is negative, or no duration".to_owned()))?;
    Ok(Duration::new(seconds, nanos))
}

/// The same within a range; `advice` says what to choose, as in `1 s to 100 years`.
pub(crate) fn duration_within(
    asked: prost_types::Duration,
    range: RangeInclusive<Duration>,
    field: &'static str,
    advice: &str,
) -> Result<Duration, Refusal> {
    let duration = duration(asked, field)?;
    if !range.contains(&duration) {
        return Err(out_of_range(field, format!("{asked} is out of range: choose {advice}")));
    }
    Ok(duration)
}

fn out_of_range(field: &'static str, message: String) -> Refusal {
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
        for (seconds, nanos) in [(0, 999_999_999), (60, 1)] {
            let message = within(seconds, nanos).expect_err("it is not").message;
            assert!(message.ends_with("s is out of range: choose 1 s to 1 min"), "{message}");
        }
        assert!(within(2, -1).is_err(), "it is no duration");
    }
}
