//! A key, an empty line, and a file of credentials: no panic; what is put in is found, what is taken out is gone, and
//! all else stays as it was, in its order.
#![no_main]

use std::fmt;

use libfuzzer_sys::fuzz_target;
use ocibuild_registry::fuzzing::{put, remove};
use ocibuild_registry::{
    ConfigSource, Credential, CredentialSource, Helpers, Lookup, RegistryKey, Secret, Wanted,
};
use ocibuild_spec::{CancelToken, SourceError};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

fuzz_target!(|text: &str| {
    let (key, file) = text.split_once("\n\n").unwrap_or(("r.io/team", text));
    for (registry, repository) in [("r.io", "team/app"), ("docker.io", "library/x"), ("[::1]:5000", "a")] {
        let _ = find(file, Wanted { registry, repository: Some(repository) });
    }
    let Some(key) = RegistryKey::parse(key) else { return };
    assert_eq!(RegistryKey::parse(&key.to_string()).as_ref(), Some(&key), "{key}");

    let credential = Credential::password("user", Secret::new("p:w"));
    let Ok(changed) = put(file, &key, &credential) else { return };
    let changed = String::from_utf8(changed).expect("a file of texts is a text");
    let (before, after) = (Parts::of(file), Parts::of(&changed));
    assert_eq!(before.others, after.others);
    let kept = before.without(&key);
    let (last, rest) = after.entries.split_last().expect("an entry was put in");
    assert_eq!(kept, rest);
    assert_eq!(RegistryKey::parse(&last.0).as_ref(), Some(&key));
    let wanted =
        Wanted { registry: key.host(), repository: Some(key.path()).filter(|path| !path.is_empty()) };
    match (find(file, wanted), find(&changed, wanted)) {
        (_, Ok(Lookup::Match(hit))) => assert_eq!(hit.credential, credential),
        (_, Ok(Lookup::Miss(why))) => panic!("not found: {why}"),
        // What is malformed, or names a helper, stays so.
        (Err(_), Err(_)) => {}
        (Ok(_), Err(error)) => panic!("the file became unreadable: {error}"),
    }

    let removed = remove(&changed, &key).expect("a written file is one").expect("the entry is there");
    let removed = String::from_utf8(removed).expect("a file of texts is a text");
    let removed = Parts::of(&removed);
    assert_eq!((removed.others, removed.entries), (before.others, kept));
});

fn find(file: &str, wanted: Wanted<'_>) -> Result<Lookup, SourceError> {
    let source = ConfigSource::text("file", "config.json", Secret::new(file), Helpers::none());
    source.find(wanted, &CancelToken::new())
}

/// The members of an object, as they are written.
struct Object(Vec<(String, String)>);

/// A file in parts: the first `auths`, and what else there is.
struct Parts {
    entries: Vec<(String, String)>,
    others: Vec<(String, String)>,
}

impl Parts {
    fn of(file: &str) -> Self {
        if file.trim().is_empty() {
            return Self { entries: Vec::new(), others: Vec::new() };
        }
        let Object(mut others) = serde_json::from_str(file).expect("the store read it");
        let auths = others.iter().position(|(key, _)| key == "auths").map(|at| others.remove(at).1);
        let auths: Option<Object> =
            auths.and_then(|auths| serde_json::from_str(&auths).expect("the store read it"));
        Self { entries: auths.map(|auths| auths.0).unwrap_or_default(), others }
    }

    fn without(&self, key: &RegistryKey) -> Vec<(String, String)> {
        let is_other = |(name, _): &&(String, String)| RegistryKey::parse(name).as_ref() != Some(key);
        self.entries.iter().filter(is_other).cloned().collect()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    members.push((key, value.get().to_owned()));
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
