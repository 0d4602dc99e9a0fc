//! From finished target stages to images: history, config, manifest, and the index of several platforms.

use ocibuild_spec::{
    Descriptor, DiffId, History, ImageConfig, Index, Manifest, MediaType, Platform, RootFs, Timestamp, json,
    media_types,
};

use crate::annotation::{Annotation, AnnotationLevel, at_level};
use crate::layers::Layer;
use crate::stage::StageState;

/// What an output takes for the epoch: the second that it states, that later times are cut to, and that files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OutputEpoch {
    /// The build's, if it has one.
    #[default]
    OfBuild,
    /// This second. Earlier times, and those that the build put into the history, stay.
    At(i64),
    /// None.
    None,
}

impl OutputEpoch {
    /// The epoch, given that of the build.
    pub(crate) fn over(self, build: Option<i64>) -> Option<i64> {
        match self {
            Self::OfBuild => build,
            Self::At(seconds) => Some(seconds),
            Self::None => None,
        }
    }
}

/// What a build made: one image, or an index of the images of several platforms.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Built {
    /// Descriptor of the manifest; of the index when there is one.
    pub descriptor: Descriptor,
    /// The index, for several platforms or when one was asked for (11.30).
    pub index: Option<BuiltIndex>,
    /// The image of each platform, in the order asked for; never empty.
    pub images: Vec<BuiltImage>,
}

impl Built {
    /// The image of the first platform; of a build for one platform, the image.
    pub fn into_image(mut self) -> BuiltImage {
        self.images.swap_remove(0)
    }
}

/// The index of the images of several platforms.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BuiltIndex {
    /// The index.
    pub index: Index,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A finished image.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BuiltImage {
    /// Descriptor of the manifest.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest's bytes.
    pub manifest_bytes: Vec<u8>,
    /// The config.
    pub config: ImageConfig,
    /// The config's bytes.
    pub config_bytes: Vec<u8>,
    /// How many of its layers this build, or an earlier one that it took them from, made.
    pub new_layers: usize,
    layers: Vec<(DiffId, Descriptor)>,
}

impl BuiltImage {
    /// The layers, the lowest first.
    pub fn layers(&self) -> impl Iterator<Item = (&DiffId, &Descriptor)> {
        self.layers.iter().map(|(diff_id, descriptor)| (diff_id, descriptor))
    }
}

/// How the documents of an image are written for one output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DocumentStyle {
    /// Docker's media types instead of OCI's (11.13).
    pub(crate) docker: bool,
    pub(crate) annotations: Vec<Annotation>,
    pub(crate) epoch: OutputEpoch,
}

/// The finished target stage of one platform.
#[derive(Debug)]
pub(crate) struct ImageParts<'a> {
    pub(crate) state: &'a StageState<'a>,
    /// The layers as the outputs get them.
    pub(crate) layers: &'a [Layer<'a>],
    pub(crate) config: &'a ImageConfig,
    /// `SOURCE_DATE_EPOCH`
    pub(crate) epoch: Option<i64>,
    /// What is below the steps is the image of a `FROM`, whose times stay.
    pub(crate) has_base: bool,
}

