//! What was probably meant by an instruction that there is not.

use super::KEYWORDS;
use crate::nearest;
use crate::node::BorrowedNode;

/// Words of other languages and tools, and the instruction for them.
const OTHERS: [(&str, &str); 30] = [
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
    ("import", "FROM"),
    ("include", "FROM"),
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

/// What to do about the instruction of `node`; at least one thing.
pub(super) fn hints(node: &BorrowedNode<'_>) -> Vec<String> {
    let word = &node.keyword.text;
    let lower = word.to_lowercase();
    let mut hints = Vec::new();
    if COMPOSE.contains(&&lower[..]) {
        hints.push(
            "this looks like a compose or another YAML file: name the Dockerfile with -f FILE".to_owned(),
        );
    } else if lower.starts_with("//")
        || lower.starts_with("/*")
        || lower.starts_with("--")
        || lower.starts_with(';')
    {
        hints.push("a comment begins with \"#\", on a line of its own".to_owned());
    } else if lower.starts_with(['{', '<', '[']) {
        hints.push("this does not look like a Dockerfile: name the Dockerfile with -f FILE".to_owned());
    } else if let Some((_, keyword)) = OTHERS.iter().find(|(other, _)| *other == lower) {
        let text = if *keyword == "RUN" && !matches!(&lower[..], "exec" | "execute" | "install") {
            format!("a command needs an instruction in front of it: RUN {}", shortened(&node.text))
        } else {
            format!("the instruction for that is {keyword}")
        };
        hints.push(text);
    } else if let Some(keyword) = nearest(lower.trim_end_matches(':'), KEYWORDS) {
        hints.push(format!("write {} in place of {word}", keyword.to_uppercase()));
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
