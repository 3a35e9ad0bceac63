//! Admins whose connections are encrypted, and who show certificates.

use std::{fs, path::Path, process::Output};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};

use super::{Running, admin_in, command, stderr, stdout};

/// Somebody who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("there is randomness");
        let pem = params.self_signed(&key).expect("it is complete").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes a certificate of this machine's, and its key, as NAME.pem and NAME.key.
    fn sign(&self, folder: &Path, name: &str, is_expired: bool) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("the name is good");
        params.distinguished_name.push(DnType::CommonName, name);
        if is_expired {
            (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        }
        let key = KeyPair::generate().expect("there is randomness");
        let certificate = params.signed_by(&key, &self.issuer).expect("it is complete");
        write(folder, &format!("{name}.pem"), &certificate.pem());
        write(folder, &format!("{name}.key"), &key.serialize_pem());
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).expect("there is room");
}

/// A folder with files of TLS.
struct Files {
    folder: tempfile::TempDir,
    hosts: Authority,
    admins: Authority,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let (hosts, admins) = (Authority::new("hosts"), Authority::new("admins"));
        write(folder.path(), "hosts.pem", &hosts.pem);
        write(folder.path(), "admins.pem", &admins.pem);
        hosts.sign(folder.path(), "server", false);
        admins.sign(folder.path(), "ada", false);
        Self { folder, hosts, admins }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// A server that encrypts what it says to admins; where `asks`, for those who show a certificate.
    fn serve(&self, asks: bool) -> Running {
        let [certificate, key, clients] = ["server.pem", "server.key", "admins.pem"].map(|name| self.path(name));
        let flags = ["--admin-tls-cert", &certificate, "--admin-tls-key", &key, "--admin-client-ca", &clients];
        Running::start(&flags[..if asks { 6 } else { 4 }])
    }

    /// `admin info` of somebody who trusts, and shows, what these files hold.
    fn ask(&self, server: &Running, trusted: &str, shown: Option<&str>) -> Output {
        let trusted = self.path(trusted);
        let shown = shown.map(|name| [".pem", ".key"].map(|kind| self.path(&format!("{name}{kind}"))));
        let mut arguments = vec!["info", "--tls-ca", &trusted];
        if let Some([certificate, key]) = &shown {
            arguments.extend(["--tls-cert", certificate, "--tls-key", key]);
        }
        server.admin(&arguments)
    }
}

fn assert_refused(output: &Output, code: i32, words: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    assert!(stderr(output).contains(words), "{words:?} is not in {}", stderr(output));
}

fn assert_answered(output: &Output) {
    assert!(output.status.success() && stdout(output).contains("serving"), "{}", stderr(output));
}

#[test]
fn whom_an_admin_does_not_trust_is_told_nothing_and_who_encrypts_nothing_neither() {
    let files = Files::new();
    let server = files.serve(false);
    let address = fs::read_to_string(server.data.path().join("admin.address")).expect("it is there");
    assert!(address.starts_with("https://127.0.0.1:"), "{address}");
    assert_answered(&files.ask(&server, "hosts.pem", None));
    // Where none is asked for, none is looked at.
    assert_answered(&files.ask(&server, "hosts.pem", Some("ada")));

    const NOT_MEANT: &str = "does not prove to be the server that is meant: invalid peer certificate";
    assert_refused(&files.ask(&server, "admins.pem", None), 3, NOT_MEANT);
    let plain = address.trim().replace("https", "http");
    let token = server.data.path().join("admin.token");
    let token = token.to_str().expect("UTF-8");
    let asked = server.admin(&["info", "--address", &plain, "--token-file", token]);
    assert_refused(&asked, 3, "; a server that encrypts is at https://");
    let bare = plain.trim_start_matches("http://");
    let trusted = files.path("hosts.pem");
    assert_answered(&server.admin(&["info", "--address", bare, "--tls-ca", &trusted]));
    assert_refused(&server.admin(&["info", "--address", &plain, "--tls-ca", &trusted]), 2, "encrypts nothing");
    let half = server.admin(&["info", "--tls-cert", &files.path("ada.pem")]);
    assert_refused(&half, 2, "give --tls-cert and --tls-key, or neither");
    assert_refused(&files.ask(&server, "nobody.pem", None), 1, "nobody.pem: cannot be read");
    assert_refused(&files.ask(&server, "server.key", None), 1, "holds no certificate");

    let unencrypted = Running::start(&[]);
    let address = fs::read_to_string(unencrypted.data.path().join("admin.address")).expect("it is there");
    let encrypted = format!("https://{}", address.trim());
    let asked = unencrypted.admin(&["info", "--address", &encrypted, "--tls-ca", &trusted]);
    assert_refused(&asked, 3, "127.0.0.1");
}

#[test]
fn where_certificates_are_asked_for_only_who_shows_a_good_one_is_answered_and_only_with_a_token() {
    let files = Files::new();
    let server = files.serve(true);
    files.hosts.sign(files.folder.path(), "mallory", false);
    files.admins.sign(files.folder.path(), "late", true);
    assert_answered(&files.ask(&server, "hosts.pem", Some("ada")));
    for (shown, problem) in [(None, "CertificateRequired"), (Some("mallory"), "CA"), (Some("late"), "Expired")] {
        let refused = files.ask(&server, "hosts.pem", shown);
        assert_refused(&refused, 4, "does not agree on encryption: received fatal alert: ");
        assert!(stderr(&refused).contains(problem), "{}", stderr(&refused));
    }
    let wrong_token = files.path("token");
    write(files.folder.path(), "token", "0123456789abcdef0123456789abcdef\n");
    let [trusted, certificate, key] = ["hosts.pem", "ada.pem", "ada.key"].map(|name| files.path(name));
    let shown = ["info", "--tls-ca", &trusted, "--tls-cert", &certificate, "--tls-key", &key];
    let refused = server.admin(&[&shown[..], &["--token-file", &wrong_token]].concat());
    assert_refused(&refused, 4, "the token is not one of this server's");
}

