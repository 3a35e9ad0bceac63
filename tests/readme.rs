//! What the README shows of a game's own crate stands in code that is compiled.

use std::{fs, path::Path};

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The blocks of code in a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    page.split(&begin).skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block.to_owned()).collect()
}

#[test]
fn the_game_its_server_and_its_test_are_those_that_are_compiled() {
    let page = text("README.md");
    let [game, test] = &blocks(&page, "rust")[..] else { panic!("a game, and a line of its tests") };

    // It leaves lines out, and has none of its own.
    let example = text("server/examples/beads/game.rs");
    let mut compiled = example.lines();
    for line in game.lines() {
        assert!(compiled.any(|other| other == line), "{line:?} is not in the example's game, or not in this order");
    }

    let example = text("server/examples/beads/main.rs");
    let main = &example[example.find("fn main()").expect("it is a program")..];
    let main = main.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains(&format!("`{main}`")), "the README does not show {main:?}");

    // It has a recording of its own.
    let (function, arguments) = test.trim().split_once('(').expect("a call");
    let game = arguments.rsplit_once(", ").expect("a recording, and a game").1;
    let is_called = |line: &str| line.trim().starts_with(&format!("{function}(")) && line.ends_with(game);
    assert!(text("tests/matches.rs").lines().any(is_called), "no test calls {function} with {game}");
}

#[test]
fn the_manifest_of_a_games_crate_names_what_there_is() {
    let page = text("README.md");
    let [manifest] = &blocks(&page, "toml")[..] else { panic!("one manifest") };
    let mut ours = 0;
    for (package, rest) in manifest.lines().filter_map(|line| line.split_once(" = { path = \"../tickwire/")) {
        let folder = rest.split('"').next().expect("a path");
        let named = format!("name = \"{package}\"\n");
        assert!(text(&format!("{folder}/Cargo.toml")).contains(&named), "{folder} is not {package}");
        ours += 1;
    }
    assert_eq!(ours, 3, "{manifest}");

    let engine = |manifest: &str| {
        let line = manifest.lines().find(|line| line.starts_with("bevy_ecs = ")).expect("the engine").to_owned();
        assert!(line.contains("default-features = false"), "{line}");
        line.split('"').nth(1).expect("a version").to_owned()
    };
    let (shown, used) = (engine(manifest), engine(&text("Cargo.toml")));
    assert!(used.starts_with(&shown), "the README has bevy_ecs {shown}, Tickwire {used}");
}
