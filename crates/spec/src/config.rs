use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{DiffId, Timestamp};

/// An image's config (image-spec `config.md`), field by field in the order in which BuildKit writes it: the digest
/// of this document is the image's identity, so the order is part of the format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// CPU architecture, in Go's spelling.
    #[serde(default)]
    pub architecture: String,
    /// Who maintains the image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// What a container starts with.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ContainerConfig,
    /// When the image was built; `null` when nothing in its history has a time.
    #[serde(default)]
    pub created: Option<Timestamp>,
    /// One entry per instruction.
    #[serde(default, serialize_with = "empty_is_null", deserialize_with = "null_is_default")]
    pub history: Vec<History>,
    /// Operating system, in Go's spelling.
    #[serde(default)]
    pub os: String,
    /// Features of the operating system.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Version of the operating system.
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// The layers.
    #[serde(default)]
    pub rootfs: RootFs,
    /// Variant of the architecture.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// The `rootfs` member of a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Layers, the lowest first; `null` for an image that has none (11.05).
    #[serde(default)]
    pub diff_ids: Option<Vec<DiffId>>,
}

impl RootFs {
    /// The layers, the lowest first.
    pub fn layers(&self) -> &[DiffId] {
        self.diff_ids.as_deref().unwrap_or_default()
    }
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: None }
    }
}

/// One step of an image's history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When it was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who wrote the entry.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

/// What a container of the image starts with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// User and group, as written.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub user: String,
    /// Ports by `number/protocol`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Environment, `NAME=value`, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// Entry point; absent and empty are the same.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    /// Command or arguments of the entry point.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// Mount points of volumes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub volumes: BTreeMap<String, Empty>,
    /// Directory a command starts in.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// Signal that stops the container.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// A Windows notion that BuildKit sets with every `CMD` (5.301).
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub args_escaped: bool,
    /// How to tell whether the container works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Triggers for images built on this one.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub on_build: Vec<String>,
    /// Shell of the shell forms.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub shell: Vec<String>,
}

/// The empty object that stands for a set's member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// `Healthcheck` of a config; durations in nanoseconds, zero means inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `NONE`, or `CMD` or `CMD-SHELL` and its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Time between two runs.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time after which a run counts as failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time in which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between two runs during the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make the container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// Go writes empty lists and maps as `null` where a field is not left out; both mean the same.
fn empty_is_null<S: Serializer, T: Serialize>(list: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    (!list.is_empty()).then_some(list).serialize(serializer)
}

/// The way back.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A config with everything in it.
    fn full() -> Value {
        json!({
            "architecture": "arm64", "author": "A", "created": "2020-01-02T03:04:05Z", "os": "linux",
            "os.features": ["f"], "os.version": "1", "variant": "v8",
            "rootfs": {"type": "layers", "diff_ids": [DiffId(crate::Digest::of("x"))]},
            "history": [{"created": "2020-01-02T03:04:05Z", "created_by": "RUN", "author": "B", "comment": "c"},
                {"created_by": "ENV", "empty_layer": true}],
            "config": {
                "User": "u", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=1", "B=2"], "Entrypoint": ["e"],
                "Cmd": ["c", "d"], "Volumes": {"/v": {}}, "WorkingDir": "/w", "Labels": {"l": "x"},
                "StopSignal": "TERM", "ArgsEscaped": true, "OnBuild": ["RUN x"], "Shell": ["/bin/sh"],
                "Healthcheck": {"Test": ["CMD", "x"], "Interval": 1, "Timeout": 2, "StartPeriod": 3,
                    "StartInterval": 4, "Retries": 5},
            },
        })
    }

    /// The places of all values: the steps that lead to each.
    fn places(value: &Value) -> Vec<String> {
        let mut found = Vec::new();
        let mut pending = vec![(String::new(), value)];
        while let Some((place, value)) = pending.pop() {
            let step = |key: &str| format!("{place}/{}", key.replace('~', "~0").replace('/', "~1"));
            match value {
                Value::Object(members) => pending.extend(members.iter().map(|(key, it)| (step(key), it))),
                Value::Array(items) => {
                    pending.extend(items.iter().enumerate().map(|(at, it)| (step(&at.to_string()), it)));
                }
                _ => {}
            }
            found.push(place);
        }
        found
    }

    fn read(value: &Value) -> Result<ImageConfig, serde_json::Error> {
        crate::json::from_slice(value.to_string().as_bytes())
    }

    #[test]
    fn null_anywhere_is_as_if_it_was_not_there() {
        let full = full();
        for place in places(&full).iter().filter(|place| !place.is_empty()) {
            let mut with_null = full.clone();
            *with_null.pointer_mut(place).unwrap() = Value::Null;
            if place.starts_with("/rootfs/diff_ids/") {
                assert!(read(&with_null).is_err(), "a layer has a digest");
                continue;
            }
            let (parent, key) = place.rsplit_once('/').unwrap();
            let mut expected = full.clone();
            let key = key.replace("~1", "/");
            // Items and members of maps stay, as what they would be if nothing was said.
            let zero = match parent {
                "/config/Labels" => Some(json!("")),
                "/config/ExposedPorts" | "/config/Volumes" | "/history" => Some(json!({})),
                _ if key.parse::<usize>().is_ok() => Some(json!("")),
                _ => None,
            };
            match (expected.pointer_mut(parent).unwrap(), zero) {
                (Value::Array(items), Some(zero)) => items[key.parse::<usize>().unwrap()] = zero,
                (Value::Object(members), Some(zero)) => drop(members.insert(key, zero)),
                (Value::Object(members), None) => drop(members.remove(&key)),
                (other, _) => panic!("{other} has no members"),
            }
            let (found, mut expected) = (read(&with_null).unwrap(), read(&expected).unwrap());
            if *place == "/rootfs" || *place == "/rootfs/type" {
                expected.rootfs.kind = found.rootfs.kind.clone();
            }
            assert_eq!(found, expected, "{place}");
        }
    }

    #[test]
    fn nulls_of_other_builders_are_read_and_left_out() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["a"],"Volumes":null,
            "OnBuild":null,"Hostname":"x"},"rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config: ImageConfig = crate::json::from_str(text).unwrap();
        let written = crate::json::to_vec(&config).unwrap();
        assert_eq!(
            String::from_utf8(written).unwrap(),
            r#"{"architecture":"amd64","config":{"Cmd":["a"]},"created":null,"history":null,"os":"linux","rootfs":{"type":"layers","diff_ids":null}}"#
        );
    }
}