/// Puts together the images, and the index if there is to be one.
pub(crate) fn put_together(targets: &[ImageParts<'_>], with_index: bool, form: &DocumentStyle) -> Built {
    let images: Vec<BuiltImage> = targets.iter().map(|target| assemble(target, form)).collect();
    if !with_index {
        let descriptor = images[0].descriptor.clone();
        return Built { descriptor, index: None, images };
    }
    let media_type = if form.docker {
        MediaType::Other(media_types::DOCKER_INDEX.to_owned())
    } else {
        MediaType::ImageIndex
    };
    let mut index = Index::new(images.iter().map(|image| image.descriptor.clone()).collect());
    index.media_type = Some(media_type.clone());
    index.annotations = at_level(&form.annotations, AnnotationLevel::Index, None);
    let bytes = json::to_vec_pretty(&index).expect("an index is plain data");
    let mut descriptor = Descriptor::of(media_type, &bytes);
    descriptor.annotations = at_level(&form.annotations, AnnotationLevel::IndexDescriptor, None);
    Built { descriptor, index: Some(BuiltIndex { index, bytes }), images }
}

/// Puts together config and manifest of a stage (11.03 to 11.06).
fn assemble(target: &ImageParts<'_>, form: &DocumentStyle) -> BuiltImage {
    let mut config = target.config.clone();
    config.history = history(target, form);
    config.created = config.history.iter().rev().find_map(|entry| entry.created);
    let diff_ids: Vec<DiffId> = target.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    config.rootfs =
        RootFs { kind: "layers".to_owned(), diff_ids: (!diff_ids.is_empty()).then_some(diff_ids) };
    let config_bytes = json::to_vec(&config).expect("a config is plain data");
    let platform = platform(&config);
    let layers: Vec<Descriptor> =
        target.layers.iter().map(|layer| listed(&layer.descriptor, form.docker)).collect();
    let (config_type, manifest_type) = if form.docker {
        let other = |text: &str| MediaType::Other(text.to_owned());
        (other(media_types::DOCKER_CONFIG), other(media_types::DOCKER_MANIFEST))
    } else {
        (MediaType::ImageConfig, MediaType::ImageManifest)
    };
    let mut manifest = Manifest::new(Descriptor::of(config_type, &config_bytes), layers);
    manifest.media_type = Some(manifest_type.clone());
    manifest.layers = manifest.layers.filter(|layers| !layers.is_empty());
    manifest.annotations = at_level(&form.annotations, AnnotationLevel::Manifest, Some(&platform));
    let manifest_bytes = json::to_vec_pretty(&manifest).expect("a manifest is plain data");
    let mut descriptor = Descriptor::of(manifest_type, &manifest_bytes);
    descriptor.annotations =
        at_level(&form.annotations, AnnotationLevel::ManifestDescriptor, Some(&platform));
    descriptor.platform = Some(platform);
    BuiltImage {
        descriptor,
        manifest,
        manifest_bytes,
        config,
        config_bytes,
        new_layers: target.state.stack.len() - target.state.base_layers,
        layers: target.layers.iter().map(|layer| (layer.diff_id.clone(), layer.descriptor.clone())).collect(),
    }
}

/// A layer's descriptor as a manifest lists it: without what only its former one said, and with the media types that
/// the manifest has. Layers that another builder did not distribute are in our outputs, and so are named as the others.
fn listed(descriptor: &Descriptor, docker: bool) -> Descriptor {
    use ocibuild_layer::Compression;

    let compression = match compression_name(&descriptor.media_type) {
        "gzip" => Compression::GZIP,
        "zstd" => Compression::ZSTD,
        _ => Compression::None,
    };
    Descriptor::new(compression.media_type(docker), descriptor.digest.clone(), descriptor.size)
}

/// How a layer of this media type is compressed.
pub(crate) fn compression_name(media_type: &MediaType) -> &'static str {
    let text = media_type.to_string();
    if text.ends_with("gzip") {
        "gzip"
    } else if text.ends_with("zstd") {
        "zstd"
    } else {
        "uncompressed"
    }
}

fn platform(config: &ImageConfig) -> Platform {
    let normal = Platform::new(&config.os, &config.architecture, &config.variant);
    Platform { os_version: config.os_version.clone(), os_features: config.os_features.clone(), ..normal }
}

