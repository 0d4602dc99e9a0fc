use std::path::PathBuf;

use ocibuild::layer::Compression;
use ocibuild::spec::Reference;
use ocibuild::{Annotation, Error, OutputEpoch, OutputKind};

use super::annotation::annotation_attribute;
use super::csv::pairs_as_written;
use super::simple::{one_of, reference};
use crate::failure::usage;

/// All of `--output`.
#[derive(Debug, Default)]
pub(crate) struct BuildOutputs {
    pub(crate) outputs: Vec<OutputSpec>,
    /// `None` leaves the library's choice.
    pub(crate) compression: Option<Compression>,
    pub(crate) force_compression: bool,
    pub(crate) rewrite_timestamps: bool,
    /// `type=cacheonly`: no name, no file.
    pub(crate) cache_only: bool,
}

/// One place that the result goes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutputSpec {
    pub(crate) kind: OutputKind,
    pub(crate) target: Target,
    pub(crate) names: Vec<Reference>,
    pub(crate) docker_media_types: bool,
    pub(crate) annotations: Vec<Annotation>,
    pub(crate) epoch: OutputEpoch,
    pub(crate) platform_split: Option<bool>,
    /// `mode=delete`
    pub(crate) replace: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    Path(PathBuf),
    /// The registries of the names.
    Registry {
        /// `push-by-digest`
        by_digest: bool,
    },
}

/// `--push`
pub(crate) fn push_output() -> OutputSpec {
    OutputSpec {
        kind: OutputKind::Registry,
        target: Target::Registry { by_digest: false },
        names: Vec::new(),
        docker_media_types: false,
        annotations: Vec::new(),
        epoch: OutputEpoch::OfBuild,
        platform_split: None,
        replace: false,
    }
}

/// One `--output`, field by field.
#[derive(Debug, Default)]
struct Fields {
    kind: String,
    dest: Option<String>,
    names: Vec<Reference>,
    as_tar: Option<bool>,
    layers: Layers,
    docker_media_types: bool,
    annotations: Vec<Annotation>,
    epoch: OutputEpoch,
    platform_split: Option<bool>,
    replace: bool,
    push: Option<bool>,
    by_digest: bool,
    /// Every attribute but `type`.
    given: Vec<String>,
}

/// How an output wants the layers, which are the same ones for all outputs of a build.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Layers {
    compression: Option<String>,
    level: Option<i32>,
    force: bool,
    rewrite_timestamps: bool,
}

/// What all `--output` together ask for.
pub(crate) fn outputs(texts: &[String]) -> Result<BuildOutputs, Error> {
    let mut out = BuildOutputs::default();
    let mut layers: Option<Layers> = None;
    for text in texts {
        let fields = fields(text)?;
        if !matches!(fields.kind.as_str(), "local" | "tar" | "cacheonly" | "none") {
            if layers.as_ref().is_some_and(|other| *other != fields.layers) {
                return Err(usage(format!("--output {text}: all outputs of a build have the same layers"))
                    .hint("give every --output the same compression and rewrite-timestamp, or build twice"));
            }
            layers = Some(fields.layers.clone());
        }
        match output(text, fields)? {
            Some(output) => out.outputs.push(output),
            None => out.cache_only = true,
        }
    }
    if out.cache_only && !out.outputs.is_empty() {
        return Err(usage("--output type=cacheonly cannot be combined with another output"));
    }
    let to_stdout = out.outputs.iter().filter(|output| output.target == Target::Stdout).count();
    if to_stdout > 1 {
        return Err(usage("--output: standard output can take only one output")
            .hint("name a file for the others: dest=FILE"));
    }
    let layers = layers.unwrap_or_default();
    out.compression = compression(&layers)?;
    out.force_compression = layers.force;
    out.rewrite_timestamps = layers.rewrite_timestamps;
    Ok(out)
}

