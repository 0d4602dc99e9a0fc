use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use ocibuild::Error;
use ocibuild::spec::Reference;
use ocibuild::state::ImageSummary;

use crate::args::{ImagesArgs, RmiArgs, TagArgs};
use crate::backends::Workshop;
use crate::failure::{Outcome, usage};
use crate::listing::{Format, given};
use crate::state_dir::state_dir;
use crate::table::{age, go_time, human_size, now, precise_size, short_id};
use crate::template::{Record, Value};
use crate::terminal::{to_stderr, to_stdout};
use crate::values::{ImageFilter, reference};

const TABLE: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince}}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";
const TABLE_WITH_DIGESTS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince}}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";

/// Docker's table.
pub(crate) fn images(root: Option<&Path>, args: &ImagesArgs) -> Outcome {
    let format = format(args)?;
    let filter = ImageFilter::read(&args.filter, args.name.as_deref())?;
    let shop = Workshop::open_plainly(&state_dir(root)?)?;
    let mut images = filter.choose(&shop.state())?;
    images.sort_by(|a, b| {
        let key = |image: &ImageSummary| (image.id.clone(), image.reference.clone());
        b.created.cmp(&a.created).then_with(|| key(a).cmp(&key(b)))
    });
    // With a digest the tag of a name says nothing: as in docker, all such names of an image are one line.
    let mut pinned = BTreeSet::new();
    images.retain(|image| match &image.reference {
        Some(name) if name.digest().is_some() => {
            pinned.insert((name.familiar_name(), image.descriptor.digest.clone()))
        }
        _ => true,
    });
    let digests = args.digests || args.format.as_deref().is_some_and(|text| text.contains(".Digest"));
    let rows: Vec<Value> = images.iter().map(|image| row(image, args, digests)).collect();
    to_stdout(format.render(&header(), &rows)?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn format(args: &ImagesArgs) -> Result<Format, Error> {
    let table = if args.digests { TABLE_WITH_DIGESTS } else { TABLE };
    match (given(args.format.as_deref()), args.quiet) {
        ("table", true) => Format::read("{{.ID}}", table),
        ("raw", true) => Format::read("image_id: {{.ID}}", table),
        ("raw", false) => {
            let digest = if args.digests { "digest: {{.Digest}}\n" } else { "" };
            let text = format!(
                "repository: {{{{.Repository}}}}\ntag: {{{{.Tag}}}}\n{digest}image_id: {{{{.ID}}}}\n\
                 created_at: {{{{.CreatedAt}}}}\nvirtual_size: {{{{.Size}}}}\n"
            );
            Format::read(&text, table)
        }
        (text, _) => Format::read(text, table),
    }
}

/// The titles of columns, and with it the fields there are.
fn header() -> Value {
    Record::row(
        [
            ("Containers", "CONTAINERS"),
            ("CreatedAt", "CREATED AT"),
            ("CreatedSince", "CREATED"),
            ("Digest", "DIGEST"),
            ("ID", "IMAGE ID"),
            ("Repository", "REPOSITORY"),
            ("SharedSize", "SHARED SIZE"),
            ("Size", "SIZE"),
            ("Tag", "TAG"),
            ("UniqueSize", "UNIQUE SIZE"),
            ("VirtualSize", "SIZE"),
        ]
        .map(|(name, title)| (name, title.to_owned())),
    )
}

fn row(image: &ImageSummary, args: &ImagesArgs, digests: bool) -> Value {
    let id = &image.id;
    let none = || "<none>".to_owned();
    let digest = if digests { image.descriptor.digest.to_string() } else { none() };
    Record::row([
        ("Containers", "N/A".to_owned()),
        ("CreatedAt", image.created.map(go_time).unwrap_or_default()),
        ("CreatedSince", image.created.map(|time| age(time, now())).unwrap_or_default()),
        ("Digest", digest),
        ("ID", if args.no_trunc { id.to_string() } else { short_id(id) }),
        ("Repository", image.reference.as_ref().map_or_else(none, Reference::familiar_name)),
        ("SharedSize", "N/A".to_owned()),
        ("Size", human_size(image.size)),
        ("Tag", image.reference.as_ref().and_then(own_tag).map_or_else(none, str::to_owned)),
        ("UniqueSize", "N/A".to_owned()),
        ("VirtualSize", precise_size(image.size)),
    ])
}

/// The tag of a name without a digest.
fn own_tag(name: &Reference) -> Option<&str> {
    name.tag().filter(|_| name.digest().is_none())
}

/// Gives an image another name.
pub(crate) fn tag(root: Option<&Path>, args: &TagArgs) -> Outcome {
    let name = nameable(&args.name)?;
    let shop = Workshop::open_plainly(&state_dir(root)?)?;
    let image = shop.state().find(&args.source)?;
    shop.layout.tag(&name, &image.descriptor)?;
    Ok(ExitCode::SUCCESS)
}

/// A name that an image can get: digests are not for us to choose.
pub(crate) fn nameable(text: &str) -> Result<Reference, Error> {
    let name = reference(text)?;
    if name.digest().is_some() {
        let name = text.split('@').next().unwrap_or_default();
        return Err(usage(format!("{text}: a name with a digest cannot be given"))
            .hint(format!("the digest follows from what is built: give a tag, as in {name}:1.0")));
    }
    if name.familiar_name() == "sha256" {
        return Err(
            usage(format!("{text}: that would be a name like an ID")).hint("give a name of words: app:1.0")
        );
    }
    Ok(name)
}

/// Takes names away, all that exist, and fails for those that do not.
pub(crate) fn rmi(root: Option<&Path>, args: &RmiArgs) -> Outcome {
    let shop = Workshop::open_plainly(&state_dir(root)?)?;
    let mut wrong: Option<Error> = None;
    for text in &args.images {
        match remove(&shop, text, args.force) {
            Ok(()) => {}
            Err(error) if args.force && is_absence(&error) => to_stderr(&format!("warning: {error}\n")),
            Err(error) => {
                wrong = Some(match wrong {
                    Some(first) => first.with(error),
                    None => error,
                });
            }
        }
    }
    match wrong {
        Some(error) => Err(error.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn is_absence(error: &Error) -> bool {
    error.reports()[0].id == ocibuild::state::NO_SUCH_IMAGE
}

/// Takes away a name, or the names of what an ID means.
fn remove(shop: &Workshop, text: &str, force: bool) -> Result<(), Error> {
    let state = shop.state();
    let image = state.find(text)?;
    if state.forget(&image.descriptor)? {
        let id = state.id(&image.descriptor)?;
        return to_stdout(format!("Untagged: {id}\n").as_bytes());
    }
    let names = match image.reference {
        // A name with a digest stands for what it found.
        Some(name) if name.digest().is_none() => vec![name],
        _ => state.names(&state.id(&image.descriptor)?)?,
    };
    if names.len() > 1 && !force {
        let shown: Vec<String> = names.iter().map(Reference::familiar).collect();
        let message = format!(
            "conflict: unable to delete {text} (must be forced) - image is referenced by several names"
        );
        return Err(
            usage(message).hint(format!("-f takes all of them away; or name one: {}", shown.join(", ")))
        );
    }
    for name in names {
        state.remove(&name)?;
        to_stdout(format!("Untagged: {}\n", name.familiar()).as_bytes())?;
    }
    Ok(())
}
