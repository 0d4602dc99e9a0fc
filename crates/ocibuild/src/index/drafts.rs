use std::io::Write as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use ocibuild_spec::{Descriptor, Digest, Reference, json};
use serde::{Deserialize, Serialize};

use super::draft::{Base, IndexDraft, IndexEntry};
use crate::error::Error;
use crate::failure::{FileAction, HostFailure, StateFailure};
use crate::transfer::Origin;

/// Version of the documents here; see `docs/formats/index-drafts.md`.
const VERSION: u32 = 1;

/// The drafts of a state directory: a document each, named by the digest of the index's name.
///
/// Unlike what a cache holds they are the user's, so one that cannot be read is an error, and never overwritten.
#[derive(Debug, Clone)]
pub(crate) struct Drafts {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<StoredBase>,
    #[serde(default)]
    replace: bool,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    manifests: Vec<StoredEntry>,
}

#[derive(Serialize, Deserialize)]
struct StoredBase {
    digest: Option<Digest>,
}

#[derive(Serialize, Deserialize)]
struct StoredEntry {
    descriptor: Descriptor,
    name: String,
    /// `registry/repository@digest`; missing for the state directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// It is of the index that the draft goes on with.
    #[serde(default)]
    base: bool,
}

impl Drafts {
    pub(crate) fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The draft with this name.
    pub(crate) fn read(&self, name: &Reference) -> Result<Option<IndexDraft>, Error> {
        let path = self.path(name);
        match Self::load(&path)? {
            Some(draft) if draft.name != *name => Err(unreadable(&path, &"it is of another index")),
            found => Ok(found),
        }
    }

    /// Replaces the draft with this name by what `change` makes of it. Processes that do so at once wait for each
    /// other.
    pub(crate) fn edit(
        &self,
        name: &Reference,
        change: impl FnOnce(Option<IndexDraft>) -> Result<IndexDraft, Error>,
    ) -> Result<IndexDraft, Error> {
        let _lock = ocibuild_sys::lock_exclusive(self.folder.join("lock"))?;
        let draft = change(self.read(name)?)?;
        let path = self.path(name);
        let bytes = json::to_vec(&stored(&draft)).expect("a draft is plain data");
        let written = tempfile::NamedTempFile::new_in(&self.folder).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.as_file().sync_data()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        });
        written.map_err(|error| HostFailure::file(FileAction::Write, &path, error))?;
        Ok(draft)
    }

    /// Removes a draft, readable or not; tells whether there was one.
    pub(crate) fn remove(&self, name: &Reference) -> Result<bool, Error> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(HostFailure::file(FileAction::Remove, &path, error).into()),
        }
    }

    /// All drafts.
    pub(crate) fn list(&self) -> Result<Vec<IndexDraft>, Error> {
        let cannot = |error| HostFailure::file(FileAction::Read, &self.folder, error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            let is_draft = path.file_name().is_some_and(|name| name.len() == 64);
            if is_draft {
                found.extend(Self::load(&path)?);
            }
        }
        Ok(found)
    }

    fn load(path: &Path) -> Result<Option<IndexDraft>, Error> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(HostFailure::file(FileAction::Read, path, error).into());
            }
        };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| unreadable(path, &error))?;
        if stored.v != VERSION {
            return Err(unreadable(path, &format!("it has version {}, not {VERSION}", stored.v)));
        }
        draft_of(stored).map(Some).map_err(|why| unreadable(path, &why))
    }

    fn path(&self, name: &Reference) -> PathBuf {
        self.folder.join(Digest::of(name.to_string()).hex())
    }
}

fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> Error {
    StateFailure::DraftUnreadable { path: path.to_owned(), reason: why.to_string() }.into()
}

