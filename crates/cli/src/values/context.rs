use std::path::PathBuf;

use ocibuild::dockerfile::nearest;
use ocibuild::spec::{Digest, DigestError, Reference};
use ocibuild::{Error, RemoteSource};

use super::simple::reference;
use crate::failure::usage;

/// What `--build-context` names, before anything of it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamedSource {
    /// Nothing.
    Scratch,
    /// Another image of the source of base images.
    Renamed(Reference),
    /// A directory of files.
    Directory(PathBuf),
    /// A URL or a repository.
    Remote(RemoteSource),
    /// An image in a layout or an archive.
    Image(ImageSpec),
}

/// An image of a layout directory, or of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageSpec {
    pub(crate) path: PathBuf,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<Digest>,
    /// It is a file.
    pub(crate) is_archive: bool,
}

/// `NAME=SOURCE` (4.32)
pub(crate) fn named_source(text: &str) -> Result<(String, NamedSource), Error> {
    let (name, source) = text
        .split_once('=')
        .filter(|(name, source)| !name.is_empty() && !source.is_empty())
        .ok_or_else(|| {
            usage(format!("--build-context {text}: not of the form NAME=SOURCE")).hint(
                "write --build-context NAME=DIR, or NAME=oci-layout://DIR, or NAME=docker-image://IMAGE",
            )
        })?;
    let image_name = name.split_once("::").map_or(name, |(image, _)| image);
    if let Err(error) = image_name.to_lowercase().parse::<Reference>() {
        return Err(usage(format!("invalid context name {name}"))
            .hint("name it like an image or a stage, in lower case letters, digits, '-', '_' and '.'")
            .caused_by(error));
    }
    Ok((name.to_owned(), source_of(text, source)?))
}

fn source_of(text: &str, source: &str) -> Result<NamedSource, Error> {
    if let Some(image) = source.strip_prefix("docker-image://") {
        return match image {
            "scratch" => Ok(NamedSource::Scratch),
            _ => Ok(NamedSource::Renamed(reference(image)?)),
        };
    }
    if let Some(layout) = source.strip_prefix("oci-layout://") {
        return layout_of(text, layout).map(NamedSource::Image);
    }
    if let Some(remote) = RemoteSource::parse(source)? {
        return Ok(NamedSource::Remote(remote));
    }
    if source.starts_with("target:") || source.starts_with("input:") {
        return Err(usage(format!(
            "--build-context {text}: targets and inputs of other builds are not supported"
        ))
        .hint("write the other build to a layout, and name that: oci-layout://DIR"));
    }
    let metadata = fs_err::metadata(source).map_err(|reason| {
        let error = usage(format!("--build-context {text}: cannot use the path"));
        let scheme = source.split_once(':').map(|(scheme, rest)| (scheme, rest.trim_start_matches('/')));
        let known = ["oci-layout", "docker-image", "https", "http"];
        let meant = scheme.and_then(|(scheme, rest)| {
            let near = known
                .iter()
                .find(|known| **known == scheme)
                .copied()
                .or_else(|| nearest(scheme, known.iter().copied()));
            near.map(|near| (near, if source.contains(":/") { format!("/{rest}") } else { rest.to_owned() }))
        });
        let error = match meant {
            Some((near @ "oci-layout", rest)) => error.hint(format!("write {near}://{rest}")),
            Some((near, rest)) => error.hint(format!("write {near}://{}", rest.trim_start_matches('/'))),
            None => error,
        };
        error.hint("name an existing directory or archive; an image is docker-image://NAME").caused_by(reason)
    })?;
    let path = PathBuf::from(source);
    Ok(if metadata.is_dir() {
        NamedSource::Directory(path)
    } else {
        NamedSource::Image(ImageSpec { path, tag: None, digest: None, is_archive: true })
    })
}

/// `DIR[:TAG][@DIGEST]`
fn layout_of(text: &str, layout: &str) -> Result<ImageSpec, Error> {
    let (rest, digest) = match layout.rsplit_once('@') {
        Some((rest, digest)) if digest.contains(':') => {
            let malformed = |error: DigestError| {
                usage(format!("--build-context {text}: malformed digest"))
                    .hint("a digest is sha256: with 64 hexadecimal digits")
                    .caused_by(error)
            };
            let digest = digest.parse().map_err(malformed)?;
            (rest, Some(digest))
        }
        _ => (layout, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') && !path.is_empty() => (path, Some(tag.to_owned())),
        _ => (rest, None),
    };
    Ok(ImageSpec { path: PathBuf::from(path), tag, digest, is_archive: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_tags_and_digests() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let of = |text: &str| match named_source(text).unwrap().1 {
            NamedSource::Image(image) => image,
            other => panic!("{other:?}"),
        };
        assert_eq!(of("x=oci-layout:///a/b").path, PathBuf::from("/a/b"));
        assert_eq!(of("x=oci-layout://a:1.0").tag.as_deref(), Some("1.0"));
        let both = of(&format!("x=oci-layout://a:1.0@{digest}"));
        assert_eq!((both.tag.as_deref(), both.digest.unwrap().to_string()), (Some("1.0"), digest));
        assert!(named_source("x=oci-layout://a@sha256:1").is_err());
    }

    #[test]
    fn other_sources() {
        assert_eq!(named_source("x=docker-image://scratch").unwrap().1, NamedSource::Scratch);
        assert!(matches!(named_source("x=docker-image://a:1").unwrap().1, NamedSource::Renamed(_)));
        assert!(matches!(named_source("x=/").unwrap().1, NamedSource::Directory(_)));
        for remote in ["x=https://a/b.git#v1", "x=http://a/b.tar", "x=git@a:b", "x=github.com/a/b"] {
            assert!(matches!(named_source(remote).unwrap().1, NamedSource::Remote(_)), "{remote}");
        }
        for bad in [
            "x",
            "=a",
            "x=",
            "x=https://a/b.git#-x",
            "x=target:y",
            "x=/nowhere/at/all",
            "x=docker-image://A",
            "a//b=/",
        ] {
            assert!(named_source(bad).is_err(), "{bad}");
        }
    }
}
