//! Flags and verbs are the program's: an embedder's user is never told of one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use fs_err as fs;

use super::Cli;

/// Flags of the language of Dockerfiles.
const LANGUAGE: [&str; 5] = ["from", "mount", "network", "platform", "retries"];

/// Flags that other programs have as well, and the code that calls or advises these.
const OTHERS: [(&str, &[&str]); 6] = [
    // git
    ("ocibuild/src/context/git/checkout.rs", &["quiet", "force", "all", "file", "format"]),
    // runc and crun
    ("executor/src/runtime.rs", &["root", "force", "bundle"]),
    // pasta
    ("executor/src/private_network.rs", &["quiet"]),
    // docker, podman and ctr
    ("ocibuild/src/engine/mod.rs", &["format", "namespace"]),
    // apk
    ("ocibuild/src/failed/programs.rs", &["no-cache"]),
    ("ocibuild/src/advice/step.rs", &["no-cache"]),
];

/// A string literal or a comment, and the line where it begins.
type Text = (usize, String);

/// The texts of Rust source: what is in string literals and in comments.
fn texts(source: &str) -> Vec<Text> {
    let mut texts = Vec::new();
    let mut rest = source;
    let line = |rest: &str| source[..source.len() - rest.len()].matches('\n').count() + 1;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let before = &rest[..at];
        let (start, from) = (line(&rest[at..]), &rest[at..]);
        let hashes = before.len() - before.trim_end_matches('#').len();
        let is_raw = before.trim_end_matches('#').ends_with('r');
        let length = if from.starts_with("//") {
            from.find('\n').unwrap_or(from.len())
        } else if from.starts_with('"') && is_raw {
            let end = format!("\"{}", "#".repeat(hashes));
            from[1..].find(&end).map_or(from.len(), |at| at + 1 + end.len())
        } else if let Some(inner) = from.strip_prefix('"') {
            let mut escaped = false;
            let end = inner.find(|c| {
                let is_end = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                is_end
            });
            end.map_or(from.len(), |end| end + 2)
        } else if let Some(char) = character(from) {
            rest = &from[char..];
            continue;
        } else {
            rest = &from[1..];
            continue;
        };
        texts.push((start, from[..length].to_owned()));
        rest = &from[length..];
    }
    texts
}

/// The length of a character literal, if this is one and no lifetime or division.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    if inner.starts_with('\\') {
        return inner[2..].find('\'').map(|end| end + 4);
    }
    let first = inner.chars().next()?;
    inner[first.len_utf8()..].starts_with('\'').then(|| first.len_utf8() + 2)
}

fn names(command: &Command, flags: &mut BTreeSet<String>, verbs: &mut BTreeSet<String>) {
    flags.extend(command.get_arguments().filter_map(|argument| argument.get_long()).map(str::to_owned));
    for verb in command.get_subcommands() {
        verbs.insert(verb.get_name().to_owned());
        names(verb, flags, verbs);
    }
}

/// The words of a text that follow `start`, each up to a character that names do not have.
fn words_after<'t>(text: &'t str, start: &'t str) -> impl Iterator<Item = &'t str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.match_indices(start).filter_map(move |(at, _)| {
        let word = text[at + start.len()..].split(|c| !is_name(c)).next().unwrap_or_default();
        (!text[..at].ends_with(is_name)).then_some(word)
    })
}

fn source_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            out.push(path);
        }
    }
}

#[test]
fn no_other_crate_names_a_flag_or_a_verb() {
    let (mut flags, mut verbs) = (BTreeSet::new(), BTreeSet::new());
    names(&Cli::command(), &mut flags, &mut verbs);
    assert!(flags.contains("registry-mirror") && verbs.contains("prune"), "{flags:?} {verbs:?}");
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for entry in fs::read_dir(&crates).unwrap() {
        let entry = entry.unwrap();
        if !matches!(entry.file_name().to_str(), Some("cli" | "testkit")) && entry.path().is_dir() {
            source_files(&entry.path().join("src"), &mut files);
        }
    }
    assert!(files.len() > 300, "{} files", files.len());
    let mut found = Vec::new();
    for file in files {
        let shown = file.strip_prefix(&crates).unwrap().to_str().unwrap();
        let others = OTHERS.iter().filter(|(path, _)| *path == shown).flat_map(|(_, flags)| *flags);
        let allowed: BTreeSet<&str> = LANGUAGE.iter().chain(others).copied().collect();
        let source = fs::read_to_string(&file).unwrap();
        let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (line, text) in texts(source) {
            let flag = words_after(&text, "--").find(|word| flags.contains(*word) && !allowed.contains(word));
            found.extend(flag.map(|flag| format!("{shown}:{line}: --{flag}")));
            let verb = words_after(&text, "`ocibuild ").find(|word| verbs.contains(*word));
            found.extend(verb.map(|verb| format!("{shown}:{line}: ocibuild {verb}")));
        }
    }
    assert!(found.is_empty(), "flags and verbs of the program:\n{}", found.join("\n"));
}

#[test]
fn texts_of_source_are_found() {
    let source = "let a = '\"'; // --one\nf(\"--two \\\" '\", r#\"--three \"#, b'\\'');\n&'a str; 1 / 2\n";
    let found = texts(source);
    let found: Vec<(usize, &str)> = found.iter().map(|(line, text)| (*line, text.as_str())).collect();
    assert_eq!(found, [(1, "// --one"), (2, "\"--two \\\" '\""), (2, "\"--three \"#")]);
    assert_eq!(words_after("--a=b, x--c `--d-e`", "--").collect::<Vec<_>>(), ["a", "d-e"]);
}
