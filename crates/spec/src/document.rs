use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::{
    Descriptor, ImageConfig, Index, Manifest, MediaType, Platform, ResolvedImage, SourceError,
    SourceErrorKind, json, media_types,
};

/// Most bytes that a manifest, an index or a config may have; what other clients allow as well.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// Most indexes on the way from a name to a manifest.
const MAX_DEPTH: usize = 4;
/// Most manifests that are fetched to learn a platform that their index does not tell.
const MAX_PROBES: usize = 32;
/// Most layers of an image; more than any file system can stack.
const MAX_LAYERS: usize = 1024;

/// A manifest or an index, told apart by content and media type together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "few exist at a time, and callers match on the parts")]
pub enum Document {
    /// The manifest of one image.
    Manifest(Manifest),
    /// A list of manifests.
    Index(Index),
}

impl Document {
    /// The descriptors of what this document needs to be complete.
    pub fn children(&self) -> Box<dyn Iterator<Item = &Descriptor> + '_> {
        match self {
            Self::Manifest(manifest) => Box::new(std::iter::once(&manifest.config).chain(manifest.layers())),
            Self::Index(index) => Box::new(index.manifests.iter()),
        }
    }

    /// The manifest or index that this document is about, if it is a referrer. It need not be there for this document to
    /// be complete.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Manifest(manifest) => manifest.subject.as_ref(),
            Self::Index(index) => index.subject.as_ref(),
        }
    }

    /// What kind of artifact it is to those who list referrers: a manifest that does not say so is what its config is
    /// (distribution-spec, "Listing Referrers").
    pub fn artifact_type(&self) -> Option<&str> {
        match self {
            Self::Manifest(manifest) => {
                Some(manifest.artifact_type.as_deref().unwrap_or(manifest.config.media_type.as_ref()))
            }
            Self::Index(index) => index.artifact_type.as_deref(),
        }
    }

    /// The type of the document: its own, or the specification's if it does not tell.
    pub fn media_type(&self) -> MediaType {
        let (own, default) = match self {
            Self::Manifest(manifest) => (&manifest.media_type, MediaType::ImageManifest),
            Self::Index(index) => (&index.media_type, MediaType::ImageIndex),
        };
        own.clone().unwrap_or(default)
    }

    /// The entry of these bytes of the document in a list of referrers: a descriptor with the type of the artifact and
    /// all annotations.
    pub fn referrer_entry(&self, bytes: &[u8]) -> Descriptor {
        let annotations = match self {
            Self::Manifest(manifest) => &manifest.annotations,
            Self::Index(index) => &index.annotations,
        };
        Descriptor {
            artifact_type: self.artifact_type().map(str::to_owned),
            annotations: annotations.clone(),
            ..Descriptor::of(self.media_type(), bytes)
        }
    }
}

/// What is wrong with a document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// More bytes than any document needs.
    #[error("the document has {0} bytes, more than the {MAX_DOCUMENT} allowed")]
    TooLarge(u64),
    /// Not JSON, or not of the shape that its kind has.
    #[error("the document is malformed")]
    Malformed(#[source] serde_json::Error),
    /// The image format of before 2016.
    #[error("unsupported schema 1 manifest")]
    Schema1,
    /// A schema version that nobody has defined.
    #[error("schemaVersion is {0}, not 2")]
    SchemaVersion(u64),
    /// Content and media types tell different stories, so that two readers would see two images.
    #[error("ambiguous document: {0}")]
    Ambiguous(String),
    /// Well-formed, but no image: an artifact, an encrypted layer, an unknown kind.
    #[error("{0} is not supported here")]
    Unsupported(String),
    /// Manifest and config contradict each other.
    #[error("{0}")]
    Inconsistent(String),
    /// An index that lists no manifest for the platform (4.18).
    #[error("no match for platform in manifest: {wanted} is not among {offered}")]
    NoPlatform {
        /// What was asked for.
        wanted: String,
        /// What there is, joined by commas.
        offered: String,
    },
}

