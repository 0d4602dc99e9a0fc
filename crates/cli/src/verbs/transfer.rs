//! `pull` and `push`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ocibuild::registry::BlobPush;
use ocibuild::spec::{Descriptor, Platform, Reference};
use ocibuild::{Error, Origin, PullOptions, Transfer};

use crate::args::{PullArgs, PushArgs, RegistryArgs};
use crate::backends::{Notices, open_images, registry};
use crate::failure::{Failure, Outcome, about, usage};
use crate::signals::Signals;
use crate::state_dir::state_dir;
use crate::table::{human_size, short_id};
use crate::terminal::{to_stderr, to_stdout};
use crate::values::reference;
use ocibuild::StateDirectory;

/// Time between two lines about the same blob.
const INTERVAL: Duration = Duration::from_secs(5);

/// Fetches an image.
pub(crate) fn pull(root: Option<&Path>, args: &PullArgs) -> Outcome {
    let name = reference(&args.image)?;
    let options = match &args.platform {
        _ if args.all_platforms => PullOptions::AllPlatforms,
        None => PullOptions::Platform(Platform::host()),
        Some(text) => {
            let parsed = text.parse().map_err(|error| usage(format!("--platform {text}: {error}")));
            PullOptions::Platform(about("--platform", text)(parsed)?)
        }
    };
    let registry = registry(&args.registry, Notices::unless(args.quiet))?;
    let shop = open_images(&state_dir(root)?)?;
    let signals = Signals::install()?;
    let lines = Lines::new(args.quiet);
    let what = name.digest().map_or_else(|| name.tag().unwrap_or("latest").to_owned(), ToString::to_string);
    lines.say(&format!("{what}: pulling from {}", name.familiar_name()));
    let pulled = shop
        .state()
        .pull(&name, &options, &registry, &signals.cancel, &|event| lines.event(&event))
        .map_err(|error| failed(error, &signals))?;
    let text = if args.quiet {
        format!("{}\n", name.familiar())
    } else {
        let status = if pulled.was_current { "Image is up to date" } else { "Downloaded newer image" };
        let name = name.familiar();
        format!("Digest: {}\nStatus: {status} for {name}\n{name}\n", pulled.remote.digest)
    };
    to_stdout(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Fetches an image for this host that another verb works with; tells about it on standard error alone.
pub(super) fn fetch(
    shop: &StateDirectory,
    name: &Reference,
    args: &RegistryArgs,
    signals: &Signals,
) -> Result<Descriptor, Failure> {
    let (registry, lines) = (registry(args, Notices::Lines)?, Lines::new(false));
    lines.say(&format!("pulling {}", name.familiar()));
    let options = PullOptions::Platform(Platform::host());
    let pulled = shop
        .state()
        .pull(name, &options, &registry, &signals.cancel, &|event| lines.event(&event))
        .map_err(|error| failed(advised_about_missing(error, name), signals))?;
    Ok(pulled.descriptor)
}

/// A short name may be a mistyped one of an image that is here.
fn advised_about_missing(error: Error, name: &Reference) -> Error {
    let name = name.familiar();
    error.hint(format!("there is no image {name} here, so it was looked for at its registry; `ocibuild images` lists those that are here"))
}

/// Pushes images.
pub(crate) fn push(root: Option<&Path>, args: &PushArgs) -> Outcome {
    let registry = registry(&args.registry, Notices::unless(args.quiet))?;
    let shop = open_images(&state_dir(root)?)?;
    let names = names(&shop, args)?;
    let signals = Signals::install()?;
    let lines = Lines::new(args.quiet);
    lines.say(&format!("pushing to {}", places(&names).join(", ")));
    let pushed = Mutex::new(String::new());
    let watcher = |event: Transfer<'_>| {
        if let Transfer::Named { name, descriptor } = &event {
            let line = pushed_line(name, descriptor, args.quiet);
            pushed.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
        }
        lines.event(&event);
    };
    let done = shop.state().push(&names, &registry, &signals.cancel, &watcher);
    // What was pushed before something went wrong stays pushed.
    to_stdout(pushed.lock().unwrap_or_else(PoisonError::into_inner).as_bytes())?;
    done.map_err(|error| failed(advised(error, &names), &signals))?;
    Ok(ExitCode::SUCCESS)
}

/// What is said of a name that was pushed.
pub(super) fn pushed_line(name: &Reference, descriptor: &Descriptor, quiet: bool) -> String {
    if quiet {
        return format!("{}\n", name.familiar());
    }
    let tag = name.tag().filter(|_| name.digest().is_none());
    let what = tag.map_or_else(|| name.familiar_name(), str::to_owned);
    format!("{what}: digest: {} size: {}\n", descriptor.digest, descriptor.size)
}

/// What is to be pushed: the names given, or all tags of these repositories.
fn names(shop: &StateDirectory, args: &PushArgs) -> Result<Vec<Reference>, Error> {
    let given = args.images.iter().map(|text| reference(text)).collect::<Result<Vec<_>, _>>()?;
    if !args.all_tags {
        return Ok(given);
    }
    let mut all = Vec::new();
    for (text, name) in args.images.iter().zip(&given) {
        let last = text.rsplit('/').next().unwrap_or_default();
        if last.contains([':', '@']) {
            return Err(usage(format!("--all-tags {text}: the name has a tag or a digest"))
                .hint(format!("give the name alone: {}", name.familiar_name())));
        }
        let here = shop.layout().list()?.into_iter().map(|(other, _)| other);
        let tags: Vec<Reference> = here
            .filter(|other| other.tag().is_some() && other.digest().is_none())
            .filter(|other| other.familiar_name() == name.familiar_name())
            .collect();
        if tags.is_empty() {
            return Err(usage(format!("there is no tag of {} here", name.familiar_name()))
                .hint("`ocibuild images` lists the names there are"));
        }
        all.extend(tags);
    }
    Ok(all)
}

fn places(names: &[Reference]) -> Vec<String> {
    let mut places: Vec<String> = names.iter().map(Reference::familiar_name).collect();
    places.dedup();
    places
}

/// A name without a registry is one at Docker Hub, which is not always what was meant.
pub(super) fn advised(error: Error, names: &[Reference]) -> Error {
    match names.iter().find(|name| name.registry() == "docker.io") {
        Some(name) if error.kind() == ocibuild::ErrorKind::Network => {
            let name = name.familiar();
            error.hint(format!(
                "{name} is a name at Docker Hub; for another registry: `ocibuild tag {name} HOST/{name}`, then push that"
            ))
        }
        _ => error,
    }
}

pub(super) fn failed(error: Error, signals: &Signals) -> Failure {
    let mut failure = Failure::from(error);
    failure.signal = signals.received();
    failure
}

/// Says of an image for an index that it is not here.
pub(super) fn from_registry(name: &Reference) -> String {
    format!("{}: not in the state directory, taken from its registry", name.familiar())
}

/// A line on standard error for what happens to each blob, and now and then one for those that take long.
pub(super) struct Lines {
    quiet: bool,
    last: Mutex<BTreeMap<String, Instant>>,
}

impl Lines {
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, last: Mutex::default() }
    }

    pub(super) fn say(&self, text: &str) {
        if !self.quiet {
            to_stderr(&format!("{text}\n"));
        }
    }

    pub(super) fn event(&self, event: &Transfer<'_>) {
        let said = |blob: &Descriptor, text: &str| self.say(&format!("{}: {text}", short_id(&blob.digest)));
        match event {
            // A name that is mistyped should not be taken for one at a registry unnoticed.
            Transfer::Found { name, origin: Origin::Registry(_) } => self.say(&from_registry(name)),
            Transfer::Started { blob } => {
                self.last().insert(blob.digest.to_string(), Instant::now());
            }
            Transfer::Progress { blob, bytes } if self.is_due(blob) => {
                let (done, all) = (human_size(*bytes), human_size(blob.size));
                said(blob, &format!("{done} of {all}"));
            }
            Transfer::Pushed { blob, how: how @ BlobPush::Sent } => {
                said(blob, &format!("{how}, {}", human_size(blob.size)));
            }
            Transfer::Pushed { blob, how } => said(blob, &how.to_string()),
            Transfer::Pulled { blob, existed: true } => said(blob, "is here"),
            Transfer::Pulled { blob, .. } => said(blob, &format!("pulled, {}", human_size(blob.size))),
            _ => {}
        }
    }

    /// Whether it is time for another line about a blob.
    fn is_due(&self, blob: &Descriptor) -> bool {
        let mut last = self.last();
        let at = last.entry(blob.digest.to_string()).or_insert_with(Instant::now);
        let is_due = at.elapsed() >= INTERVAL;
        if is_due {
            *at = Instant::now();
        }
        is_due
    }

    fn last(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Instant>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
