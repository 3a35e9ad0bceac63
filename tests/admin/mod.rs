//! `AdminService`, over its own listener.

mod access;
mod administrator;
