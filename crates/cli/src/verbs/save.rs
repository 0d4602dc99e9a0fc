//! `save` and `load`.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use ocibuild::Error;
use ocibuild::files::own_descriptor;
use ocibuild::spec::{Descriptor, Reference};
use ocibuild::state::{Catalog, LoadSource};
use ocibuild::store::ArchiveFormat;

use super::results::{archive_destination, check_file, is_terminal};
use crate::args::{LoadArgs, SaveArgs, SaveFormat};
use crate::backends::open_images;
use crate::failure::{Failure, Outcome, about, usage};
use crate::remote::StandardInput;
use crate::signals::Signals;
use crate::state_dir::state_dir;
use crate::terminal::{to_stderr, to_stdout};

/// Writes images into an archive.
pub(crate) fn save(root: Option<&Path>, args: &SaveArgs) -> Outcome {
    let output = args.output.as_deref().filter(|path| path.as_os_str() != "-");
    match output {
        Some(path) if is_terminal(path) => return Err(to_a_terminal().into()),
        Some(path) => about("--output", &path.display().to_string())(check_file(path))?,
        None if io::stdout().is_terminal() => {
            return Err(to_a_terminal().into());
        }
        None => {}
    }
    let shop = open_images(&state_dir(root)?)?;
    let state = shop.state();
    let signals = Signals::install()?;
    let catalog = state.catalog()?;
    let mut images = Vec::new();
    for text in &args.images {
        images.extend(named(&catalog, text)?);
    }
    let format = match args.format {
        SaveFormat::Docker => ArchiveFormat::Docker,
        SaveFormat::Oci => ArchiveFormat::Oci,
    };
    state.save(&images, format, archive_destination(output), &signals.cancel).map_err(|error| {
        let mut failure = Failure::from(error);
        failure.signal = signals.received();
        failure
    })?;
    Ok(ExitCode::SUCCESS)
}

fn to_a_terminal() -> Error {
    usage("cowardly refusing to save to a terminal")
        .hint("name a file with -o FILE, or redirect standard output")
}

/// What docker takes a name for: with a tag one image, without all images of the repository.
fn named(catalog: &Catalog<'_>, text: &str) -> Result<Vec<(Option<Reference>, Descriptor)>, Error> {
    let name = text.parse::<Reference>().ok().filter(|name| name.digest().is_none());
    let has_tag = text.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if let (Some(name), false) = (name, has_tag) {
        let all = catalog.of_repository(&name).map(|(name, image)| (Some(name.clone()), image.clone()));
        let images: Vec<_> = all.collect();
        if !images.is_empty() {
            return Ok(images);
        }
    }
    let image = catalog.find(text)?;
    Ok(vec![(image.reference.filter(|name| name.digest().is_none()), image.descriptor)])
}

/// Takes over the images of an archive.
pub(crate) fn load(root: Option<&Path>, args: &LoadArgs) -> Outcome {
    let is_stdin = |path: &Path| path.as_os_str() == "-" || own_descriptor(path) == Some(0);
    let input = args.input.as_deref().filter(|path| !is_stdin(path));
    if input.is_none() && io::stdin().is_terminal() {
        return Err(usage("requested load from standard input, but that is a terminal")
            .hint("name the archive with -i FILE")
            .into());
    }
    if let Some(path) = input.filter(|path| !path.exists()) {
        return Err(usage(format!("--input {}: there is no such file", path.display()))
            .hint("name an archive that docker save, podman save or ocibuild save wrote")
            .into());
    }
    let shop = open_images(&state_dir(root)?)?;
    let signals = Signals::install()?;
    let source = match input {
        Some(path) => LoadSource::Path(path.to_owned()),
        None => LoadSource::Reader(Box::new(StandardInput { cancel: &signals.cancel })),
    };
    let loaded = shop.state().load(source, &signals.cancel).map_err(|error| {
        let mut failure = Failure::from(error);
        failure.signal = signals.received();
        failure
    })?;
    for image in loaded {
        for name in &image.names {
            to_stdout(format!("Loaded image: {}\n", name.familiar()).as_bytes())?;
        }
        if image.names.is_empty() {
            to_stdout(format!("Loaded image ID: {}\n", image.config).as_bytes())?;
        }
        if !image.absent.is_empty() {
            let platforms: Vec<String> = image.absent.iter().map(ToString::to_string).collect();
            to_stderr(&format!("note: not in the archive, or not loaded: {}\n", platforms.join(", ")));
        }
    }
    Ok(ExitCode::SUCCESS)
}
