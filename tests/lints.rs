//! The boundaries of ARCHITECTURE.md, held by reading what cargo and the sources say.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// For each package: the packages of this workspace that may stand in its tree of normal dependencies.
const ARROWS: &[(&str, &[&str])] = &[
    ("tickwire-proto", &[]),
    ("tickwire-shared", &[]),
    ("tickwire-arena", &["shared"]),
    ("tickwire-ticket", &[]),
    ("tickwire-simulation", &["shared"]),
    ("tickwire-wire", &["shared", "proto"]),
    ("tickwire-replication", &["shared", "wire", "proto"]),
    ("tickwire-recording", &["shared", "simulation", "wire", "proto"]),
    ("tickwire-client", &["shared", "wire", "arena", "proto", "ticket"]),
    ("tickwire-server", &["shared", "wire", "arena", "proto", "ticket", "simulation", "replication", "recording"]),
    (
        "tickwire-bench",
        &["shared", "wire", "arena", "proto", "ticket", "simulation", "replication", "recording", "server", "client"],
    ),
    // It runs the programs, as anybody does.
    ("tickwire-lab", &[]),
];

/// Packages that stay free of these crates, directly and through others.
const FORBIDDEN: &[(&[&str], &[&str])] = &[
    (&["tickwire-shared", "tickwire-arena", "tickwire-simulation"], &["prost", "prost-types", "mcap"]),
    (
        &[
            "tickwire-shared",
            "tickwire-arena",
            "tickwire-ticket",
            "tickwire-simulation",
            "tickwire-proto",
            "tickwire-wire",
            "tickwire-replication",
            "tickwire-recording",
        ],
        &["tokio", "tonic", "hyper", "h2", "tower", "socket2"],
    ),
];

/// Sources that know no clock, file, socket or thread.
const SANS_IO: &[&str] = &[
    "shared/src",
    "shared/arena/src",
    "shared/wire/src",
    "shared/ticket/src",
    "server/simulation/src",
    "server/replication/src",
];
const IO_WORDS: &[&str] =
    &["Instant", "SystemTime", "std::fs", "std::net", "std::thread", "thread::spawn", "std::env", "HashMap::new"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The names of all packages in a package's tree of normal dependencies, with the features that it has by itself.
fn tree(package: &str) -> BTreeSet<String> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["tree", "--offline", "--locked", "-e", "normal", "--prefix", "none", "-p", package])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    names.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).filter(|name| name != package).collect()
}

#[test]
fn packages_depend_only_along_the_arrows() {
    let mut wrong = Vec::new();
    for (package, allowed) in ARROWS {
        let allowed: BTreeSet<String> = allowed.iter().map(|name| format!("tickwire-{name}")).collect();
        let ours = tree(package).into_iter().filter(|name| name.starts_with("tickwire-"));
        wrong.extend(ours.filter(|name| !allowed.contains(name)).map(|name| format!("{package} -> {name}")));
    }
    assert!(wrong.is_empty(), "arrows that ARCHITECTURE.md does not have: {wrong:?}");
}

#[test]
fn every_package_of_the_workspace_has_its_arrows() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the root manifest is there");
    let members = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).expect("members").0;
    let listed = members.lines().filter(|line| line.contains('"')).count();
    assert_eq!(listed + 1, ARROWS.len(), "add the new package to ARROWS, and to ARCHITECTURE.md");
}

#[test]
fn the_core_stays_free_of_network_and_protobuf() {
    let mut wrong = Vec::new();
    for (packages, forbidden) in FORBIDDEN {
        for package in *packages {
            let found = tree(package).into_iter().filter(|name| forbidden.contains(&name.as_str()));
            wrong.extend(found.map(|name| format!("{package} -> {name}")));
        }
    }
    assert!(wrong.is_empty(), "crates that must not be there: {wrong:?}");
}

#[test]
fn sans_io_sources_name_no_clock_file_socket_or_thread() {
    let mut wrong = Vec::new();
    for folder in SANS_IO {
        for file in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&file).expect("a source file");
            let code = text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
            for (number, line) in code.enumerate() {
                let words = IO_WORDS.iter().filter(|word| line.contains(**word));
                wrong.extend(words.map(|word| format!("{}:{}: {word}", file.display(), number + 1)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_library_forbids_unsafe_code() {
    let libraries = [
        "proto/lib.rs",
        "shared/src/lib.rs",
        "shared/wire/src/lib.rs",
        "shared/arena/src/lib.rs",
        "shared/ticket/src/lib.rs",
        "server/src/lib.rs",
        "server/simulation/src/lib.rs",
        "server/replication/src/lib.rs",
        "server/recording/src/lib.rs",
        "bot-client/src/lib.rs",
        "tests/bench/src/main.rs",
        "tests/lab/src/main.rs",
    ];
    for library in libraries {
        let text = fs::read_to_string(root().join(library)).expect("a library");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{library} does not forbid unsafe code");
    }
}

/// Where the server refuses things, and the page that says so. Elsewhere nothing in capitals is a reason.
const REFUSING: [(&[&str], &str, &str); 3] = [
    (&["play", "watch", "session", "status.rs"], "docs/wire.md", "| status | reason |"),
    (&["identity"], "docs/identity.md", "| code | reason |"),
    (&["sessions"], "docs/sessions.md", "| code | reason |"),
];

/// What stands between quotes and could be the reason of a refusal.
fn reasons_in(source: &str) -> impl Iterator<Item = &str> {
    source.lines().flat_map(|line| line.split('"').skip(1)).filter(|text| is_reason(text))
}

fn is_reason(text: &str) -> bool {
    text.len() > 2 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

#[test]
fn all_reasons_of_refusals_stand_in_the_tables_for_clients_and_no_others() {
    let mut files = Vec::new();
    let mut sources_of = |folders: &[&str]| {
        let mut found = Vec::new();
        for path in folders.iter().map(|name| root().join("server/src").join(name)) {
            if path.is_dir() { found.extend(rust_files(&path)) } else { found.push(path) }
        }
        let text: String = found.iter().map(|file| fs::read_to_string(file).expect("a source file")).collect();
        files.push(text.clone());
        text
    };
    let tables = REFUSING.map(|(folders, page, head)| {
        let given: BTreeSet<String> = reasons_in(&sources_of(folders)).map(str::to_owned).collect();
        let text = fs::read_to_string(root().join(page)).expect("the page is there");
        let table = text.split_once(head).and_then(|(_, rest)| rest.split_once("\n\n")).expect("a table").0;
        let reasons = table.lines().skip(2).filter_map(|row| row.split('|').nth(2)).flat_map(|cell| cell.split(','));
        let told: BTreeSet<String> = reasons.map(|reason| reason.trim().to_owned()).collect();
        (page, given, told)
    });
    let all: BTreeSet<&str> = files.iter().flat_map(|text| reasons_in(text)).collect();
    for (page, given, told) in &tables {
        let untold: Vec<_> = given.difference(told).collect();
        let never_given: Vec<_> = told.iter().filter(|reason| !all.contains(reason.as_str())).collect();
        assert!(
            untold.is_empty() && never_given.is_empty(),
            "{page}: lacks {untold:?}; {never_given:?} are never given"
        );
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