fn fields(text: &str) -> Result<Fields, Error> {
    let mut out = Fields::default();
    if !text.contains('=') && !text.contains(',') {
        // 11.60
        out.kind.push_str(if text == "-" { "tar" } else { "local" });
        out.dest = Some(text.to_owned());
        return Ok(out);
    }
    let wrong = |what: String| usage(format!("--output {text}: {what}"));
    for (written, value) in pairs_as_written("--output", text)? {
        if let Some(annotation) = annotation_attribute(&written, &value) {
            out.annotations.push(annotation.map_err(wrong)?);
            out.given.push("annotation".to_owned());
            continue;
        }
        let key = written.to_lowercase();
        if key != "type" {
            out.given.push(key.clone());
        }
        let flag = || boolean(&value).ok_or_else(|| wrong(format!("{key} is true or false")));
        match key.as_str() {
            "type" => out.kind.clone_from(&value),
            "dest" => out.dest = Some(value),
            "name" => {
                out.names = value.split(',').map(|name| reference(name.trim())).collect::<Result<_, _>>()?;
            }
            "tar" => out.as_tar = Some(flag()?),
            "compression" => out.layers.compression = Some(value),
            "compression-level" => {
                let level = value.parse().map_err(|_| {
                    wrong("compression-level is a number".to_owned()).hint("write compression-level=6")
                })?;
                out.layers.level = Some(level);
            }
            "force-compression" => out.layers.force = flag()?,
            "rewrite-timestamp" => out.layers.rewrite_timestamps = flag()?,
            "oci-mediatypes" => out.docker_media_types = !flag()?,
            "source-date-epoch" if value.is_empty() => out.epoch = OutputEpoch::None,
            "source-date-epoch" => {
                let seconds = value.parse().map_err(|_| {
                    wrong(format!("invalid SOURCE_DATE_EPOCH: {value}"))
                        .hint("give seconds since 1970: source-date-epoch=0")
                })?;
                out.epoch = OutputEpoch::At(seconds);
            }
            "platform-split" => out.platform_split = Some(flag()?),
            "push" => out.push = Some(flag()?),
            "push-by-digest" => out.by_digest = flag()?,
            "registry.insecure" => {
                return Err(wrong("trust is not an attribute of an output".to_owned())
                    .hint("write --insecure-registry HOST, which names the registry"));
            }
            "mode" => {
                out.replace = match value.as_str() {
                    "copy" => false,
                    "delete" => true,
                    _ => return Err(wrong("mode is copy or delete".to_owned())),
                };
            }
            // They ask for what is done anyway.
            "attestation-inline" | "oci-artifact" | "prefer-nondist-layers" if !flag()? => {}
            other => {
                let known = [
                    "type",
                    "dest",
                    "name",
                    "tar",
                    "compression",
                    "compression-level",
                    "force-compression",
                    "rewrite-timestamp",
                    "oci-mediatypes",
                    "source-date-epoch",
                    "platform-split",
                    "mode",
                    "push",
                    "push-by-digest",
                ];
                return Err(one_of(
                    wrong(format!("{other}={value} is not known to this version")),
                    other,
                    &known,
                ));
            }
        }
    }
    Ok(out)
}

/// As Go's `strconv.ParseBool`, which is what docker reads these with.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn output(text: &str, fields: Fields) -> Result<Option<OutputSpec>, Error> {
    let wrong = |what: &str| usage(format!("--output {text}: {what}"));
    let is_layout = fields.as_tar == Some(false);
    let kind = match fields.kind.as_str() {
        "oci" if is_layout => OutputKind::OciLayout,
        "oci" => OutputKind::OciArchive,
        "docker" if is_layout => {
            return Err(wrong("an archive for docker is a tar").hint("omit tar=false, or write type=oci"));
        }
        "docker" => OutputKind::DockerArchive,
        "tar" => OutputKind::Tar,
        "local" => OutputKind::Local,
        "cacheonly" | "none" => return Ok(None),
        "registry" if fields.push != Some(false) => OutputKind::Registry,
        "image" if fields.push == Some(true) => OutputKind::Registry,
        "image" | "registry" => {
            return Err(wrong("an image that is not pushed is not an output")
                .hint("-t NAME alone keeps the image here; push=true pushes it"));
        }
        "" => return Err(wrong("type is missing").hint("write type=oci,dest=FILE or type=local,dest=DIR")),
        other => {
            let error = wrong(&format!("unknown type {other:?}"))
                .hint("the types are oci, docker, registry, tar and local");
            return Err(one_of(error, other, &["oci", "docker", "registry", "tar", "local"]));
        }
    };
    refuse_foreign(text, kind, &fields)?;
    let is_directory = matches!(kind, OutputKind::Local | OutputKind::OciLayout);
    let target = match fields.dest.as_deref() {
        _ if kind == OutputKind::Registry => Target::Registry { by_digest: fields.by_digest },
        Some("") => return Err(wrong("dest is empty").hint("write dest=PATH")),
        Some("-") if is_directory => return Err(wrong("a directory cannot be written to standard output")),
        Some("-") => Target::Stdout,
        Some(dest) => Target::Path(PathBuf::from(dest)),
        None if is_directory => return Err(wrong("dest is missing").hint("name a directory with dest=DIR")),
        None if kind == OutputKind::DockerArchive => {
            return Err(wrong("dest is missing").hint(
                "--load hands the image to docker, podman or containerd; dest=FILE writes an archive",
            ));
        }
        None => Target::Stdout,
    };
    Ok(Some(OutputSpec {
        kind,
        target,
        names: fields.names,
        docker_media_types: fields.docker_media_types,
        annotations: fields.annotations,
        epoch: fields.epoch,
        platform_split: fields.platform_split,
        replace: fields.replace,
    }))
}

/// Attributes that say nothing about an output of this kind are errors: whoever gives them expects an effect.
fn refuse_foreign(text: &str, kind: OutputKind, fields: &Fields) -> Result<(), Error> {
    let fits = |attribute: &str| match attribute {
        "rewrite-timestamp" | "source-date-epoch" => true,
        "dest" => kind != OutputKind::Registry,
        "push" | "push-by-digest" => kind == OutputKind::Registry,
        "platform-split" => matches!(kind, OutputKind::Local | OutputKind::Tar),
        "mode" => kind == OutputKind::Local,
        _ => !matches!(kind, OutputKind::Local | OutputKind::Tar),
    };
    match fields.given.iter().find(|attribute| !fits(attribute)) {
        None => Ok(()),
        Some(attribute) => {
            let kind = &fields.kind;
            Err(usage(format!("--output {text}: {attribute} is not an attribute of type={kind}")))
        }
    }
}

