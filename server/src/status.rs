//! Refusals: what a peer or caller is told, as a gRPC status with `google.rpc` details.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of the reasons in `google.rpc.ErrorInfo`.
pub(crate) const DOMAIN: &str = "tickwire";

/// A refusal, before it becomes a status.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// The status code.
    pub(crate) code: Code,
    /// For programs: `ErrorInfo.reason`.
    pub(crate) reason: &'static str,
    /// The field of the request that is to blame.
    pub(crate) field: Option<Cow<'static, str>>,
    /// For people: what is wrong, and what to do.
    pub(crate) message: String,
    /// When to try again.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, field: None, message: message.into(), retry_after: None }
    }

    pub(crate) fn field(self, field: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    pub(crate) fn retry_after(self, delay: Duration) -> Self {
        Self { retry_after: Some(delay), ..self }
    }

    pub(crate) fn shutting_down() -> Self {
        Self::new(Code::Unavailable, "SHUTTING_DOWN", "the server is shutting down; try another")
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, reason, field, message, retry_after } = refusal;
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
        let message = match field {
            None => message,
            Some(field) => {
                details.add_bad_request_violation(field.as_ref(), message.as_str());
                format!("{field}: {message}")
            }
        };
        if retry_after.is_some() {
            details.set_retry_info(retry_after);
        }
        Self::with_error_details(code, message, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_field_in_the_message_and_in_the_details() {
        let status: Status = Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", "-1 is negative")
            .field("hello.view_radius")
            .retry_after(Duration::from_secs(2))
            .into();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "hello.view_radius: -1 is negative");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().expect("given").field_violations[0].field, "hello.view_radius");
        assert_eq!(details.error_info().expect("given").reason, "OUT_OF_RANGE");
        assert_eq!(details.retry_info().expect("given").retry_delay, Some(Duration::from_secs(2)));
    }
}
