//! Why a connection could not be made, or ended.

use std::{fmt, net::IpAddr, time::Duration};

use tickwire_proto::v1 as pb;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::core::{InputError, ProtocolError};

/// Why a client could not join, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address that this client can connect to.
    #[error("{url:?} is no address of a server: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there.
    #[error("cannot connect to {url}: {reason}; is a server running there?")]
    Connect {
        /// The server's address.
        url: String,
        /// What the operating system says.
        reason: String,
    },
    /// The server does not prove to be the one that was meant, or the connection cannot be encrypted.
    #[error(
        "cannot connect to {url} safely: {reason}; see that its certificate is for that name, and that it is trusted here"
    )]
    Tls {
        /// The server's address.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// This machine does not have the address to connect from, or no port of it is left.
    #[error("cannot connect from {address}: {reason}; choose an address of this machine that reaches the server")]
    LocalAddress {
        /// The address.
        address: IpAddr,
        /// What the operating system says.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection was lost: {reason}")]
    Lost {
        /// What the transport says.
        reason: String,
    },
    /// The server did not answer in time.
    #[error("no answer to {what} within {} ms", after.as_millis())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The server ended the stream with a status.
    #[error(transparent)]
    Status(Box<ServerStatus>),
    /// The server said goodbye before the client did.
    #[error("the server ended the stream: {reason:?}: {text}")]
    Goodbye {
        /// Why.
        reason: pb::GoodbyeReason,
        /// More, for people.
        text: String,
    },
    /// The stream ended without a word.
    #[error("the stream ended without a goodbye")]
    Ended,
    /// The server does not speak as agreed.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// Values that are no input of the game.
    #[error(transparent)]
    Input(#[from] InputError),
}

/// A gRPC status with the details that say what to do about it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerStatus {
    /// The code.
    pub code: Code,
    /// For people.
    pub message: String,
    /// `BadRequest`: the fields that were wrong, with what is wrong with each.
    pub violations: Vec<(String, String)>,
    /// `RetryInfo`: when to try again.
    pub retry_after: Option<Duration>,
    /// `ErrorInfo`: the reason for programs; empty where there is none.
    pub reason: String,
}

impl fmt::Display for ServerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answers {}: {}", code_name(self.code), self.message)?;
        for (field, description) in self.violations.iter().filter(|(_, said)| !self.message.contains(said)) {
            write!(f, "; {field}: {description}")?;
        }
        match self.retry_after {
            Some(after) => write!(f, "; try again in {} ms", after.as_millis()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ServerStatus {}

impl From<Status> for ServerStatus {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let violations = details.bad_request().map_or(&[][..], |bad| &bad.field_violations);
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            violations: violations.iter().map(|bad| (bad.field.clone(), bad.description.clone())).collect(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            reason: details.error_info().map_or_else(String::new, |info| info.reason.clone()),
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status.into()))
    }
}

impl ClientError {
    /// The gRPC code that says most nearly what happened, the server's own where it gave one.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Url { .. } | Self::LocalAddress { .. } | Self::Input(_) => Code::InvalidArgument,
            Self::Tls { .. } => Code::Unauthenticated,
            Self::Goodbye { reason: pb::GoodbyeReason::Kicked | pb::GoodbyeReason::Banned, .. } => {
                Code::PermissionDenied
            }
            Self::Goodbye { reason: pb::GoodbyeReason::Terminated, .. } => Code::Aborted,
            Self::Connect { .. } | Self::Lost { .. } | Self::Goodbye { .. } | Self::Ended => Code::Unavailable,
            Self::Timeout { .. } => Code::DeadlineExceeded,
            Self::Status(status) => status.code,
            Self::Protocol(_) => Code::Internal,
        }
    }
}

/// A code's name as gRPC's own documents write it, such as `RESOURCE_EXHAUSTED`.
#[must_use]
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
