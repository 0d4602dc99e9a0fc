//! About files that cannot be copied.

use ocibuild_plan::quote;

use super::{Hint, Setting};
use crate::failure::{
    CopyFailure, CopyProblem, DestinationProblem, MissingSource, Mistake, MistakeKind, SourcePlace,
    UnsetVariable, WrongDestination,
};

const CLASS_BRACKET: &str = "a literal '[' is matched by '[[]'";

/// Why the files cannot be copied, and what can be done.
pub(crate) fn copy(failure: &CopyFailure) -> (Vec<String>, Vec<Hint>) {
    let (mut causes, own) = match &failure.problem {
        CopyProblem::SourceNotFound(missing) => missing_source(missing),
        CopyProblem::Destination(wrong) => (destination_cause(wrong), destination_hints(wrong)),
        problem => (cause(problem), hints(problem)),
    };
    causes.extend(failure.unset.iter().map(|unset| {
        format!("{} has no value here, so that {} is {}", unset.name, unset.written, quote(&unset.left))
    }));
    let first = failure.mistake.iter().map(|mistake| mistake_hint(mistake).into());
    let unset = failure.unset.iter().rev().map(unset_hint);
    (causes, first.chain(unset).chain(own).collect())
}

fn unset_hint(unset: &UnsetVariable) -> Hint {
    let name = &unset.name;
    match &unset.given {
        Some(given) => Hint::from("did you mean ")
            .setting(Setting::BuildArg, format!("{name}=…"))
            .text(format!("? No ARG takes the {given} that is given")),
        None => Hint::from("give it a value: ")
            .setting(Setting::BuildArg, format!("{name}=VALUE"))
            .text(format!(" with ARG {name} in this stage, or ENV {name}=VALUE")),
    }
}

fn missing_source(missing: &MissingSource) -> (Vec<String>, Vec<Hint>) {
    let (word, place) = (&missing.word, missing.place);
    let shown = missing.path.display();
    if let Some(line) = &missing.ignored_by {
        let cause = format!(
            "{}:{} keeps it out of the build context: the pattern \"{}\" matches {}",
            line.file,
            line.line,
            line.pattern,
            line.matched.display()
        );
        let hint =
            format!("remove line {} of {}, or add the line \"!{shown}\" below it", line.line, line.file);
        return (vec![cause], vec![hint.into()]);
    }
    if missing.is_state {
        return (
            vec!["it is the state directory of this build, which is not part of any context".to_owned()],
            vec!["keep the state directory out of the build context".into()],
        );
    }
    let (mut causes, mut hints): (Vec<String>, Vec<Hint>) = (Vec::new(), Vec::new());
    if missing.leads_above {
        causes.push(format!("{word} leads above the root of {place}, where it ends"));
        if place == SourcePlace::Context {
            hints.push(
                Hint::from("for files above it, build a directory above as the context, and name the Dockerfile with ")
                    .setting(Setting::Dockerfile, ""),
            );
        }
    }
    if let Some(target) = &missing.link {
        causes.push(format!("{shown} is a link to {}, which is not in {place}", target.display()));
        hints.push("copy what the link leads to instead, or make it lead to something that exists".into());
        return (causes, hints);
    }
    if let Some(name) = &missing.with_spaces {
        let name = quote(name);
        causes.push(format!("{name} exists, but unquoted source paths cannot contain spaces"));
        hints
            .push(format!("write names with spaces as a JSON list: [{name}, \"/path/in/the/image\"]").into());
        return (causes, hints);
    }
    if let Some(near) = &missing.nearest {
        hints.push(format!("did you mean {}?", near.display()).into());
    } else if let Some(other) = &missing.elsewhere {
        hints.push(format!("did you mean {}? A file of this name is there", other.display()).into());
    }
    hints.extend(habits(word));
    if hints.is_empty()
        && let Some(siblings) = &missing.siblings
    {
        let more = if siblings.has_more { ", …" } else { "" };
        let names = siblings.names.join(", ");
        hints.push(format!("/{} contains: {names}{more}", siblings.directory.display()).into());
    }
    hints.push(
        match place {
            SourcePlace::Context => {
                "paths are relative to the build context, which ends at its root: '..' leads nowhere above it"
            }
            SourcePlace::StageOrImage => {
                "the path is looked for in the stage or image that --from names: check it there, starting at its root"
            }
        }
        .into(),
    );
    (causes, hints)
}

