//! `AdminService`, over its own listener.

mod access;
mod administrator;
mod connections;
mod draining;
mod moderation;
mod standstill;
