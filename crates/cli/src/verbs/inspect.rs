use std::path::Path;
use std::process::ExitCode;

use ocibuild::spec::Reference;
use ocibuild::state::{ImageDetails, State};
use ocibuild::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::args::InspectArgs;
use crate::backends::Workshop;
use crate::failure::Outcome;
use crate::state_dir::state_dir;
use crate::terminal::to_stdout;
use crate::values::reference;

/// A list with an object for each image, with docker's keys where docker has them.
pub(crate) fn inspect(root: Option<&Path>, args: &InspectArgs) -> Outcome {
    let names = args.images.iter().map(|text| reference(text)).collect::<Result<Vec<_>, _>>()?;
    let shop = Workshop::open_plainly(&state_dir(root)?)?;
    let state = shop.state();
    let objects = names.iter().map(|name| object(&state, name)).collect::<Result<Vec<_>, _>>()?;
    to_stdout(format!("{:#}\n", Value::from(objects)).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn object(state: &State<'_>, name: &Reference) -> Result<Value, Error> {
    let ImageDetails { descriptor, manifest, config } = state.inspect(name)?;
    let mut names: Vec<String> = state
        .images()?
        .into_iter()
        .filter(|image| image.config.digest == manifest.config.digest)
        .map(|image| image.reference.familiar())
        .collect();
    names.dedup();
    let repository = format!("{}@{}", name.familiar_name(), descriptor.digest);
    let size: u64 = manifest.layers().iter().map(|layer| layer.size).sum();
    let config = value_of(&config)?;
    let part = |key: &str| config.get(key).cloned().unwrap_or(Value::Null);
    Ok(json!({
        "Id": manifest.config.digest.to_string(),
        "RepoTags": names,
        "RepoDigests": [repository],
        "Created": part("created"),
        "Author": part("author"),
        "Architecture": part("architecture"),
        "Variant": part("variant"),
        "Os": part("os"),
        "Size": size,
        "Config": part("config"),
        "RootFS": { "Type": "layers", "Layers": config.pointer("/rootfs/diff_ids") },
        "History": part("history"),
        "Descriptor": value_of(&descriptor)?,
        "Manifest": value_of(&manifest)?,
    }))
}

fn value_of(value: &impl serde::Serialize) -> Result<Value, Error> {
    serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::Refused, "the image cannot be shown as JSON").caused_by(error))
}
