//! The rooms of the library, which are its modules, in the order of `docs/architecture.md`: each uses only those before it.

use std::path::{Path, PathBuf};

use fs_err as fs;

fn source_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// What a file says without its comments and its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .fold(String::new(), |all, line| all + line + "\n")
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| !name.is_empty())
}

/// What stands behind each `start` in a text: one name, or those between braces.
fn names_after<'t>(text: &'t str, start: &'t str) -> impl Iterator<Item = &'t str> {
    text.match_indices(start).flat_map(move |(at, _)| {
        let rest = &text[at + start.len()..];
        let end = match rest.strip_prefix('{') {
            Some(list) => list.find('}').map_or(rest.len(), |end| end + 1),
            None => rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()),
        };
        names(&rest[..end])
    })
}

/// The rooms in the order of the table in `docs/architecture.md`.
fn table() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let section = text.split("## The rooms of the library").nth(1).expect("the page has this section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(room, _)| room.to_owned()).collect()
}

/// Whether an error is made of a text, and not of a failure.
fn makes_errors_from_text(code: &str) -> bool {
    code.match_indices("Error::new(").any(|(at, _)| {
        let before = &code[..at];
        !before.ends_with("io::") && !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn what_the_library_finds_out_is_data_first() {
    assert!(
        makes_errors_from_text("Err(Error::new(kind, text))") && makes_errors_from_text("crate::Error::new(")
    );
    assert!(!makes_errors_from_text("io::Error::new(kind, inner); SourceError::new(kind, text)"));
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&src, &mut files);
    let is_test = |file: &Path| file.ends_with("tests.rs");
    let of_errors = |file: &Path| file == src.join("error.rs") || file.starts_with(src.join("error"));
    for file in files.iter().filter(|file| !is_test(file) && !of_errors(file)) {
        let shown = file.strip_prefix(&src).unwrap().display();
        assert!(!makes_errors_from_text(&code(file)), "{shown}: make a variant in the room `failure`");
    }
}

#[test]
fn arrows_between_rooms_go_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = code(&src.join("lib.rs"));
    let mut rooms: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    rooms.sort_unstable();
    let order = table();
    let mut listed: Vec<&str> = order.iter().map(String::as_str).collect();
    listed.sort_unstable();
    assert_eq!(listed, rooms, "the table and the modules");
    let place = |room: &str| order.iter().position(|other| other == room);
    let mut files = Vec::new();
    source_files(&src, &mut files);
    let mut count = 0;
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let first = relative.iter().next().unwrap().to_str().unwrap();
        let room = first.strip_suffix(".rs").unwrap_or(first);
        // The root only hands on names to those outside.
        if room == "lib" || relative.ends_with("tests.rs") {
            continue;
        }
        let text = code(&file);
        let shown = relative.display();
        for used in names_after(&text, "crate::").filter(|used| *used != room) {
            count += 1;
            let used_place =
                place(used).unwrap_or_else(|| panic!("{shown} uses {used}, which is no room: name the room"));
            assert!(Some(used_place) < place(room), "{shown}: {room} uses {used}, which comes after it");
        }
    }
    assert!(count > 200, "{count} arrows were found");
}
