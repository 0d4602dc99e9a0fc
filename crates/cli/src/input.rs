//! From the arguments that `build` and `plan` share to a build.

use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use ocibuild::dockerfile::Dockerfile;
use ocibuild::files::{FileTarget, own_descriptor};
use ocibuild::plan::StepNetwork;
use ocibuild::spec::{Platform, Reference};
use ocibuild::{
    Build, BuildContext, ContextSource, Error, Fetcher, HttpAddress, LocalContext, RemoteSource,
    read_dockerfile_of,
};

use crate::args::PlanArgs;
use crate::backends::NamedImage;
use crate::failure::{Failure, SourceText, about, host, usage};
use crate::remote::StandardInput;
use crate::values::{self, Lookup, NamedSource, NetworkChoice};

/// As much of standard input as is taken for a Dockerfile.
const MAX_STDIN: u64 = 16 << 20;

/// What a plan depends on, checked; nothing of it has been opened.
#[derive(Debug)]
pub(crate) struct PlanInput {
    context: ContextInput,
    file: FileInput,
    target: Option<String>,
    build_args: Vec<(String, String)>,
    contexts: Vec<(String, NamedSource)>,
    platforms: Vec<Platform>,
    labels: Vec<(String, String)>,
    network: NetworkChoice,
    allow: (bool, bool),
    offline: bool,
}

/// The forms of CONTEXT (12.1).
#[derive(Debug)]
enum ContextInput {
    Directory(PathBuf),
    /// An archive or a Dockerfile on standard input.
    StandardInput,
    Remote(RemoteSource),
}

/// The forms of `--file`.
#[derive(Debug)]
enum FileInput {
    /// Not given.
    Default,
    StandardInput,
    /// Of a directory's build, relative to the working directory (12.03); of others, within their files.
    Path(PathBuf),
    /// A pipe, or a descriptor such as that of `-f <(…)`.
    Stream(PathBuf),
    Url(HttpAddress),
}

impl PlanInput {
    pub(crate) fn new(args: &PlanArgs, env: Lookup<'_>) -> Result<Self, Error> {
        let network = about("--network", args.network.as_deref().unwrap_or_default())(values::network(
            args.network.as_deref(),
            env,
        ))?;
        refuse_network(args, network)?;
        let file = file_input(args.file.as_deref(), &args.context)?;
        let mut context =
            about("CONTEXT", &args.context.display().to_string())(context_input(&args.context))?;
        if let (ContextInput::StandardInput, FileInput::StandardInput) = (&context, &file) {
            return Err(usage("standard input cannot be both CONTEXT and --file"));
        }
        let mut build_args = Vec::new();
        for text in &args.build_arg {
            // The value may be what nobody should read.
            let shown = text.split('=').next().unwrap_or_default();
            build_args.extend(about("--build-arg", shown)(values::build_arg(text, env))?);
        }
        // As docker's client does (11.40).
        let has_epoch = args.build_arg.iter().any(|text| text.split('=').next() == Some(EPOCH));
        if !has_epoch && let Some(epoch) = env(EPOCH) {
            build_args.push((EPOCH.to_owned(), epoch));
        }
        if let ContextInput::Remote(source) = context {
            context = ContextInput::Remote(as_arguments_say(source, &build_args));
        }
        Ok(Self {
            offline: args.offline,
            context,
            file,
            target: args.target.clone().filter(|target| !target.is_empty()),
            build_args,
            contexts: args
                .build_context
                .iter()
                .map(|text| about("--build-context", text)(values::named_source(text)))
                .collect::<Result<_, _>>()?,
            platforms: about("--platform", &args.platform.join(","))(values::platforms(&args.platform))?,
            labels: args
                .label
                .iter()
                .map(|text| about("--label", text)(values::key_value("--label", text)))
                .collect::<Result<_, _>>()?,
            network,
            allow: about("--allow", &args.allow.join(","))(values::allow(&args.allow))?,
        })
    }

    /// The network of steps.
    pub(crate) fn network(&self) -> NetworkChoice {
        self.network
    }

    /// Whether something has to be fetched or kept before there is a Dockerfile.
    pub(crate) fn needs_fetching(&self) -> bool {
        !matches!(self.context, ContextInput::Directory(_)) || matches!(self.file, FileInput::Url(_))
    }

