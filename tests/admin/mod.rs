//! `AdminService`, over its own listener.

mod access;
pub(crate) mod administrator;
mod connections;
mod draining;
mod moderation;
mod refusals;
mod roles;
mod standstill;
