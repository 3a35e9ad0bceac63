//! Tickwire's protocol, generated from `proto/`: messages always, clients and servers with the feature `services`.

#![forbid(unsafe_code)]

/// The package `tickwire.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::semicolon_if_nothing_returned,
    clippy::uninlined_format_args
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/tickwire.v1.rs"));
}

/// The encoded `FileDescriptorSet` of the whole protocol, for reflection and for recordings' embedded schemas.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tickwire.descriptors.bin"));

/// The version that `Hello.protocol_version` must name.
pub const PROTOCOL_VERSION: u32 = 1;
