use std::path::Path;
use std::process::ExitCode;

use ocibuild::Error;
use ocibuild::registry::Registry;
use ocibuild::spec::{
    CancelToken, ContainerConfig, Digest, Document, ImageSource, Platform, Reference, SourceError,
    SourceErrorKind, parse_manifest_or_index,
};

use crate::args::DeployArgs;
use crate::backends::{Notices, open_images, registry};
use crate::deploy::{DeployOptions, Deployment};
use crate::failure::{Failure, Outcome, usage};
use crate::progress::warn;
use crate::signals::Signals;
use crate::state_dir::state_dir;
use crate::terminal::{Screen, to_stdout};
use crate::values::reference;

/// Prints a Deployment, and a Service if one is wanted.
pub(crate) fn deploy_manifest(root: Option<&Path>, args: &DeployArgs) -> Outcome {
    let name = reference(&args.image)?;
    let (digest, config) = image(root, &name, args)?;
    let options = DeployOptions {
        name: args.name.clone(),
        namespace: args.namespace.clone(),
        replicas: Some(args.replicas),
        ports: args.port.clone(),
        service: args.service,
        pull_secret: args.pull_secret.clone(),
    };
    let deployment = Deployment::new(&name, &digest, &config, &options)?;
    to_stdout(deployment.to_string().as_bytes())?;
    let screen = Screen::of_stderr();
    if !names_registry(&args.image, &name) {
        let full = format!("{}/{}", name.registry(), name.repository());
        let message =
            format!("{} does not name a registry: nodes will look for {full} at Docker Hub", args.image);
        warn(&message, false, screen);
    }
    deployment.notes().iter().for_each(|note| warn(note, false, screen));
    Ok(ExitCode::SUCCESS)
}

/// Digest and config of the image: the one here, or else the registry's.
fn image(
    root: Option<&Path>,
    name: &Reference,
    args: &DeployArgs,
) -> Result<(Digest, ContainerConfig), Failure> {
    let shop = open_images(&state_dir(root)?)?;
    if let Some(descriptor) = shop.layout().resolve(name)? {
        return Ok((descriptor.digest, shop.state().inspect(name)?.config.config));
    }
    if shop.state().find(&args.image).is_ok() {
        let message = format!("{} is the ID of an image here: nodes pull by name", args.image);
        let hint = format!("give it the name: ocibuild tag {} registry.example/team/app:1.0", args.image);
        return Err(usage(message).hint(hint).into());
    }
    let signals = Signals::install()?;
    from_registry(&*registry(&args.registry, Notices::Lines)?, name, &signals.cancel).map_err(|error| {
        let mut failure = Failure::from(Error::of_registry(error));
        failure.signal = signals.received();
        failure
    })
}

/// What the registry has under a name now, and the config of its image for this host, or else of the first one.
fn from_registry(
    registry: &Registry,
    name: &Reference,
    cancel: &CancelToken,
) -> Result<(Digest, ContainerConfig), SourceError> {
    let (descriptor, bytes) = registry.manifest(name, cancel)?;
    let pinned = name.with_digest(descriptor.digest.clone());
    let image = match registry.resolve(&pinned, &Platform::host(), cancel) {
        Err(error) if error.kind() == SourceErrorKind::NoPlatform => {
            let platform = first_platform(&bytes).ok_or(error)?;
            registry.resolve(&pinned, &platform, cancel)?
        }
        result => result?,
    };
    Ok((descriptor.digest, image.config.config))
}

/// The platform of the first image of an index.
fn first_platform(bytes: &[u8]) -> Option<Platform> {
    let Ok(Document::Index(index)) = parse_manifest_or_index(bytes, None) else { return None };
    let is_image = |platform: &Platform| platform.os != "unknown";
    index.manifests.into_iter().filter_map(|entry| entry.platform).find(is_image)
}

/// Whether the registry was written, also where it is the one that everybody assumes.
fn names_registry(text: &str, name: &Reference) -> bool {
    text.starts_with(name.registry()) || text.starts_with("index.docker.io/")
}
