//! Every option means the same by a flag, by the environment and by a file.

use std::{collections::BTreeSet, ffi::OsString, fs};

use clap::{CommandFactory as _, Parser as _};

use super::{
    layers::{OTLP_ENDPOINT, OTLP_PROTOCOL},
    *,
};
use crate::config::Timeouts;

/// What an option takes, with a value that is not its default, as a flag has it.
enum Takes {
    /// Any text.
    Text(&'static str),
    /// Text that must be one of some words, or be an address.
    Word(&'static str),
    Number(&'static str),
    /// `on` or `off`.
    OnOff(&'static str),
    /// Nothing: it is there, or is not.
    Presence,
    List(&'static str),
    /// A list of NAME=VALUE.
    Pairs(&'static str),
}

use Takes::{List, Number, OnOff as Switch, Pairs, Presence, Text, Word};

const TABLE: &[(&str, Takes)] = &[
    ("admin_client_ca", Text("admins.pem")),
    ("admin_idle_seconds", Number("7")),
    ("admin_listen", Word("127.0.0.1:7799")),
    ("admin_tls_cert", Text("admin.pem")),
    ("admin_tls_key", Text("admin.key")),
    ("admin_tokens", Text("tokens.toml")),
    ("allowed_hosts", List("game.example")),
    ("allowed_origins", List("https://game.example")),
    ("api_keys", Text("keys.txt")),
    ("auth", Word("ticket")),
    ("bytes_per_second", Number("5000")),
    ("bytes_per_second_max", Number("50001")),
    ("chat_burst", Number("7")),
    ("chat_bytes_max", Number("7")),
    ("chat_chars_max", Number("7")),
    ("chat_history_max", Number("7")),
    ("chat_mutes_max", Number("7")),
    ("chat_per_minute", Number("7")),
    ("chat_rejections_max", Number("7")),
    ("chat_waiting_max", Number("7")),
    ("connections_max", Number("7")),
    ("connections_per_address_max", Number("7")),
    ("control_frames_per_second_max", Number("7")),
    ("create_sessions", Switch("off")),
    ("data_dir", Text("elsewhere")),
    ("disk_seconds", Number("7")),
    ("drain_seconds", Number("7")),
    ("durability", Word("flush")),
    ("empty_timeout_seconds", Number("7")),
    ("end_seconds", Number("7")),
    ("faulty_streams_max", Number("7")),
    ("frames_per_second_max", Number("7")),
    ("game", List("arena")),
    ("grace_seconds", Number("7")),
    ("header_list_bytes_max", Number("7000")),
    ("hello_seconds", Number("7")),
    ("idle_seconds", Number("7")),
    ("insecure", Presence),
    ("interrupt_seconds", Number("7")),
    ("joins_burst_max", Number("7")),
    ("joins_burst_per_address_max", Number("7")),
    ("joins_burst_per_key_max", Number("7")),
    ("joins_per_second_max", Number("7")),
    ("joins_per_second_per_address_max", Number("7")),
    ("joins_per_second_per_key_max", Number("7")),
    ("keep_alive_seconds", Number("7")),
    ("keyframe_seconds", Number("7")),
    ("limit_loopback", Presence),
    ("listen", Word("127.0.0.1:7799")),
    ("listings_max", Number("7")),
    ("log", Text("info,tickwire_server=debug")),
    ("log_format", Word("json")),
    ("mailbox_messages_max", Number("7")),
    ("max_downloads", Number("7")),
    ("max_players", Number("7")),
    ("max_replays", Number("7")),
    ("max_spectators", Number("7")),
    ("message_bytes_max", Number("7000")),
    ("messages_burst_max", Number("7")),
    ("messages_per_second_max", Number("7")),
    ("metrics_listen", Word("127.0.0.1:7799")),
    ("network_threads", Number("7")),
    ("otlp", Text("http://127.0.0.1:4317")),
    ("received_bytes_burst_max", Number("70000")),
    ("received_bytes_per_second_max", Number("70000")),
    ("record_chat", Switch("off")),
    ("recording_bytes_max", Number("18446744073709551615")),
    ("recordings", Switch("off")),
    ("recordings_public", Presence),
    ("recovery", Switch("off")),
    ("recovery_seconds", Number("7")),
    ("replay_idle_seconds", Number("7")),
    ("request_seconds", Number("7")),
    ("requests_per_connection_max", Number("7")),
    ("requests_per_second_max", Number("7")),
    ("resets_pending_max", Number("7")),
    ("retain_bytes", Number("80000")),
    ("retain_count", Number("7")),
    ("retain_days", Number("7")),
    ("rewind_ms", Number("7")),
    ("seats_reserved_per_address_max", Number("7")),
    ("seats_reserved_per_key_max", Number("7")),
    ("seed", Number("7")),
    ("segment_bytes", Number("70000")),
    ("segment_minutes", Number("7")),
    ("sessions", Number("7")),
    ("sessions_max", Number("7")),
    ("sessions_per_creator_max", Number("7")),
    ("set", Pairs("cover=0.5")),
    ("silence_seconds", Number("7")),
    ("simulation_threads", Number("7")),
    ("spectator_delay_seconds", Number("7")),
    ("streams_per_connection_max", Number("7")),
    ("stripes_max", Number("2")),
    ("stuck_seconds", Number("7")),
    ("tick_rate", Number("7")),
    ("ticket_audience", Text("arena")),
    ("ticket_keys", Text("keys.json")),
    ("tls_cert", Text("server.pem")),
    ("tls_key", Text("server.key")),
    ("unacknowledged_seconds", Number("7")),
    ("view_radius_metres_max", Number("70.5")),
];

#[derive(Debug, clap::Parser)]
struct Program {
    #[command(flatten)]
    flags: ServeFlags,
}

fn flags(arguments: &[String]) -> ServeFlags {
    let program = Program::try_parse_from([&["server".to_owned()], arguments].concat());
    program.unwrap_or_else(|error| panic!("{arguments:?}: {error}")).flags
}

/// What `--print-config` says of an option.
fn printed(option: &str, layers: Result<Layers, OptionsError>) -> String {
    let lines = layers.and_then(|layers| layers.describe()).unwrap_or_else(|error| panic!("{option}: {error}"));
    let is_it =
        |line: &&String| line.starts_with(&format!("{option} = ")) || **line == format!("# {option} is not set");
    lines.iter().find(is_it).unwrap_or_else(|| panic!("{option} is not printed")).clone()
}

fn by_flag(option: &str, value: Option<&str>) -> String {
    let flag = format!("--{}", option.replace('_', "-"));
    let arguments: Vec<String> = [Some(flag), value.map(str::to_owned)].into_iter().flatten().collect();
    printed(option, Layers::over(&flags(&arguments), &[]))
}

fn by_environment(option: &str, value: &str) -> String {
    let variable = (format!("{ENV_PREFIX}{}", option.to_uppercase()).into(), value.into());
    printed(option, Layers::over(&ServeFlags::default(), &[variable]))
}

fn by_file(option: &str, toml: &str) -> String {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("server.toml");
    fs::write(&file, format!("{option} = {toml}\n")).expect("a disk");
    let flags = ServeFlags { config: Some(file.clone()), ..ServeFlags::default() };
    printed(option, Layers::over(&flags, &[])).replace(&file.display().to_string(), "server.toml")
}

#[test]
fn every_option_stands_in_the_table_and_is_a_flag() {
    let of_table: BTreeSet<&str> = TABLE.iter().map(|(option, _)| *option).collect();
    let known = as_json(&AllOptions::default());
    assert_eq!(of_table, names(&known).into_iter().collect(), "the table in this file is that of the options");
    let command = Program::command();
    let of_flags: BTreeSet<&str> = command.get_arguments().map(|flag| flag.get_id().as_str()).collect();
    let others = BTreeSet::from(["config", "print_config"]);
    assert_eq!(of_flags.difference(&others).copied().collect::<BTreeSet<_>>(), of_table);
}

#[test]
fn every_option_is_the_same_by_flag_by_environment_and_by_file() {
    for (option, takes) in TABLE {
        let (given, toml, value) = match takes {
            Text(it) | Word(it) | Switch(it) => (Some(*it), format!("{it:?}"), format!("{it:?}")),
            Number(it) => (Some(*it), (*it).to_owned(), (*it).to_owned()),
            Presence => (None, "true".to_owned(), "true".to_owned()),
            List(it) | Pairs(it) => (Some(*it), format!("[{it:?}]"), format!("[{it:?}]")),
        };
        let reloadable = if RELOADABLE.contains(option) { ", read anew by SIGHUP" } else { "" };
        let line = |origin: &str| format!("{option} = {value} # {origin}{reloadable}");
        assert_eq!(by_flag(option, given), line("flag"));
        let variable = format!("{ENV_PREFIX}{}", option.to_uppercase());
        assert_eq!(by_environment(option, given.unwrap_or("true")), line(&variable));
        // A file of numbers up to those of TOML, which are signed.
        if toml.parse::<u64>().is_err() || toml.parse::<i64>().is_ok() {
            assert_eq!(by_file(option, &toml), line("server.toml"));
        }
    }
}

#[test]
fn text_is_taken_as_it_stands_also_where_it_looks_like_something_else() {
    for (option, _) in TABLE.iter().filter(|(_, takes)| matches!(takes, Text(_))) {
        for text in ["5", "007", "1e3", "-1", "true", "off", "[1, 2]", "{a = 1}", "1.50", "\"5\"", " a b "] {
            let value = Json::from(text);
            assert!(by_environment(option, text).starts_with(&format!("{option} = {value} # ")), "{option}: {text:?}");
            assert!(by_file(option, &value.to_string()).starts_with(&format!("{option} = {value} # ")));
        }
    }
    for (option, _) in TABLE.iter().filter(|(_, takes)| matches!(takes, List(_))) {
        for (text, list) in [("5", r#"["5"]"#), ("true", r#"["true"]"#), ("[::1]:7, 8", r#"["[::1]:7","8"]"#)] {
            let line = by_environment(option, text);
            assert!(line.starts_with(&format!("{option} = {list} # ")), "{line}");
        }
    }
}

#[test]
fn what_is_on_or_off_is_so_by_words_numbers_and_truths() {
    for (option, takes) in TABLE {
        let [on, off] = match takes {
            Switch(_) => ["\"on\"", "\"off\""],
            Presence => ["true", "false"],
            _ => continue,
        };
        for (value, words) in [(on, ["1", "on", "true", "ON"]), (off, ["0", "off", "false", "False"])] {
            for word in words {
                let line = by_environment(option, word);
                assert!(line.starts_with(&format!("{option} = {value} # ")), "{word:?}: {line}");
                let toml = if word.parse::<u64>().is_ok() { word.to_owned() } else { format!("{word:?}") };
                assert!(by_file(option, &toml).starts_with(&format!("{option} = {value} # ")), "{option} = {toml}");
            }
        }
        let variable = (format!("{ENV_PREFIX}{}", option.to_uppercase()).into(), "perhaps".into());
        let error = Layers::over(&ServeFlags::default(), &[variable]).and_then(|layers| layers.describe());
        let error = error.expect_err("that is neither").to_string();
        assert!(error.starts_with(&format!("{option}: string \"perhaps\" does not do")), "{error}");
    }
}

#[test]
fn numbers_of_the_environment_are_numbers_and_anything_else_is_named() {
    let variables = |value: &str| [("TICKWIRE_TICK_RATE".into(), value.into())];
    let read = |value| Layers::over(&ServeFlags::default(), &variables(value)).and_then(|layers| layers.describe());
    assert!(by_environment("tick_rate", " 30 ").starts_with("tick_rate = 30 # "));
    for (value, said) in [("abc", "string \"abc\""), ("-1", "-1"), ("1.5", "1.5"), ("", "string \"\"")] {
        let error = read(value).expect_err("it is no rate").to_string();
        assert!(error.contains(said) && error.contains("(from TICKWIRE_TICK_RATE)"), "{error}");
    }
}

#[test]
fn a_collector_that_all_programs_are_told_of_is_the_servers_unless_it_speaks_otherwise() {
    let over = |variables: &[(&str, &str)]| {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        printed("otlp", Layers::over(&ServeFlags::default(), &variables))
    };
    let (endpoint, own) = ((OTLP_ENDPOINT, "http://a:1"), ("TICKWIRE_OTLP", "http://b:1"));
    assert_eq!(over(&[endpoint]), "otlp = \"http://a:1\" # OTEL_EXPORTER_OTLP_ENDPOINT");
    assert_eq!(over(&[endpoint, (OTLP_PROTOCOL, "grpc"), own]), "otlp = \"http://b:1\" # TICKWIRE_OTLP");
    assert_eq!(over(&[endpoint, (OTLP_PROTOCOL, "http/protobuf")]), "# otlp is not set");
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_named() {
    use std::os::unix::ffi::OsStringExt as _;

    let variable = ("tickwire_data_dir".into(), OsString::from_vec(vec![b'a', 0xff]));
    let error = Layers::over(&ServeFlags::default(), &[variable]).err().expect("it is no text").to_string();
    assert!(error.starts_with("TICKWIRE_DATA_DIR: ") && error.contains("UTF-8"), "{error}");
}

fn resolve(arguments: &[&str]) -> Result<ServeConfig, OptionsError> {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Layers::over(&flags(&arguments), &[])?.resolve()
}

/// A flag for each number, which is given as `--flag N`, and no two are the same.
fn numbered(flags: &str) -> Vec<String> {
    let numbered = flags.split_whitespace().zip(11..);
    numbered.flat_map(|(flag, number)| [format!("--{flag}"), number.to_string()]).collect()
}

#[test]
fn every_time_is_what_its_option_says() {
    let flags = numbered(
        "hello-seconds request-seconds idle-seconds replay-idle-seconds silence-seconds unacknowledged-seconds \
         grace-seconds interrupt-seconds keep-alive-seconds stuck-seconds recovery-seconds end-seconds admin-idle-seconds \
         disk-seconds",
    );
    let config = resolve(&flags.iter().map(String::as_str).collect::<Vec<_>>()).expect("they are in range");
    let times = config.server.timeouts;
    let seconds = [
        times.hello,
        times.request,
        times.idle,
        times.replay_idle,
        times.silence,
        times.unacknowledged,
        times.grace,
        times.drain,
        times.keep_alive,
        times.stuck,
        times.recovery,
        times.end,
        times.admin_idle,
        times.disk,
    ];
    assert_eq!(seconds.map(|time| time.as_secs()), [11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24]);
    let default = resolve(&[]).expect("defaults are sound").server;
    assert_eq!(format!("{:?}", default.timeouts), format!("{:?}", Timeouts::default()));
    assert_eq!(format!("{:?}", default.limits), format!("{:?}", Limits::default()));
}

#[test]
fn limits_that_few_servers_need_to_change_are_what_their_options_say() {
    let flags = numbered(
        "mailbox-messages-max frames-per-second-max control-frames-per-second-max resets-pending-max \
         faulty-streams-max listings-max",
    );
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.extend(["--message-bytes-max", "9000", "--header-list-bytes-max", "9001", "--view-radius-metres-max", "1.5"]);
    let limits = resolve(&flags).expect("they are in range").server.limits;
    assert_eq!((limits.mailbox_messages_max, limits.frames_per_second_max.get()), (11, 12));
    assert_eq!((limits.control_frames_per_second_max.get(), limits.resets_pending_max), (13, 14));
    assert_eq!((limits.faulty_streams_max, limits.listings_max), (15, 16));
    assert_eq!((limits.message_bytes_max, limits.header_list_bytes_max), (9000, 9001));
    assert_eq!(limits.view_radius_max.to_string(), "1.5");
}

#[test]
fn numbers_beyond_what_makes_sense_are_named_with_what_to_choose() {
    for (flag, number, said) in [
        ("--grace-seconds", "86401", "grace_seconds: 86401 is out of range: choose 0 to 86400 (from flag)"),
        ("--hello-seconds", "0", "hello_seconds: 0 is out of range: choose 1 to 86400 (from flag)"),
        ("--end-seconds", "61", "end_seconds: 61 is out of range: choose 0 to 60 (from flag)"),
        (
            "--header-list-bytes-max",
            "9",
            "header_list_bytes_max: 9 is out of range: choose 1024 to 1048576 (from flag)",
        ),
        ("--frames-per-second-max", "0", "frames_per_second_max: 0 is too few: choose 1 or more (from flag)"),
        ("--listings-max", "65537", "listings_max: 65537 is out of range: choose 1 to 65536 (from flag)"),
        ("--mailbox-messages-max", "0", "mailbox_messages_max: 0 is out of range: choose 1 to 1048576 (from flag)"),
        (
            "--view-radius-metres-max",
            "inf",
            "view_radius_metres_max: inf is no radius: choose a finite number of metres above 0 (from flag)",
        ),
    ] {
        let error = resolve(&[flag, number]).expect_err("it makes no sense").to_string();
        assert_eq!(error, said);
    }
    for (flag, least) in [("--grace-seconds", "0"), ("--end-seconds", "0"), ("--idle-seconds", "1")] {
        resolve(&[flag, least]).unwrap_or_else(|error| panic!("{flag} {least}: {error}"));
    }
}

#[test]
fn what_is_said_of_tickets_is_refused_where_none_are_asked_for() {
    let problem =
        "would count for nothing, as anybody may come in without a ticket: add --auth ticket, or leave it out";
    let folder = tempfile::tempdir().expect("a directory");
    for (option, value, shown) in
        [("ticket_keys", "keys.json", "keys.json"), ("ticket_audience", "tickwire", "\"tickwire\"")]
    {
        let refused = |layers: Result<Layers, OptionsError>| {
            layers.and_then(|layers| layers.resolve()).expect_err("nobody is asked for a ticket").to_string()
        };
        let said = |origin: &str| format!("{option}: {shown} {problem} (from {origin})");
        let flag = format!("--{}", option.replace('_', "-"));
        for open in [&[][..], &["--auth", "open"]] {
            let arguments: Vec<String> =
                [&[flag.as_str(), value][..], open].concat().into_iter().map(str::to_owned).collect();
            assert_eq!(refused(Layers::over(&flags(&arguments), &[])), said("flag"));
        }
        let variable = format!("{ENV_PREFIX}{}", option.to_uppercase());
        let variables = [(variable.clone().into(), value.into())];
        assert_eq!(refused(Layers::over(&ServeFlags::default(), &variables)), said(&variable));
        let file = folder.path().join("server.toml");
        fs::write(&file, format!("{option} = {value:?}\n")).expect("a disk");
        let of_file = ServeFlags { config: Some(file.clone()), ..ServeFlags::default() };
        assert_eq!(refused(Layers::over(&of_file, &[])), said(&file.display().to_string()));
    }
    resolve(&["--auth", "ticket", "--ticket-keys", "keys.json", "--ticket-audience", "eu-1"])
        .expect("they belong together");
}

#[test]
fn help_tells_the_defaults_that_there_are() {
    let known = as_json(&AllOptions::default());
    for flag in Program::command().get_arguments() {
        let Some(Json::Number(default)) = known.get(flag.get_id().as_str()) else { continue };
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        let long = flag.get_long_help().map(ToString::to_string).unwrap_or_default();
        assert!(format!("{help}{long}").contains(&format!("[default: {default}]")), "{}: {help}", flag.get_id());
    }
}
