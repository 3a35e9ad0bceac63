//! SIGHUP: a server that runs takes new limits, another log level, certificates and keys from its files, or nothing.

#![cfg(unix)]

#[allow(dead_code, reason = "each binary needs its part of it")]
mod program;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use tickwire_client::{
    Chat, ChatEvent, ChatTo, Client, ClientError, JoinOptions, Secret,
    connection::{ConnectOptions, Trust},
};
use tickwire_proto::v1 as pb;

use self::program::{address_in, command};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server with a file of options, and what it logs.
struct Server {
    child: Child,
    address: String,
    file: PathBuf,
    log: Receiver<String>,
}

impl Server {
    fn start(folder: &Path, options: &str, flags: &[&str]) -> Self {
        let file = folder.join("server.toml");
        fs::write(&file, options).expect("a disk");
        let mut child = command()
            .args(["--listen", "127.0.0.1:0", "--recordings", "off", "--data-dir"])
            .arg(folder.join("data"))
            .arg("--config")
            .arg(&file)
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("it prints");
        let address = address_in(&line).to_owned();
        let (lines, log) = channel();
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        Self { child, address, file, log }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }

    /// Has the server read `options`, and waits for what it logs: lines up to the one that says `last`.
    fn reload(&self, options: &str, last: &str) -> String {
        fs::write(&self.file, options).expect("a disk");
        self.signal("-HUP");
        self.logged(last)
    }

    /// What is logged up to a line that says `last`.
    fn logged(&self, last: &str) -> String {
        let mut lines = String::new();
        while !lines.contains(last) {
            let line = self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {last:?} in\n{lines}"));
            lines += &line;
            lines += "\n";
        }
        lines
    }

    /// A connection; none: it was closed at once, with those words.
    fn connect(&self, words: &str) -> Option<TcpStream> {
        let mut socket = TcpStream::connect(&self.address).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("it is open");
        let mut first = [0; 9];
        socket.read_exact(&mut first).expect("either settings come first, or a GOAWAY");
        const SETTINGS: u8 = 4;
        if first[3] == SETTINGS {
            return Some(socket);
        }
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).expect("it is closed in order");
        assert!(rest.ends_with(words.as_bytes()), "{rest:?}");
        None
    }
}

#[test]
fn a_hangup_has_limits_and_log_level_read_anew_and_says_what_needs_a_restart() {
    let folder = tempfile::tempdir().expect("a directory");
    let first = "tick_rate = 30\nconnections_max = 100\njoins_per_second_max = 9\n";
    let mut server = Server::start(folder.path(), first, &["--joins-per-second-max", "7"]);
    // The flag goes before the file, and is what it was.
    let second = "tick_rate = 60\nconnections_max = 1\njoins_per_second_max = 11\nlog = \"debug\"\n";
    let logged = server.reload(second, "tick_rate");
    let file = server.file.display();
    for line in [
        format!("reloaded: connections_max: 100 is 1 now (from {file})"),
        format!("reloaded: log: \"info\" is \"debug\" now (from {file})"),
        format!("reloaded, but that needs a restart: tick_rate: 30 is 60 now (from {file})"),
    ] {
        assert!(logged.contains(&line), "no {line:?} in\n{logged}");
    }
    assert!(!logged.contains("joins_per_second_max"), "{logged}");

    let held = server.connect("").expect("one may be");
    server.logged("connected");
    assert!(server.connect("connections_max is reached").is_none());
    // What is as it was is not said again, and what needs a restart still does.
    let logged = server.reload(second, "nothing has changed");
    assert!(logged.contains("tick_rate: 30 is 60 now") && !logged.contains("connections_max:"), "{logged}");
    drop(held);

    server.signal("-TERM");
    assert_eq!(server.child.wait().expect("it is a child").code(), Some(0));
}

#[test]
fn a_hangup_has_the_configured_log_filter_back_in_force() {
    let folder = tempfile::tempdir().expect("a directory");
    let options = "log = \"info,h2=warn\"\n";
    let mut server = Server::start(folder.path(), options, &[]);
    let set = |filter: &str| {
        let output =
            command().args(["admin", "log-filter", filter, "--data-dir"]).arg(folder.path().join("data")).output();
        output.expect("the binary runs")
    };
    assert!(set("off").status.success());
    let again =
        format!("reloaded: log: \"off\", set since, is \"info,h2=warn\" again (from {})", server.file.display());
    server.reload(options, &again);
    server.reload(options, "nothing has changed");
    // The same in other words, and what is refused, need not be put right.
    assert!(set("h2=warn,info").status.success());
    let refused = set("");
    let said = String::from_utf8(refused.stderr).expect("UTF-8");
    assert!(
        refused.status.code() == Some(2) && said.contains("\"\" is no filter of log lines: it names no level"),
        "{said}"
    );
    server.reload(options, "nothing has changed");
    server.signal("-TERM");
    assert_eq!(server.child.wait().expect("it is a child").code(), Some(0));
}

