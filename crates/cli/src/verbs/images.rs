use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use ocibuild::spec::{Descriptor, Digest, Reference};
use ocibuild::state::{Catalog, ImageSummary, State, no_such_image};
use ocibuild::{Error, StateDirectory};

use crate::args::{ImagesArgs, RmiArgs, TagArgs};
use crate::backends::open_images;
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
    let shop = open_images(&state_dir(root)?)?;
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
    let shop = open_images(&state_dir(root)?)?;
    let image = shop.state().find(&args.source)?;
    shop.layout().tag(&name, &image.descriptor)?;
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
        return Err(usage(format!("{text}: this name would look like an ID"))
            .hint("use a name made of words: app:1.0"));
    }
    Ok(name)
}

/// Takes names away, all that exist, and fails for those that do not.
pub(crate) fn rmi(root: Option<&Path>, args: &RmiArgs) -> Outcome {
    let shop = open_images(&state_dir(root)?)?;
    let mut removal = Removal::of(&shop)?;
    let mut wrong: Option<Error> = None;
    for text in &args.images {
        match removal.add(text, args.force) {
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
    removal.carry_out()?;
    match wrong {
        Some(error) => Err(error.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn is_absence(error: &Error) -> bool {
    error.is(ocibuild::Code::NoSuchImage)
}

/// What is to be taken away: all of it at once, for each change writes the index anew.
struct Removal<'s> {
    state: State<'s>,
    catalog: Catalog<'s>,
    /// In the order in which it is told.
    names: Vec<Reference>,
    taken: BTreeSet<Reference>,
    unnamed: BTreeMap<Digest, Descriptor>,
}

impl<'s> Removal<'s> {
    fn of(shop: &'s StateDirectory) -> Result<Self, Error> {
        let state = shop.state();
        let catalog = state.catalog()?;
        Ok(Self { state, catalog, names: Vec::new(), taken: BTreeSet::new(), unnamed: BTreeMap::new() })
    }

    /// Adds a name, or the names of what an ID means.
    fn add(&mut self, text: &str, force: bool) -> Result<(), Error> {
        let image = self.catalog.find(text)?;
        if let Some(name) = image.reference.as_ref().filter(|name| self.taken.contains(name)) {
            return Err(no_such_image(name));
        }
        let names = match image.reference {
            // A name with a digest stands for what it found.
            Some(name) if name.digest().is_none() => vec![name],
            _ => self.catalog.names(&self.state.id(&image.descriptor)?)?,
        };
        if names.is_empty() {
            self.unnamed.insert(image.descriptor.digest.clone(), image.descriptor);
            return Ok(());
        }
        let names: Vec<Reference> = names.into_iter().filter(|name| !self.taken.contains(name)).collect();
        if names.len() > 1 && !force {
            let shown: Vec<String> = names.iter().map(Reference::familiar).collect();
            let message = format!(
                "conflict: unable to delete {text} (must be forced) - image is referenced by several names"
            );
            return Err(
                usage(message).hint(format!("-f removes all of them; or name one: {}", shown.join(", ")))
            );
        }
        self.taken.extend(names.iter().cloned());
        self.names.extend(names);
        Ok(())
    }

    fn carry_out(self) -> Result<(), Error> {
        let mut removed = Vec::new();
        for image in self.unnamed.values() {
            let id = self.state.id(image)?;
            if self.state.forget(image)? {
                removed.push(id.to_string());
            }
        }
        let names = self.state.remove_all(&self.names)?;
        removed.extend(self.names.iter().filter(|name| names.contains(name)).map(Reference::familiar));
        let lines: Vec<String> = removed.iter().map(|what| format!("Untagged: {what}\n")).collect();
        to_stdout(lines.concat().as_bytes())
    }
}
