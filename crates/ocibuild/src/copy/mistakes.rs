//! What people write into `COPY` and `ADD` out of habit.

use ocibuild_dockerfile::{
    Dockerfile, Instruction, InstructionKind, Text, Transfer, confusable_space, nearest,
};

use crate::error::{Code, Error};
use crate::failure::{Failure, Mistake, MistakeKind, UnsetVariable};

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
pub(crate) fn explain(error: Error, file: &Dockerfile, unused: &[&str]) -> Error {
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
    let words = || transfer.sources.iter().chain([&transfer.destination]).map(Text::as_str);
    let last = words().next_back();
    error.refined(|failure| {
        let Failure::Copy(failure) = failure else { return };
        failure.unset = failure.word().map_or_else(Vec::new, |blamed| unset(&blamed, transfer, unused));
        failure.mistake = words().find_map(|word| {
            let kind = mistake(word, instruction, last)?;
            Some(Mistake { keyword, word: word.to_owned(), kind })
        });
    })
}

/// What a word is that means something elsewhere, but not here.
fn mistake(word: &str, instruction: &Instruction, last: Option<&str>) -> Option<MistakeKind> {
    let is_shell = matches!(word, "&&" | "||" | "|" | ";" | ">" | "2>&1")
        || word.starts_with("2>")
        || word.starts_with(">/");
    if let Some(code) = confusable_space(word) {
        return Some(MistakeKind::ConfusableSpace { code });
    }
    if let Some(flag) =
        instruction.text.split_whitespace().find(|flag| flag.starts_with("--") && flag.ends_with('='))
    {
        return Some(MistakeKind::SpaceAfterFlag { flag: flag.to_owned() });
    }
    if word.split_once('=').is_some_and(|(flag, _)| FLAGS.contains(&flag)) {
        return Some(MistakeKind::NoDashes);
    }
    if word.contains('`') || word.contains("$(") {
        return Some(MistakeKind::CommandSubstitution);
    }
    if word.contains('{') && word.contains(',') && word.contains('}') && !word.contains("${") {
        return Some(MistakeKind::Braces);
    }
    if word.matches('%').count() > 1 {
        return Some(MistakeKind::PercentVariable);
    }
    if word.starts_with('#') {
        return Some(MistakeKind::Comment);
    }
    if is_shell {
        return Some(MistakeKind::ShellOperator);
    }
    if let Some(flag) = word.strip_prefix("--")
        && FLAGS.contains(&flag.split('=').next()?)
    {
        let rest: Vec<&str> =
            instruction.text.split_whitespace().skip(1).filter(|other| *other != word).collect();
        return Some(MistakeKind::LateFlag { rest: rest.join(" ") });
    }
    if let Some(flag) = word.strip_prefix(['\u{2013}', '\u{2014}', '\u{2212}', '\u{2010}', '\u{2011}']) {
        return Some(MistakeKind::TypographicDash { flag: flag.trim_start_matches('-').to_owned() });
    }
    if let Some(flag) = word.strip_prefix('-').filter(|flag| !flag.starts_with('-') && Some(word) != last) {
        return Some(single_dash(flag));
    }
    if word.contains("://") && Some(word) != last {
        return Some(MistakeKind::Address);
    }
    let is_drive =
        word.as_bytes().get(1) == Some(&b':') && word.starts_with(|c: char| c.is_ascii_alphabetic());
    if is_drive {
        return Some(MistakeKind::Drive);
    }
    (word.contains('\\') && instruction.text.contains(word)).then_some(MistakeKind::Backslashes)
}

/// A flag with one dash: one of ours, or one of `cp`.
fn single_dash(flag: &str) -> MistakeKind {
    let name = flag.split('=').next().unwrap_or_default();
    let near = nearest(name, FLAGS).filter(|_| name.len() > 2);
    match near.or_else(|| FLAGS.into_iter().find(|known| *known == name)) {
        Some(known) => MistakeKind::SingleDash { flag: format!("--{known}{}", &flag[name.len()..]) },
        None => MistakeKind::UnknownFlag,
    }
}

/// The variables of a source that were empty, if that is why it does not exist.
fn unset(blamed: &str, transfer: &Transfer, unused: &[&str]) -> Vec<UnsetVariable> {
    let with_variables = transfer.sources.iter().filter(|written| written.contains('$'));
    let unset = with_variables.flat_map(|written| {
        let (left, names) = without_variables(written);
        let names = if left == blamed { names } else { Vec::new() };
        names.into_iter().map(move |name| UnsetVariable {
            given: nearest(&name, unused.iter().copied()).map(str::to_owned),
            name,
            written: written.to_string(),
            left: left.clone(),
        })
    });
    unset.collect()
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
