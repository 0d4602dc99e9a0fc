use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ocibuild_spec::{CancelToken, SourceError, SourceErrorKind};
use serde::Serialize as _;
use serde_json::value::RawValue;

use super::config::{Config, encode, malformed};
use super::credential::Credential;
use super::file::read_file;
use super::helper::Helpers;
use super::key::RegistryKey;
use super::ordered::{Ordered, Part};

/// Longest wait between two looks at a lock.
const PAUSE: Duration = Duration::from_millis(20);

/// Docker's `config.json`, to which `login` and `logout` write.
///
/// The file is replaced as a whole, under a lock of its directory: two logins at once do not lose each other, and a
/// crash leaves the file as it was, at worst with a temporary file beside it. What is not about credentials stays as
/// it is, in its order.
#[derive(Debug, Clone)]
pub struct CredentialStore {
    path: PathBuf,
    helpers: Helpers,
}

/// Where credentials went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Into the file, where they are merely encoded.
    InFile,
    /// Into a helper of this name.
    ByHelper(String),
}

/// Parts of the file in their order.
type Document = Vec<(String, Part)>;

impl CredentialStore {
    /// The store in this file, which need not be there.
    pub fn new(path: impl Into<PathBuf>, helpers: Helpers) -> Self {
        Self { path: path.into(), helpers }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps credentials instead of those that were there for the same key.
    pub fn put(
        &self,
        key: &RegistryKey,
        credential: &Credential,
        cancel: &CancelToken,
    ) -> Result<Stored, SourceError> {
        if let Some(flaw) = credential.flaw() {
            return Err(SourceError::new(SourceErrorKind::Configuration, format!("{key}: {flaw}")));
        }
        let file = self.lock(cancel)?;
        let text = file.text()?;
        let helper = self.helper(&text, key)?;
        let (entry, kept) = match helper {
            Some(name) => {
                self.helpers.store(&name, &key.stored(), credential, cancel)?;
                // Docker leaves an empty entry, from which others see that there is a login.
                (Part::Object(Vec::new()), Stored::ByHelper(name))
            }
            None => (entry_of(credential), Stored::InFile),
        };
        file.replace(&self.with_entry(&text, key, entry)?)?;
        Ok(kept)
    }

    /// Forgets what there is for a key; tells whether there was something.
    pub fn remove(&self, key: &RegistryKey, cancel: &CancelToken) -> Result<bool, SourceError> {
        // Nothing is made just to be empty.
        if read_file(&self.path)?.is_none() {
            return Ok(false);
        }
        let file = self.lock(cancel)?;
        let text = file.text()?;
        let was_kept = match self.helper(&text, key)? {
            Some(name) => self.helpers.erase(&name, &key.stored(), cancel)?,
            None => false,
        };
        let rest = self.without_entries(&text, key)?;
        if let Some(rest) = &rest {
            file.replace(rest)?;
        }
        Ok(was_kept || rest.is_some())
    }

    /// The helper that has the credentials of a registry; helpers know nothing of repositories.
    fn helper(&self, text: &str, key: &RegistryKey) -> Result<Option<String>, SourceError> {
        if !key.path().is_empty() {
            return Ok(None);
        }
        let config = Config::parse(text, &self.path.display().to_string())?;
        Ok(config.helper(key.host()).map(|helper| helper.name.to_owned()))
    }

    /// The file with one entry more, instead of those for the same key.
    fn with_entry(&self, text: &str, key: &RegistryKey, entry: Part) -> Result<Document, SourceError> {
        let mut document = self.document(text)?;
        let auths = self.auths(&mut document)?;
        forget(auths, key);
        auths.push((key.stored(), entry));
        Ok(document)
    }

    /// The file without the entries for a key, if there are some.
    fn without_entries(&self, text: &str, key: &RegistryKey) -> Result<Option<Document>, SourceError> {
        let mut document = self.document(text)?;
        let was_written = forget(self.auths(&mut document)?, key);
        Ok(was_written.then_some(document))
    }

    fn document(&self, text: &str) -> Result<Document, SourceError> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let parsed: Ordered<Box<RawValue>> = serde_json::from_str(text)
            .map_err(|error| malformed(&self.path.display().to_string(), &error))?;
        Ok(parsed.0.into_iter().map(|(key, raw)| (key, Part::Raw(raw))).collect())
    }