#[test]
fn options_that_are_wrong_leave_everything_as_it_was() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(folder.path(), "connections_max = 1\n", &[]);
    for (options, problem) in [
        ("connections_max = 5\nmessages_per_second_max = 0\n", "messages_per_second_max: 0 is too few"),
        ("connections_max = 0\n", "connections_max: 0 is out of range: choose 1 or more"),
        ("connections_max = 5\nlog = \"xx=yy=zz\"\n", "log: \"xx=yy=zz\" is no filter of log lines"),
        ("connections_max = 5\nlog = \"\"\n", "log: \"\" is no filter of log lines: it names no level"),
        ("connections_max = 5\nreceived_bytes_burst_max = 9\n", "received_bytes_burst_max: 9 is less than one message"),
        ("connection_max = 5\n", "connection_max: there is no such option; did you mean connections_max?"),
        ("connections_max = \n", "server.toml"),
        ("chat_burst = 0\n", "chat_burst: 0 is too few"),
        ("chat_waiting_max = 0\n", "chat_waiting_max: 0 is too few"),
        ("chat_history_max = 70000\n", "chat_history_max: 70000 are too many: choose up to 65536"),
    ] {
        let logged = server.reload(options, "everything stays as it was");
        assert!(logged.contains("not reloaded: options: ") && logged.contains(problem), "no {problem:?} in {logged}");
        assert!(logged.contains("server.toml"), "it says where that comes from: {logged}");
    }
    let _held = server.connect("").expect("one may be");
    assert!(server.connect("connections_max is reached").is_none());
    fs::remove_file(&server.file).expect("a disk");
    server.signal("-HUP");
    server.logged("there is no file");
    let logged = server.reload("connections_max = 2\n", "connections_max");
    assert!(logged.contains("reloaded: connections_max: 1 is 2 now"), "{logged}");
    let _second = server.connect("").expect("two may be");
    server.signal("-TERM");
    assert_eq!(server.child.wait().expect("it is a child").code(), Some(0));
}

