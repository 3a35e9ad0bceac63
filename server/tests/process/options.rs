//! What options say, where they may stand, and what is said of those that make no sense.

use std::{fs, path::Path};

use crate::program::{command, run, stderr, stdout};

#[test]
fn tls_takes_two_files_that_belong_together() {
    let directory = tempfile::tempdir().expect("there is room");
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("the name is good");
    let file = |name, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("there is room");
        path.into_os_string().into_string().expect("UTF-8")
    };
    let (cert, key) = (file("a.pem", &own.cert.pem()), file("a.key", &own.signing_key.serialize_pem()));
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("the name is good");
    let other = file("b.key", &other.signing_key.serialize_pem());

    let said = |arguments: &[&str]| {
        let output = run(&[&["--print-config"], arguments].concat());
        assert!(!output.status.success(), "{arguments:?}");
        stderr(&output)
    };
    assert!(said(&["--tls-cert", &cert]).contains("tls_key"));
    assert!(said(&["--tls-key", &key]).contains("tls_cert"));
    let error = said(&["--tls-cert", &cert, "--tls-key", &other]);
    assert!(error.contains(&other) && error.contains(&cert), "{error}");
    assert!(run(&["--print-config", "--tls-cert", &cert, "--tls-key", &key]).status.success());
}

#[test]
fn listening_beyond_this_machine_needs_a_word() {
    let output = run(&["--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("listen: 0.0.0.0:0") && stderr(&output).contains("--insecure"),
        "{}",
        stderr(&output)
    );
    assert!(run(&["--listen", "0.0.0.0:0", "--insecure", "--print-config"]).status.success());
}

#[test]
fn a_game_that_is_not_there_is_answered_with_those_that_are() {
    let data = tempfile::tempdir().expect("a directory");
    let arguments = ["--listen", "127.0.0.1:0", "--game", "chess", "--data-dir", data.path().to_str().expect("UTF-8")];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("\"chess\"") && stderr(&output).contains("arena"), "{}", stderr(&output));
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("server.toml");
    fs::write(&file, "tick_rate = 20\nmax_players = 20\nsessions = 20\n").expect("it can be written");
    let output = command()
        .env("TICKWIRE_MAX_PLAYERS", "30")
        .env("TICKWIRE_SESSIONS", "30")
        .env("TICKWIRE_GAME", "arena")
        .env("TICKWIRE_SET", "cover=0, size=64")
        .env("TICKWIRE_SIMULATION_THREADS", "3")
        .env("TICKWIRE_DURABILITY", "flush")
        .env("TICKWIRE_RECORDINGS", "off")
        .env("TICKWIRE_CHAT_PER_MINUTE", "90")
        .args(["serve", "--sessions", "40", "--chat-burst", "8", "--print-config", "--config"])
        .arg(&file)
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let printed = stdout(&output);
    for line in [
        format!("tick_rate = 20 # {}", file.display()),
        "max_players = 30 # TICKWIRE_MAX_PLAYERS".into(),
        "sessions = 40 # flag".into(),
        "simulation_threads = 3 # TICKWIRE_SIMULATION_THREADS".into(),
        "# network_threads is not set".into(),
        "game = [\"arena\"] # TICKWIRE_GAME".into(),
        "durability = \"flush\" # TICKWIRE_DURABILITY".into(),
        "recordings = \"off\" # TICKWIRE_RECORDINGS".into(),
        "retain_bytes = 17179869184 # default".into(),
        "set = [\"cover=0\",\"size=64\"] # TICKWIRE_SET".into(),
        "chat_per_minute = 90 # TICKWIRE_CHAT_PER_MINUTE, read anew by SIGHUP".into(),
        "chat_burst = 8 # flag, read anew by SIGHUP".into(),
        "chat_history_max = 50 # default, read anew by SIGHUP".into(),
        "listen = \"127.0.0.1:7777\" # default".into(),
        "# seed is not set".into(),
    ] {
        assert!(printed.lines().any(|printed| printed == line), "no {line:?} in\n{printed}");
    }
}

#[test]
fn the_environment_says_on_and_off_in_any_way_and_text_that_looks_like_a_number_is_text() {
    let keys = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&keys, run(&["keys", "new-ticket-key"]).stdout).expect("it can be written");
    let output = command()
        .env("TICKWIRE_AUTH", "ticket")
        .env("TICKWIRE_TICKET_KEYS", keys.path())
        .env("TICKWIRE_RECORDINGS_PUBLIC", "1")
        .env("TICKWIRE_LIMIT_LOOPBACK", "on")
        .env("TICKWIRE_RECOVERY", "0")
        .env("TICKWIRE_DATA_DIR", "5")
        .env("TICKWIRE_TICKET_AUDIENCE", "042")
        .arg("--print-config")
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let printed = stdout(&output);
    for line in [
        "recordings_public = true # TICKWIRE_RECORDINGS_PUBLIC",
        "limit_loopback = true # TICKWIRE_LIMIT_LOOPBACK, read anew by SIGHUP",
        "recovery = \"off\" # TICKWIRE_RECOVERY",
        "data_dir = \"5\" # TICKWIRE_DATA_DIR",
        "ticket_audience = \"042\" # TICKWIRE_TICKET_AUDIENCE",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "no {line:?} in\n{printed}");
    }
}

