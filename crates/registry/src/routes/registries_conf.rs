//! Containers' `registries.conf`, version 2 (containers-registries.conf(5)).

use std::path::{Path, PathBuf};

use ocibuild_spec::{SourceError, SourceErrorKind};

use super::document::{Table, TextFile};
use super::rule::{Location, Mirror, Prefix, Rest, Rule};

/// The rules of files and folders: what a later one says about a prefix replaces what an earlier one said.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Rule>, SourceError> {
    let mut rules: Vec<Rule> = Vec::new();
    for path in paths {
        for path in files_of(path)? {
            let Some(file) = TextFile::read(&path)? else { continue };
            for rule in parse(&file)? {
                rules.retain(|known| known.prefix != rule.prefix);
                rules.push(rule);
            }
        }
    }
    Ok(rules)
}

/// The file itself, or the `*.conf` of a folder, by name.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, SourceError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable =
        |error: std::io::Error| SourceError::new(SourceErrorKind::Configuration, error.to_string());
    let mut files = Vec::new();
    for entry in fs_err::read_dir(path).map_err(unreadable)? {
        files.push(entry.map_err(unreadable)?.path());
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    Ok(files)
}

/// The rules of one file. Keys about short names are for others; unknown ones are passed over, as there.
pub(super) fn parse(file: &TextFile) -> Result<Vec<Rule>, SourceError> {
    file.parse(|document| {
        if let Some(old) = document.get("registries") {
            return Err(old.error("the first version of this format is not read; write [[registry]] tables"));
        }
        let mut rules: Vec<Rule> = Vec::new();
        for table in document.tables("registry")? {
            let rule = rule_of(&table)?;
            if let Some(other) = rules.iter().find(|other| other.prefix == rule.prefix) {
                let text = format!("this prefix has a table already, in {}", other.origin);
                return Err(file.error(table.at, text));
            }
            rules.push(rule);
        }
        Ok(rules)
    })
}

fn rule_of(table: &Table<'_>) -> Result<Rule, SourceError> {
    let file = table.file;
    let location: Option<Location> = parsed(table, "location")?;
    let prefix: Option<Prefix> = parsed(table, "prefix")?;
    let (prefix, rest) = match (prefix, location) {
        (None, None) => return Err(file.error(table.at, "a [[registry]] needs a prefix or a location")),
        (Some(prefix), None) if prefix.is_wildcard() => (prefix, Rest::Itself),
        (Some(_), None) => {
            return Err(file.error(table.at, "a prefix without a location has to begin with \"*.\""));
        }
        (Some(prefix), Some(location)) => match location.name().parse::<Prefix>() {
            Ok(own) if own == prefix => (prefix, Rest::Itself),
            _ => (prefix, Rest::Location(location)),
        },
        (None, Some(location)) => {
            let prefix = location.name().parse().map_err(|reason| file.error(table.at, reason))?;
            (prefix, Rest::Itself)
        }
    };
    let by_digest_only = table.boolean("mirror-by-digest-only")?.unwrap_or_default();
    if let Some(value) = table.get("pull-from-mirror") {
        return Err(value.error("it belongs into [[registry.mirror]]"));
    }
    let mirrors = table
        .tables("mirror")?
        .iter()
        .map(|mirror| mirror_of(mirror, by_digest_only))
        .collect::<Result<_, _>>()?;
    Ok(Rule {
        prefix,
        mirrors,
        rest,
        is_blocked: table.boolean("blocked")?.unwrap_or_default(),
        is_insecure: table.boolean("insecure")?.unwrap_or_default(),
        origin: file.origin(table.at),
    })
}

fn mirror_of(table: &Table<'_>, by_digest_only: bool) -> Result<Mirror, SourceError> {
    let file = table.file;
    let location: Option<Location> = parsed(table, "location")?;
    let location = location.ok_or_else(|| file.error(table.at, "a mirror needs a location"))?;
    let (for_tags, for_digests) = match table.get("pull-from-mirror") {
        None => (!by_digest_only, true),
        Some(value) if by_digest_only => {
            return Err(value.error("it cannot be together with mirror-by-digest-only of the registry"));
        }
        Some(value) => match value.as_str()? {
            "all" | "" => (true, true),
            "digest-only" => (false, true),
            "tag-only" => (true, false),
            other => return Err(value.error(format!("{other:?} is none of all, digest-only, tag-only"))),
        },
    };
    let is_insecure = table.boolean("insecure")?.unwrap_or_default();
    Ok(Mirror { location, is_insecure, for_tags, for_digests, origin: file.origin(table.at) })
}

