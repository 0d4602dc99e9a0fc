//! From the arguments that `build` and `plan` share to a build.

use std::io::Read;
use std::path::{Path, PathBuf};

use ocibuild::dockerfile::Dockerfile;
use ocibuild::plan::StepNetwork;
use ocibuild::spec::{Platform, Reference};
use ocibuild::{Build, ContextSource, Error, LocalContext, read_dockerfile};

use crate::args::PlanArgs;
use crate::backends::NamedImage;
use crate::failure::{Failure, SourceText, host, usage};
use crate::values::{self, Lookup, NamedSource, is_remote};

/// As much of standard input as is taken for a Dockerfile.
const MAX_STDIN: u64 = 16 << 20;

/// What a plan depends on, checked; nothing of it has been opened.
#[derive(Debug)]
pub(crate) struct PlanInput {
    context: PathBuf,
    file: Option<PathBuf>,
    target: Option<String>,
    build_args: Vec<(String, String)>,
    contexts: Vec<(String, NamedSource)>,
    platforms: Vec<Platform>,
    labels: Vec<(String, String)>,
    network: StepNetwork,
    allow: (bool, bool),
}

impl PlanInput {
    pub(crate) fn new(args: &PlanArgs, env: Lookup<'_>) -> Result<Self, Error> {
        check_context(&args.context)?;
        let file = args.file.clone().filter(|file| !file.as_os_str().is_empty());
        if let Some(file) = file.as_deref().and_then(Path::to_str).filter(|file| is_remote(file)) {
            return Err(usage(format!("--file {file}: this version reads Dockerfiles from files only")));
        }
        let mut build_args = Vec::new();
        for text in &args.build_arg {
            build_args.extend(values::build_arg(text, env)?);
        }
        // As docker's client does (11.40).
        let has_epoch = args.build_arg.iter().any(|text| text.split('=').next() == Some(EPOCH));
        if !has_epoch && let Some(epoch) = env(EPOCH) {
            build_args.push((EPOCH.to_owned(), epoch));
        }
        Ok(Self {
            context: args.context.clone(),
            file,
            target: args.target.clone().filter(|target| !target.is_empty()),
            build_args,
            contexts: args
                .build_context
                .iter()
                .map(|text| values::named_source(text))
                .collect::<Result<_, _>>()?,
            platforms: values::platforms(&args.platform)?,
            labels: args
                .label
                .iter()
                .map(|text| values::key_value("--label", text))
                .collect::<Result<_, _>>()?,
            network: values::network(args.network.as_deref())?,
            allow: values::allow(&args.allow)?,
        })
    }

    /// The contexts opened and the Dockerfile read.
    pub(crate) fn open(self) -> Result<(Build, SourceText), Failure> {
        let (bytes, path) = self.dockerfile()?;
        let context = match &path {
            Some(path) => LocalContext::open_for(&self.context, path)?,
            None => LocalContext::open(&self.context)?,
        };
        let name = path.as_deref().unwrap_or(Path::new("Dockerfile"));
        let name = name.strip_prefix(".").unwrap_or(name).display().to_string();
        let dockerfile = Dockerfile::parse(&bytes).map_err(|errors| {
            let text = errors.source.clone();
            Failure::from(errors).with_source(SourceText { name: name.clone(), text })
        })?;
        let source = SourceText { name, text: dockerfile.source.clone() };
        Ok((self.configured(Build::new(dockerfile, context))?, source))
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
        Ok(build.network(self.network).allow(self.allow.0, self.allow.1))
    }

    /// The Dockerfile's bytes, and its path unless it came from standard input.
    fn dockerfile(&self) -> Result<(Vec<u8>, Option<PathBuf>), Error> {
        match &self.file {
            Some(file) if file.as_os_str() == "-" => Ok((from_stdin()?, None)),
            Some(file) => Ok((read_dockerfile(file)?, Some(file.clone()))),
            None => {
                let path = default_dockerfile(&self.context);
                Ok((read_dockerfile(&path)?, Some(path)))
            }
        }
    }
}

const EPOCH: &str = "SOURCE_DATE_EPOCH";

fn check_context(context: &Path) -> Result<(), Error> {
    let text = context.display();
    if context.as_os_str() == "-" {
        return Err(usage("CONTEXT -: this version takes no context from standard input")
            .hint("-f - reads the Dockerfile from standard input"));
    }
    if context.to_str().is_some_and(is_remote) {
        return Err(usage(format!("CONTEXT {text}: this version takes no URLs and no git repositories"))
            .hint("fetch it to a directory, and name that"));
    }
    match fs_err::metadata(context) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(usage(format!("CONTEXT {text} is not a directory")).hint(
            "name the directory, and the Dockerfile with -f; archives are no contexts in this version",
        )),
        Err(error) => Err(usage(format!("CONTEXT {text} cannot be used")).caused_by(error)),
    }
}

/// `Dockerfile`, or `dockerfile` where only that is.
fn default_dockerfile(context: &Path) -> PathBuf {
    let usual = context.join("Dockerfile");
    let other = context.join("dockerfile");
    if !usual.exists() && other.exists() { other } else { usual }
}

fn from_stdin() -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_STDIN + 1).read_to_end(&mut bytes);
    read.map_err(|error| host("cannot read standard input", error))?;
    if bytes.len() as u64 > MAX_STDIN {
        return Err(usage("the Dockerfile on standard input is larger than 16 MiB"));
    }
    Ok(bytes)
}

fn opened(source: NamedSource) -> Result<ContextSource, Error> {
    Ok(match source {
        NamedSource::Scratch => ContextSource::Scratch,
        NamedSource::Renamed(reference) => ContextSource::Renamed(reference),
        NamedSource::Directory(path) => ContextSource::Local(LocalContext::open(path)?),
        NamedSource::Image(image) => {
            // A source of one image ignores the name that it is asked for.
            let reference: Reference = values::reference("scratch")?;
            ContextSource::Image { source: Box::new(NamedImage(image)), reference }
        }
    })
}

/// The environment of this process, for values that are taken from it. What is no Unicode counts as not set.
pub(crate) fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
