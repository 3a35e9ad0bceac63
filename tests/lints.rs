//! The boundaries of ARCHITECTURE.md, held by reading what cargo and the sources say.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tickwire_proto::v1::ChatRejection;

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
fn fields_of_log_lines_are_no_debug_output_and_numbers_are_numbers() {
    const LEVELS: [&str; 5] = ["error!(", "warn!(", "info!(", "debug!(", "trace!("];
    let mut wrong = Vec::new();
    for folder in ["server/src", "server/recording/src", "bot-client/src"] {
        for file in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&file).expect("a source file");
            // Fields stand before the message.
            let calls =
                LEVELS.iter().flat_map(|level| text.split(level).skip(1)).filter_map(|call| call.split('"').next());
            for field in calls.flat_map(|fields| fields.split(',')) {
                let value = field.rsplit_once('=').map_or(field, |(_, value)| value).trim();
                let is_number =
                    |text: &str| ["tick", "player"].iter().any(|word| text.trim_end_matches("()").ends_with(word));
                // In JSON that makes text of anything.
                if value.starts_with('?') || value.strip_prefix('%').is_some_and(is_number) {
                    wrong.push(format!("{}: {}", file.display(), field.trim()));
                }
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
const REFUSING: [(&[&str], &str, &str); 5] = [
    (
        &["net/arrival.rs", "net/connection.rs", "play", "watch", "session", "status.rs"],
        "docs/wire.md",
        "| status | reason |",
    ),
    (&["identity"], "docs/identity.md", "| code | reason |"),
    (&["sessions"], "docs/sessions.md", "| code | reason |"),
    (&["chat"], "docs/chat.md", "| status | reason |"),
    (&["admin"], "docs/admin.md", "| status | reason |"),
];
/// Reasons that are only given where this server has a bug.
const BUGS: [&str; 1] = ["FAILED"];
/// What stands between quotes where things are refused, and is no reason.
const NO_REASONS: [&str; 2] = ["ASCII", "CARGO_PKG_VERSION"];

/// What stands between quotes and could be the reason of a refusal.
fn reasons_in(source: &str) -> impl Iterator<Item = &str> {
    source.lines().flat_map(|line| line.split('"').skip(1)).filter(|text| is_reason(text))
}

fn is_reason(text: &str) -> bool {
    text.len() > 2 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') && !NO_REASONS.contains(&text)
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

#[test]
fn all_rejections_of_chat_stand_in_its_table_and_are_met_in_a_test() {
    let page = page("docs/chat.md");
    let table = page.split_once("| `ChatRejected` |").and_then(|(_, rest)| rest.split_once("\n\n")).expect("a table").0;
    let cells = table.lines().skip(2).filter_map(|row| row.split('|').nth(1));
    let told: BTreeSet<String> = cells.flat_map(quoted).map(str::to_owned).collect();
    let names = (1..).map_while(|number| ChatRejection::try_from(number).ok()).map(|reason| reason.as_str_name());
    let given: BTreeSet<String> =
        names.filter_map(|name| name.strip_prefix("CHAT_REJECTION_")).map(str::to_owned).collect();
    assert_eq!(told, given);

    let tests: String = rust_files(&root().join("tests/chat"))
        .iter()
        .map(|file| fs::read_to_string(file).expect("a source file"))
        .collect();
    let in_code = |reason: &str| {
        let word = |word: &str| word[..1].to_owned() + &word[1..].to_lowercase();
        format!("ChatRejection::{}", reason.split('_').map(word).collect::<String>())
    };
    let unmet: Vec<_> = given.iter().filter(|reason| !tests.contains(&in_code(reason))).collect();
    assert!(unmet.is_empty(), "no test of chat meets {unmet:?}");
}

#[test]
fn all_refusals_of_chat_and_of_admins_calls_are_met_in_a_test() {
    let mut tests = String::new();
    for folder in ["tests", "server/tests"] {
        for file in rust_files(&root().join(folder)) {
            tests += &fs::read_to_string(file).expect("a source file");
        }
    }
    for folder in ["chat", "admin"] {
        let mut given = BTreeSet::new();
        for file in rust_files(&root().join("server/src").join(folder)) {
            let source = fs::read_to_string(file).expect("a source file");
            // Where a module has tests of its own, they stand at its end.
            let (code, own) = source.split_once("#[cfg(test)]").unwrap_or((&source, ""));
            given.extend(reasons_in(code).map(str::to_owned));
            tests += own;
        }
        let is_met = |reason: &str| tests.contains(&format!("\"{reason}\"")) || BUGS.contains(&reason);
        let unmet: Vec<_> = given.iter().filter(|reason| !is_met(reason)).collect();
        assert!(unmet.is_empty(), "{folder}: no test meets {unmet:?}");
    }
}

/// Pages whose tables name tests.
const PAGES_WITH_TESTS: &[&str] = &["docs/limits.md", "docs/grpc-practice.md"];

fn page(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("the page is there")
}

/// The cells of the tables' rows.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| limit |");
    page.lines().filter(is_row).map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Fields with their values, as the derived `Debug` prints them, those of their fields among them.
fn fields(of: &str, value: impl std::fmt::Debug) -> BTreeSet<(String, String)> {
    let printed = format!("{value:#?}");
    let (mut path, mut fields) = (Vec::new(), BTreeSet::new());
    for line in printed.lines().map(|line| line.trim().trim_end_matches(',')) {
        match line.split_once(": ") {
            Some((field, value)) if value.ends_with('{') => path.push(field),
            Some((field, value)) => {
                fields.insert((format!("{}.{field}", path.join(".")), value.to_owned()));
            }
            None if line == "}" => drop(path.pop()),
            None => path.push(of),
        }
    }
    fields
}

#[test]
fn every_limit_and_time_stands_in_the_table_with_its_default_and_its_option() {
    let page = page("docs/limits.md");
    let mut expected = fields("limits", tickwire_server::Limits::default());
    expected.extend(fields("timeouts", tickwire_server::Timeouts::default()));
    let is_field = |cell: &str| cell.starts_with("`limits.") || cell.starts_with("`timeouts.");
    let told: BTreeSet<(String, String)> = rows(&page)
        .filter(|cells| is_field(cells[0]))
        .map(|cells| (cells[0].trim_matches('`').to_owned(), cells[1].to_owned()))
        .collect();
    assert_eq!(told, expected, "the tables are those of docs/limits.md");

    let files = rust_files(&root().join("server/src/cli"));
    let flags: String = files.iter().map(|file| fs::read_to_string(file).expect("a source file")).collect();
    for option in rows(&page).filter(|cells| is_field(cells[0])).flat_map(|cells| quoted(cells[2])) {
        let field = option.trim_start_matches("--").replace('-', "_");
        assert!(flags.contains(&format!("    {field}: ")), "there is no option {option}");
    }
}

#[test]
fn every_reason_that_is_counted_stands_in_the_tables_of_limits_and_no_other() {
    let source = fs::read_to_string(root().join("server/src/limits/reasons.rs")).expect("a source file");
    let counted: BTreeSet<&str> = counted_reasons(&source).collect();
    let page = page("docs/limits.md");
    let is_label = |word: &&str| word.bytes().all(|byte| byte.is_ascii_uppercase() || b"_0123456789".contains(&byte));
    let told: BTreeSet<&str> = rows(&page).flatten().flat_map(quoted).filter(is_label).collect();
    assert_eq!(told, counted);
}

/// Reasons that take more than a test has: 131,072 tickets, a disk that hangs, a machine without threads. They come with a
/// status, and all of those are counted by the same lines.
const TOO_COSTLY: [&str; 3] = ["TICKETS_FULL", "TICKETS_UNRECORDED", "THREADS"];
/// How tests ask for a count.
const COUNTS: [&str; 5] = [".counts(", " count(", "(count(", "flood(", "refusals()"];

#[test]
fn every_reason_is_seen_to_be_counted_by_a_test_of_its_limit() {
    let source = fs::read_to_string(root().join("server/src/limits/reasons.rs")).expect("a source file");
    let page = page("docs/limits.md");
    let sources = sources_with_tests();
    let mut unseen: BTreeSet<&str> = counted_reasons(&source).collect();
    for cells in rows(&page) {
        let tests: Vec<&str> = quoted(cells.last().expect("a row has cells"))
            .filter_map(|name| name.split_once("::"))
            .flat_map(|(module, name)| bodies(&sources, module, name))
            .collect();
        unseen.retain(|reason| {
            let label = format!("\"{reason}\"");
            let counts = |line: &str| line.contains(&label) && COUNTS.iter().any(|word| line.contains(word));
            !cells.iter().flat_map(|cell| quoted(cell)).any(|word| word == *reason)
                || !tests.iter().any(|body| body.lines().any(counts))
        });
    }
    let unseen: Vec<_> = unseen.into_iter().filter(|reason| !TOO_COSTLY.contains(reason)).collect();
    assert!(unseen.is_empty(), "no test that docs/limits.md names for them looks at the counts of {unseen:?}");
}

fn counted_reasons(source: &str) -> impl Iterator<Item = &str> {
    let list = source.split_once("\nreasons! {").and_then(|(_, rest)| rest.split_once("\n}")).expect("a list").0;
    list.lines().filter_map(|line| line.split('"').nth(1))
}

fn sources_with_tests() -> Vec<(PathBuf, String)> {
    let files = ["tests", "server", "bot-client", "shared"].map(|folder| rust_files(&root().join(folder)));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file");
        (path, text)
    };
    files.into_iter().flatten().map(read).collect()
}

/// The functions of this name in files or folders of that name.
fn bodies<'a>(sources: &'a [(PathBuf, String)], module: &str, name: &str) -> Vec<&'a str> {
    let head = format!("fn {name}(");
    let of = |(path, text): &'a (PathBuf, String)| {
        let folder = path.parent().and_then(Path::file_name);
        let is_module = path.file_stem() == Some(module.as_ref()) || folder == Some(module.as_ref());
        let (before, from) = text.split_once(&head).filter(|_| is_module)?;
        let line = before.rsplit('\n').next().unwrap_or(before);
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = from.find(&format!("\n{indent}}}\n")).unwrap_or(from.len());
        Some(&from[..end])
    };
    sources.iter().filter_map(of).collect()
}

#[test]
fn tests_that_pages_name_are_there() {
    let sources = sources_with_tests();
    for path in PAGES_WITH_TESTS {
        let page = page(path);
        for cells in rows(&page).filter(|cells| !cells[0].starts_with("---") && cells.last() != Some(&"tests")) {
            let named: Vec<_> = quoted(cells.last().expect("a row has cells")).collect();
            assert!(!named.is_empty(), "{path}: {} names no test", cells[0]);
            for name in named {
                let (module, test) = name.split_once("::").unwrap_or_else(|| panic!("{path}: {name} has no module"));
                assert!(!bodies(&sources, module, test).is_empty(), "{path}: there is no test {name}");
            }
        }
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
