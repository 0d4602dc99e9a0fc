//! What ends the program without success.

use std::process::ExitCode;
use std::{error, fmt};

use ocibuild::{Error, ErrorKind, Place, StateDirectory};

/// The text that spans of an error point into.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceText {
    /// The Dockerfile's path as it was given.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// An error with what is needed to show it; boxed, since it is large and rare.
#[derive(Debug)]
pub(crate) struct Failure(Box<Details>);

/// The parts of a [`Failure`].
#[derive(Debug)]
pub(crate) struct Details {
    pub(crate) error: Error,
    /// The Dockerfile, for errors that have a place in one.
    pub(crate) source: Option<SourceText>,
    /// The end of the failed step's output is on the screen already.
    pub(crate) output_shown: bool,
    /// As an object of the event stream rather than as text.
    pub(crate) as_json: bool,
    /// What is known about this process and may be the reason.
    pub(crate) notes: Vec<String>,
    /// The signal that cancelled.
    pub(crate) signal: Option<u8>,
    /// It is about a container that this program ends like.
    pub(crate) is_container: bool,
}

impl Failure {
    /// Whether all that is wrong is that whoever read standard output has gone away.
    pub(crate) fn is_reader_gone(&self) -> bool {
        self.error.find::<ReaderGone>().is_some()
    }

    /// Adds what this process cannot do, if that could be the reason.
    pub(crate) fn note(&mut self, state: &StateDirectory) {
        if self.error.kind() == ErrorKind::Host {
            self.notes.extend(state.privilege_limit().map(|limit| limit.to_string()));
        }
    }

    /// The same with the Dockerfile it is about.
    pub(crate) fn with_source(mut self, source: SourceText) -> Self {
        self.source = Some(source);
        self
    }
}

impl std::ops::Deref for Failure {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl std::ops::DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(Details {
            error: error.into(),
            source: None,
            output_shown: false,
            as_json: false,
            notes: Vec::new(),
            signal: None,
            is_container: false,
        }))
    }
}

/// How the program ends.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// An error about the way the program was called.
pub(crate) fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}

/// Adds to an error which flag it is about, unless it has a place already.
pub(crate) fn about<'t, T>(
    flag: &'t str,
    text: &'t str,
) -> impl Fn(Result<T, Error>) -> Result<T, Error> + 't {
    move |result| result.map_err(|error| error.place(Place::Argument(format!("{flag} {text}"))))
}

/// An error about a file of the host.
pub(crate) fn host(message: impl Into<String>, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Host, message).caused_by(error)
}

/// Exit code of this program's own faults.
pub(crate) const BUG: u8 = 70;

/// The exit code of an error; `signal` is the one that cancelled, if one did.
pub(crate) fn exit_code(kind: ErrorKind, signal: Option<u8>) -> u8 {
    match kind {
        ErrorKind::StepFailed(_) | ErrorKind::NotCached => 1,
        ErrorKind::Usage | ErrorKind::Dockerfile => 2,
        ErrorKind::Refused => 3,
        ErrorKind::Network => 4,
        ErrorKind::Host => 5,
        ErrorKind::Cancelled => 128 + signal.unwrap_or(2),
        _ => BUG,
    }
}

/// Whoever read standard output has gone away.
#[derive(Debug)]
pub(crate) struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads standard output any more")
    }
}

impl error::Error for ReaderGone {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ocibuild::{Code, dockerfile};

    use super::*;

    const KINDS: [ErrorKind; 8] = [
        ErrorKind::StepFailed(1),
        ErrorKind::Usage,
        ErrorKind::Dockerfile,
        ErrorKind::Refused,
        ErrorKind::Network,
        ErrorKind::Host,
        ErrorKind::NotCached,
        ErrorKind::Cancelled,
    ];

    #[test]
    fn the_page_of_errors_lists_each_code_once() {
        let page = include_str!("../../../docs/diagnostics/errors.md");
        let row = |line: &'static str| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.trim_end_matches(" |").split(" | ").collect();
            let [code, meaning, exit, remedy] = cells[..] else { panic!("{line}") };
            assert!(!meaning.is_empty() && !remedy.is_empty(), "{line}");
            Some((code.trim_end_matches('`'), exit))
        };
        let rows: Vec<(&str, &str)> = page.lines().filter_map(row).collect();
        let by_code: BTreeMap<&str, &str> = rows.iter().copied().collect();
        assert_eq!(by_code.len(), rows.len(), "a code is listed twice");

        let codes = Code::ALL.iter().map(|code| code.as_str());
        let codes = codes.chain(dockerfile::Code::ALL.iter().map(|code| code.as_str()));
        let mut all: Vec<&str> = codes.chain(KINDS.map(ErrorKind::name)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(by_code.keys().copied().collect::<Vec<_>>(), all);

        for kind in KINDS.into_iter().filter(|kind| *kind != ErrorKind::Cancelled) {
            assert_eq!(by_code[kind.name()], exit_code(kind, None).to_string(), "{}", kind.name());
        }
        for code in dockerfile::Code::ALL {
            assert_eq!(by_code[code.as_str()], exit_code(ErrorKind::Dockerfile, None).to_string(), "{code}");
        }
    }
}