/// What a text stands for; an empty one for nothing.
fn parsed<'a, T: std::str::FromStr<Err = String>>(
    table: &Table<'a>,
    key: &'a str,
) -> Result<Option<T>, SourceError> {
    let Some(value) = table.get(key) else { return Ok(None) };
    if value.as_str()?.is_empty() { Ok(None) } else { value.parse().map(Some) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::routes::rule::{longest, name_of};

    fn rules(text: &str) -> Result<Vec<Rule>, SourceError> {
        parse(&TextFile::new("r.conf", text))
    }

    const CONF: &str = r#"
unqualified-search-registries = ["quay.io"]
short-name-mode = "enforcing"
something-new = 1
[aliases]
"alpine" = "quay.io/alpine"

[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "one.example:5000/hub/"
insecure = true
[[registry.mirror]]
location = "two.example"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "three.example"
pull-from-mirror = "tag-only"

[[registry]]
prefix = "docker.io/team"
location = "inner.example/team"
mirror-by-digest-only = true
[[registry.mirror]]
location = "four.example/t"

[[registry]]
prefix = "*.corp.example"
blocked = true

[[registry]]
location = "plain.example"
insecure = true
"#;

    #[test]
    fn names_lead_where_the_longest_prefix_says() {
        let rules = rules(CONF).unwrap();
        let pinned = format!("@sha256:{}", "0".repeat(64));
        for (image, expected) in [
            (
                "alpine:3",
                "one.example:5000/hub/library/alpine:3 two.example/library/alpine:3 three.example/library/alpine:3 -",
            ),
            ("team/app:1", "four.example/t/app:1 inner.example/team/app:1"),
            (
                &format!("team/app{pinned}"),
                &format!("four.example/t/app{pinned} inner.example/team/app{pinned}"),
            ),
            ("plain.example/x:1", "-"),
        ] {
            let reference = image.parse().unwrap();
            let places = longest(&rules, &name_of(&reference)).unwrap().places(&reference).unwrap();
            let shown: Vec<String> = places
                .into_iter()
                .map(|place| place.image.map_or("-".to_owned(), |image| image.to_string()))
                .collect();
            assert_eq!(shown.join(" "), expected, "{image}");
        }
        let rule = |name: &str| longest(&rules, name);
        assert!(rule("a.corp.example/x").unwrap().is_blocked);
        assert!(rule("plain.example/x").unwrap().is_insecure);
        assert!(!rule("plain.example/x").unwrap().leads_elsewhere());
        assert!(rule("ghcr.io/x").is_none());
        assert_eq!(rule("docker.io/team/app").unwrap().origin.to_string(), "r.conf:21");
    }

    #[test]
    fn what_is_wrong_has_a_line() {
        for (text, expected) in [
            ("a = ", "r.conf:1: "),
            (
                "\n\n[[registry]]\nprefix=1\n",
                "r.conf:4: prefix: it has to be a text, and is of the type integer",
            ),
            ("[[registry]]\nlocation='x.io'\nblocked='yes'", "r.conf:3: blocked: it has to be true or false"),
            ("[registry]\nlocation='x.io'", "r.conf:1: registry: it has to be a list"),
            ("registry = [1]", "r.conf:1: registry: it has to be a table"),
            ("[[registry]]\nblocked=true", "r.conf:1: a [[registry]] needs a prefix or a location"),
            ("[[registry]]\nprefix='x.io'", "r.conf:1: a prefix without a location"),
            (
                "[[registry]]\nlocation='https://x.io'",
                "r.conf:2: location: \"https://x.io\" has a scheme; write x.io",
            ),
            ("[[registry]]\nlocation='x.io/a:1'", "has a tag or a digest"),
            ("[[registry]]\nlocation='x.io'\n[[registry.mirror]]\ninsecure=true", "r.conf:3: a mirror needs"),
            (
                "[[registry]]\nlocation='x.io'\n[[registry.mirror]]\nlocation='y.io'\npull-from-mirror='some'",
                "r.conf:5: pull-from-mirror: \"some\" is none of",
            ),
            (
                "[[registry]]\nlocation='x.io'\nmirror-by-digest-only=true\n[[registry.mirror]]\n\
                 location='y.io'\npull-from-mirror='all'",
                "r.conf:6: pull-from-mirror: it cannot be together",
            ),
            ("[[registry]]\nlocation='x.io'\n[[registry]]\nlocation='x.io/'", "r.conf:3: this prefix"),
            ("[registries.insecure]\nregistries=['x.io']", "r.conf:1: registries: the first version"),
        ] {
            let error = rules(text).unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
            assert_eq!(error.kind(), SourceErrorKind::Configuration);
        }
    }

    #[test]
    fn later_files_replace_what_earlier_ones_say_about_a_prefix() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs_err::write(path("main.conf"), CONF).unwrap();
        fs_err::create_dir(path("d")).unwrap();
        fs_err::write(path("d/20.conf"), "[[registry]]\nlocation='docker.io'\nblocked=true").unwrap();
        fs_err::write(path("d/10.conf"), "[[registry]]\nlocation='docker.io'").unwrap();
        fs_err::write(path("d/30.conf.bak"), "no TOML").unwrap();
        let rules = read(&[path("none.conf"), path("main.conf"), path("d"), path("none.d")]).unwrap();
        let rule = longest(&rules, "docker.io/library/x").unwrap();
        assert!(rule.is_blocked && rule.mirrors.is_empty());
        assert_eq!(rules.len(), 4);
        fs_err::write(path("d/40.conf"), "x").unwrap();
        assert!(read(&[path("d")]).unwrap_err().to_string().contains("40.conf:1: "));
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(lines in proptest::collection::vec(line(), 0..12)) {
            for rule in rules(&lines.join("\n")).unwrap_or_default() {
                for image in ["alpine", "x.io/a/b:1", "a.x.io/b"] {
                    let reference = image.parse().unwrap();
                    if rule.prefix.matched(&name_of(&reference)).is_some() {
                        let _ = rule.places(&reference);
                    }
                }
            }
        }
    }

    /// Lines that nearly mean something.
    fn line() -> impl Strategy<Value = String> {
        let head =
            prop_oneof![Just("[[registry]]"), Just("[[registry.mirror]]"), Just("[registry]"), Just("")];
        let key = prop_oneof![
            Just("prefix"),
            Just("location"),
            Just("mirror"),
            Just("blocked"),
            Just("pull-from-mirror"),
        ];
        let value = prop_oneof![
            Just("'x.io'".to_owned()),
            Just("'*.x.io/a'".to_owned()),
            Just("'docker.io/library'".to_owned()),
            Just("true".to_owned()),
            Just("[[[{}]]]".to_owned()),
            "[ -~]{0,20}",
            r"\PC{0,10}",
        ];
        prop_oneof![
            head.prop_map(str::to_owned),
            (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
            r"\PC{0,30}",
        ]
    }
}
