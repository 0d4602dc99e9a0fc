use std::path::Path;
use std::process::ExitCode;

use ocibuild::spec::Reference;
use ocibuild::state::ImageSummary;
use serde_json::json;

use crate::args::{ImagesArgs, RmiArgs, TableFormat, TagArgs};
use crate::backends::Workshop;
use crate::failure::Outcome;
use crate::state_dir::state_dir;
use crate::table::{age, human_size, now, short_id, table};
use crate::terminal::to_stdout;
use crate::values::reference;

/// Docker's table.
pub(crate) fn images(root: Option<&Path>, args: &ImagesArgs) -> Outcome {
    let shop = Workshop::open_plainly(&state_dir(root)?)?;
    let images = shop.state().images()?;
    let id = |image: &ImageSummary| {
        if args.no_trunc { image.config.digest.to_string() } else { short_id(&image.config.digest) }
    };
    let text = if args.quiet {
        images.iter().map(|image| id(image) + "\n").collect()
    } else if args.format == TableFormat::Json {
        images.iter().map(|image| format!("{}\n", object(image))).collect::<Vec<_>>().concat()
    } else {
        let header = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"].map(str::to_owned).to_vec();
        let row = |image: &ImageSummary| {
            vec![
                image.reference.familiar_name(),
                tag_of(&image.reference).to_owned(),
                id(image),
                age(image.created, now()),
                human_size(image.size),
            ]
        };
        table(&std::iter::once(header).chain(images.iter().map(row)).collect::<Vec<_>>())
    };
    to_stdout(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn tag_of(reference: &Reference) -> &str {
    reference.tag().unwrap_or("<none>")
}

fn object(image: &ImageSummary) -> serde_json::Value {
    json!({
        "Repository": image.reference.familiar_name(),
        "Tag": tag_of(&image.reference),
        "ID": image.config.digest.to_string(),
        "Digest": image.descriptor.digest.to_string(),
        "CreatedAt": image.created.map(|time| time.to_string()),
        "Size": image.size,
    })
}

/// Gives an image another name.
pub(crate) fn tag(root: Option<&Path>, args: &TagArgs) -> Outcome {
    let (source, name) = (reference(&args.source)?, nameable(&args.name)?);
    let shop = Workshop::open_plainly(&state_dir(root)?)?;
    shop.state().tag(&source, &name)?;
    Ok(ExitCode::SUCCESS)
}

/// A name that an image can get: digests are not for us to choose.
pub(crate) fn nameable(text: &str) -> Result<Reference, ocibuild::Error> {
    let name = reference(text)?;
    if name.digest().is_some() {
        let name = text.split('@').next().unwrap_or_default();
        return Err(crate::failure::usage(format!("{text}: a name with a digest cannot be given"))
            .hint(format!("the digest follows from what is built: give a tag, as in {name}:1.0")));
    }
    Ok(name)
}

/// Takes names away, all that exist, and fails for the first that does not.
pub(crate) fn rmi(root: Option<&Path>, args: &RmiArgs) -> Outcome {
    let names = args.images.iter().map(|text| reference(text)).collect::<Result<Vec<_>, _>>()?;
    let shop = Workshop::open_plainly(&state_dir(root)?)?;
    let state = shop.state();
    let mut first_error = None;
    for name in names {
        match state.remove(&name) {
            Ok(()) => to_stdout(format!("Untagged: {}\n", name.familiar()).as_bytes())?,
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        Some(error) => Err(error.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}