    /// The contexts opened and the Dockerfile read. `fetcher` is there when [`needs_fetching`](Self::needs_fetching)
    /// says so.
    pub(crate) fn open(self, fetcher: Option<&Fetcher<'_>>) -> Result<(Build, SourceText), Failure> {
        let Opened { context, bytes, name } = match (&self.context, fetcher) {
            (ContextInput::Directory(directory), _) => self.open_directory(directory, fetcher)?,
            (_, Some(fetcher)) => self.open_fetched(fetcher)?,
            (_, None) => return Err(usage("this verb takes a directory as CONTEXT").into()),
        };
        let dockerfile = Dockerfile::parse(&bytes).map_err(|errors| {
            let text = errors.source.clone();
            Failure::from(errors).with_source(SourceText { name: name.clone(), text })
        })?;
        let source = SourceText { name, text: dockerfile.source.to_string() };
        Ok((self.configured(Build::new(dockerfile, context))?, source))
    }

    fn open_directory(&self, directory: &Path, fetcher: Option<&Fetcher<'_>>) -> Result<Opened, Error> {
        let default = || default_dockerfile(directory);
        let (bytes, path) = match (&self.file, fetcher) {
            (FileInput::StandardInput, _) => (from_stdin()?, None),
            (FileInput::Stream(path), _) => (read_stream(path)?, Some(path.clone())),
            (FileInput::Path(file), _) => (read_dockerfile_of(directory, file)?, Some(file.clone())),
            (FileInput::Url(address), Some(fetcher)) => (fetcher.dockerfile(address)?, None),
            (FileInput::Url(address), None) => {
                return Err(usage(format!("--file {address}: this verb takes no URL")));
            }
            (FileInput::Default, _) => (read_dockerfile_of(directory, &default())?, Some(default())),
        };
        let context = match &path {
            Some(path) => LocalContext::open_for(directory, path)?,
            None => LocalContext::open(directory)?,
        };
        Ok(Opened { context: context.into(), bytes, name: shown_name(path.as_deref()) })
    }

    fn open_fetched(&self, fetcher: &Fetcher<'_>) -> Result<Opened, Error> {
        let context = match &self.context {
            ContextInput::Remote(source) => fetcher.fetch(source)?,
            _ => fetcher.receive(StandardInput { cancel: fetcher.cancel() })?,
        };
        let (bytes, name) = match &self.file {
            FileInput::StandardInput => (from_stdin()?, None),
            FileInput::Stream(path) => (read_stream(path)?, Some(path.as_path())),
            FileInput::Path(file) => (context.dockerfile(Some(file))?, Some(file.as_path())),
            FileInput::Url(address) => (fetcher.dockerfile(address)?, None),
            FileInput::Default => (context.dockerfile(None)?, None),
        };
        Ok(Opened { context, bytes, name: shown_name(name) })
    }

    fn configured(self, mut build: Build) -> Result<Build, Error> {
        if let Some(target) = self.target {
            build = build.target(target);
        }
        for platform in self.platforms {
            build = build.platform(platform);
        }
        for (name, value) in self.build_args {
            build = build.build_arg(name, value);
        }
        for (key, value) in self.labels {
            build = build.label(key, value);
        }
        for (name, source) in self.contexts {
            build = build.build_context(name, opened(source)?);
        }
        let build = build.network(self.network.of_steps()).private_network(self.network.is_private());
        Ok(build.allow(self.allow.0, self.allow.1).offline(self.offline))
    }
}

/// Refuses what cannot be had offline.
fn refuse_network(args: &PlanArgs, network: NetworkChoice) -> Result<(), Error> {
    let asks = [
        ("--pull", args.pull),
        ("--network host", network.of_steps() == StepNetwork::Host),
        ("--allow network.host", args.allow.iter().any(|name| name == "network.host")),
    ];
    match asks.iter().find(|(_, asks)| args.offline && *asks) {
        Some((flag, _)) => Err(usage(format!("--offline and {flag} cannot be used together"))
            .hint(format!("omit {flag} or --offline"))),
        None => Ok(()),
    }
}

/// A context and its Dockerfile.
struct Opened {
    context: BuildContext,
    bytes: Vec<u8>,
    /// What errors call the Dockerfile.
    name: String,
}

const EPOCH: &str = "SOURCE_DATE_EPOCH";

const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

fn context_input(context: &Path) -> Result<ContextInput, Error> {
    if context.as_os_str() == "-" {
        return Ok(ContextInput::StandardInput);
    }
    let text = context.display();
    let metadata = fs_err::metadata(context);
    // A directory may be called like a repository.
    if metadata.is_err()
        && let Some(source) = context.to_str().map(RemoteSource::parse).transpose()?.flatten()
    {
        return Ok(ContextInput::Remote(source));
    }
    match metadata {
        Ok(metadata) if metadata.is_dir() => Ok(ContextInput::Directory(context.to_owned())),
        Ok(_) => Err(usage(format!("CONTEXT {text} is not a directory")).hint(
            "name the directory, and the Dockerfile with -f; an archive is read from standard input: - < FILE",
        )),
        Err(error) => {
            let is_missing = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
            let own = usage(format!("CONTEXT {text} cannot be used")).caused_by(error);
            let hint = "name a directory that exists; \".\" is this one: ocibuild build .";
            Err(if is_missing { own.hint(hint) } else { own })
        }
    }
}

