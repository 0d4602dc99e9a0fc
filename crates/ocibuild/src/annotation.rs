use std::collections::BTreeMap;
use std::fmt;

use ocibuild_spec::Platform;

/// An annotation of the image, and where it goes (11.20).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Annotation {
    /// The document or descriptor that gets it.
    pub level: AnnotationLevel,
    /// The platform whose manifest it is for; all of them without.
    pub platform: Option<Platform>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Where an [`Annotation`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnnotationLevel {
    /// The manifest of an image.
    Manifest,
    /// The descriptor of that manifest: in the index of several platforms, in `index.json` for one.
    ManifestDescriptor,
    /// The index of several platforms.
    Index,
    /// The descriptor of that index in `index.json`.
    IndexDescriptor,
}

impl Annotation {
    /// An annotation of every manifest.
    pub fn of_manifest(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { level: AnnotationLevel::Manifest, platform: None, key: key.into(), value: value.into() }
    }

    /// The same at another level.
    #[must_use]
    pub fn level(mut self, level: AnnotationLevel) -> Self {
        self.level = level;
        self
    }

    /// The same for one platform, or for all.
    #[must_use]
    pub fn platform(mut self, platform: Option<Platform>) -> Self {
        self.platform = platform;
        self
    }

    /// Whether only an index of several platforms has a place for it.
    pub(crate) fn needs_index(&self) -> bool {
        matches!(self.level, AnnotationLevel::Index | AnnotationLevel::IndexDescriptor)
    }
}

impl fmt::Display for AnnotationLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manifest => "manifest",
            Self::ManifestDescriptor => "manifest-descriptor",
            Self::Index => "index",
            Self::IndexDescriptor => "index-descriptor",
        })
    }
}

/// What a document of this level gets: those for its platform win over those for all, later ones over earlier ones.
pub(crate) fn at_level(
    annotations: &[Annotation],
    level: AnnotationLevel,
    platform: Option<&Platform>,
) -> BTreeMap<String, String> {
    let of_level = |annotation: &&Annotation| annotation.level == level;
    let is_own = |annotation: &&Annotation| match (&annotation.platform, platform) {
        (Some(wanted), Some(own)) => own.satisfies(wanted),
        _ => false,
    };
    let for_all = annotations.iter().filter(of_level).filter(|annotation| annotation.platform.is_none());
    let own = annotations.iter().filter(of_level).filter(is_own);
    for_all.chain(own).map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_s_own_win() {
        let amd64: Platform = "linux/amd64".parse().unwrap();
        let own = Annotation { platform: Some(amd64.clone()), ..Annotation::of_manifest("a", "own") };
        let index = Annotation { level: AnnotationLevel::Index, ..Annotation::of_manifest("i", "x") };
        let list = [own, Annotation::of_manifest("a", "all"), Annotation::of_manifest("b", "all"), index];
        let of = |platform: &str| {
            let found = at_level(&list, AnnotationLevel::Manifest, Some(&platform.parse().unwrap()));
            found.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(of("linux/amd64"), ["a=own", "b=all"]);
        assert_eq!(of("linux/arm64"), ["a=all", "b=all"]);
        assert_eq!(at_level(&list, AnnotationLevel::Index, None).len(), 1);
    }
}
