//! `index create`, `annotate`, `inspect`, `push` and `rm`.

use std::path::Path;
use std::process::ExitCode;

use ocibuild::spec::{Digest, Platform, Reference};
use ocibuild::state::{IndexOptions, IndexPlace, InspectedIndex};
use ocibuild::{
    Annotation, AnnotationLevel, EntrySelector, Error, ErrorKind, IndexChange, IndexEntry, JoinOptions,
    JoinOutcome, Origin, Pushed,
};

use super::transfer::{Lines, advised, failed, from_registry, pushed_line};
use crate::args::{
    IndexAnnotateArgs, IndexCreateArgs, IndexInspectArgs, IndexPushArgs, IndexRmArgs, IndexVerb, ReportFormat,
};
use crate::backends::{Notices, open_images, registry};
use crate::failure::{Outcome, about, usage};
use crate::signals::Signals;
use crate::state_dir::state_dir;
use crate::table::{human_size, table};
use crate::terminal::{to_stderr, to_stdout};
use crate::text::printable;
use crate::values::{annotations, platforms, reference};

/// Does what the verb below `index` says.
pub(crate) fn index(root: Option<&Path>, verb: &IndexVerb) -> Outcome {
    match verb {
        IndexVerb::Create(args) => create(root, args),
        IndexVerb::Annotate(args) => annotate(root, args),
        IndexVerb::Inspect(args) => inspect(root, args),
        IndexVerb::Push(args) => push(root, args),
        IndexVerb::Rm(args) => rm(root, args),
    }
}