fn stored(draft: &IndexDraft) -> Stored {
    let entry = |entry: &IndexEntry| StoredEntry {
        descriptor: entry.descriptor.clone(),
        name: entry.name.to_string(),
        from: match &entry.origin {
            Origin::State => None,
            Origin::Registry(name) => Some(name.to_string()),
        },
        base: entry.is_of_base,
    };
    Stored {
        v: VERSION,
        name: draft.name.to_string(),
        base: draft.base.clone().map(|Base { digest }| StoredBase { digest }),
        replace: draft.replace,
        annotations: draft.annotations.clone(),
        manifests: draft.entries.iter().map(entry).collect(),
    }
}

fn draft_of(stored: Stored) -> Result<IndexDraft, String> {
    let reference = |text: &str| text.parse::<Reference>().map_err(|error| error.to_string());
    let entry = |entry: StoredEntry| {
        let origin = match entry.from {
            None => Origin::State,
            Some(text) => {
                let name = reference(&text)?;
                if name.digest() != Some(&entry.descriptor.digest) {
                    return Err(format!("{text} is not where {} is", entry.descriptor.digest));
                }
                Origin::Registry(name)
            }
        };
        let (name, is_of_base) = (reference(&entry.name)?, entry.base);
        Ok(IndexEntry { descriptor: entry.descriptor, name, origin, is_of_base })
    };
    Ok(IndexDraft {
        name: reference(&stored.name)?,
        annotations: stored.annotations,
        entries: stored.manifests.into_iter().map(entry).collect::<Result<_, String>>()?,
        base: stored.base.map(|StoredBase { digest }| Base { digest }),
        replace: stored.replace,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn drafts_come_back_as_they_were() {
        let directory = tempfile::tempdir().unwrap();
        let drafts = Drafts::at(directory.path());
        let name: Reference = "registry.test/app:1".parse().unwrap();
        assert_eq!(drafts.read(&name).unwrap(), None);
        let mut descriptor = Descriptor::of(ocibuild_spec::MediaType::ImageManifest, b"{}");
        descriptor.platform = Some("linux/arm/v7".parse().unwrap());
        let from = name.with_digest(descriptor.digest.clone());
        let entry = |origin, is_of_base| IndexEntry {
            descriptor: descriptor.clone(),
            name: "app:arm".parse().unwrap(),
            origin,
            is_of_base,
        };
        let draft = IndexDraft {
            name: name.clone(),
            annotations: BTreeMap::from([("a".to_owned(), "<b>".to_owned())]),
            entries: vec![entry(Origin::State, false), entry(Origin::Registry(from), true)],
            base: Some(Base { digest: None }),
            replace: true,
        };
        drafts.edit(&name, |_| Ok(draft.clone())).unwrap();
        assert_eq!(drafts.read(&name).unwrap(), Some(draft.clone()));
        assert_eq!(drafts.list().unwrap(), [draft]);
        assert!(drafts.remove(&name).unwrap());
        assert!(!drafts.remove(&name).unwrap());
    }

    #[test]
    fn what_is_no_draft_is_neither_taken_for_one_nor_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let drafts = Drafts::at(directory.path());
        let name: Reference = "app:1".parse().unwrap();
        let digest = Digest::of("x");
        let entry = format!(
            r#"{{"descriptor":{{"mediaType":"a/b","digest":"{digest}","size":1}},"name":"app","from":"app:2"}}"#
        );
        for (text, why) in [
            ("{", "EOF"),
            (r#"{"v":2,"name":"app:1","manifests":[]}"#, "version 2"),
            (r#"{"v":1,"name":"docker.io/library/app:2","manifests":[]}"#, "another index"),
            (r#"{"v":1,"name":"App","manifests":[]}"#, "lowercase"),
            (&format!(r#"{{"v":1,"name":"app:1","manifests":[{entry}]}}"#), "is not where"),
        ] {
            fs::write(drafts.path(&name), text).unwrap();
            let error = drafts.edit(&name, |_| unreachable!("nothing was read")).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Refused);
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(fs::read_to_string(drafts.path(&name)).unwrap(), text);
        }
        assert!(drafts.remove(&name).unwrap());
    }
}