impl DocumentError {
    /// The class of the error for whoever asked for an image.
    pub fn kind(&self) -> SourceErrorKind {
        match self {
            Self::NoPlatform { .. } => SourceErrorKind::NoPlatform,
            Self::Schema1 | Self::Unsupported(_) => SourceErrorKind::Unsupported,
            _ => SourceErrorKind::Corrupt,
        }
    }

    /// The error of a source that was asked for `what`.
    pub fn of(self, what: impl std::fmt::Display) -> SourceError {
        let error = SourceError::new(self.kind(), format!("{what}: {self}"));
        match self {
            Self::Malformed(source) => error.caused_by(source),
            _ => error,
        }
    }
}

/// The members that tell manifests and indexes apart; the rest is read once the kind is known.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u64>,
    media_type: Option<MediaType>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Manifest,
    Index,
}

/// The kind that a media type names; `None` for types that name neither.
fn kind_of(media_type: &MediaType) -> Option<Kind> {
    match media_type {
        MediaType::ImageManifest => Some(Kind::Manifest),
        MediaType::ImageIndex => Some(Kind::Index),
        MediaType::Other(text) if text == media_types::DOCKER_MANIFEST => Some(Kind::Manifest),
        MediaType::Other(text) if text == media_types::DOCKER_INDEX => Some(Kind::Index),
        _ => None,
    }
}

/// Whether blobs of this type are manifests or indexes.
pub fn is_document(media_type: &MediaType) -> bool {
    kind_of(media_type).is_some()
}

/// Reads a manifest or an index. `stated` is what a descriptor or a server calls it; types that say nothing
/// (`application/json`) should be left out by the caller. The statement, the document's own `mediaType` and its
/// members have to agree.
pub fn parse_manifest_or_index(bytes: &[u8], stated: Option<&MediaType>) -> Result<Document, DocumentError> {
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(DocumentError::TooLarge(bytes.len() as u64));
    }
    let shape: Shape = json::from_slice(bytes).map_err(DocumentError::Malformed)?;
    let kind = kind_of_shape(&shape, stated)?;
    let document = match kind {
        Kind::Manifest => Document::Manifest(json::from_slice(bytes).map_err(DocumentError::Malformed)?),
        Kind::Index => Document::Index(json::from_slice(bytes).map_err(DocumentError::Malformed)?),
    };
    let mut descriptors = document.children().chain(document.subject());
    if let Some(child) = descriptors.find(|child| i64::try_from(child.size).is_err()) {
        return Err(DocumentError::Inconsistent(format!("impossible size of {}", child.digest)));
    }
    drop(descriptors);
    Ok(document)
}

fn kind_of_shape(shape: &Shape, stated: Option<&MediaType>) -> Result<Kind, DocumentError> {
    match shape.schema_version {
        Some(2) => {}
        Some(1) => return Err(DocumentError::Schema1),
        other => return Err(DocumentError::SchemaVersion(other.unwrap_or(0))),
    }
    let own = shape.media_type.as_ref();
    if let Some(unknown) = own.into_iter().chain(stated).find(|media_type| !is_document(media_type)) {
        return Err(DocumentError::Unsupported(format!("a manifest of type {unknown}")));
    }
    if let (Some(own), Some(stated)) = (own, stated)
        && own != stated
    {
        return Err(DocumentError::Ambiguous(format!("it calls itself {own} and was given as {stated}")));
    }
    let seems_manifest = shape.config.is_some() || shape.layers.is_some() || shape.fs_layers.is_some();
    let kind = match (seems_manifest, shape.manifests.is_some(), own.or(stated).and_then(kind_of)) {
        (true, true, _) => {
            return Err(DocumentError::Ambiguous(
                "it has the members of a manifest and of an index".to_owned(),
            ));
        }
        (true, false, Some(Kind::Index)) | (false, true, Some(Kind::Manifest)) => {
            return Err(DocumentError::Ambiguous("its members are not those of its media type".to_owned()));
        }
        (false, true, _) => Kind::Index,
        (false, false, Some(kind)) => kind,
        // Neither: reading it as a manifest says which member is missing.
        (true, false, _) | (false, false, None) => Kind::Manifest,
    };
    Ok(kind)
}

