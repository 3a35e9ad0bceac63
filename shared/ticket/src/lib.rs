//! Tickets: short-lived JSON Web Tokens that let their bearer into a session, once. Whoever has a signing key can issue them:
//! the server, a matchmaker, or any program with a library for such tokens. docs/identity.md says what stands in them.
//!
//! ```
//! use tickwire_ticket::{Claims, KeyRing, Role};
//!
//! let keys = KeyRing::from_jwks(&tickwire_ticket::new_key("2026-11", Default::default())?)?;
//! let now = 1_800_000_000;
//! let claims = Claims { session: Some("sessions/arena-1".into()), ..Claims::new("tickwire", "player-81", Role::Player, now)? };
//! let ticket = keys.sign(&claims)?;
//! assert_eq!(keys.verify(ticket.reveal(), "tickwire", now + 5)?, claims);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing here reads a clock or a file: times are seconds since 1970, as the tokens have them, and keys are texts.

#![forbid(unsafe_code)]

mod claims;
mod keys;
mod provider;
mod secret;
mod ticket;

pub use claims::{Claims, Role, SUBJECT_BYTES_MAX};
pub use keys::{Algorithm, KEYS_MAX, KeyError, KeyRing, new_key};
pub use secret::{NoRandomness, Secret, random_id};
pub use ticket::{LEEWAY_SECONDS, LIFETIME_SECONDS_MAX, MintError, TICKET_BYTES_MAX, TicketError};
