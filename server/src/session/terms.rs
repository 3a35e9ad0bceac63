//! On what terms a session runs: who may find it and join, and when it ends by itself. They decide no tick.

use std::{collections::BTreeMap, fmt, time::Duration};

use tickwire_proto::v1 as pb;

use super::JoinCode;
use crate::config::ServerConfig;

/// On what terms a session runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionTerms {
    pub(crate) visibility: Visibility,
    /// For whoever looks for a session.
    pub(crate) attributes: BTreeMap<String, String>,
    /// What its creator calls it.
    pub(crate) label: String,
    /// For how long it goes on without anybody in it; none: for ever.
    pub(crate) empty_timeout: Option<Duration>,
    /// How much later than players spectators see it.
    pub(crate) spectator_delay: Duration,
    /// `None`: it was started with the server.
    pub(crate) creation: Option<Creation>,
}

/// Who may find a session and join it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// Everybody.
    Public,
    /// Whoever knows its name.
    Unlisted,
    /// Whoever knows its code.
    ByCode(JoinCode),
}

/// By which call a session was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Creation {
    pub(crate) creator: Creator,
    /// `None`: each call is another one.
    pub(crate) request: Option<RequestKey>,
}

/// Who creates sessions, as quotas count: such as `address 127.0.0.1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Creator(String);

/// A caller's name for a call, and what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestKey {
    pub(crate) id: String,
    /// SHA-256 of what was asked for.
    pub(crate) hash: [u8; 32],
}

/// Written terms that mean nothing to this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header.terms.{field}: {problem}")]
pub(crate) struct TermsError {
    field: &'static str,
    problem: &'static str,
}

impl Visibility {
    pub(crate) fn is_public(self) -> bool {
        self == Self::Public
    }

    /// Whether nobody is taken in without a ticket.
    pub(crate) fn takes_tickets_only(self) -> bool {
        matches!(self, Self::ByCode(_))
    }
}

impl Creator {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Creator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl SessionTerms {
    /// Of a session that is started with the server.
    pub(crate) fn of_start(config: &ServerConfig) -> Self {
        Self {
            visibility: Visibility::Public,
            attributes: BTreeMap::new(),
            label: String::new(),
            empty_timeout: None,
            spectator_delay: config.spectator_delay,
            creation: None,
        }
    }

    /// As they are written down; `None`: those of every start need not be.
    pub(crate) fn to_proto(&self) -> Option<pb::SessionTerms> {
        let Creation { creator, request } = self.creation.as_ref()?;
        let (visibility, join_code) = match self.visibility {
            Visibility::Public => (pb::SessionVisibility::Public, 0),
            Visibility::Unlisted => (pb::SessionVisibility::Unlisted, 0),
            Visibility::ByCode(code) => (pb::SessionVisibility::ByCode, code.bits()),
        };
        let attribute =
            |(key, value): (&String, &String)| pb::SessionAttribute { key: key.clone(), value: value.clone() };
        let (request_id, request_hash) =
            request.as_ref().map(|request| (request.id.clone(), request.hash.to_vec())).unwrap_or_default();
        Some(pb::SessionTerms {
            visibility: visibility as u32,
            join_code,
            attributes: self.attributes.iter().map(attribute).collect(),
            empty_timeout_ms: self.empty_timeout.map_or(0, millis),
            spectator_delay_ms: millis(self.spectator_delay),
            label: self.label.clone(),
            creator: creator.to_string(),
            request_id,
            request_hash,
        })
    }

    /// What was written down.
    pub(crate) fn from_proto(terms: pb::SessionTerms) -> Result<Self, TermsError> {
        let wrong = |field, problem| TermsError { field, problem };
        let visibility = i32::try_from(terms.visibility).ok().and_then(|value| value.try_into().ok());
        let visibility = match visibility {
            Some(pb::SessionVisibility::Public) => Visibility::Public,
            Some(pb::SessionVisibility::Unlisted) => Visibility::Unlisted,
            Some(pb::SessionVisibility::ByCode) => {
                let code = JoinCode::from_bits(terms.join_code);
                Visibility::ByCode(code.ok_or_else(|| wrong("join_code", "has more than 45 bits"))?)
            }
            Some(pb::SessionVisibility::Unspecified) | None => return Err(wrong("visibility", "is unknown")),
        };
        let request = match (terms.request_id, terms.request_hash) {
            (id, _) if id.is_empty() => None,
            (id, hash) => {
                let hash = hash.try_into().map_err(|_| wrong("request_hash", "has not 32 bytes"))?;
                Some(RequestKey { id, hash })
            }
        };
        Ok(Self {
            visibility,
            attributes: terms.attributes.into_iter().map(|attribute| (attribute.key, attribute.value)).collect(),
            label: terms.label,
            empty_timeout: Some(terms.empty_timeout_ms).filter(|ms| *ms > 0).map(Duration::from_millis),
            spectator_delay: Duration::from_millis(terms.spectator_delay_ms),
            creation: Some(Creation { creator: Creator(terms.creator), request }),
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(visibility: Visibility) -> SessionTerms {
        SessionTerms {
            visibility,
            attributes: [("mode", "ctf"), ("region", "eu")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            label: "Ada's".into(),
            empty_timeout: Some(Duration::from_secs(60)),
            spectator_delay: Duration::from_secs(30),
            creation: Some(Creation {
                creator: Creator::new("address 127.0.0.1"),
                request: Some(RequestKey { id: "7".into(), hash: [7; 32] }),
            }),
        }
    }

    #[test]
    fn terms_are_read_as_they_were_written_down() {
        let code = JoinCode::from_bits(1 << 44 | 5).expect("45 bits");
        for visibility in [Visibility::Public, Visibility::Unlisted, Visibility::ByCode(code)] {
            let terms = terms(visibility);
            assert_eq!(SessionTerms::from_proto(terms.to_proto().expect("it was created")), Ok(terms));
        }
        assert_eq!(SessionTerms::of_start(&ServerConfig::default()).to_proto(), None);
    }

    #[test]
    fn terms_that_mean_nothing_are_refused_by_name() {
        let written = terms(Visibility::Public).to_proto().expect("it was created");
        let refused = |change: &dyn Fn(&mut pb::SessionTerms)| {
            let mut written = written.clone();
            change(&mut written);
            SessionTerms::from_proto(written).expect_err("it means nothing").field
        };
        assert_eq!(refused(&|terms| terms.visibility = 9), "visibility");
        assert_eq!(refused(&|terms| terms.visibility = u32::MAX), "visibility");
        assert_eq!(refused(&|terms| (terms.visibility, terms.join_code) = (3, 1 << 45)), "join_code");
        assert_eq!(refused(&|terms| terms.request_hash.clear()), "request_hash");
    }
}
