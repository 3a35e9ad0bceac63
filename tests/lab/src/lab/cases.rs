//! The networks that the lab knows by name.

use crate::lab::link::LinkConfig;

/// A network with a name that stays as it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) link: LinkConfig,
}

/// All of them: what Tickwire promises figures for.
pub(crate) fn all() -> Vec<Case> {
    let link = |round_trip_ms, loss_percent| LinkConfig { round_trip_ms, loss_percent, ..LinkConfig::default() };
    let case = |name: &str, link| Case { name: name.to_owned(), link };
    vec![
        case("50ms-0pc", link(50.0, 0.0)),
        case("50ms-2pc", link(50.0, 2.0)),
        case("100ms-2pc", link(100.0, 2.0)),
        case("150ms-5pc", link(150.0, 5.0)),
        case("50ms-2pc-bursts", LinkConfig { burst_packets: 4.0, ..link(50.0, 2.0) }),
    ]
}

/// The case of a name.
pub(crate) fn named(name: &str) -> Result<Case, String> {
    let names = || all().into_iter().map(|case| case.name).collect::<Vec<_>>().join(", ");
    all().into_iter().find(|case| case.name == name).ok_or_else(|| format!("there are {}", names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_go_by_their_names() {
        for case in all() {
            assert_eq!(named(&case.name), Ok(case));
        }
        assert!(named("1ms").unwrap_err().contains("50ms-2pc-bursts"));
    }
}