/// Refuses manifests that are no images: artifacts, unknown or encrypted layers. [`resolve_image`] does so by itself;
/// whoever only copies blobs takes artifacts as well.
pub fn check_manifest(manifest: &Manifest) -> Result<(), DocumentError> {
    let config = &manifest.config.media_type;
    if !is_image_config(config) {
        return Err(DocumentError::Unsupported(format!("an artifact with a config of type {config}")));
    }
    if manifest.config.size > MAX_DOCUMENT {
        return Err(DocumentError::TooLarge(manifest.config.size));
    }
    if manifest.layers().len() > MAX_LAYERS {
        return Err(DocumentError::Unsupported(format!("an image of {} layers", manifest.layers().len())));
    }
    match manifest.layers().iter().find(|layer| !is_layer(&layer.media_type)) {
        Some(layer) if layer.media_type.as_ref().ends_with("+encrypted") => {
            Err(DocumentError::Unsupported(format!("the encrypted layer {}", layer.digest)))
        }
        Some(layer) => Err(DocumentError::Unsupported(format!("a layer of type {}", layer.media_type))),
        None => Ok(()),
    }
}

/// Whether it is the config of an image, and not of an artifact.
pub fn is_image_config(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageConfig || media_type.as_ref() == media_types::DOCKER_CONFIG
}

fn is_layer(media_type: &MediaType) -> bool {
    const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
    const FOREIGN_GZIP: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    match media_type {
        MediaType::ImageLayer
        | MediaType::ImageLayerGzip
        | MediaType::ImageLayerZstd
        | MediaType::ImageLayerNonDistributable
        | MediaType::ImageLayerNonDistributableGzip
        | MediaType::ImageLayerNonDistributableZstd => true,
        other => [
            media_types::DOCKER_LAYER,
            media_types::DOCKER_LAYER_GZIP,
            media_types::DOCKER_LAYER_ZSTD,
            FOREIGN,
            FOREIGN_GZIP,
        ]
        .contains(&other.as_ref()),
    }
}

/// Reads a config.
pub fn parse_config(bytes: &[u8]) -> Result<ImageConfig, DocumentError> {
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(DocumentError::TooLarge(bytes.len() as u64));
    }
    json::from_slice(bytes).map_err(DocumentError::Malformed)
}

/// Refuses a manifest and a config that do not describe the same layers. The history may tell of more or of fewer: it
/// is optional, and tools that squash or convert images leave it as it was.
pub fn check_image(manifest: &Manifest, config: &ImageConfig) -> Result<(), DocumentError> {
    let (layers, diff_ids) = (manifest.layers().len(), config.rootfs.layers().len());
    if layers != diff_ids {
        return Err(DocumentError::Inconsistent(format!(
            "the manifest has {layers} layers, but the config names {diff_ids}"
        )));
    }
    Ok(())
}

/// The manifest or nested index that `index` lists for `wanted`: the first whose platform is the same after
/// normalisation, else the first for the best of the platforms that are compatible with it.
pub fn select_platform<'a>(index: &'a Index, wanted: &Platform) -> Result<&'a Descriptor, DocumentError> {
    let listed = |platform: &Platform| {
        let fits = |own: &Platform| own.satisfies(platform);
        index.manifests.iter().find(|descriptor| descriptor.platform.as_ref().is_some_and(fits))
    };
    wanted.compatible().iter().find_map(listed).ok_or_else(|| no_platform(index, wanted))
}

