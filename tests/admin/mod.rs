//! `AdminService`, over its own listener.

mod access;
mod administrator;
mod draining;
mod moderation;
mod refusals;
mod standstill;
