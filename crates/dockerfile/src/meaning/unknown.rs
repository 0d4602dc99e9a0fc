//! What was probably meant by an instruction that there is not.

use super::KEYWORDS;
use crate::node::BorrowedNode;
use crate::quote::quote;
use crate::{confusable_space, is_instruction, nearest};

/// Words of other languages and tools, and the instruction for them.
const OTHERS: [(&str, &str); 28] = [
    ("apk", "RUN"),
    ("apt", "RUN"),
    ("apt-get", "RUN"),
    ("bash", "RUN"),
    ("cargo", "RUN"),
    ("cd", "WORKDIR"),
    ("chmod", "RUN"),
    ("command", "CMD"),
    ("cp", "COPY"),
    ("curl", "RUN"),
    ("echo", "RUN"),
    ("environment", "ENV"),
    ("exec", "RUN"),
    ("execute", "RUN"),
    ("export", "ENV"),
    ("go", "RUN"),
    ("install", "RUN"),
    ("make", "RUN"),
    ("mkdir", "RUN"),
    ("mv", "COPY"),
    ("npm", "RUN"),
    ("pip", "RUN"),
    ("port", "EXPOSE"),
    ("set", "ENV"),
    ("sh", "RUN"),
    ("start", "CMD"),
    ("sudo", "RUN"),
    ("yarn", "RUN"),
];

/// Top-level keys of files that are taken for Dockerfiles.
const COMPOSE: [&str; 9] =
    ["version:", "services:", "volumes:", "networks:", "name:", "image:", "build:", "apiversion:", "kind:"];

/// Words of shells, which a Dockerfile does not have.
const OF_SHELLS: [&str; 13] =
    ["if", "then", "else", "elif", "fi", "for", "while", "do", "done", "case", "esac", "function", "{"];

/// Whether `word` is a mark of something else, and neither an instruction nor a part of one.
pub(crate) fn is_no_word(word: &str) -> bool {
    mark(word).is_some()
}

/// What a word is that some other file begins lines with, and what to do about it.
fn mark(word: &str) -> Option<String> {
    let text = if ["<<<<<<<", "=======", ">>>>>>>", "|||||||"].iter().any(|mark| word.starts_with(mark)) {
        "this is the mark of a merge conflict: keep one of the two versions, and remove the lines with marks"
    } else if word.starts_with("```") || word.starts_with("~~~") {
        "this is the mark of a code block: remove the line"
    } else if word.starts_with("//")
        || word.starts_with("/*")
        || word.starts_with("*/")
        || word.starts_with("--")
        || word.starts_with(';')
    {
        "a comment begins with \"#\", on a line of its own"
    } else if word.starts_with(['{', '}', '<', '[']) && word != "{" {
        "this does not look like a Dockerfile: name the Dockerfile with -f FILE"
    } else {
        return None;
    };
    Some(text.to_owned())
}

/// A keyword and what stands behind it without a blank.
fn glued(word: &str) -> Option<(&str, &str)> {
    let keyword = KEYWORDS.iter().find(|keyword| {
        let begin = word.get(..keyword.len()).unwrap_or_default();
        let next = word[begin.len()..].chars().next();
        begin.eq_ignore_ascii_case(keyword)
            && next.is_some_and(|next| {
                let is_other_case = begin == begin.to_uppercase() && next.is_lowercase();
                is_other_case || !next.is_alphanumeric()
            })
    })?;
    Some(word.split_at(keyword.len()))
}

/// What to do about the instruction of `node`; at least one thing.
pub(super) fn hints(node: &BorrowedNode<'_>) -> Vec<String> {
    let word = &node.keyword.text;
    let lower = word.to_lowercase();
    let mut hints = Vec::new();
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
    let next = node.text.trim().get(word.len()..).unwrap_or_default().trim_start();
    if let Some(code) = confusable_space(word) {
        hints.push(format!(
            "{} holds the character {code}, which looks like a space or is invisible: retype it with plain spaces",
            quote(word)
        ));
    } else if is_instruction(bare) && !is_instruction(word) {
        hints.push(format!("write {} instead of {word}", bare.to_uppercase()));
    } else if let Some(keyword) = next.split_whitespace().next().filter(|next| is_instruction(next))
        && !word.contains(char::is_alphabetic)
    {
        hints.push(format!("remove {word} in front of {keyword}: {}", shortened(next)));
    } else if COMPOSE.contains(&&lower[..]) {
        hints.push(
            "this looks like a compose or another YAML file: name the Dockerfile with -f FILE".to_owned(),
        );
    } else if let Some(hint) = mark(word) {
        hints.push(hint);
    } else if matches!(&lower[..], "include" | "import") {
        hints.push(
            "a Dockerfile cannot include another: copy its lines, or build it first and begin FROM its image"
                .to_owned(),
        );
    } else if matches!(&lower[..], "$" | "%" | ">") {
        let command = node.text.trim().get(1..).unwrap_or_default();
        hints.push(format!("remove the prompt {word}: RUN {}", shortened(command)));
    } else if OF_SHELLS.contains(&&lower[..]) {
        hints.push(format!(
            "{word} belongs to the shell: write it after RUN, with a backslash (\\) at the end of each continued line"
        ));
    } else if matches!(&lower[..], "docker" | "docker-compose" | "podman" | "buildah") {
        hints.push(format!(
            "{word} is a command for your own shell: remove the line, or name the Dockerfile with -f FILE"
        ));
    } else if let Some((_, keyword)) = OTHERS.iter().find(|(other, _)| *other == lower) {
        let text = if *keyword == "RUN" && !matches!(&lower[..], "exec" | "execute" | "install") {
            format!("a command needs an instruction before it: RUN {}", shortened(&node.text))
        } else {
            format!("the instruction for that is {keyword}")
        };
        hints.push(text);
    } else if let Some((keyword, rest)) = glued(word) {
        let keyword = keyword.to_uppercase();
        let rest = rest.trim_start_matches([':', '=']);
        hints.push(if rest.is_empty() {
            format!("write {keyword} instead of {word}")
        } else {
            format!("put a space after {keyword}: {keyword} {rest}")
        });
    } else if word.contains('=') {
        hints.push(format!("a variable is set with ENV: ENV {}", shortened(&node.text)));
    } else if let Some(keyword) = nearest(&lower, KEYWORDS) {
        hints.push(format!("write {} instead of {word}", keyword.to_uppercase()));
    }
    if hints.is_empty() {
        hints.push(format!(
            "a line begins with an instruction such as RUN or COPY: RUN {}",
            shortened(&node.text)
        ));
    }
    hints
}

fn shortened(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