/// The whole history, with the times of the layers, then of what has no time yet, then of what is later than the
/// output's epoch.
fn history(target: &ImageParts<'_>, form: &DocumentStyle) -> Vec<History> {
    let state = target.state;
    let time_of_build = target.epoch.map(Timestamp::from_seconds);
    let mut out = state.base_history.clone();
    let inherited = if target.has_base { out.len() } else { 0 };
    out.extend(state.history.iter().map(|(entry, created)| entry.finish(time_of_build.or(*created))));
    let made = |layer: usize| layer.checked_sub(state.base_layers).and_then(|number| state.made.get(number));
    // Both have to agree in number (11.06). Entries that there are too many of count as made without a layer, from where
    // the layers end, as with BuildKit; layers that the history does not tell of get entries.
    let is_overlong = out.iter().filter(|entry| !entry.empty_layer).count() > state.stack.len();
    let mut told = 0;
    for (number, entry) in out.iter_mut().enumerate().filter(|(_, entry)| !entry.empty_layer) {
        if told == state.stack.len() {
            entry.empty_layer = true;
            entry.created = if number < inherited { entry.created } else { time_of_build };
            continue;
        }
        if is_overlong && entry.created.is_none() {
            entry.created = made(told).map(|(_, created)| *created);
        }
        told += 1;
    }
    for layer in told..state.stack.len() {
        let made = made(layer);
        out.push(History {
            created: time_of_build.or(made.map(|(_, created)| *created)),
            created_by: made.map(|(title, _)| title.clone()).unwrap_or_default(),
            comment: "buildkit.exporter.image.v0".to_owned(),
            ..History::default()
        });
    }
    fill_times(&mut out);
    if let Some(epoch) = form.epoch.over(target.epoch).map(Timestamp::from_seconds) {
        for entry in out.iter_mut().skip(inherited) {
            entry.created = Some(entry.created.map_or(epoch, |created| created.min(epoch)));
        }
    }
    out
}