fn no_platform(index: &Index, wanted: &Platform) -> DocumentError {
    let offered: BTreeSet<String> = index
        .manifests
        .iter()
        .filter_map(|descriptor| descriptor.platform.as_ref())
        .filter(|platform| platform.os != "unknown")
        .map(ToString::to_string)
        .collect();
    let shown = offered.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
    let offered = if shown.is_empty() { "the platforms it lists (none)".to_owned() } else { shown };
    DocumentError::NoPlatform { wanted: wanted.to_string(), offered }
}

/// Gives the exact bytes of a manifest, index or config, at most [`MAX_DOCUMENT`] of them and verified.
pub type FetchDocument<'a> = dyn FnMut(&Descriptor) -> Result<Vec<u8>, SourceError> + 'a;

/// Follows `root` (a manifest, or an index at any depth up to four) to the image for `platform`.
///
/// A manifest that no index was asked for is taken whatever its platform (4.17). Where an index does not tell the
/// platform of an entry, the entry's config does. `what` names the image in errors.
pub fn resolve_image(
    what: &dyn std::fmt::Display,
    root: &Descriptor,
    platform: &Platform,
    fetch: &mut FetchDocument<'_>,
) -> Result<ResolvedImage, SourceError> {
    let mut search = Search { what, platform, fetch, probes: 0 };
    let bytes = (search.fetch)(root)?;
    match search.parse(root, &bytes)? {
        Document::Manifest(manifest) => search.image(root, manifest, bytes),
        Document::Index(index) => search.select(&index, 1),
    }
}

/// [`resolve_image`] for an index that is no blob, as `index.json` of a layout.
pub fn resolve_in_index(
    what: &dyn std::fmt::Display,
    index: &Index,
    platform: &Platform,
    fetch: &mut FetchDocument<'_>,
) -> Result<ResolvedImage, SourceError> {
    Search { what, platform, fetch, probes: 0 }.select(index, 1)
}

struct Search<'a, 'f> {
    what: &'a dyn std::fmt::Display,
    platform: &'a Platform,
    fetch: &'a mut FetchDocument<'f>,
    probes: usize,
}

