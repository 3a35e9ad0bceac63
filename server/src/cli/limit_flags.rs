//! The flags of limits, which docs/limits.md explains.

use serde::Serialize;

/// Flags of `serve` that bound what peers may take.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub(super) struct LimitFlags {
    /// Open connections of the server [default: 8192]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_max: Option<usize>,
    /// Open connections of one address; an IPv6 address stands for its /64 [default: 256]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_per_address_max: Option<usize>,
    /// Players' and spectators' streams of one connection [default: 16]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    streams_per_connection_max: Option<usize>,
    /// Open requests of one connection [default: 128]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_connection_max: Option<u32>,
    /// Requests per second of one connection [default: 1000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_second_max: Option<u32>,
    /// Joins per second of the server [default: 500]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    joins_per_second_max: Option<u32>,
    /// Joins of the server at once [default: 2000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    joins_burst_max: Option<u32>,
    /// Joins per second of one address [default: 20]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    joins_per_second_per_address_max: Option<u32>,
    /// Joins of one address at once [default: 100]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    joins_burst_per_address_max: Option<u32>,
    /// Calls of JoinSession per second of one API key [default: 500]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    joins_per_second_per_key_max: Option<u32>,
    /// Calls of JoinSession of one API key at once [default: 2000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    joins_burst_per_key_max: Option<u32>,
    /// Seats reserved at once for one address by JoinSession; 0: none [default: 32]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    seats_reserved_per_address_max: Option<usize>,
    /// Seats reserved at once for one API key by JoinSession; 0: none [default: 8192]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    seats_reserved_per_key_max: Option<usize>,
    /// Messages per second of one player's stream [default: 1000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    messages_per_second_max: Option<u32>,
    /// Messages of one player's stream at once [default: 3000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    messages_burst_max: Option<u32>,
    /// Bytes of messages per second of one player's stream [default: 131072]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    received_bytes_per_second_max: Option<u32>,
    /// Bytes of messages of one player's stream at once, 16384 or more [default: 524288]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    received_bytes_burst_max: Option<u32>,
    /// Recordings that are downloaded at once; 0: none [default: 8]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_downloads: Option<usize>,
    /// Characters of one line of chat, 1 to 16777216 [default: 500]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_chars_max: Option<usize>,
    /// The same in bytes of UTF-8 [default: 2000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_bytes_max: Option<usize>,
    /// Lines of chat of one player at once [default: 5]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_burst: Option<u32>,
    /// Lines of chat of one player per minute, in the long run [default: 60]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_per_minute: Option<u32>,
    /// Lines of chat that wait for a slow reader, 1 to 65536; of more the oldest are dropped [default: 64]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_waiting_max: Option<usize>,
    /// Lines of chat that are kept for those who come later, 0 to 65536 [default: 50]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_history_max: Option<usize>,
    /// Lines of chat that are rejected, and changes of mutes, of one stream at once; with more it ends [default: 20]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_rejections_max: Option<u32>,
    /// Players whom one player can mute, 0 to 65536 [default: 256]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_mutes_max: Option<usize>,
    /// Have the limits of one address hold for this machine's own addresses, too
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    limit_loopback: bool,
}