#[test]
fn a_server_whose_certificate_has_expired_is_not_trusted() {
    let files = Files::new();
    files.hosts.sign(files.folder.path(), "server", true);
    assert_refused(&files.ask(&files.serve(false), "hosts.pem", None), 3, "certificate expired");
}

#[test]
fn files_that_are_replaced_hold_from_the_next_reload_on_all_of_them_or_none() {
    let files = Files::new();
    let log = files.path("log");
    let tokens = files.path("tokens.toml");
    let token = |token: &str| format!("[[token]]\nname = \"ada\"\nrole = \"operator\"\ntoken = \"{token}\"\n");
    let [old, new] = ["old-0123456789abcdef0123", "new-0123456789abcdef0123"];
    fs::write(&tokens, token(old)).expect("there is room");
    let [pem, key, clients] = ["server.pem", "server.key", "admins.pem"].map(|name| files.path(name));
    let flags = ["--admin-tls-cert", &pem, "--admin-tls-key", &key, "--admin-client-ca", &clients];
    let server = Running::start_logging(&[&flags[..], &["--admin-tokens", &tokens]].concat(), Path::new(&log));
    let ask = |trusted: &str, shown: &str, token: &str| {
        write(files.folder.path(), "token", token);
        let [trusted, certificate, key, token] =
            [trusted, &format!("{shown}.pem"), &format!("{shown}.key"), "token"].map(|name| files.path(name));
        server.admin(&[
            "info",
            "--tls-ca",
            &trusted,
            "--tls-cert",
            &certificate,
            "--tls-key",
            &key,
            "--token-file",
            &token,
        ])
    };
    let reload = |last: &str| {
        let before = fs::read_to_string(&log).expect("it is there").len();
        server.signal("-HUP");
        while !fs::read_to_string(&log).expect("it is there")[before..].contains(last) {
            std::thread::yield_now();
        }
    };
    assert_answered(&ask("hosts.pem", "ada", old));

    // Another certificate and another token, and a key that is of neither certificate.
    let others = Authority::new("others");
    write(files.folder.path(), "others.pem", &others.pem);
    others.sign(files.folder.path(), "server", false);
    let new_key = fs::read_to_string(&key).expect("it is there");
    files.hosts.sign(files.folder.path(), "stray", false);
    fs::copy(files.path("stray.key"), &key).expect("there is room");
    fs::write(&tokens, token(new)).expect("there is room");
    reload("not reloaded: admin TLS: ");
    assert_answered(&ask("hosts.pem", "ada", old));

    // The certificates are good, and the tokens are none.
    fs::write(&key, &new_key).expect("there is room");
    fs::write(&tokens, "no tokens").expect("there is room");
    reload("not reloaded: admin tokens: ");
    assert_answered(&ask("hosts.pem", "ada", old));

    // All are, and those who sign admins' certificates are others, too.
    others.sign(files.folder.path(), "bob", false);
    write(files.folder.path(), "admins.pem", &others.pem);
    fs::write(&tokens, token(new)).expect("there is room");
    reload("other tokens of admins");
    assert_refused(&ask("hosts.pem", "bob", new), 3, "does not prove to be the server");
    assert_refused(&ask("others.pem", "ada", new), 4, "does not agree on encryption");
    assert_refused(&ask("others.pem", "bob", old), 4, "those are in the file of its --admin-tokens");
    assert_answered(&ask("others.pem", "bob", new));
}

#[test]
fn options_that_do_not_go_together_or_let_tokens_be_read_keep_the_server_from_starting() {
    let files = Files::new();
    let [pem, key, clients] = ["server.pem", "server.key", "admins.pem"].map(|name| files.path(name));
    let data = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str]| {
        let output = command().args(arguments).arg("--print-config").arg("--data-dir").arg(data.path()).output();
        output.expect("the binary runs")
    };
    let both = ["--admin-tls-cert", &pem, "--admin-tls-key", &key];
    let everywhere = ["--admin-listen", "0.0.0.0:0"];
    for (arguments, code, words) in [
        (&["--admin-tls-cert", &pem][..], 2, "name it with admin_tls_key (from flag)"),
        (&["--admin-tls-key", &key], 2, "name it with admin_tls_cert"),
        (&["--admin-client-ca", &clients], 2, "give admin_tls_cert and admin_tls_key"),
        (&everywhere, 2, "give --admin-tls-cert and --admin-tls-key, or say --insecure"),
        (&["--admin-tls-cert", &key, "--admin-tls-key", &pem], 1, "admin TLS: "),
        (&[&both[..], &["--admin-client-ca", &key]].concat(), 1, "server.key: holds no certificate"),
    ] {
        assert_refused(&run(arguments), code, words);
    }
    for good in [
        &["--admin-listen", "[::ffff:127.0.0.1]:0"][..],
        &[&everywhere[..], &["--insecure"]].concat(),
        &[&everywhere[..], &both, &["--admin-client-ca", &clients]].concat(),
    ] {
        let output = run(good);
        assert!(output.status.success(), "{good:?}: {}", stderr(&output));
    }
    let output = run(&[&everywhere[..], &both, &["--admin-client-ca", &clients]].concat());
    let line = format!("admin_client_ca = {clients:?} # flag");
    assert!(stdout(&output).lines().any(|printed| printed == line), "{line} is not in {}", stdout(&output));
    assert_refused(&admin_in(data.path(), &["info"]), 3, "there is no server");
}
