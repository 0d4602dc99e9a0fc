//! What people write into `COPY` and `ADD` out of habit, and what to write in its place.

use ocibuild_dockerfile::{
    Dockerfile, Instruction, InstructionKind, Text, Transfer, confusable_space, nearest,
};

use crate::advice::{Hint, Setting};
use crate::error::{Code, Error};

/// Flags of `COPY` and `ADD`.
const FLAGS: [&str; 10] = [
    "from",
    "chown",
    "chmod",
    "link",
    "parents",
    "exclude",
    "checksum",
    "keep-git-dir",
    "unpack",
    "platform",
];

/// The same error with what the words of the instruction at its place tell; `unused` are build arguments that no `ARG`
/// took.
pub(crate) fn explain(mut error: Error, file: &Dockerfile, unused: &[&str]) -> Error {
    let Some(location) = error.reports()[0].location else { return error };
    let mut instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
    let Some(instruction) = instructions.find(|instruction| instruction.location == location) else {
        return error;
    };
    let (keyword, transfer) = match &instruction.kind {
        InstructionKind::Copy(copy) => ("COPY", &copy.transfer),
        InstructionKind::Add(add) => ("ADD", &add.transfer),
        _ => return error,
    };
    if !error.is(Code::SourceNotFound) && !error.is(Code::Destination) {
        return error;
    }
    error = without_value(error, transfer, unused);
    let words = || transfer.sources.iter().chain([&transfer.destination]).map(Text::as_str);
    for word in words() {
        if let Some(hint) = habit(word, keyword, instruction, words().next_back()) {
            return error.hint_first(hint);
        }
    }
    error
}

/// What to do about a word that means something elsewhere, but not here.
fn habit(word: &str, keyword: &str, instruction: &Instruction, last: Option<&str>) -> Option<String> {
    let is_shell = matches!(word, "&&" | "||" | "|" | ";" | ">" | "2>&1")
        || word.starts_with("2>")
        || word.starts_with(">/");
    if let Some(code) = confusable_space(word) {
        return Some(format!("{word:?} holds the character {code}, which looks like a blank and is none"));
    }
    if let Some(flag) =
        instruction.text.split_whitespace().find(|flag| flag.starts_with("--") && flag.ends_with('='))
    {
        return Some(format!("no blank stands behind {flag}"));
    }
    if word.split_once('=').is_some_and(|(flag, _)| FLAGS.contains(&flag)) {
        return Some(format!("flags begin with two dashes: --{word}"));
    }
    if word.contains('`') || word.contains("$(") {
        return Some(format!("{keyword} runs no commands: {word} is taken as it is written"));
    }
    if word.contains('{') && word.contains(',') && word.contains('}') && !word.contains("${") {
        return Some(format!("braces mean nothing here: name each file in place of {word}, or use *"));
    }
    if word.matches('%').count() > 1 {
        return Some(format!("{word} is taken as it is written: a variable is $NAME"));
    }
    if word.starts_with('#') {
        return Some("a comment needs a line of its own".to_owned());
    }
    if is_shell {
        return Some(format!("{keyword} is no command of a shell: leave {word} out, or copy with RUN"));
    }
    if let Some(flag) = word.strip_prefix("--")
        && FLAGS.contains(&flag.split('=').next()?)
    {
        let rest: Vec<&str> =
            instruction.text.split_whitespace().skip(1).filter(|other| *other != word).collect();
        return Some(format!("flags stand in front of the sources: {keyword} {word} {}", rest.join(" ")));
    }
    if let Some(flag) = word.strip_prefix(['\u{2013}', '\u{2014}', '\u{2212}', '\u{2010}', '\u{2011}']) {
        return Some(format!("the dash is none of the keyboard's: write --{}", flag.trim_start_matches('-')));
    }
    if let Some(flag) = word.strip_prefix('-').filter(|flag| !flag.starts_with('-') && Some(word) != last) {
        let name = flag.split('=').next()?;
        return Some(
            match nearest(name, FLAGS)
                .filter(|_| name.len() > 2)
                .or(FLAGS.into_iter().find(|known| *known == name))
            {
                Some(known) => format!("flags begin with two dashes: --{known}{}", &flag[name.len()..]),
                None => format!(
                    "{keyword} has no {word}: leave it out, directories are copied with all that is in them"
                ),
            },
        );
    }
    if word.contains("://") && Some(word) != last {
        return Some(
            "ADD takes addresses that begin with http:// or https://, and those of git repositories"
                .to_owned(),
        );
    }
    let is_drive =
        word.as_bytes().get(1) == Some(&b':') && word.starts_with(|c: char| c.is_ascii_alphabetic());
    if is_drive {
        return Some("sources are paths in the build context, without a drive: write src/file".to_owned());
    }
    if word.contains('\\') && instruction.text.contains(word) {
        return Some(format!("write paths with slashes: {}", word.replace('\\', "/")));
    }
    None
}

/// Names the variables of a source that were empty, if that is why it is not there.
fn without_value(mut error: Error, transfer: &Transfer, unused: &[&str]) -> Error {
    let Some(blamed) = error.reports()[0].word.clone() else { return error };
    for written in transfer.sources.iter().filter(|written| written.contains('$')) {
        let (text, names) = without_variables(written);
        if text != blamed || names.is_empty() {
            continue;
        }
        error = error.word_instead(written);
        for name in names {
            error = error.cause(format!(
                "{name} has no value here, so that {written} is {}",
                ocibuild_plan::quote(&text)
            ));
            error = match nearest(&name, unused.iter().copied()) {
                Some(given) => error.hint_first(
                    Hint::from("did you mean ")
                        .setting(Setting::BuildArg, format!("{name}=…"))
                        .text(format!("? No ARG takes the {given} that is given")),
                ),
                None => error.hint_first(
                    Hint::from("give it a value: ")
                        .setting(Setting::BuildArg, format!("{name}=VALUE"))
                        .text(format!(" with ARG {name} in this stage, or ENV {name}=VALUE")),
                ),
            };
        }
    }
    error
}

/// A word without its variables of the plain forms, and their names.
fn without_variables(word: &str) -> (String, Vec<String>) {
    let (mut text, mut names, mut rest) = (String::new(), Vec::new(), word);
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let inner = rest.strip_prefix('{').unwrap_or(rest);
        let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
        names.push(inner[..end].to_owned());
        let behind = &inner[end..];
        rest = if inner.len() < rest.len() { behind.strip_prefix('}').unwrap_or(behind) } else { behind };
    }
    text.push_str(rest);
    names.retain(|name| !name.is_empty());
    (text, names)
}

#[cfg(test)]
mod tests {
    use super::without_variables;

    #[test]
    fn variables_are_taken_out() {
        for (word, text, names) in
            [("$SRC/a", "/a", &["SRC"][..]), ("a${B}c$D", "ac", &["B", "D"]), ("plain", "plain", &[])]
        {
            let (found, found_names) = without_variables(word);
            assert_eq!(
                (found.as_str(), found_names.as_slice()),
                (text, names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>().as_slice())
            );
        }
    }
}