fn create(root: Option<&Path>, args: &IndexCreateArgs) -> Outcome {
    let name = reference(&args.name)?;
    let images = references(&args.images)?;
    let mut options = IndexOptions::default();
    (options.append, options.replace) = (args.append, args.replace);
    options.change.annotations = index_annotations(&args.annotation, AnnotationLevel::Index)?;
    let registry = registry(&args.registry, Notices::Lines)?;
    let shop = open_images(&state_dir(root)?)?;
    let signals = Signals::install()?;
    let created = shop
        .state()
        .create_index(&name, &images, &options, &registry, &signals.cancel)
        .map_err(|error| failed(advised(error, &images), &signals))?;
    for name in &images {
        let is_remote = |entry: &&IndexEntry| entry.name == *name && entry.origin != Origin::State;
        if created.draft.entries.iter().any(|entry| is_remote(&entry)) {
            to_stderr(&format!("{}\n", from_registry(name)));
        }
    }
    for left_out in &created.left_out {
        let platform = left_out.platform.as_ref().map(ToString::to_string).unwrap_or_default();
        to_stderr(&format!(
            "skipped: {} {}, which is neither an image nor about one\n",
            left_out.digest,
            printable(&platform)
        ));
    }
    let entries = &created.draft.entries;
    let images = entries.iter().filter(|entry| entry.subject().is_none());
    let shown = images.map(platform_of).collect::<Vec<_>>().join(", ");
    to_stdout(format!("{}: drafted for {shown}\n", name.familiar()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn references(texts: &[String]) -> Result<Vec<Reference>, Error> {
    texts.iter().map(|text| reference(text)).collect()
}

/// The annotations of these flags; those without a type are of `level`.
fn index_annotations(texts: &[String], level: AnnotationLevel) -> Result<Vec<Annotation>, Error> {
    let mut found = Vec::new();
    for text in texts {
        let has_type = text.split('=').next().is_some_and(|before| before.contains(':'));
        let with_level = |annotation: Annotation| if has_type { annotation } else { annotation.level(level) };
        found.extend(annotations(text)?.into_iter().map(with_level));
    }
    Ok(found)
}

fn annotate(root: Option<&Path>, args: &IndexAnnotateArgs) -> Outcome {
    let name = reference(&args.name)?;
    let entry = match (&args.image, &args.platform) {
        (Some(text), _) => Some(EntrySelector::Image(match text.parse::<Digest>() {
            Ok(digest) => name.with_digest(digest),
            Err(_) => reference(text)?,
        })),
        (None, Some(text)) => Some(EntrySelector::Platform(platform(text)?)),
        (None, None) => None,
    };
    let level = match &entry {
        Some(_) => AnnotationLevel::ManifestDescriptor,
        None => AnnotationLevel::Index,
    };
    let mut change = IndexChange::default();
    change.os.clone_from(&args.os);
    change.architecture.clone_from(&args.arch);
    change.variant.clone_from(&args.variant);
    change.os_version.clone_from(&args.os_version);
    change.os_features.clone_from(&args.os_features);
    change.annotations = index_annotations(&args.annotation, level)?;
    if change == IndexChange::default() {
        return Err(usage("there is nothing to change")
            .hint("say what: --os, --arch, --variant, --os-version, --os-features, --annotation")
            .into());
    }
    change.entry = entry;
    let shop = open_images(&state_dir(root)?)?;
    shop.state().annotate_index(&name, &change)?;
    Ok(ExitCode::SUCCESS)
}

fn platform(text: &str) -> Result<Platform, Error> {
    let parsed = text.parse().map_err(|error| usage(format!("--platform {text}: {error}")));
    about("--platform", text)(parsed)
}

fn inspect(root: Option<&Path>, args: &IndexInspectArgs) -> Outcome {
    let name = reference(&args.name)?;
    let registry = registry(&args.registry, Notices::Lines)?;
    let shop = open_images(&state_dir(root)?)?;
    let signals = Signals::install()?;
    let found = shop
        .state()
        .inspect_index(&name, &registry, &signals.cancel)
        .map_err(|error| failed(error, &signals))?;
    let place = match found.place {
        IndexPlace::Draft => "a draft, as it would be pushed",
        IndexPlace::State => "in the state directory",
        IndexPlace::Registry => "at its registry",
    };
    to_stderr(&format!("{}: {place}\n", name.familiar()));
    match args.format {
        ReportFormat::Json => {
            to_stdout(&found.bytes)?;
            if !found.bytes.ends_with(b"\n") {
                to_stdout(b"\n")?;
            }
        }
        ReportFormat::Text => to_stdout(shown(&name, &found).as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is known of an index, for people.
fn shown(name: &Reference, found: &InspectedIndex) -> String {
    let annotation =
        |(key, value): (&String, &String)| format!("Annotation: {}={}\n", printable(key), printable(value));
    let text = [
        format!("Name:      {}\nDigest:    {}\n", name.familiar(), found.descriptor.digest),
        format!("MediaType: {}\n", printable(found.descriptor.media_type.as_ref())),
        found.annotations.iter().map(annotation).collect(),
        "\n".to_owned(),
    ];
    let header = ["PLATFORM", "DIGEST", "SIZE", "IMAGE"].map(str::to_owned).to_vec();
    let row = |entry: &IndexEntry| {
        let image = match entry.subject() {
            Some(subject) => format!("attestations of {}", printable(subject)),
            None => entry.name.familiar(),
        };
        let descriptor = &entry.descriptor;
        vec![platform_of(entry), descriptor.digest.to_string(), human_size(descriptor.size), image]
    };
    text.concat() + &table(&std::iter::once(header).chain(found.entries.iter().map(row)).collect::<Vec<_>>())
}

fn platform_of(entry: &IndexEntry) -> String {
    let platform = entry.descriptor.platform.as_ref().map(ToString::to_string);
    printable(&platform.unwrap_or_default())
}

fn push(root: Option<&Path>, args: &IndexPushArgs) -> Outcome {
    let name = reference(&args.name)?;
    let images = references(&args.images)?;
    let expected = platforms(&args.expect)?;
    let registry = registry(&args.registry, Notices::Lines)?;
    let shop = open_images(&state_dir(root)?)?;
    let signals = Signals::install()?;
    let lines = Lines::new(args.quiet);
    lines.say(&format!("pushing to {}", name.familiar_name()));
    let (state, watcher) = (shop.state(), |event: ocibuild::Transfer<'_>| lines.event(&event));
    let told = |error| failed(advised(error, std::slice::from_ref(&name)), &signals);
    if args.expect.is_empty() {
        let pushed = state.push_index(&name, &registry, &signals.cancel, &watcher).map_err(told)?;
        if args.purge {
            state.remove_index_draft(&name)?;
        }
        return done(&pushed, args.quiet);
    }
    let mut options = JoinOptions::default();
    (options.platforms, options.run) = (expected, args.run.clone());
    let meeting =
        state.meet_in_index(&name, &images, &options, &registry, &signals.cancel, &watcher).map_err(told)?;
    if let Some(pushed) = &meeting.pushed {
        return done(pushed, args.quiet);
    }
    let text = waiting(&meeting);
    if images.is_empty() {
        // Whoever brings nothing came for the index.
        return Err(Error::new(ErrorKind::Network, format!("{}: {text}", name.familiar()))
            .hint("the jobs of these platforms failed, are still running, or use another --run or name")
            .into());
    }
    to_stdout(format!("{text}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn waiting(JoinOutcome { present, missing, .. }: &JoinOutcome) -> String {
    let all = present.len() + missing.len();
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let (are, platforms) = if all == 1 { ("is", "platform") } else { ("are", "platforms") };
    format!("{} of {all} {platforms} {are} there; missing: {}", present.len(), missing.join(", "))
}

fn done(pushed: &Pushed, quiet: bool) -> Outcome {
    to_stdout(pushed_line(&pushed.name, &pushed.descriptor, quiet).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn rm(root: Option<&Path>, args: &IndexRmArgs) -> Outcome {
    let names = references(&args.names)?;
    let shop = open_images(&state_dir(root)?)?;
    for name in &names {
        shop.state().remove_index_draft(name)?;
        to_stdout(format!("{}\n", name.familiar()).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