/// What the form of a word tells that nothing is at.
fn habits(word: &str) -> Vec<Hint> {
    let mut hints: Vec<Hint> = Vec::new();
    if word.contains('\\') {
        hints.push(format!("write paths with slashes: {}", word.replace('\\', "/")).into());
    }
    hints.extend(broken_json(word).map(Hint::from));
    if word.starts_with('~') {
        hints.push("\"~\" means nothing here: put the file into the build context".into());
    }
    if let Some(alone) = word.strip_suffix(',') {
        hints.push(format!("sources are separated by spaces, not commas: {alone}").into());
    }
    hints
}

/// What to do about a word that looks like a part of a JSON list which is none.
fn broken_json(word: &str) -> Option<&'static str> {
    const TYPOGRAPHIC: [char; 6] = ['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{ab}'];
    if word.contains(TYPOGRAPHIC) {
        return Some(
            "typographic quotes mean nothing here: write straight double quotes, as in [\"a\", \"b\"]",
        );
    }
    let is_like_json = word.starts_with('[') || word.ends_with(']') || word.starts_with(['"', '\'']);
    is_like_json.then_some(
        "this is not a JSON list: write double quotes, with commas between the strings: [\"a\", \"b\"]",
    )
}

fn destination_cause(wrong: &WrongDestination) -> Vec<String> {
    let path = wrong.path.display();
    let text = match wrong.problem {
        DestinationProblem::Deletion | DestinationProblem::Loop => return Vec::new(),
        DestinationProblem::FileOntoDirectory => {
            "the image has a directory where the file is to go".to_owned()
        }
        DestinationProblem::WorkingDirectory => {
            "WORKDIR makes a directory, but the image has something else at that path".to_owned()
        }
        _ => format!("/{path} exists already, and is not a directory"),
    };
    vec![text]
}

fn destination_hints(wrong: &WrongDestination) -> Vec<Hint> {
    let path = wrong.path.display();
    let other = format!("choose another destination than /{path}, or remove what is there in an earlier RUN");
    match wrong.problem {
        DestinationProblem::Deletion => vec!["leave the device out: a layer cannot contain it".into()],
        DestinationProblem::Loop => {
            vec!["the links of the image form a loop: choose another destination".into()]
        }
        DestinationProblem::FileOntoDirectory => {
            vec!["choose another destination, or remove the directory in an earlier RUN".into()]
        }
        DestinationProblem::WorkingDirectory => {
            vec!["choose another directory, or remove the file in an earlier RUN".into()]
        }
        DestinationProblem::FileWithSlash => {
            vec![other.into(), "without a slash at its end the destination is the file itself".into()]
        }
        _ => vec![other.into()],
    }
}

fn cause(problem: &CopyProblem) -> Vec<String> {
    let text = match problem {
        CopyProblem::NothingMatches { word, directory, .. } => {
            format!("nothing in {} matches {word}", directory.display())
        }
        CopyProblem::LinkNotFollowed { link, target, .. } => {
            format!("--parents does not follow /{}, a link to {}", link.display(), target.display())
        }
        CopyProblem::TooManyHoles { .. } => "a layer has the zeros that a hole stands for".to_owned(),
        _ => return Vec::new(),
    };
    vec![text]
}