fn file_input(file: Option<&Path>, context: &Path) -> Result<FileInput, Error> {
    let Some(file) = file.filter(|file| !file.as_os_str().is_empty()) else { return Ok(FileInput::Default) };
    let text = file.to_str().unwrap_or_default();
    if text == "-" || own_descriptor(file) == Some(0) {
        return Ok(FileInput::StandardInput);
    }
    if is_stream(file, context) {
        return Ok(FileInput::Stream(file.to_owned()));
    }
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return Ok(FileInput::Path(file.to_owned()));
    }
    let malformed = |error| usage(format!("--file {error}"));
    HttpAddress::parse(text).map(FileInput::Url).map_err(malformed)
}

/// What build arguments say about a repository (11.40).
fn as_arguments_say(source: RemoteSource, build_args: &[(String, String)]) -> RemoteSource {
    let value =
        |name: &str| build_args.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let source = match value(EPOCH) {
        Some(epoch) if !epoch.is_empty() => source.commit_times(),
        _ => source,
    };
    match value(KEEP_GIT_DIR) {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => source.keep_git_dir(),
        _ => source,
    }
}

fn shown_name(path: Option<&Path>) -> String {
    let name = path.unwrap_or(Path::new("Dockerfile"));
    name.strip_prefix(".").unwrap_or(name).display().to_string()
}

/// `Dockerfile`, or `dockerfile` where only that is.
fn default_dockerfile(context: &Path) -> PathBuf {
    let usual = context.join("Dockerfile");
    let other = context.join("dockerfile");
    if !usual.exists() && other.exists() { other } else { usual }
}

/// Whether the user named something that is read once, from its beginning to its end: a descriptor, or a pipe that is no
/// part of the context. One in the context may be there for anybody to wait at.
fn is_stream(path: &Path, context: &Path) -> bool {
    let FileTarget::Opened(target) = FileTarget::of(path) else { return false };
    let is_pipe = fs_err::metadata(&target).is_ok_and(|metadata| metadata.file_type().is_fifo());
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_in_context = || match (fs_err::canonicalize(folder), fs_err::canonicalize(context)) {
        (Ok(folder), Ok(context)) => folder.starts_with(context),
        _ => false,
    };
    own_descriptor(path).is_some() || (is_pipe && !is_in_context())
}

/// A Dockerfile or ignore file that may be a pipe.
pub(crate) fn read_file_or_stream(
    path: &Path,
    read: impl FnOnce(&Path) -> Result<Vec<u8>, Error>,
) -> Result<Vec<u8>, Error> {
    match FileTarget::of(path) {
        FileTarget::Opened(_) if own_descriptor(path) == Some(0) => from_stdin(),
        FileTarget::Opened(target)
            if own_descriptor(path).is_some()
                || fs_err::metadata(&target).is_ok_and(|metadata| metadata.file_type().is_fifo()) =>
        {
            read_stream(path)
        }
        _ => read(path),
    }
}

fn from_stdin() -> Result<Vec<u8>, Error> {
    read_to_limit(std::io::stdin().lock(), "standard input")
}

fn read_stream(path: &Path) -> Result<Vec<u8>, Error> {
    let name = path.display().to_string();
    let file = fs_err::File::open(path).map_err(|error| host(format!("cannot read {name}"), error))?;
    read_to_limit(file, &name)
}

fn read_to_limit(source: impl Read, name: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = source.take(MAX_STDIN + 1).read_to_end(&mut bytes);
    read.map_err(|error| host(format!("cannot read {name}"), error))?;
    if bytes.len() as u64 > MAX_STDIN {
        return Err(usage(format!("the Dockerfile on {name} is larger than 16 MiB"))
            .hint("is this the Dockerfile? Name another file with -f FILE"));
    }
    Ok(bytes)
}

fn opened(source: NamedSource) -> Result<ContextSource, Error> {
    Ok(match source {
        NamedSource::Scratch => ContextSource::Scratch,
        NamedSource::Renamed(reference) => ContextSource::Renamed(reference),
        NamedSource::Remote(source) => ContextSource::Remote(source),
        NamedSource::Directory(path) => ContextSource::Local(LocalContext::open(path)?),
        NamedSource::Image(image) => {
            // A source of one image ignores the name that it is asked for.
            let reference: Reference = values::reference("scratch")?;
            ContextSource::Image { source: Box::new(NamedImage(image)), reference }
        }
    })
}

/// The environment of this process, for values that are taken from it. What is not Unicode counts as not set.
pub(crate) fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