#[test]
fn what_needs_a_restart_that_would_fail_is_refused_in_the_words_of_that_start() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(folder.path(), "connections_max = 1\n", &[]);
    for (options, problem) in [
        ("set = { covr = 1 }", "set: covr: the game has no such setting; it has "),
        ("set = { cover = 7 }", "set: cover: 7 is out of range: choose 0 to 1"),
        ("game = \"chess\"", "game: there is no \"chess\"; this server was built with arena"),
        ("auth = \"ticket\"\nticket_keys = \"nix\"", "ticket_keys: cannot read nix: "),
        ("ticket_keys = \"nix\"", "ticket_keys: nix would count for nothing, as anybody may come in without a ticket"),
        ("ticket_audience = \"eu-1\"", "ticket_audience: \"eu-1\" would count for nothing"),
        ("api_keys = \"nix\"", "api_keys: cannot read nix: "),
        ("admin_tokens = \"nix\"", "admin_tokens: nix: "),
        ("otlp = \"http://a b\"", "otlp: \"http://a b\" is no "),
    ] {
        let logged = server.reload(&format!("connections_max = 5\n{options}\n"), "everything stays as it was");
        assert!(logged.contains(&format!("not reloaded: options: {problem}")), "no {problem:?} in {logged}");
        assert!(!logged.contains("needs a restart"), "{logged}");
        for mode in ["--print-config", "--insecure"] {
            let mut command = command();
            command.args(["--listen", "127.0.0.1:0", "--recordings", "off", "--data-dir"]);
            command.arg(folder.path().join("other")).arg("--config").arg(&server.file).arg(mode);
            let output = command.output().expect("the binary runs");
            let said = String::from_utf8(output.stderr).expect("UTF-8");
            let said = said.lines().find_map(|line| line.strip_prefix("error: ")).expect("it does not start");
            assert!(said.starts_with(problem) && logged.contains(said), "{mode}: {said:?} is not in {logged}");
            assert!(!output.status.success() && said.contains("server.toml)"), "{said}");
        }
    }
    let _held = server.connect("").expect("one may be");
    assert!(server.connect("connections_max is reached").is_none(), "nothing of it applies");
    // What a start would take still waits for it.
    let logged = server.reload("connections_max = 1\nset = { cover = 0 }\n", "set");
    assert!(logged.contains("needs a restart: set: [] is [\"cover=0\"] now"), "{logged}");
    server.signal("-TERM");
    assert_eq!(server.child.wait().expect("it is a child").code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_of_chat_is_an_option_that_is_read_anew() {
    let folder = tempfile::tempdir().expect("a directory");
    let options = |more: u32| {
        let chars = 5 + more;
        format!(
            "chat_chars_max = {chars}\nchat_bytes_max = {}\nchat_burst = {}\nchat_per_minute = {}\nchat_waiting_max = {}\n\
             chat_history_max = {}\nchat_rejections_max = {}\nchat_mutes_max = {}\ntick_rate = {}\n",
            60 + more,
            7 + more,
            80 + more,
            90 + more,
            1 + more,
            11 + more,
            12 + more,
            30 + more
        )
    };
    let mut server = Server::start(folder.path(), &options(0), &[]);
    let url = format!("http://{}", server.address);
    let mut client = Client::connect(&url, &JoinOptions::default()).await.expect("a seat is free");
    let mut chat = client.chat().await.expect("players talk");
    let told = |chat: &Chat| {
        let limits = chat.welcome().limits.expect("they are told");
        let pb::ChatLimits { text_chars_max, text_bytes_max, burst, per_minute, waiting_max, mutes_max } = limits;
        [text_chars_max, text_bytes_max, burst, per_minute, waiting_max, mutes_max]
    };
    assert_eq!(told(&chat), [5, 60, 7, 80, 90, 12]);
    chat.say(ChatTo::Everyone, "123456", 1);
    match chat.next().await.expect("the stream goes on") {
        Some(ChatEvent::Rejected(no)) => assert_eq!(no.reason(), pb::ChatRejection::TooLong),
        other => panic!("{other:?}"),
    }
    // What needs a restart is said last.
    let logged = server.reload(&options(1), "tick_rate");
    for changed in
        ["bytes_max: 60 is 61", "burst: 7 is 8", "chars_max: 5 is 6", "history_max: 1 is 2", "mutes_max: 12 is 13"]
    {
        assert!(logged.contains(&format!("reloaded: chat_{changed} now")), "no {changed:?} in {logged}");
    }
    for text in ["123456", "234567", "345678"] {
        chat.say(ChatTo::Everyone, text, 1);
        assert!(matches!(chat.next().await, Ok(Some(ChatEvent::Line(line))) if line.text == text));
    }
    let again = client.chat().await.expect("players talk");
    assert_eq!((told(&again), again.welcome().history.len()), ([6, 61, 8, 81, 91, 13], 2));
    server.signal("-TERM");
    assert_eq!(server.child.wait().expect("it is a child").code(), Some(0));
}

#[test]
fn limits_and_times_that_cannot_change_while_a_server_runs_need_a_restart_and_others_have_to_fit_them() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(folder.path(), "grace_seconds = 20\n", &[]);
    // It would do with messages of 256 bytes, and those that there are stay.
    let logged =
        server.reload("message_bytes_max = 256\nreceived_bytes_burst_max = 300\n", "everything stays as it was");
    assert!(logged.contains("received_bytes_burst_max: 300 is less than one message may have"), "{logged}");

    let options = "grace_seconds = 60\nmessage_bytes_max = 256\nmailbox_messages_max = 9\nframes_per_second_max = 77\n";
    // Options come in the order of their names: that is the last that differs.
    let logged = server.reload(options, "message_bytes_max:");
    for line in [
        "reloaded: frames_per_second_max: 10000 is 77 now",
        "reloaded, but that needs a restart: grace_seconds: 20 is 60 now",
        "reloaded, but that needs a restart: mailbox_messages_max: 16384 is 9 now",
        "reloaded, but that needs a restart: message_bytes_max: 16384 is 256 now",
    ] {
        assert!(logged.contains(line), "no {line:?} in\n{logged}");
    }
    server.signal("-TERM");
    assert_eq!(server.child.wait().expect("it is a child").code(), Some(0));
}

#[test]
fn an_api_keys_file_without_a_key_is_warned_of() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("api-keys");
    fs::write(&file, format!("ada {}\n", "0".repeat(64))).expect("a disk");
    let mut server = Server::start(folder.path(), "", &["--api-keys", file.to_str().expect("UTF-8")]);
    fs::write(&file, "# nobody\n").expect("a disk");
    server.signal("-HUP");
    let logged = server.logged("0 API keys have been read again");
    let warning = logged.lines().find(|line| line.contains("there is no API key in this file")).expect("it is told");
    assert!(warning.contains("WARN") && warning.contains("nobody can create, join or end sessions"), "{warning}");
    server.signal("-TERM");
    assert_eq!(server.child.wait().expect("it is a child").code(), Some(0));
}

