//! About build contexts, Dockerfiles, ignore files and downloads.

use std::io;

use super::{Hint, Setting};
use crate::failure::ContextFailure;

/// As much of a pattern as a cause repeats.
const MAX_PATTERN: usize = 80;

/// Why it cannot be used, and what can be done.
pub(crate) fn context(failure: &ContextFailure) -> (Vec<String>, Vec<Hint>) {
    let causes = match failure {
        ContextFailure::IgnorePattern { source, .. } => {
            let shown: String = source.pattern.chars().take(MAX_PATTERN).collect();
            vec![format!("the pattern is {shown:?}")]
        }
        _ => Vec::new(),
    };
    (causes, hints(failure))
}

fn dockerfile(before: &str, after: &str) -> Hint {
    Hint::from(before).setting(Setting::Dockerfile, "").text(after)
}

fn hints(failure: &ContextFailure) -> Vec<Hint> {
    let text = match failure {
        ContextFailure::NotOpened { .. } => "a build context is a directory, `-`, a URL or a git repository",
        ContextFailure::NotADirectory { .. } => {
            return vec![dockerfile("a build context is a directory; the Dockerfile is named with ", "")];
        }
        ContextFailure::NotFound { .. } => {
            return vec![dockerfile("name the Dockerfile with ", ", relative to the root of the context")];
        }
        ContextFailure::NoDockerfile { similar, .. } => return no_dockerfile(similar.as_deref()),
        ContextFailure::NotAFile { inside: Some(inside), .. } => {
            return vec![
                names_a_file().text(": ").setting(Setting::Dockerfile, inside.display().to_string()),
            ];
        }
        ContextFailure::NotAFile { .. } => return vec![names_a_file()],
        ContextFailure::TooLarge { is_named: true, .. } => {
            return vec![dockerfile("is this the file? Another is named with ", "")];
        }
        ContextFailure::IgnoreFileIsDirectory { .. } => {
            "remove the directory, or make it a file with one pattern on each line"
        }
        ContextFailure::LeadsOut { .. } => {
            return vec![dockerfile(
                "put the file itself into the context, or name the one outside with ",
                "",
            )];
        }
        ContextFailure::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            "let this user read it: chmod u+r, or chown"
        }
        ContextFailure::ChangedWhileRead { .. } => {
            "build again when nothing writes to the build context, or keep the path out of it"
        }
        ContextFailure::NotListed { rule, .. } => {
            return vec![format!("the build check {rule} looks at all of it").into()];
        }
        ContextFailure::IgnorePattern { source, .. } => {
            return vec![pattern(source.line, &source.pattern).into()];
        }
        ContextFailure::Status { login: Some(login), .. } => login,
        ContextFailure::Status { .. } => "check the URL",
        ContextFailure::ChecksumMismatch { found, .. } => {
            return vec![
                "the first digest is of what the server sent, the second is that of --checksum".into(),
                format!("if the file is the right one, write --checksum={found}").into(),
            ];
        }
        _ => return Vec::new(),
    };
    vec![text.into()]
}

fn names_a_file() -> Hint {
    Hint::of(Setting::Dockerfile, "").text(" names a file")
}

fn no_dockerfile(similar: Option<&str>) -> Vec<Hint> {
    let near = similar.map(|name| Hint::from("did you mean ").setting(Setting::Dockerfile, name).text("?"));
    let name = dockerfile("name the file with ", ", or build the directory that contains it");
    near.into_iter().chain([name]).collect()
}

fn pattern(line: u32, pattern: &str) -> String {
    if pattern.trim() == "!" {
        format!("put a path after the \"!\" in line {line}, or remove the line")
    } else if pattern.is_empty() {
        format!("break line {line} into shorter ones")
    } else {
        format!(
            "correct the pattern of line {line}: a '[' needs its ']', and a literal '[' or '\\' a '\\' before it"
        )
    }
}