fn hints(problem: &CopyProblem) -> Vec<Hint> {
    let text = match problem {
        CopyProblem::NothingMatches { directory, names, .. } => {
            let there = (!names.is_empty())
                .then(|| format!("/{} contains: {}", directory.display(), names.join(", ")));
            let check =
                format!("make the file before the image is built, or check the pattern; {CLASS_BRACKET}");
            return there.into_iter().chain([check]).map(Hint::from).collect();
        }
        CopyProblem::Pattern { pattern } => {
            return broken_json(pattern).into_iter().chain([CLASS_BRACKET]).map(Hint::from).collect();
        }
        CopyProblem::ParentsPattern { .. } => CLASS_BRACKET,
        CopyProblem::ExcludePattern { .. } => {
            "write a pattern as in .dockerignore; a literal '[' needs a backslash before it"
        }
        CopyProblem::LinkNotFollowed { .. } => {
            "name the directory that the link leads to, or copy without --parents"
        }
        CopyProblem::Excluded { .. } => {
            "--exclude leaves out all of it: change the pattern, or remove the instruction"
        }
        CopyProblem::NotUtf8 { .. } => "give the file a name in UTF-8",
        CopyProblem::PathTooLong { .. } => {
            "leave it out with a line in .dockerignore or with --exclude, or nest the directories less deeply"
        }
        CopyProblem::TooManyLinks { .. } => "the links form a loop: copy what they are meant to lead to",
        CopyProblem::TooManyHoles { path, .. } => {
            let shown = path.display();
            return vec![
                format!("keep the file out of the build context, or fill its holes: cp --sparse=never {shown} FILE")
                    .into(),
            ];
        }
        CopyProblem::Unreadable { is_denied: true, ignore_file, .. } => {
            return vec![
                format!(
                    "let this user read it (chmod u+r, chown), or keep it out of the context with a line in \
                     {ignore_file}"
                )
                .into(),
            ];
        }
        CopyProblem::BrokenArchive { .. } => {
            "make the archive again; ADD --unpack=false copies the file as it is"
        }
        CopyProblem::ArchiveEntry { .. } => {
            "make the archive again, or copy it as it is with COPY or ADD --unpack=false"
        }
        CopyProblem::ArchiveRefused { remedy, .. } => {
            let copy = "ADD --unpack=false and COPY copy the file as it is";
            return [copy].into_iter().chain(*remedy).map(Hint::from).collect();
        }
        CopyProblem::ArchiveTooLarge { .. } => "ADD --unpack=false and COPY copy the file as it is",
        CopyProblem::Mode { .. } => "give an octal mode: --chmod=755",
        CopyProblem::OwnerName { .. } => "give numeric ids: --chown=1000:1000",
        _ => return Vec::new(),
    };
    vec![text.into()]
}

fn mistake_hint(mistake: &Mistake) -> String {
    let Mistake { keyword, word, kind } = mistake;
    match kind {
        MistakeKind::ConfusableSpace { code } => {
            format!("{word:?} contains {code}, which looks like a space but is not one")
        }
        MistakeKind::SpaceAfterFlag { flag } => format!("remove the space after {flag}"),
        MistakeKind::NoDashes => format!("flags begin with two dashes: --{word}"),
        MistakeKind::CommandSubstitution => {
            format!("{keyword} runs no commands: {word} is taken as it is written")
        }
        MistakeKind::Braces => {
            format!("braces mean nothing here: name each file instead of {word}, or use *")
        }
        MistakeKind::PercentVariable => format!("{word} is taken as it is written: a variable is $NAME"),
        MistakeKind::Comment => "a comment needs a line of its own".to_owned(),
        MistakeKind::ShellOperator => {
            format!("{keyword} is not a shell command: remove {word}, or copy with RUN")
        }
        MistakeKind::LateFlag { rest } => {
            format!("flags come before the sources: {keyword} {word} {rest}")
        }
        MistakeKind::TypographicDash { flag } => {
            format!("that is a typographic dash; use two hyphens: --{flag}")
        }
        MistakeKind::SingleDash { flag } => format!("flags begin with two dashes: {flag}"),
        MistakeKind::UnknownFlag => {
            format!("{keyword} has no {word}: remove it, directories are copied with everything in them")
        }
        MistakeKind::Address => {
            "ADD takes addresses that begin with http:// or https://, and those of git repositories"
                .to_owned()
        }
        MistakeKind::Drive => {
            "sources are paths in the build context, without a drive: write src/file".to_owned()
        }
        MistakeKind::Backslashes => format!("write paths with slashes: {}", word.replace('\\', "/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_from_facts_alone() {
        let missing = MissingSource {
            word: "srcs/main.c".to_owned(),
            path: "srcs/main.c".into(),
            place: SourcePlace::Context,
            is_prefix: false,
            ignored_by: None,
            is_state: false,
            leads_above: false,
            link: None,
            with_spaces: None,
            nearest: Some("src/main.c".into()),
            elsewhere: None,
            siblings: None,
        };
        let mut failure = CopyFailure::from(CopyProblem::SourceNotFound(Box::new(missing)));
        let texts = |failure: &CopyFailure| {
            let (_, hints) = copy(failure);
            hints.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(failure.to_string(), "\"/srcs/main.c\": not found");
        assert_eq!(texts(&failure)[0], "did you mean src/main.c?");
        let (keyword, word) = ("COPY", "%SRC%".to_owned());
        failure.mistake = Some(Mistake { keyword, word, kind: MistakeKind::PercentVariable });
        assert!(texts(&failure)[0].contains("a variable is $NAME"), "{:?}", texts(&failure));
    }
}