/// What `tickwire-server keys` prints.
fn keys(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tickwire-server")).arg("keys").args(arguments).output();
    let output = output.expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Certificates, with their keys, and keys of tickets, of which a server is to use one after another.
struct Files {
    folder: PathBuf,
    certificates: [(String, String); 2],
    ticket_keys: [String; 2],
}

impl Files {
    fn new(folder: &Path) -> Self {
        let certificates = [(); 2].map(|()| {
            let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("the name is good");
            (own.cert.pem(), own.signing_key.serialize_pem())
        });
        let ticket_keys = ["first", "second"].map(|kid| keys(&["new-ticket-key", "--kid", kid]));
        Self { folder: folder.to_owned(), certificates, ticket_keys }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a disk");
    }

    /// Joins with a ticket by one key, trusting one certificate.
    async fn join(&self, server: &Server, certificate: usize, ticket_key: usize) -> Result<Client, ClientError> {
        self.write("issuer.json", &self.ticket_keys[ticket_key]);
        let issuer = self.path("issuer.json");
        let ticket = keys(&["ticket", "--ticket-keys", &issuer, "--subject", "ada", "--session", "sessions/arena-1"]);
        let join = JoinOptions { ticket: Secret::from(ticket.trim().to_owned()), ..JoinOptions::default() };
        let trust = Trust::Certificates(self.certificates[certificate].0.clone().into_bytes());
        let connect = ConnectOptions { trust, ..ConnectOptions::default() };
        Client::connect_with(&format!("https://{}", server.address), &join, &connect).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_keys_are_read_anew_with_all_else_or_nothing_is() {
    let folder = tempfile::tempdir().expect("a directory");
    let files = Files::new(folder.path());
    let [(old_certificate, old_key), (new_certificate, new_key)] = &files.certificates;
    files.write("server.pem", old_certificate);
    files.write("server.key", old_key);
    files.write("ticket-keys.json", &files.ticket_keys[0]);
    let [pem, key, tickets] = ["server.pem", "server.key", "ticket-keys.json"].map(|name| files.path(name));
    let flags = ["--tls-cert", &pem, "--tls-key", &key, "--auth", "ticket", "--ticket-keys", &tickets];
    let mut server = Server::start(folder.path(), "connections_max = 100\n", &flags);
    files.join(&server, 0, 0).await.expect("both are the server's").leave().await.expect("it says goodbye");

    // Keys and limits are good, and the certificate is not that of the key.
    files.write("server.pem", new_certificate);
    files.write("ticket-keys.json", &files.ticket_keys[1]);
    let logged = server.reload("connections_max = 9\n", "everything stays as it was");
    assert!(
        logged.contains("not reloaded: TLS: ") && logged.contains("server.key: is not the private key"),
        "{logged}"
    );
    let refused = files.join(&server, 0, 1).await.expect_err("that key is not the server's yet");
    assert!(refused.to_string().contains("its kid is none of this server's keys"), "{refused}");
    files.join(&server, 0, 0).await.expect("both are the server's still").leave().await.expect("it says goodbye");

    // The certificate and the limits are good, and the keys are none.
    files.write("server.pem", old_certificate);
    files.write("ticket-keys.json", "no keys");
    let logged = server.reload("connections_max = 9\n", "everything stays as it was");
    assert!(logged.contains("not reloaded: keys: ") && logged.contains("ticket-keys.json"), "{logged}");
    files.join(&server, 0, 0).await.expect("both are the server's still").leave().await.expect("it says goodbye");

    // All are.
    files.write("server.pem", new_certificate);
    files.write("server.key", new_key);
    files.write("ticket-keys.json", &files.ticket_keys[1]);
    let logged = server.reload("connections_max = 9\n", "connections_max");
    assert!(logged.contains("reloaded: connections_max: 100 is 9 now"), "until now it was 100: {logged}");
    assert!(logged.contains("reloaded: the keys of tickets have been read again"), "{logged}");
    let refused = files.join(&server, 0, 1).await.expect_err("the server shows another certificate");
    assert!(matches!(refused, ClientError::Tls { .. }), "{refused}");
    let refused = files.join(&server, 1, 0).await.expect_err("that key is not the server's any more");
    assert!(refused.to_string().contains("its kid is none of this server's keys"), "{refused}");
    files.join(&server, 1, 1).await.expect("both are the server's now").leave().await.expect("it says goodbye");

    server.signal("-TERM");
    assert_eq!(server.child.wait().expect("it is a child").code(), Some(0));
}
