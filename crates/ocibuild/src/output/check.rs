//! What is wrong with outputs and annotations, found before anything is built.

use std::path::{Path, PathBuf};

use crate::annotation::Annotation;
use crate::error::Error;
use crate::failure::OutputFailure;
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
        return Err(OutputFailure::SeveralPlatforms.into());
    }
    if output.kind == OutputKind::Registry && output.names.is_empty() && build.tags.is_empty() {
        return Err(OutputFailure::NoName.into());
    }
    let has_annotations = output.form(build).is_some_and(|form| form.docker && !form.annotations.is_empty());
    if has_annotations {
        return Err(OutputFailure::AnnotationsOfDocker.into());
    }
    Ok(())
}

/// 11.21
fn check_annotation(build: &PlannedBuild, annotation: &Annotation) -> Result<(), Error> {
    if annotation.needs_index() && !build.with_index {
        return Err(OutputFailure::NoIndex { key: annotation.key.clone() }.into());
    }
    let Some(platform) = &annotation.platform else { return Ok(()) };
    if annotation.needs_index() {
        let (level, platform) = (annotation.level, platform.clone());
        return Err(OutputFailure::PlatformOfIndex { level, platform }.into());
    }
    if !build.plans.iter().any(|plan| plan.platform.satisfies(platform)) {
        let built = build.plans.iter().map(|plan| plan.platform.clone()).collect();
        return Err(OutputFailure::NoSuchPlatform { platform: platform.clone(), built }.into());
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
            let lost = found.map_or(state, PathBuf::as_path).to_owned();
            Err(OutputFailure::WouldEmpty { path, lost }.into())
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
        return Err(OutputFailure::SeveralEpochs.into());
    }
    Ok(first)
}
