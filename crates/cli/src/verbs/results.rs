//! What a build leaves besides its outputs: the files of `--iidfile` and `--metadata-file`.

use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use ocibuild::files::FileTarget;
use ocibuild::spec::Reference;
use ocibuild::{Built, Destination, Error, ErrorKind, Output};
use serde_json::json;

use crate::args::RegistryArgs;
use crate::backends::{Notices, registry};
use crate::failure::{ReaderGone, about, host, usage};
use crate::values::{OutputSpec, Target};

/// Outputs for the library; what cannot succeed is refused before an hour of building.
pub(super) fn outputs(
    specs: Vec<OutputSpec>,
    registries: &RegistryArgs,
    notices: Notices,
) -> Result<Vec<Output>, Error> {
    specs.into_iter().map(|spec| output(spec, registries, notices)).collect()
}

fn output(spec: OutputSpec, registries: &RegistryArgs, notices: Notices) -> Result<Output, Error> {
    let destination = match spec.target {
        Target::Stdout if io::stdout().is_terminal() => {
            return Err(usage("--output: a tar is not written to a terminal")
                .hint("name a file with dest=FILE, or redirect standard output"));
        }
        Target::Stdout => Destination::Writer(Box::new(Stdout)),
        Target::Registry { by_digest } => {
            Destination::Registry { client: (*registry(registries, notices)?).clone(), by_digest }
        }
        Target::Path(path) if is_terminal(&path) => {
            return Err(usage("--output: a tar is not written to a terminal")
                .hint("name a file with dest=FILE, or redirect standard output"));
        }
        Target::Path(path) => {
            let is_directory =
                matches!(spec.kind, ocibuild::OutputKind::Local | ocibuild::OutputKind::OciLayout);
            let check = if is_directory { check_directory(&path) } else { check_file(&path) };
            about("--output", &format!("dest={}", path.display()))(check)?;
            Destination::Path(path)
        }
    };
    let mut output = Output::new(spec.kind, destination)
        .names(spec.names)
        .docker_media_types(spec.docker_media_types)
        .epoch(spec.epoch)
        .replace(spec.replace);
    for annotation in spec.annotations {
        output = output.annotation(annotation);
    }
    if let Some(split) = spec.platform_split {
        output = output.platform_split(split);
    }
    Ok(output)
}

/// Whether what is written to this file shows on a terminal.
pub(super) fn is_terminal(path: &Path) -> bool {
    let is_device = fs_err::metadata(path).is_ok_and(|metadata| metadata.file_type().is_char_device());
    is_device && fs_err::File::open(path).is_ok_and(|file| file.file().is_terminal())
}

/// Refuses what no file can be written to.
pub(super) fn check_file(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Err(usage(format!("--output: {} is a directory", path.display()))
            .hint("name a file; type=local and tar=false write directories"));
    }
    in_a_directory(path)
}

fn check_directory(path: &Path) -> Result<(), Error> {
    if path.is_file() {
        return Err(Error::new(ErrorKind::Host, format!("cannot write below {}, which is a file", path.display()))
            .hint("name another directory, or remove the file; an archive is type=oci,dest=FILE or type=tar,dest=FILE"));
    }
    Ok(())
}

/// Refuses what cannot be written to since its directory is not there.
pub(super) fn in_a_directory(path: &Path) -> Result<(), Error> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(Error::new(ErrorKind::Host, format!("cannot write {}", path.display())).hint(format!(
            "the directory {} does not exist: make it first (mkdir -p), or name another destination",
            parent.display()
        )));
    }
    Ok(())
}

/// Standard output as one stream of bytes.
#[derive(Debug)]
struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().lock().write(bytes).map_err(gone)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().flush().map_err(gone)
    }
}

/// Where an archive goes: a file, or standard output.
pub(super) fn archive_destination(path: Option<&Path>) -> Destination {
    match path {
        Some(path) => Destination::Path(path.to_owned()),
        None => Destination::Writer(Box::new(Stdout)),
    }
}

fn gone(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone),
        _ => error,
    }
}

/// The files of `--iidfile` and `--metadata-file`.
pub(super) struct ResultFiles {
    pub(super) iidfile: Option<PathBuf>,
    pub(super) metadata_file: Option<PathBuf>,
}

impl ResultFiles {
    /// Refuses what could not be written to.
    pub(super) fn check(&self) -> Result<(), Error> {
        for (flag, file) in [("--iidfile", &self.iidfile), ("--metadata-file", &self.metadata_file)] {
            if let Some(path) = file {
                about(flag, &path.display().to_string())(in_a_directory(path))?;
            }
        }
        Ok(())
    }

    /// Takes away those of an earlier build.
    pub(super) fn forget(&self) -> Result<(), Error> {
        self.iidfile.iter().chain(&self.metadata_file).try_for_each(|path| forget(path))
    }

    pub(super) fn write(&self, image: &Built, names: &[Reference]) -> Result<(), Error> {
        if let Some(path) = &self.iidfile {
            // The digest alone, without line end, as docker writes it.
            replace(path, image.descriptor.digest.to_string().as_bytes())?;
        }
        self.metadata_file.as_deref().map_or(Ok(()), |path| write_metadata(path, image, names))
    }
}

/// Takes away the file of an earlier build, so that nobody takes it for this one's when this one fails. What is no
/// regular file is never removed: a pipe, a device, a descriptor such as `/dev/stdout`.
fn forget(path: &Path) -> Result<(), Error> {
    let FileTarget::Replaced(target) = FileTarget::of(path) else { return Ok(()) };
    match fs_err::remove_file(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(host(format!("cannot replace {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// The keys of 11.62.
fn write_metadata(path: &Path, image: &Built, names: &[Reference]) -> Result<(), Error> {
    let mut object = json!({
        "containerimage.descriptor": image.descriptor,
        "containerimage.digest": image.descriptor.digest.to_string(),
    });
    if image.index.is_none() {
        // An index has no config of its own.
        for image in &image.images {
            object["containerimage.config.digest"] = image.manifest.config.digest.to_string().into();
        }
    }
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        object["image.name"] = names.join(",").into();
    }
    replace(path, format!("{object:#}\n").as_bytes())
}

/// Whole or not at all: a temporary file beside it takes its name. A pipe, a device and a descriptor are written to.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let cannot = |error| host(format!("cannot write {}", path.display()), error);
    let path = &match FileTarget::of(path) {
        FileTarget::Opened(target) => {
            let written = FileTarget::open(&target).and_then(|mut file| file.write_all(bytes));
            return written.map_err(cannot);
        }
        FileTarget::Replaced(target) => target,
    };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = Path::new(&name);
    let written = fs_err::write(temporary, bytes).and_then(|()| fs_err::rename(temporary, path));
    written.map_err(|error| {
        let _ = fs_err::remove_file(temporary);
        cannot(error)
    })
}