impl Search<'_, '_> {
    fn parse(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<Document, SourceError> {
        let stated =
            Some(&descriptor.media_type).filter(|media_type| media_type.as_ref() != "application/json");
        parse_manifest_or_index(bytes, stated).map_err(|error| error.of(self.what))
    }

    fn image(
        &mut self,
        descriptor: &Descriptor,
        manifest: Manifest,
        manifest_bytes: Vec<u8>,
    ) -> Result<ResolvedImage, SourceError> {
        check_manifest(&manifest).map_err(|error| error.of(self.what))?;
        let config_bytes = (self.fetch)(&manifest.config)?;
        let config = parse_config(&config_bytes).map_err(|error| error.of(self.what))?;
        check_image(&manifest, &config).map_err(|error| error.of(self.what))?;
        let mut descriptor = descriptor.clone();
        if let Some(media_type) = &manifest.media_type {
            descriptor.media_type = media_type.clone();
        }
        Ok(ResolvedImage { descriptor, manifest, manifest_bytes, config, config_bytes })
    }

    fn select(&mut self, index: &Index, depth: usize) -> Result<ResolvedImage, SourceError> {
        if depth > MAX_DEPTH {
            let text = format!("{}: indexes are nested more than {MAX_DEPTH} deep", self.what);
            return Err(SourceError::new(SourceErrorKind::Corrupt, text));
        }
        match select_platform(index, self.platform) {
            Ok(descriptor) => self.enter(descriptor, depth),
            Err(none) => self.probe(index, depth)?.ok_or_else(|| none.of(self.what)),
        }
    }

    fn enter(&mut self, descriptor: &Descriptor, depth: usize) -> Result<ResolvedImage, SourceError> {
        let bytes = (self.fetch)(descriptor)?;
        match self.parse(descriptor, &bytes)? {
            Document::Manifest(manifest) => self.image(descriptor, manifest, bytes),
            Document::Index(index) => self.select(&index, depth + 1),
        }
    }

    /// Looks into the entries whose platform the index leaves open.
    fn probe(&mut self, index: &Index, depth: usize) -> Result<Option<ResolvedImage>, SourceError> {
        for descriptor in index.manifests.iter().filter(|descriptor| descriptor.platform.is_none()) {
            self.probes += 1;
            if self.probes > MAX_PROBES {
                break;
            }
            match self.enter(descriptor, depth) {
                Ok(image) if self.fits(&image.config) => return Ok(Some(image)),
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), SourceErrorKind::NoPlatform | SourceErrorKind::Unsupported) => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn fits(&self, config: &ImageConfig) -> bool {
        Platform::new(&config.os, &config.architecture, &config.variant).satisfies(self.platform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn manifest(config_type: &str, layer_type: &str, extra: &str) -> String {
        let digest = Digest::of("x");
        format!(
            r#"{{"schemaVersion":2,{extra}"config":{{"mediaType":"{config_type}","digest":"{digest}","size":1}},
            "layers":[{{"mediaType":"{layer_type}","digest":"{digest}","size":1}}]}}"#
        )
    }

    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    fn refused(text: &str, stated: Option<&MediaType>) -> String {
        match parse_manifest_or_index(text.as_bytes(), stated) {
            Ok(Document::Manifest(manifest)) => check_manifest(&manifest).unwrap_err().to_string(),
            other => other.unwrap_err().to_string(),
        }
    }

    #[test]
    fn manifests_and_indexes_are_told_apart() {
        let parsed = parse_manifest_or_index(manifest(CONFIG, LAYER, "").as_bytes(), None).unwrap();
        assert_eq!(parsed.children().count(), 2);
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(parse_manifest_or_index(index.as_bytes(), None).unwrap(), Document::Index(_)));
        let null =
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":null}"#;
        // What Go writes for a list of nothing.
        let Ok(Document::Index(empty)) = parse_manifest_or_index(null.as_bytes(), None) else {
            panic!("an index")
        };
        assert!(empty.manifests.is_empty());
    }

    #[test]
    fn null_is_as_good_as_nothing_where_nothing_may_be() {
        let with = manifest(CONFIG, LAYER, r#""mediaType":null,"annotations":null,"subject":null,"#);
        let with =
            with.replace(r#""size":1}"#, r#""size":1,"annotations":{"a":null},"platform":null,"urls":null}"#);
        let Document::Manifest(read) = parse_manifest_or_index(with.as_bytes(), None).unwrap() else {
            panic!("a manifest")
        };
        assert_eq!(read.config.annotations["a"], "");
        let without = manifest(CONFIG, LAYER, "");
        let Document::Manifest(mut plain) = parse_manifest_or_index(without.as_bytes(), None).unwrap() else {
            panic!("a manifest")
        };
        plain.config.annotations = read.config.annotations.clone();
        plain.layers.iter_mut().flatten().for_each(|it| it.annotations = read.config.annotations.clone());
        assert_eq!(read, plain);
        let digest = Digest::of("x");
        let index = format!(
            r#"{{"schemaVersion":2,"annotations":null,"manifests":[{{"mediaType":"{}","digest":"{digest}","size":1,
            "platform":{{"architecture":"amd64","os":"linux","variant":null,"os.version":null,"os.features":[null]}}}}]}}"#,
            MediaType::ImageManifest
        );
        let Document::Index(read) = parse_manifest_or_index(index.as_bytes(), None).unwrap() else {
            panic!("an index")
        };
        let platform = read.manifests[0].platform.clone().unwrap();
        assert_eq!((platform.variant.as_str(), platform.os_features), ("", vec![String::new()]));
        // What has to be there has to be there.
        let nothing = manifest(CONFIG, LAYER, "").replace(&format!("\"{digest}\""), "null");
        assert!(refused(&nothing, None).contains("malformed"));
        for text in ["null", "[null]", r#"{"schemaVersion":null,"layers":null,"config":null}"#] {
            assert!(parse_manifest_or_index(text.as_bytes(), None).is_err(), "{text}");
        }
        let item = r#"{"schemaVersion":2,"manifests":[null]}"#;
        assert!(parse_manifest_or_index(item.as_bytes(), None).is_err());
    }

    #[test]
    fn what_two_readers_may_read_differently_is_refused() {
        let both = manifest(CONFIG, LAYER, r#""manifests":[],"#);
        assert!(refused(&both, None).contains("ambiguous"));
        assert!(refused(&manifest(CONFIG, LAYER, ""), Some(&MediaType::ImageIndex)).contains("ambiguous"));
        let typed = manifest(CONFIG, LAYER, r#""mediaType":"application/vnd.oci.image.index.v1+json","#);
        assert!(refused(&typed, None).contains("ambiguous"));
        let docker = MediaType::from(media_types::DOCKER_MANIFEST);
        let oci = manifest(CONFIG, LAYER, r#""mediaType":"application/vnd.oci.image.manifest.v1+json","#);
        assert!(refused(&oci, Some(&docker)).contains("was given as"));
        let twice = manifest(CONFIG, LAYER, r#""layers":[],"#);
        assert!(parse_manifest_or_index(twice.as_bytes(), None).is_err());
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        assert!(refused(r#"{"schemaVersion":1,"fsLayers":[]}"#, None).contains("schema 1"));
        assert!(refused(r#"{"schemaVersion":3}"#, None).contains("schemaVersion is 3"));
        assert!(
            refused(&manifest("application/vnd.oci.empty.v1+json", LAYER, ""), None).contains("artifact")
        );
        assert!(refused(&manifest(CONFIG, &format!("{LAYER}+encrypted"), ""), None).contains("encrypted"));
        assert!(refused(&manifest(CONFIG, "text/plain", ""), None).contains("text/plain"));
        let negative = manifest(CONFIG, LAYER, "").replace("\"size\":1", "\"size\":-1");
        assert!(parse_manifest_or_index(negative.as_bytes(), None).is_err());
        let huge = manifest(CONFIG, LAYER, "").replace("1}]", "9223372036854775808}]");
        assert!(refused(&huge, None).contains("impossible size"));
        let odd = manifest(CONFIG, LAYER, "").replace("sha256:", "blake3:");
        assert!(parse_manifest_or_index(odd.as_bytes(), None).is_err());
    }

    fn config(os: &str, architecture: &str) -> Vec<u8> {
        format!(
            r#"{{"architecture":"{architecture}","os":"{os}","rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        )
        .into()
    }

    fn image_for(architecture: &str) -> (Vec<u8>, Vec<u8>) {
        let config = config("linux", architecture);
        let descriptor = Descriptor::of(MediaType::ImageConfig, &config);
        let manifest = Manifest::new(descriptor, Vec::new());
        (crate::json::to_vec(&manifest).unwrap(), config)
    }

    #[test]
    fn an_index_leads_to_the_platform_also_when_it_does_not_tell() {
        let blobs: Vec<Vec<u8>> =
            ["amd64", "arm64"].iter().flat_map(|name| <[_; 2]>::from(image_for(name))).collect();
        let entry = |bytes: &[u8]| Descriptor::of(MediaType::ImageManifest, bytes);
        let index = Index::new(vec![entry(&blobs[0]), entry(&blobs[2])]);
        let mut fetch = |descriptor: &Descriptor| {
            Ok(blobs.iter().find(|blob| Digest::of(blob) == descriptor.digest).unwrap().clone())
        };
        let wanted: Platform = "linux/arm64/v8".parse().unwrap();
        let image = resolve_in_index(&"x", &index, &wanted, &mut fetch).unwrap();
        assert_eq!(image.config.architecture, "arm64");
        let error = resolve_in_index(&"x", &index, &"linux/s390x".parse().unwrap(), &mut fetch).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::NoPlatform);
        assert!(error.to_string().contains("no match for platform in manifest"), "{error}");
    }

    #[test]
    fn artifacts_are_written_as_they_were_read() {
        let digest = Digest::of("x");
        let subject = format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":1}}"#
        );
        let empty = r#"{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}"#;
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"text/plain","config":{empty},"layers":[{empty}],"subject":{subject},"annotations":{{"a":"b"}}}}"#
        );
        let document = parse_manifest_or_index(manifest.as_bytes(), None).unwrap();
        assert_eq!(document.subject().unwrap().digest, digest);
        // What it is about is not a part of it.
        assert_eq!(
            document.children().cloned().collect::<Vec<_>>(),
            [Descriptor::empty(), Descriptor::empty()]
        );
        let entry = document.referrer_entry(manifest.as_bytes());
        assert_eq!(
            (entry.digest, entry.artifact_type.as_deref()),
            (Digest::of(&manifest), Some("text/plain"))
        );
        assert_eq!(entry.annotations["a"], "b");
        let Document::Manifest(read) = document else { panic!("a manifest") };
        assert_eq!(crate::json::to_vec(&read).unwrap(), manifest.as_bytes());

        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","artifactType":"text/plain","manifests":[],"subject":{subject}}}"#
        );
        let document = parse_manifest_or_index(index.as_bytes(), None).unwrap();
        assert_eq!(document.subject().unwrap().digest, digest);
        let Document::Index(read) = document else { panic!("an index") };
        assert_eq!(crate::json::to_vec(&read).unwrap(), index.as_bytes());
    }

    #[test]
    fn what_says_nothing_of_artifacts_stays_silent_about_them() {
        let text = manifest(CONFIG, LAYER, "").replace("\n            ", "");
        let document = parse_manifest_or_index(text.as_bytes(), None).unwrap();
        assert_eq!((document.subject(), document.artifact_type()), (None, Some(CONFIG)));
        let Document::Manifest(read) = document else { panic!("a manifest") };
        assert_eq!(crate::json::to_vec(&read).unwrap(), text.as_bytes());
        let huge = text.replace(
            "\"layers\"",
            "\"subject\":{\"mediaType\":\"a\",\"digest\":\"DIGEST\",\"size\":9223372036854775808},\"layers\"",
        );
        let huge = huge.replace("DIGEST", &Digest::of("x").to_string());
        assert!(refused(&huge, None).contains("impossible size"));
    }

    #[test]
    fn deep_nesting_ends() {
        let mut fetch = |descriptor: &Descriptor| {
            let mut nested = descriptor.clone();
            nested.media_type = MediaType::ImageIndex;
            Ok(crate::json::to_vec(&Index::new(vec![nested])).unwrap())
        };
        let mut root = Descriptor::of(MediaType::ImageIndex, b"");
        root.platform = Some(Platform::new("linux", "amd64", ""));
        let error = resolve_image(&"x", &root, &"linux/amd64".parse().unwrap(), &mut fetch).unwrap_err();
        assert!(error.to_string().contains("nested"), "{error}");
    }

    #[test]
    fn layers_and_diff_ids_have_to_be_as_many() {
        let Document::Manifest(manifest) =
            parse_manifest_or_index(manifest(CONFIG, LAYER, "").as_bytes(), None).unwrap()
        else {
            panic!("a manifest")
        };
        let config = parse_config(&config("linux", "amd64")).unwrap();
        assert!(check_image(&manifest, &config).unwrap_err().to_string().contains("1 layers"));
        let mut told = config.clone();
        told.rootfs.diff_ids = Some(vec![crate::DiffId(Digest::of("x"))]);
        for entries in [0, 1, 5] {
            told.history = vec![crate::History::default(); entries];
            check_image(&manifest, &told).unwrap();
        }
        assert!(parse_config(b"{\"rootfs\":{\"diff_ids\":[null]}}").is_err());
        // Layers without diff ids.
        let nothing = parse_config(b"{\"rootfs\":null}").unwrap();
        assert!(check_image(&manifest, &nothing).unwrap_err().to_string().contains("names 0"));
    }
}
