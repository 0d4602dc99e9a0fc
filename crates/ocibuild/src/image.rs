//! From the finished target stage to an image: history, config, manifest.

use ocibuild_spec::{
    Descriptor, DiffId, History, ImageConfig, Manifest, MediaType, Platform, RootFs, Timestamp, json,
};

use crate::layers::Layer;
use crate::plan::PlannedHistory;
use crate::stage::StageState;

/// A finished image.
#[derive(Debug, Clone)]
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
    pub(crate) layers: Vec<Layer>,
}

impl BuiltImage {
    /// The layers, the lowest first.
    pub fn layers(&self) -> impl Iterator<Item = (&DiffId, &Descriptor)> {
        self.layers.iter().map(|layer| (&layer.diff_id, &layer.descriptor))
    }
}

/// Puts together config and manifest of a stage (11.03 to 11.06).
pub(crate) fn assemble(state: &StageState, config: &ImageConfig, epoch: Option<Timestamp>) -> BuiltImage {
    let mut config = config.clone();
    config.history = history(state, epoch);
    config.created = config.history.iter().rev().find_map(|entry| entry.created);
    let diff_ids: Vec<DiffId> = state.stack.iter().map(|layer| layer.diff_id.clone()).collect();
    config.rootfs =
        RootFs { kind: "layers".to_owned(), diff_ids: (!diff_ids.is_empty()).then_some(diff_ids) };
    let config_bytes = json::to_vec(&config).expect("a config is plain data");
    let layers: Vec<Descriptor> = state.stack.iter().map(|layer| plain(&layer.descriptor)).collect();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MediaType::ImageManifest),
        config: Descriptor::of(MediaType::ImageConfig, &config_bytes),
        layers: (!layers.is_empty()).then_some(layers),
        annotations: std::collections::BTreeMap::new(),
    };
    let manifest_bytes = json::to_vec_pretty(&manifest).expect("a manifest is plain data");
    let mut descriptor = Descriptor::of(MediaType::ImageManifest, &manifest_bytes);
    descriptor.platform = Some(platform(&config));
    BuiltImage {
        descriptor,
        manifest,
        manifest_bytes,
        config,
        config_bytes,
        new_layers: state.stack.len() - state.base_layers,
        layers: state.stack.clone(),
    }
}

/// A layer's descriptor without what only its former index said.
fn plain(descriptor: &Descriptor) -> Descriptor {
    let media_type = match descriptor.media_type.to_string().as_str() {
        ocibuild_spec::media_types::DOCKER_LAYER => MediaType::ImageLayer,
        ocibuild_spec::media_types::DOCKER_LAYER_GZIP => MediaType::ImageLayerGzip,
        ocibuild_spec::media_types::DOCKER_LAYER_ZSTD => MediaType::ImageLayerZstd,
        _ => descriptor.media_type.clone(),
    };
    Descriptor::new(media_type, descriptor.digest.clone(), descriptor.size)
}

fn platform(config: &ImageConfig) -> Platform {
    Platform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        os_version: config.os_version.clone(),
        os_features: config.os_features.clone(),
        variant: config.variant.clone(),
    }
}

/// The whole history. Entries without a layer take the time of the layer before them, those before the first new layer
/// that layer's; without any new layer, the last time of the base (11.03).
fn history(state: &StageState, epoch: Option<Timestamp>) -> Vec<History> {
    let mut out = state.base_history.clone();
    let base_time = out.iter().rev().find_map(|entry| entry.created);
    let first = state.history.iter().find_map(|(_, created)| *created);
    let mut time = first.or(base_time);
    for (entry, created) in &state.history {
        time = created.or(time);
        out.push(finished(entry, epoch.or(time)));
    }
    // Layers that the history does not tell of get entries, so that both agree in number (11.06).
    let told = out.iter().filter(|entry| !entry.empty_layer).count();
    for layer in told..state.stack.len() {
        let made = layer.checked_sub(state.base_layers).and_then(|number| state.made.get(number));
        out.push(History {
            created: epoch.or(made.map(|(_, created)| *created)),
            created_by: made.map(|(title, _)| title.clone()).unwrap_or_default(),
            comment: "buildkit.exporter.image.v0".to_owned(),
            ..History::default()
        });
    }
    out
}

fn finished(entry: &PlannedHistory, created: Option<Timestamp>) -> History {
    entry.finish(created)
}
