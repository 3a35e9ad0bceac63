//! Compiles `proto/` without protoc: protox parses, tonic-prost-build generates.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: &[&str] = &[
    "tickwire/v1/schema.proto",
    "tickwire/v1/game.proto",
    "tickwire/v1/session.proto",
    "tickwire/v1/recording.proto",
    "tickwire/v1/recording_batch.proto",
    "tickwire/v1/recordings.proto",
    "tickwire/v1/admin.proto",
    "tickwire/v1/chat.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");

    let descriptors = protox::compile(FILES, ["proto"])?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out_dir.join("tickwire.descriptors.bin"), descriptors.encode_to_vec())?;

    let services = "#[cfg(feature = \"services\")]";
    tonic_prost_build::configure()
        .client_mod_attribute(".", services)
        .server_mod_attribute(".", services)
        .build_transport(false)
        // What is said twice is encoded alike.
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
