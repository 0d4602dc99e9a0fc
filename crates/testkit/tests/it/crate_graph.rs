use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Which room may use which; what is not here is not allowed.
const ARROWS: [(&str, &[&str]); 13] = [
    ("spec", &[]),
    ("dockerfile", &[]),
    ("sys", &[]),
    ("store", &["spec", "sys"]),
    ("layer", &["spec", "sys"]),
    ("snapshot", &["spec", "sys"]),
    ("executor", &["spec", "sys"]),
    ("registry", &["spec"]),
    ("plan", &["dockerfile", "spec"]),
    (
        "ocibuild",
        &["plan", "dockerfile", "registry", "store", "layer", "snapshot", "executor", "spec", "sys"],
    ),
    ("cli", &["ocibuild"]),
    ("testkit", &["spec", "sys", "dockerfile", "store", "layer", "snapshot", "executor", "registry"]),
    (
        "benches",
        &[
            "ocibuild",
            "dockerfile",
            "store",
            "layer",
            "snapshot",
            "executor",
            "registry",
            "spec",
            "sys",
            "testkit",
        ],
    ),
];

/// External crates of the rooms that are to stay small.
const LEAVES: [(&str, &[&str]); 4] = [
    ("spec", &["oci-spec", "serde", "serde_json", "sha2", "thiserror"]),
    ("dockerfile", &["memchr", "nom", "serde", "serde_json", "thiserror", "unicode-properties"]),
    ("sys", &["libc", "rustix", "thiserror"]),
    ("plan", &["ocibuild-dockerfile", "ocibuild-spec", "serde", "serde_json", "thiserror"]),
];

fn room(package: &str) -> &str {
    package.strip_prefix("ocibuild-").unwrap_or(package)
}

/// The packages of the workspace with what each depends on: rooms of ours and external crates.
fn dependencies() -> BTreeMap<String, BTreeSet<(String, bool)>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs its own tests");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let text = |value: &Value| value.as_str().expect("names are texts").to_owned();
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().expect("a list of dependencies");
        let normal = all.iter().filter(|one| one["kind"].is_null());
        normal.map(|one| (text(&one["name"]), !one["path"].is_null())).collect()
    };
    packages.iter().map(|package| (room(&text(&package["name"])).to_owned(), of(package))).collect()
}

#[test]
fn every_arrow_is_in_the_picture() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    for (package, needs) in dependencies() {
        let arrows =
            allowed.get(package.as_str()).unwrap_or_else(|| panic!("the picture has no room {package}"));
        for (name, _) in needs.iter().filter(|(_, is_ours)| *is_ours) {
            assert!(arrows.contains(&room(name)), "{package} must not use {name}");
        }
    }
}

#[test]
fn leaves_use_only_what_is_listed() {
    let all = dependencies();
    for (package, listed) in LEAVES {
        for (name, _) in &all[package] {
            assert!(listed.contains(&name.as_str()), "{package} must not use {name}");
        }
    }
}
