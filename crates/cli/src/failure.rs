//! What ends the program without success.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use ocibuild::{Error, ErrorKind, Place};

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
        self.error.kind() == ErrorKind::Host && READER_GONE.load(Ordering::SeqCst)
    }

    /// Adds what is known about this process, if that could be the reason.
    pub(crate) fn note(&mut self, notes: &[String]) {
        if self.error.kind() == ErrorKind::Host {
            self.notes.extend_from_slice(notes);
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
        ErrorKind::StepFailed(_) => 1,
        ErrorKind::Usage | ErrorKind::Dockerfile => 2,
        ErrorKind::Refused => 3,
        ErrorKind::Network => 4,
        ErrorKind::Host => 5,
        ErrorKind::Cancelled => 128 + signal.unwrap_or(2),
        _ => BUG,
    }
}

/// A write to standard output found that nobody reads it any more. The error that follows from it comes back as text
/// from the library, and does not tell.
pub(crate) static READER_GONE: AtomicBool = AtomicBool::new(false);