#[test]
fn a_collector_of_traces_has_an_address_and_a_certificate_that_can_be_read() {
    let data = tempfile::tempdir().expect("a directory");
    let empty = data.path().join("empty.pem");
    fs::write(&empty, "no certificate").expect("it can be written");
    let with = |url: &str, certificate: &Path| {
        let mut command = command();
        command.env("OTEL_EXPORTER_OTLP_CERTIFICATE", certificate).args(["--listen", "127.0.0.1:0", "--data-dir"]);
        let output = command.arg(data.path()).args(["--otlp", url]).output().expect("the binary runs");
        (output.status.code(), stderr(&output))
    };
    for (url, certificate, code, words) in [
        ("ftp://127.0.0.1:4317", &*empty, 2, ["otlp: \"ftp://127.0.0.1:4317\" is no address", "(from flag)"]),
        ("https://127.0.0.1:4317", &empty, 2, ["OTEL_EXPORTER_OTLP_CERTIFICATE: ", "empty.pem has no certificate"]),
        ("https://127.0.0.1:4317", Path::new("/nowhere.pem"), 1, ["/nowhere.pem: ", "No such file"]),
    ] {
        let (exited, said) = with(url, certificate);
        assert_eq!(exited, Some(code), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[test]
fn options_that_are_wrong_are_named_with_their_origin() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("server.toml");
    fs::write(&file, "tick_rat = 20\n").expect("it can be written");
    let from_file = command().arg("--config").arg(&file).output().expect("the binary runs");
    let rate = command().env("TICKWIRE_TICK_RATE", "0").output().expect("the binary runs");
    let no_number = command().env("TICKWIRE_TICK_RATE", "abc").output().expect("the binary runs");
    let players = run(&["--max-players", "0"]);
    let sessions = run(&["--sessions", "1001"]);
    let capacity = run(&["--sessions-max", "0"]);
    let empty = run(&["--empty-timeout-seconds", "86401"]);
    let setting = run(&["--set", "cover"]);
    let number = run(&["--set", "cover=much"]);
    let twice = run(&["--set", "cover=0", "--set", "cover=1"]);
    let host = run(&["--listen", "localhost:7777"]);
    let filter = command().env("TICKWIRE_LOG", "xx=yy=zz").output().expect("the binary runs");
    let infinite = run(&["--set", "cover=inf"]);
    let unknown = run(&["--set", "colour=1", "--print-config"]);
    let too_much = run(&["--set", "cover=7", "--print-config"]);
    let strange = run(&["--game", "chess", "--print-config"]);
    let misspelt = command().env("TICKWIRE_TICKRATE", "30").output().expect("the binary runs");
    let threads = run(&["--simulation-threads", "0"]);
    let rewind = run(&["--rewind-ms", "1001"]);
    let missing = run(&["--config", "/nowhere/at/all.toml"]);
    let bytes = run(&["--recording-bytes-max", "100"]);
    let segment = run(&["--segment-bytes", "65535"]);
    let grace = run(&["--grace-seconds", "86401"]);
    let idle = command().env("TICKWIRE_IDLE_SECONDS", "0").output().expect("the binary runs");
    let message = run(&["--message-bytes-max", "255"]);
    let burst = run(&["--message-bytes-max", "600000"]);
    let radius = run(&["--view-radius-metres-max", "0"]);
    let durability = command().env("TICKWIRE_DURABILITY", "always").output().expect("the binary runs");
    for (output, words) in [
        (from_file, ["tick_rat: there is no such option; did you mean tick_rate? (from ", "server.toml"]),
        (no_number, ["tick_rate: string \"abc\" does not do: it takes a whole number", "(from TICKWIRE_TICK_RATE)"]),
        (rate, ["tick_rate: 0 is out of range: choose 1 to 240", "(from TICKWIRE_TICK_RATE)"]),
        (sessions, ["sessions: 1001 are too many: choose 0 to 1000", "(from flag)"]),
        (capacity, ["sessions_max: 0 is out of range: choose 1 to 1000", "(from flag)"]),
        (empty, ["empty_timeout_seconds: 86401 is out of range: choose 1 to 86400", "(from flag)"]),
        (threads, ["simulation_threads: 0 is out of range: choose 1 to 1024", "(from flag)"]),
        (rewind, ["rewind_ms: 1001 is out of range: choose 0 to 1000", "(from flag)"]),
        (players, ["max_players: 0", "(from flag)"]),
        (setting, ["set: \"cover\" is no setting: write NAME=VALUE", "(from flag)"]),
        (number, ["set: \"cover=much\" is no setting: \"much\" is no number", "(from flag)"]),
        (twice, ["set: cover is set twice", "(from flag)"]),
        (host, ["localhost:7777", "write it as IP:PORT"]),
        (filter, ["TICKWIRE_LOG", "\"xx=yy=zz\" is no filter"]),
        (infinite, ["\"inf\" is no number", "such as cover=0"]),
        (unknown, ["set: colour: the game has no such setting; it has size", "(from flag)"]),
        (too_much, ["set: cover: 7 is out of range: choose 0 to 1", "(from flag)"]),
        (strange, ["game: there is no \"chess\"; this server was built with arena", "(from flag)"]),
        (misspelt, ["TICKWIRE_TICKRATE: ", "did you mean TICKWIRE_TICK_RATE?"]),
        (grace, ["grace_seconds: 86401 is out of range: choose 0 to 86400", "(from flag)"]),
        (idle, ["idle_seconds: 0 is out of range: choose 1 to 86400", "(from TICKWIRE_IDLE_SECONDS)"]),
        (message, ["message_bytes_max: 255 is out of range: choose 256 to 16777216", "(from flag)"]),
        (burst, ["received_bytes_burst_max: 524288 is less than one message may have", "message_bytes_max, 600000"]),
        (radius, ["view_radius_metres_max: 0 is no radius", "(from flag)"]),
        (segment, ["segment_bytes: 65535 are too few: choose 65536 or more, or 0", "(from flag)"]),
        (bytes, ["recording_bytes_max: 100 are too few: choose 65536 or more", "(from flag)"]),
        (
            durability,
            ["durability: \"always\" does not do: choose none or flush or sync", "(from TICKWIRE_DURABILITY)"],
        ),
        (missing, ["config: there is no file", "/nowhere/at/all.toml"]),
    ] {
        assert_eq!(output.status.code(), Some(2));
        assert!(words.iter().all(|word| stderr(&output).contains(word)), "{}", stderr(&output));
    }
}

#[test]
fn what_a_file_has_that_no_option_takes_is_said_in_the_words_of_files_and_print_config_says_what_a_start_would() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("server.toml");
    for (option, said) in [
        ("listen = \"localhost:7777\"", "listen: string \"localhost:7777\" does not do: it takes IP:PORT, such as "),
        ("listen = 7777", "listen: 7777 does not do: it takes IP:PORT, such as 127.0.0.1:7777"),
        ("metrics_listen = true", "metrics_listen: true does not do: it takes IP:PORT"),
        ("admin_listen = 5", "admin_listen: 5 does not do: it takes IP:PORT, or off"),
        ("connections_max = -5", "connections_max: -5 does not do: it takes a whole number of 0 or more"),
        ("tick_rate = 5000000000", "tick_rate: 5000000000 does not do: it takes a whole number from 0 to 4294967295"),
        ("tick_rate = 1.5", "tick_rate: 1.5 does not do: it takes a whole number"),
        ("set = { cover = \"much\" }", "set.cover: string \"much\" does not do: it takes a number"),
        ("set = { covr = 1 }", "set: covr: the game has no such setting"),
        ("tls_cert = 5", "tls_cert: 5 does not do: it takes text"),
        ("log_format = 3", "log_format: 3 does not do: it takes text or json"),
        ("game = 5", "game: 5 does not do: it takes names, as a list or with commas between"),
        ("otlp = \"http://\"", "otlp: \"http://\" is no address of a collector"),
        ("otlp = \"http://otel:99999\"", "otlp: \"http://otel:99999\" is no address of a collector"),
        ("data_dir = \"/dev/null/data\"", "data_dir: cannot record to /dev/null/data: not a directory"),
    ] {
        fs::write(&file, option).expect("it can be written");
        let output = command().args(["--print-config", "--config"]).arg(&file).output().expect("the binary runs");
        assert!(!output.status.success(), "{option}");
        let (error, origin) = (stderr(&output), format!("(from {})", file.display()));
        assert!(error.starts_with(&format!("error: {said}")) && error.contains(&origin), "{option}: {error}");
    }
    let unknown = command().env("TICKWIRE_NOPE", "1").output().expect("the binary runs");
    assert!(
        !stderr(&unknown).contains("did you mean") && stderr(&unknown).contains("unset it"),
        "{}",
        stderr(&unknown)
    );
}
