//! Every command line that the documents show, read as one that was typed.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use super::Cli;

/// A command line of a document.
struct Shown {
    /// `docs/file.md:12`
    place: String,
    words: Vec<String>,
    /// Part of a sentence, which may leave out what is not its subject.
    in_text: bool,
}

/// The documents of the project.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    let mut folders = vec![root.join("docs")];
    for name in ["README.md", "CONTRIBUTING.md", "SECURITY.md"] {
        found.push(root.join(name));
    }
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// Everything in a document that begins with the name of the program.
fn shown(path: &Path) -> Vec<Shown> {
    let text = fs_err::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().display();
    let mut found = Vec::new();
    let mut add = |line: usize, text: &str, in_text: bool| {
        for words in commands(text) {
            found.push(Shown { place: format!("{name}:{line}"), words, in_text });
        }
    };
    let mut fence = None;
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(kind.to_owned()) };
            continue;
        }
        // A shell goes on in the next line behind a backslash; a console shows `> ` there.
        let mut command = line.trim_start().trim_start_matches("- ").trim_start_matches("$ ").to_owned();
        while command.ends_with('\\') {
            command.pop();
            let Some((_, next)) = lines.next() else { break };
            command.push_str(next.trim_start().trim_start_matches("> "));
        }
        match fence.as_deref() {
            Some("console") if !line.starts_with("$ ") => {}
            Some("console" | "sh") => add(number + 1, &command, false),
            Some(_) => {}
            None if line.starts_with("    ") => add(number + 1, &command, false),
            None => {
                for span in line.split('`').skip(1).step_by(2) {
                    add(number + 1, span, true);
                }
            }
        }
    }
    found
}

/// The simple commands of a line that are the program, without its name: as a shell would split it, with variables as they
/// are written.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, '#') if word.is_none() => break,
            (None, ' ') => all.last_mut().unwrap().extend(word.take()),
            (None, '|' | ';' | '&' | '(' | ')' | '<' | '>') => {
                all.last_mut().unwrap().extend(word.take());
                // What follows a redirection is a file, and what follows anything else a command.
                let is_file = matches!(c, '<' | '>') && characters.peek() != Some(&'(');
                all.push(if is_file { vec!["a file:".to_owned()] } else { Vec::new() });
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    all.last_mut().unwrap().extend(word);
    let is_program = |words: &Vec<String>| words.first().is_some_and(|word| word == "ocibuild");
    all.into_iter().filter(is_program).map(|words| words[1..].to_vec()).collect()
}

/// A word of a sentence as it would be typed: `[--why` and `PATH]` are optional, `…` stands for a value.
fn plain(word: &str) -> String {
    word.trim_matches(['[', ']']).replace('…', "x")
}

#[test]
fn all_command_lines_are_understood() {
    let mut count = 0;
    for shown in documents().iter().flat_map(|path| shown(path)) {
        let words: Vec<String> = shown
            .words
            .iter()
            .filter(|word| !(shown.in_text && *word == "VERB"))
            .map(|word| if shown.in_text { plain(word) } else { word.clone() })
            .collect();
        count += 1;
        let Err(error) = Cli::try_parse_from(std::iter::once("ocibuild".to_owned()).chain(words)) else {
            continue;
        };
        let is_fine = match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
            ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => shown.in_text,
            _ => false,
        };
        assert!(is_fine, "{}: ocibuild {}\n{error}", shown.place, shown.words.join(" "));
    }
    assert!(count > 60, "only {count} command lines were found");
}

#[test]
fn all_verbs_have_help() {
    for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let error = Cli::try_parse_from(["ocibuild", "help", verb.get_name()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{}", verb.get_name());
    }
    let error = Cli::try_parse_from(["ocibuild", "help", "index", "create"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DisplayHelp);
}

#[test]
fn lines_are_split_as_a_shell_does() {
    let of = |line: &str| commands(line).into_iter().map(|words| words.join("|")).collect::<Vec<_>>();
    assert_eq!(of("echo x | ocibuild login -u \"$U\" 'a b' <password # why"), ["login|-u|$U|a b"]);
    assert_eq!(of("x=$(ocibuild images) && ocibuild rmi a\\ b; ocibuild"), ["images", "rmi|a b", ""]);
    assert_eq!(of("run ocibuild build"), [""; 0]);
    assert_eq!(of("cat >ocibuild"), [""; 0]);
}
