//! What is wrong with outputs and annotations, found before anything is built.

use std::path::{Path, PathBuf};

use crate::advice::{Hint, Setting};
use crate::annotation::Annotation;
use crate::error::{Error, ErrorKind};
use crate::image::OutputEpoch;
use crate::request::{Destination, Output, OutputKind, PlannedBuild};

/// Fails when an output of the build cannot be what is asked for. `state` is the state directory.
pub(crate) fn check_outputs(build: &PlannedBuild, state: &Path) -> Result<(), Error> {
    for annotation in &build.annotations {
        check_annotation(build, annotation)?;
    }
    for output in &build.outputs {
        check_output(build, output)?;
        check_emptied(build, output, state)?;
    }
    Ok(())
}

fn check_output(build: &PlannedBuild, output: &Output) -> Result<(), Error> {
    for annotation in &output.annotations {
        check_annotation(build, annotation)?;
    }
    if output.kind == OutputKind::DockerArchive && build.with_index {
        let message = "docker exporter does not currently support exporting manifest lists";
        return Err(usage(message).hint(
            Hint::from("type=oci and ")
                .setting(Setting::Load, "containerd")
                .text(" take several platforms; type=docker, docker and podman take one"),
        ));
    }
    if output.kind == OutputKind::Registry && output.names.is_empty() && build.tags.is_empty() {
        return Err(usage("tag is needed when pushing to registry").hint(
            Hint::from("name the image with its registry: ")
                .setting(Setting::Tag, "registry.example.com/team/app:1.0"),
        ));
    }
    let has_annotations = output.form(build).is_some_and(|form| form.docker && !form.annotations.is_empty());
    if has_annotations {
        let message = "annotations conflict with \"oci-mediatypes=false\"";
        return Err(usage(message).hint("Docker's media types have no place for annotations"));
    }
    Ok(())
}

/// 11.21
fn check_annotation(build: &PlannedBuild, annotation: &Annotation) -> Result<(), Error> {
    if annotation.needs_index() && !build.with_index {
        return Err(usage("index annotations not supported for single platform export")
            .hint(format!("annotate the manifest: manifest:{}=…", annotation.key)));
    }
    let Some(platform) = &annotation.platform else { return Ok(()) };
    if annotation.needs_index() {
        let message =
            format!("invalid annotation: {} of {platform}, but one index has them all", annotation.level);
        return Err(usage(message).hint("leave the platform away"));
    }
    if !build.plans.iter().any(|plan| plan.platform.satisfies(platform)) {
        let built: Vec<String> = build.plans.iter().map(|plan| plan.platform.to_string()).collect();
        let message = format!("invalid annotation: no platform {platform} found in source");
        return Err(usage(message).hint(format!("this build is for {}", built.join(", "))));
    }
    Ok(())
}

/// A directory is not emptied that the build reads from.
fn check_emptied(build: &PlannedBuild, output: &Output, state: &Path) -> Result<(), Error> {
    let Destination::Path(path) = &output.destination else { return Ok(()) };
    // What is not there yet has nothing in it.
    let Some(path) = Some(path).filter(|_| output.replace).and_then(|path| real(path)) else { return Ok(()) };
    let mut kept = vec![PathBuf::from("/"), state.to_owned()];
    kept.extend(build.context.local().and_then(crate::context::LocalContext::directory).and_then(real));
    let is_inside_state = path.starts_with(state);
    match kept.iter().find(|kept| kept.starts_with(&path)) {
        None if !is_inside_state => Ok(()),
        found => {
            let lost = found.map_or(state, PathBuf::as_path).display();
            Err(usage(format!("mode=delete would empty {} and with it {lost}", path.display()))
                .hint("name a directory of its own as dest, or use mode=copy"))
        }
    }
}

fn real(path: &Path) -> Option<PathBuf> {
    fs_err::canonicalize(path).ok()
}

/// The epoch of the outputs that are images. It says what the times in layers are clamped to, and all outputs
/// have the same layers.
pub(crate) fn output_epoch(outputs: &[Output], clamps: bool) -> Result<OutputEpoch, Error> {
    let mut images = outputs.iter().filter(|output| !output.kind.is_files()).map(|output| output.epoch);
    let Some(first) = images.next() else { return Ok(OutputEpoch::OfBuild) };
    if clamps && images.any(|other| other != first) {
        return Err(usage("all outputs of a build have the same layers")
            .hint("give every output the same source-date-epoch, or build twice"));
    }
    Ok(first)
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}
