use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::Value;

/// What is printed besides, of cases where it does not depend on when they are built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// Times of files.
    pub(super) times: bool,
    /// Times of the image and its history.
    pub(super) created: bool,
}

/// Files with more bytes than this are printed as their size and digest.
const SHOWN: usize = 120;

/// Prints the image, or the images, of a layout directory: config, history, and the layers that the build made.
pub(super) fn print(layout: &Path, shown: Shown) -> String {
    let index: Value = json(&layout.join("index.json"));
    let mut text = String::new();
    for descriptor in index["manifests"].as_array().unwrap() {
        print_of(layout, descriptor, shown, &mut text);
    }
    text
}

fn print_of(layout: &Path, descriptor: &Value, shown: Shown, text: &mut String) {
    let document: Value = json(&blob(layout, descriptor));
    let Some(images) = document["manifests"].as_array() else {
        return print_image(layout, &document, shown, text);
    };
    for image in images {
        let platform = &image["platform"];
        let part = |name: &str| platform[name].as_str().unwrap_or_default().to_owned();
        let parts = [part("os"), part("architecture"), part("variant")];
        let _ = writeln!(text, "platform {}", parts.join("/").trim_end_matches('/'));
        print_of(layout, image, shown, text);
    }
}

fn print_image(layout: &Path, manifest: &Value, shown: Shown, text: &mut String) {
    let config: Value = json(&blob(layout, &manifest["config"]));
    if !config["author"].is_null() {
        let _ = writeln!(text, "author {}", config["author"]);
    }
    if shown.created {
        let _ = writeln!(text, "created {}", config["created"]);
    }
    if let Some(annotations) = manifest["annotations"].as_object() {
        for (key, value) in annotations {
            let _ = writeln!(text, "annotation {key} {value}");
        }
    }
    for (key, value) in config["config"].as_object().into_iter().flatten() {
        let _ = writeln!(text, "config {key} {value}");
    }
    let history: Vec<&Value> = config["history"].as_array().into_iter().flatten().collect();
    let base = base_entries(&history);
    for entry in &history[base.0..] {
        let mark = if entry["empty_layer"].as_bool() == Some(true) { "history (empty)" } else { "history" };
        let created = if shown.created { format!(" {}", entry["created"]) } else { String::new() };
        let _ = writeln!(text, "{mark} {}{created}", entry["created_by"]);
    }
    for layer in manifest["layers"].as_array().into_iter().flatten().skip(base.1) {
        text.push_str("layer\n");
        print_layer(&blob(layout, layer), layer["mediaType"].as_str().unwrap_or_default(), shown, text);
    }
}

/// How many entries of the history, and how many layers, are the base image's: its last entry is its `CMD`.
fn base_entries(history: &[&Value]) -> (usize, usize) {
    let is_last = |entry: &&Value| entry["created_by"] == "CMD [\"/bin/sh\"]";
    let is_base =
        history.first().is_some_and(|entry| entry["created_by"] == "COPY --chmod=755 bin /bin # buildkit");
    match history.iter().position(is_last) {
        Some(last) if is_base => {
            let layers = history[..=last].iter().filter(|entry| entry["empty_layer"].as_bool() != Some(true));
            (last + 1, layers.count())
        }
        _ => (0, 0),
    }
}

fn print_layer(blob: &Path, media_type: &str, shown: Shown, text: &mut String) {
    let bytes = fs::read(blob).unwrap();
    let plain: Box<dyn std::io::Read> = match media_type.rsplit_once('+') {
        Some((_, "gzip")) => Box::new(flate2::read::MultiGzDecoder::new(bytes.as_slice())),
        Some((_, "zstd")) => return text.push_str("  zstd\n"),
        _ => Box::new(bytes.as_slice()),
    };
    for entry in tar::Archive::new(plain).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut line = format!(
            "{:04o} {}:{} {}",
            entry.header().mode().unwrap(),
            entry.header().uid().unwrap(),
            entry.header().gid().unwrap(),
            entry.path().unwrap().display()
        );
        let link = entry.link_name().unwrap().map(PathBuf::from).unwrap_or_default();
        match entry.header().entry_type() {
            tar::EntryType::Symlink => _ = write!(line, " -> {}", link.display()),
            tar::EntryType::Link => _ = write!(line, " = {}", link.display()),
            tar::EntryType::Regular => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                line.push(' ');
                line.push_str(&printed(&content));
            }
            tar::EntryType::Directory => {}
            other => _ = write!(line, " {other:?}"),
        }
        if let Some(extensions) = entry.pax_extensions().unwrap() {
            for extension in extensions.map(Result::unwrap) {
                let key = extension.key().unwrap();
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    let value = extension.value_bytes();
                    let _ = write!(line, " {name}={value:02x?}");
                }
            }
        }
        if shown.times {
            let _ = write!(line, " @{}", entry.header().mtime().unwrap());
        }
        let _ = writeln!(text, "  {line}");
    }
}

fn printed(content: &[u8]) -> String {
    match std::str::from_utf8(content) {
        Ok(text) if text.len() <= SHOWN => format!("{text:?}"),
        _ => format!("{} bytes {}", content.len(), ocibuild::spec::Digest::of(content).hex()),
    }
}

fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
