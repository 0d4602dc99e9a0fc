use std::fmt::Write as _;

use super::*;

/// Variables that the flags of the table use.
const VARIABLES: [(&str, &str); 4] = [("T", "/from variable"), ("K", "tmpfs"), ("S", "dir"), ("N", "name")];

fn expand(value: &str) -> Result<String, PlanError> {
    let mut environment = super::super::env::Environment::default();
    for (name, value) in VARIABLES {
        environment.set(name, value);
    }
    environment.expand(value, '\\').map_err(PlanError::from)
}

fn meaning(workdir: &str, flag: &str) -> Result<StepMount, PlanError> {
    let parsed = MountFlag::parse(flag, &mut expand)?;
    parsed.resolve(None, workdir, "", 2)
}

/// What is not at its default, in words.
fn text(mount: &StepMount) -> String {
    let target = if mount.target.is_empty() { "-" } else { &mount.target };
    let mut out = format!("{} {target}", serde_json::to_value(mount.kind).unwrap().as_str().unwrap());
    let mut add = |text: String| write!(out, " {text}").unwrap();
    if !mount.id.is_empty() {
        add(format!("id={:?}", mount.id));
    }
    if mount.source != "/" {
        add(format!("source={:?}", mount.source));
    }
    for (name, is_set) in [
        ("read-only", mount.read_only),
        ("required", mount.required),
        ("as a file", mount.as_file),
        ("starts empty", mount.starts_empty),
    ] {
        if is_set {
            add(name.to_owned());
        }
    }
    if mount.sharing != CacheSharing::Shared {
        add(serde_json::to_value(mount.sharing).unwrap().as_str().unwrap().to_owned());
    }
    add(mount.mode.map(|mode| format!("mode={mode:o}")).unwrap_or_default());
    for (name, value) in
        [("uid", mount.uid.map(u64::from)), ("gid", mount.gid.map(u64::from)), ("size", mount.size)]
    {
        add(value.map(|value| format!("{name}={value}")).unwrap_or_default());
    }
    add(mount.env.as_ref().map(|name| format!("env={name}")).unwrap_or_default());
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn flags_mean_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/mount/table.txt");
    let table = fs_err::read_to_string(path).unwrap();
    let mut found = String::new();
    let mut count = 0;
    for line in table.lines() {
        let fields: Vec<&str> =
            if line.starts_with('#') { Vec::new() } else { line.splitn(3, " | ").collect() };
        let [workdir, flag, ..] = fields[..] else {
            writeln!(found, "{line}").unwrap();
            continue;
        };
        count += 1;
        let result = match meaning(workdir, flag) {
            Ok(mount) => text(&mount),
            Err(error) => format!("error: {}", error.fault()),
        };
        writeln!(found, "{workdir} | {flag} | {result}").unwrap();
    }
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs_err::write(path, &found).unwrap();
    }
    assert_eq!(found, fs_err::read_to_string(path).unwrap());
    assert!(count > 90, "only {count} flags");
}

#[test]
fn caches_have_a_namespace() {
    let id =
        |flag: &str| MountFlag::parse(flag, &mut expand).unwrap().resolve(None, "/w", "ns", 0).unwrap().id;
    assert_eq!(id("type=cache,target=/x/"), "ns//x");
    assert_eq!(id("type=cache,target=/x,id=name"), "ns/name");
    assert_eq!(id("type=secret,id=name"), "name");
}