    /// The entries of `auths`, which there are afterwards.
    fn auths<'a>(&self, document: &'a mut Document) -> Result<&'a mut Document, SourceError> {
        let at = document.iter().position(|(key, _)| key == "auths").unwrap_or(document.len());
        if at == document.len() {
            document.push(("auths".to_owned(), Part::Object(Vec::new())));
        }
        let part = &mut document[at].1;
        if let Part::Raw(raw) = part {
            let parsed: Option<Ordered<Box<RawValue>>> = serde_json::from_str(raw.get())
                .map_err(|error| malformed(&format!("{}: auths", self.path.display()), &error))?;
            let entries = parsed.unwrap_or_default().0;
            *part = Part::Object(entries.into_iter().map(|(key, raw)| (key, Part::Raw(raw))).collect());
        }
        match part {
            Part::Object(entries) => Ok(entries),
            Part::Raw(_) | Part::Text(_) => unreachable!("it was made an object above"),
        }
    }

    /// Takes the lock, and finds the file that is meant where the path is a symbolic link.
    fn lock(&self, cancel: &CancelToken) -> Result<Locked, SourceError> {
        let is_link = fs_err::symlink_metadata(&self.path).is_ok_and(|data| data.is_symlink());
        let path =
            if is_link { fs_err::canonicalize(&self.path).map_err(unwritable)? } else { self.path.clone() };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&directory).map_err(|error| {
            unwritable(io::Error::new(error.kind(), format!("cannot make {}: {error}", directory.display())))
        })?;
        let lock = fs_err::File::open(&directory).map_err(unwritable)?;
        loop {
            match lock.file().try_lock() {
                Ok(()) => return Ok(Locked { path, directory, lock }),
                Err(std::fs::TryLockError::WouldBlock) => {}
                Err(std::fs::TryLockError::Error(error)) => return Err(unwritable(error)),
            }
            if cancel.wait_timeout(PAUSE) {
                let text = format!("{}: cancelled while another login holds the lock", self.path.display());
                return Err(SourceError::new(SourceErrorKind::Cancelled, text));
            }
        }
    }
}

/// The file, which nobody else changes.
#[derive(Debug)]
struct Locked {
    path: PathBuf,
    directory: PathBuf,
    /// Closing it gives the lock back.
    lock: fs_err::File,
}

impl Locked {
    fn text(&self) -> Result<String, SourceError> {
        Ok(read_file(&self.path)?.map(|file| file.text.expose().to_owned()).unwrap_or_default())
    }

    /// Nobody ever sees half of the file, and only its owner may read it.
    fn replace(&self, document: &Document) -> Result<(), SourceError> {
        let bytes = written(document);
        let mut file = tempfile::Builder::new()
            .prefix(".config.json-")
            .tempfile_in(&self.directory)
            .map_err(unwritable)?;
        file.write_all(&bytes).map_err(unwritable)?;
        if let Ok(old) = fs_err::metadata(&self.path) {
            // Somebody who logs in as root keeps a user's file the user's; others have no other owner to give.
            let _ = fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
        }
        file.as_file().sync_all().map_err(unwritable)?;
        file.persist(&self.path).map_err(|error| unwritable(error.error))?;
        self.lock.sync_all().map_err(unwritable)
    }
}

fn unwritable(error: io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Io, "the credentials cannot be stored")
        .caused_by(error)
        .hint("use a directory of configuration that this user can write")
}

/// As docker indents it.
fn written(document: &Document) -> Vec<u8> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // Writing texts and what was JSON before into memory.
    let done = SerializedDocument(document).serialize(&mut serializer);
    done.expect("texts in memory are always JSON");
    bytes
}

struct SerializedDocument<'a>(&'a Document);

impl serde::Serialize for SerializedDocument<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, part)| (key, part)))
    }
}

fn entry_of(credential: &Credential) -> Part {
    let text = |key: &str, value: String| (key.to_owned(), Part::Text(value));
    let fields = match credential {
        Credential::Password { username, password } => {
            vec![text("auth", encode(username, password.expose()))]
        }
        Credential::IdentityToken(token) => {
            vec![text("auth", encode("<token>", "")), text("identitytoken", token.expose().to_owned())]
        }
        Credential::RegistryToken(token) => vec![text("registrytoken", token.expose().to_owned())],
    };
    Part::Object(fields)
}