/// Entries without a time take that of the entry before them that has one; those before the first such entry, the first
/// time after them, or the last time of all (11.03).
fn fill_times(history: &mut [History]) {
    let Some(first) = history.iter().position(|entry| entry.created.is_none()) else { return };
    let later = history[first..].iter().find_map(|entry| entry.created);
    let earlier = || history[..first].iter().rev().find_map(|entry| entry.created);
    let Some(mut time) = later.or_else(earlier) else { return };
    for entry in &mut history[first..] {
        time = *entry.created.get_or_insert(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(times: &[Option<i64>]) -> Vec<Option<i64>> {
        let entry =
            |time: &Option<i64>| History { created: time.map(Timestamp::from_seconds), ..History::default() };
        let mut history: Vec<History> = times.iter().map(entry).collect();
        fill_times(&mut history);
        history.iter().map(|entry| entry.created.map(|time| time.seconds)).collect()
    }

    const LABEL: &str = "LABEL a=<b> && c";

    /// The image of a stage without layers that has one label.
    fn labelled(epoch: Option<i64>, form: &DocumentStyle) -> Built {
        let entry = ocibuild_plan::PlannedHistory { created_by: LABEL.to_owned(), step: None };
        let mut state = StageState::new(Vec::new(), ocibuild_spec::Digest::of("scratch"), Vec::new());
        state.history.push((entry, None));
        let mut config =
            ImageConfig { architecture: "arm".to_owned(), os: "linux".to_owned(), ..ImageConfig::default() };
        config.variant = "v7".to_owned();
        config.config.labels.insert("a".to_owned(), "<b> && c".to_owned());
        let target = ImageParts { state: &state, layers: &[], config: &config, epoch, has_base: true };
        put_together(&[target], false, form)
    }

    #[test]
    fn an_image_without_layers_byte_for_byte() {
        let built = labelled(None, &DocumentStyle::default());
        let image = &built.images[0];
        assert_eq!(
            String::from_utf8_lossy(&image.config_bytes),
            r#"{"architecture":"arm","config":{"Labels":{"a":"\u003cb\u003e \u0026\u0026 c"}},"created":null,"history":[{"created_by":"LABEL a=\u003cb\u003e \u0026\u0026 c","comment":"buildkit.dockerfile.v0","empty_layer":true}],"os":"linux","rootfs":{"type":"layers","diff_ids":null},"variant":"v7"}"#
        );
        let expected = format!(
            "{{\n  \"schemaVersion\": 2,\n  \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\",\n  \"config\": {{\n    \
             \"mediaType\": \"application/vnd.oci.image.config.v1+json\",\n    \"digest\": \"{}\",\n    \"size\": {}\n  }},\n  \
             \"layers\": null\n}}",
            ocibuild_spec::Digest::of(&image.config_bytes),
            image.config_bytes.len()
        );
        assert_eq!(String::from_utf8_lossy(&image.manifest_bytes), expected);
        assert_eq!(
            built.descriptor.platform.as_ref().map(ToString::to_string).as_deref(),
            Some("linux/arm/v7")
        );
    }

    /// The history of an image with `layers` layers, of which the last comes from a step at second 7, on a base whose
    /// history has these times.
    fn with_base_history(
        layers: usize,
        base: &[Option<i64>],
        epoch: Option<i64>,
    ) -> Vec<(bool, Option<i64>)> {
        let entry =
            |time: &Option<i64>| History { created: time.map(Timestamp::from_seconds), ..History::default() };
        let layer = |number: usize| {
            let diff_id = DiffId(ocibuild_spec::Digest::of(number.to_string()));
            let descriptor = Descriptor::of(MediaType::ImageLayer, b"");
            Layer::of_base_image(diff_id, descriptor, std::sync::Arc::default())
        };
        let stack = (0..layers - 1).map(layer).collect();
        let chain = ocibuild_spec::Digest::of("base");
        let mut state = StageState::new(stack, chain.clone(), base.iter().map(entry).collect());
        let step = ocibuild_plan::PlannedHistory { created_by: "COPY".to_owned(), step: Some(0) };
        let created = Timestamp::from_seconds(7);
        state.history.push((step, Some(created)));
        state.made.push(("COPY".to_owned(), created));
        state.push(layer(layers), chain);
        let config = ImageConfig::default();
        let target = ImageParts { state: &state, layers: &[], config: &config, epoch, has_base: true };
        let entries = history(&target, &DocumentStyle::default());
        entries.iter().map(|entry| (entry.empty_layer, entry.created.map(|time| time.seconds))).collect()
    }

    #[test]
    fn histories_tell_of_as_many_layers_as_there_are() {
        // One entry for each layer.
        assert_eq!(with_base_history(2, &[Some(1)], None), [(false, Some(1)), (false, Some(7))]);
        // Squashed: three entries for one layer, and the step's is the last. BuildKit counts from the bottom.
        assert_eq!(
            with_base_history(2, &[Some(1), Some(2), Some(3)], None),
            [(false, Some(1)), (false, Some(2)), (true, Some(3)), (true, Some(3))]
        );
        assert_eq!(
            with_base_history(2, &[Some(1), None, None], None),
            [(false, Some(1)), (false, Some(7)), (true, Some(7)), (true, Some(7))]
        );
        assert_eq!(
            with_base_history(2, &[Some(1), Some(2)], Some(5)),
            [(false, Some(1)), (false, Some(2)), (true, Some(5))]
        );
        // Too few.
        let short = with_base_history(3, &[], None);
        assert_eq!(short.iter().map(|(empty, _)| *empty).collect::<Vec<_>>(), [false; 3]);
    }

    #[test]
    fn epochs_of_the_build_and_of_the_output() {
        let created = |epoch, form: &DocumentStyle| {
            labelled(epoch, form).images[0].config.created.map(|time| time.seconds)
        };
        let own = |epoch| DocumentStyle { epoch, ..DocumentStyle::default() };
        assert_eq!(created(None, &DocumentStyle::default()), None);
        assert_eq!(created(Some(5), &DocumentStyle::default()), Some(5));
        assert_eq!(created(Some(5), &own(OutputEpoch::None)), Some(5));
        assert_eq!(created(Some(5), &own(OutputEpoch::At(7))), Some(5));
        assert_eq!(created(Some(5), &own(OutputEpoch::At(3))), Some(3));
        assert_eq!(created(None, &own(OutputEpoch::At(3))), Some(3));
    }

    #[test]
    fn entries_without_a_time_get_one() {
        assert_eq!(filled(&[]), []);
        assert_eq!(filled(&[None, None]), [None, None]);
        // The base's last time, where there is no new layer.
        assert_eq!(filled(&[Some(1), Some(2), None, None]), [Some(1), Some(2), Some(2), Some(2)]);
        // Before the first new layer its time, later that of the layer before.
        assert_eq!(
            filled(&[Some(1), None, Some(5), None, Some(6), None]),
            [Some(1), Some(5), Some(5), Some(5), Some(6), Some(6)]
        );
        assert_eq!(filled(&[None, Some(1), None, Some(5)]), [Some(1), Some(1), Some(1), Some(5)]);
    }
}