fn compression(layers: &Layers) -> Result<Option<Compression>, Error> {
    let level = layers.level;
    let out_of_range = |range: &str| usage(format!("--output: compression-level is {range}"));
    match layers.compression.as_deref() {
        None | Some("gzip") => match level {
            None | Some(-1) => Ok(layers.compression.is_some().then_some(Compression::GZIP)),
            Some(level @ 0..=9) => Ok(Some(Compression::Gzip { level: level.unsigned_abs() })),
            Some(_) => Err(out_of_range("0 to 9 for gzip")),
        },
        Some("zstd") => match level {
            None => Ok(Some(Compression::ZSTD)),
            Some(level @ 0..=22) => Ok(Some(Compression::Zstd { level })),
            Some(_) => Err(out_of_range("0 to 22 for zstd")),
        },
        Some("uncompressed") => Ok(Some(Compression::None)),
        Some("estargz") => Err(usage("--output: compression=estargz is not supported yet")
            .hint("the compressions are gzip, zstd and uncompressed")),
        Some(other) => {
            let error = usage(format!("--output: unsupported compression type {other}"));
            Err(one_of(error, other, &["gzip", "zstd", "uncompressed"]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Result<BuildOutputs, Error> {
        outputs(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    fn one(text: &str) -> OutputSpec {
        all(&[text]).unwrap().outputs.remove(0)
    }

    #[test]
    fn short_forms() {
        assert_eq!((one("out").kind, one("out").target), (OutputKind::Local, Target::Path("out".into())));
        assert_eq!((one("-").kind, one("-").target), (OutputKind::Tar, Target::Stdout));
    }

    #[test]
    fn long_forms() {
        assert_eq!(one("type=oci,dest=a.tar").kind, OutputKind::OciArchive);
        assert_eq!(one("type=oci,tar=false,dest=a").kind, OutputKind::OciLayout);
        assert_eq!(one("type=oci").target, Target::Stdout);
        assert_eq!(one(r#"type=docker,dest=a,"name=x,y:1""#).names.len(), 2);
        let zstd =
            all(&["type=oci,dest=a,compression=zstd,compression-level=5,rewrite-timestamp=1"]).unwrap();
        assert_eq!(zstd.compression, Some(Compression::Zstd { level: 5 }));
        assert!(zstd.rewrite_timestamps);
        assert!(all(&["type=cacheonly"]).unwrap().cache_only);
        assert_eq!(
            one("type=image,name=a,push=true"),
            OutputSpec { names: one("type=registry,name=a").names, ..push_output() }
        );
        assert_eq!(one("type=registry,push-by-digest=true").target, Target::Registry { by_digest: true });
    }

    #[test]
    fn attributes() {
        let oci = one("type=oci,dest=a,oci-mediatypes=false,source-date-epoch=,Annotation.Org=x");
        assert!(oci.docker_media_types);
        assert_eq!((oci.epoch, oci.annotations[0].key.as_str()), (OutputEpoch::None, "Org"));
        let local = one("type=local,dest=a,platform-split=false,mode=delete,source-date-epoch=-5");
        assert_eq!(
            (local.platform_split, local.replace, local.epoch),
            (Some(false), true, OutputEpoch::At(-5))
        );
        assert_eq!(one("type=local,dest=a,mode=copy"), one("a"));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for bad in [
            "type=image",
            "type=image,name=a,push=false",
            "type=registry,name=a,dest=b",
            "type=registry,name=a,registry.insecure=true",
            "type=oci,dest=a,push=true",
            "type=docker",
            "type=local",
            "type=local,dest=-",
            "dest=a",
            "type=oci,dest=",
            "type=oci,dest=a,x=y",
            "type=oci,dest=a,compression=estargz",
            "type=oci,dest=a,compression=gzip,compression-level=10",
            "type=oci,dest=a,rewrite-timestamp=maybe",
            "type=oci,dest=a,oci-mediatypes=what",
            "type=oci,dest=a,platform-split=true",
            "type=oci,dest=a,mode=delete",
            "type=tar,dest=a,mode=delete",
            "type=local,dest=a,mode=what",
            "type=local,dest=a,name=app",
            "type=local,dest=a,annotation.a=b",
            "type=tar,dest=a,compression=zstd",
            "type=oci,dest=a,compression=lzma",
            "type=oci,dest=a,source-date-epoch=now",
            "type=oci,dest=a,annotation-what.a=b",
            "type=oci,dest=a,oci-artifact=true",
            "type=what,dest=a",
        ] {
            assert!(all(&[bad]).is_err(), "{bad}");
        }
        assert!(all(&["type=oci,dest=a", "type=docker,dest=b,compression=zstd"]).is_err());
        assert!(all(&["-", "type=oci"]).is_err());
    }
}