/// Drops all entries that mean this key, however they are written.
fn forget(auths: &mut Document, key: &RegistryKey) -> bool {
    let before = auths.len();
    auths.retain(|(other, _)| RegistryKey::parse(other).as_ref() != Some(key));
    auths.len() != before
}

/// What the fuzz targets read.
#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    use super::{Credential, CredentialStore, Helpers, RegistryKey, SourceError, entry_of, written};
    use crate::credentials::helper::answer;

    /// What a file becomes when credentials are put into it.
    pub fn put(text: &str, key: &RegistryKey, credential: &Credential) -> Result<Vec<u8>, SourceError> {
        let store = CredentialStore::new("config.json", Helpers::none());
        store.with_entry(text, key, entry_of(credential)).map(|document| written(&document))
    }

    /// User and secret of what a helper prints.
    pub fn helper_answer(output: &[u8]) -> Option<(String, String)> {
        answer(output)
    }

    /// What a file becomes when those of a key are taken out, if there are some.
    pub fn remove(text: &str, key: &RegistryKey) -> Result<Option<Vec<u8>>, SourceError> {
        let store = CredentialStore::new("config.json", Helpers::none());
        store.without_entries(text, key).map(|document| document.as_ref().map(written))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Secret;
    use super::*;

    fn login(store: &CredentialStore, key: &str, user: &str) {
        let credential = Credential::password(user, Secret::new("pw"));
        let kept = store.put(&RegistryKey::parse(key).unwrap(), &credential, &CancelToken::new()).unwrap();
        assert_eq!(kept, Stored::InFile);
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let text = "{\n\t\"z\": 1.00,\n\t\"auths\": {\n\t\t\"r.io\": {\n\t\t\t\"auth\": \"YTpi\",\n\t\t\t\"email\": \"e\"\n\t\t}\n\t},\n\t\"a\": {\"k\": [1, 2]}\n}";
        fs_err::write(&path, text).unwrap();
        let store = CredentialStore::new(&path, Helpers::none());
        login(&store, "docker.io", "u");
        let added = text.replace(
            "\n\t\t}\n\t},",
            "\n\t\t},\n\t\t\"https://index.docker.io/v1/\": {\n\t\t\t\"auth\": \"dTpwdw==\"\n\t\t}\n\t},",
        );
        assert_eq!(fs_err::read_to_string(&path).unwrap(), added);
        assert_eq!(fs_err::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let docker = RegistryKey::parse("index.docker.io").unwrap();
        assert!(store.remove(&docker, &CancelToken::new()).unwrap());
        assert_eq!(fs_err::read_to_string(&path).unwrap(), text);
        assert!(!store.remove(&docker, &CancelToken::new()).unwrap());
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_are_followed_and_missing_directories_made() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("real.json");
        fs_err::write(&target, "{}").unwrap();
        let link = directory.path().join("config.json");
        std::os::unix::fs::symlink("real.json", &link).unwrap();
        login(&CredentialStore::new(&link, Helpers::none()), "r.io", "u");
        assert!(fs_err::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs_err::read_to_string(&target).unwrap().contains("r.io"));
        let deep = directory.path().join("a/b/config.json");
        login(&CredentialStore::new(&deep, Helpers::none()), "r.io/team", "u");
        assert_eq!(fs_err::metadata(deep.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn logins_at_once_are_all_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = CredentialStore::new(directory.path().join("config.json"), Helpers::none());
        std::thread::scope(|scope| {
            for number in 0..8 {
                let store = &store;
                scope.spawn(move || login(store, &format!("r{number}.io"), "u"));
            }
        });
        let text = fs_err::read_to_string(store.path()).unwrap();
        assert_eq!(text.matches("\"auth\"").count(), 8, "{text}");
    }

    #[test]
    fn a_malformed_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        for text in ["{", "[]", "{\"auths\":[]}", "{\"auths\":{\"r.io\":1}}"] {
            fs_err::write(&path, text).unwrap();
            let store = CredentialStore::new(&path, Helpers::none());
            let key = RegistryKey::parse("r.io").unwrap();
            let credential = Credential::password("u", Secret::new("p"));
            let error = store.put(&key, &credential, &CancelToken::new()).unwrap_err();
            assert!(error.to_string().contains("config.json"), "{error}");
            assert_eq!(fs_err::read_to_string(&path).unwrap(), text);
        }
    }
}
