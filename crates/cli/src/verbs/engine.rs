//! `build --load`

use ocibuild::engine::{Engine, Loading};
use ocibuild::spec::Reference;
use ocibuild::{CancelToken, Error, Output, Place};

use crate::failure::usage;
use crate::terminal::to_stderr;
use crate::text::calm;

/// What `--load` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Load {
    /// Whichever engine answers.
    Any,
    Into(Engine),
}

impl Load {
    /// `None` for a value that asks for nothing.
    pub(super) fn new(text: &str) -> Result<Option<Self>, Error> {
        match text {
            "true" | "1" => Ok(Some(Self::Any)),
            "false" | "0" => Ok(None),
            _ => match text.parse() {
                Ok(engine) => Ok(Some(Self::Into(engine))),
                Err(error) => Err(usage(format!("--load={text}: {error}"))
                    .hint("--load alone takes the first of docker, podman and containerd that answers")),
            },
        }
    }

    /// Makes sure that there is an engine, and has its client wait for the image. Comes before this process has another
    /// thread or another user.
    pub(super) fn start(&self, names: &[Reference]) -> Result<Loader, Error> {
        let engine = match self {
            Self::Any => Engine::find().map_err(|error| error.place(Place::Argument("--load".to_owned())))?,
            Self::Into(engine) => {
                engine.check().map_err(|error| error.place(Place::Argument(format!("--load={engine}"))))?;
                engine.clone()
            }
        };
        if engine.wants_name() && names.is_empty() {
            return Err(usage(format!("--load: {engine} does not keep an image without a name"))
                .hint("name it with --tag NAME"));
        }
        let (output, loading) = engine.load()?;
        Ok(Loader { output: Some(output), loading })
    }
}

/// An engine's client that waits for an image.
pub(super) struct Loader {
    /// What the client reads; until the build has it.
    pub(super) output: Option<Output>,
    loading: Loading,
}

impl Loader {
    /// The error of a build that failed.
    pub(super) fn explain(self, error: Error, cancel: &CancelToken) -> Error {
        self.loading.explain(error, cancel)
    }

    /// Waits until the engine has the image, and shows what its client says of it.
    pub(super) fn finish(self, cancel: &CancelToken, shows: bool) -> Result<(), Error> {
        let said = self.loading.finish(cancel)?;
        if shows {
            said.lines().for_each(|line| to_stderr(&format!("{}\n", calm(line))));
        }
        Ok(())
    }
}
