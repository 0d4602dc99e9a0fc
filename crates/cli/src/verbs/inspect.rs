use std::path::Path;
use std::process::ExitCode;

use ocibuild::spec::{ContainerConfig, HealthConfig};
use ocibuild::state::{Catalog, ImageDetails, State};
use ocibuild::{Error, ErrorKind};

use crate::args::InspectArgs;
use crate::backends::open_images;
use crate::failure::Outcome;
use crate::state_dir::state_dir;
use crate::template::{Field, Mode, Template, Value};
use crate::terminal::{to_reader, to_stdout};

/// A list with an object for each image, with docker's keys in docker's order; or what a template makes of each.
pub(crate) fn inspect(root: Option<&Path>, args: &InspectArgs) -> Outcome {
    let template = match args.format.as_deref() {
        None | Some("" | "json") => None,
        Some(text) => Some(Template::parse(text)?),
    };
    let shop = open_images(&state_dir(root)?)?;
    let state = shop.state();
    let catalog = state.catalog()?;
    let mut wrong: Option<Error> = None;
    let mut objects = Vec::new();
    for text in &args.images {
        match object(&state, &catalog, text) {
            Ok(object) => objects.push(object),
            Err(error) => {
                wrong = Some(match wrong {
                    Some(first) => first.with(error),
                    None => error,
                });
            }
        }
    }
    if let Some(template) = template {
        for object in &objects {
            to_reader(&(template.render(object, Mode::Rows)? + "\n"))?;
        }
    } else {
        let list = Value::List(Some(objects));
        let text = if args.format.as_deref() == Some("json") { list.json() } else { list.json_indented() };
        to_stdout((text + "\n").as_bytes())?;
    }
    match wrong {
        Some(error) => Err(error.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn object(state: &State<'_>, catalog: &Catalog<'_>, text: &str) -> Result<Value, Error> {
    let image = state.details(&catalog.find(text)?.descriptor)?;
    let size: u64 = state.layer_sizes(&image)?.iter().sum();
    let ImageDetails { descriptor, manifest, config, .. } = &image;
    let names = catalog.names(&manifest.config.digest)?;
    let tags = names.iter().filter(|name| name.digest().is_none());
    let tags: Vec<Value> = tags.map(|name| Value::from(name.familiar())).collect();
    let mut digests: Vec<String> =
        names.iter().map(|name| format!("{}@{}", name.familiar_name(), descriptor.digest)).collect();
    digests.dedup();
    let created = config.created.map_or(NO_TIME.to_owned(), |time| time.to_string());
    let layers = config.rootfs.layers().iter().map(|layer| Value::from(layer.to_string())).collect();
    Ok(Value::object(vec![
        Field::new("Id", manifest.config.digest.to_string()),
        Field::new("RepoTags", Value::List(Some(tags))),
        Field::new("RepoDigests", Value::List(Some(digests.into_iter().map(Value::from).collect()))),
        Field::new("Parent", ""),
        Field::new("Comment", config.history.last().map_or("", |last| &last.comment)),
        Field::new("Created", created),
        Field::new("DockerVersion", ""),
        Field::new("Author", config.author.as_str()),
        Field::new("Config", container(&config.config)),
        Field::new("Architecture", config.architecture.as_str()),
        Field::optional("Variant", config.variant.as_str()),
        Field::new("Os", config.os.as_str()),
        Field::optional("OsVersion", config.os_version.as_str()),
        Field::new("Size", Value::Int(i64::try_from(size).unwrap_or(i64::MAX))),
        Field::new(
            "RootFS",
            Value::object(vec![
                Field::new("Type", config.rootfs.kind.as_str()),
                Field::new("Layers", Value::List(Some(layers))),
            ]),
        ),
        Field::new("Metadata", Value::object(vec![Field::new("LastTagTime", NO_TIME)])),
        Field::new("Descriptor", value_of(descriptor)?),
        // What follows is ours.
        Field::new("Manifest", value_of(manifest)?),
        Field::new("History", value_of(&config.history)?),
    ]))
}

/// Go's zero time, which docker shows where it knows none.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

fn container(config: &ContainerConfig) -> Value {
    let set =
        |names: Vec<&String>| Value::map(names.into_iter().map(|name| (name, Value::object(Vec::new()))));
    Value::object(vec![
        Field::new("User", config.user.as_str()),
        Field::optional("ExposedPorts", set(config.exposed_ports.keys().collect())),
        Field::new("Env", Value::texts(&config.env)),
        Field::new("Cmd", Value::texts(&config.cmd)),
        Field::optional("Healthcheck", config.healthcheck.as_ref().map_or(Value::Nil, healthcheck)),
        Field::optional("ArgsEscaped", config.args_escaped),
        Field::new("Volumes", set(config.volumes.keys().collect())),
        Field::new("WorkingDir", config.working_dir.as_str()),
        Field::new("Entrypoint", Value::texts(&config.entrypoint)),
        Field::new("OnBuild", Value::texts(&config.on_build)),
        Field::new("Labels", Value::map(config.labels.iter().map(|(name, value)| (name, value.as_str())))),
        Field::optional("StopSignal", config.stop_signal.as_str()),
        Field::optional("Shell", Value::texts(&config.shell)),
    ])
}

fn healthcheck(check: &HealthConfig) -> Value {
    Value::object(vec![
        Field::optional("Test", Value::texts(&check.test)),
        Field::optional("Interval", Value::Duration(check.interval)),
        Field::optional("Timeout", Value::Duration(check.timeout)),
        Field::optional("StartPeriod", Value::Duration(check.start_period)),
        Field::optional("StartInterval", Value::Duration(check.start_interval)),
        Field::optional("Retries", Value::Int(check.retries)),
    ])
}

fn value_of(value: &impl serde::Serialize) -> Result<Value, Error> {
    serde_json::to_value(value)
        .map(Value::from)
        .map_err(|error| Error::new(ErrorKind::Refused, "the image cannot be shown as JSON").caused_by(error))
}
