//! Records of finished steps, below `cache/` of the state directory.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use ocibuild_layer::{Compression, FORMAT_VERSION, LayerListing};
use ocibuild_spec::{Descriptor, DiffId, Digest, Reference, Timestamp, json};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::failure::{FileAction, HostFailure};
use crate::keys::{Framed, Input};

/// Version of every document here; others are not looked at.
const VERSION: u32 = 1;

/// Records of finished steps and indexes of layers, each written once under a name that its content follows from.
///
/// A record names a layer by its digests; the blob is the store's. A record that cannot be read, or whose parts are
/// gone, counts as none: the step runs again.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// What is known about a finished step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) v: u32,
    pub(crate) key: Digest,
    /// What the key was made of, to explain a miss.
    pub(crate) inputs: Vec<Input>,
    /// What the keys of later steps build on; the key itself unless the step ran although its key was known.
    pub(crate) chain: Digest,
    pub(crate) created: Timestamp,
    /// The layer, in each form that was written.
    pub(crate) forms: Vec<LayerEncoding>,
}

/// A layer as it was written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerEncoding {
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: Descriptor,
    pub(crate) compression: String,
    pub(crate) format_version: u32,
    /// Second beyond which no time of the layer lies.
    pub(crate) clamp: Option<i64>,
}

/// The form a build wants its layers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EncodingOptions {
    pub(crate) compression: Compression,
    pub(crate) clamp: Option<i64>,
    /// Layers that exist in another compression are written anew (11.12).
    pub(crate) force: bool,
}

impl LayerEncoding {
    pub(crate) fn new(diff_id: DiffId, descriptor: Descriptor, wanted: EncodingOptions) -> Self {
        Self {
            diff_id,
            descriptor,
            compression: wanted.compression.to_string(),
            format_version: FORMAT_VERSION,
            clamp: wanted.clamp,
        }
    }

    /// Whether this form does for a build that wants `wanted`.
    pub(crate) fn fits(&self, wanted: EncodingOptions) -> bool {
        let same_bytes =
            self.compression == wanted.compression.to_string() && self.format_version == FORMAT_VERSION;
        self.clamp == wanted.clamp && (same_bytes || !wanted.force)
    }
}

impl Record {
    pub(crate) fn new(key: Digest, inputs: Vec<Input>, created: Timestamp, form: LayerEncoding) -> Self {
        Self { v: VERSION, chain: key.clone(), key, inputs, created, forms: vec![form] }
    }

    /// The form to use, the wanted compression first.
    pub(crate) fn form(&self, wanted: EncodingOptions) -> Option<&LayerEncoding> {
        let exact = self.forms.iter().find(|form| form.fits(EncodingOptions { force: true, ..wanted }));
        exact.or_else(|| self.forms.iter().find(|form| form.fits(wanted)))
    }
}

/// The key by content that a key by inputs stands for (9.12).
#[derive(Debug, Serialize, Deserialize)]
struct Alias {
    v: u32,
    from: Digest,
    key: Digest,
}

/// What a server said about a URL, so that it need not send it again (6.71).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Validator {
    v: u32,
    /// Digest of the URL.
    of: Digest,
    pub(crate) etag: String,
    pub(crate) last_modified: Option<Timestamp>,
    /// Of the content.
    pub(crate) digest: Digest,
}

/// Repositories of registries that have a blob, as far as pulls and pushes showed; the last one first.
#[derive(Debug, Serialize, Deserialize)]
struct Origins {
    v: u32,
    of: Digest,
    /// `registry/repository`
    repositories: Vec<String>,
}

/// What the name of a base image stood for.
#[derive(Debug, Serialize, Deserialize)]
struct Base {
    v: u32,
    name: String,
    root: Descriptor,
}

/// Most repositories that are remembered of one blob.
const MAX_ORIGINS: usize = 8;

impl Validator {
    pub(crate) fn new(of: Digest, etag: String, last_modified: Option<Timestamp>, digest: Digest) -> Self {
        Self { v: VERSION, of, etag, last_modified, digest }
    }
}

impl Cache {
    /// The records below this directory, which is made when it is missing.
    pub(crate) fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = root.into();
        for folder in
            ["records", "aliases", "drafts", "layer-listings", "origins", "urls", "bases", "contexts"]
        {
            fs::create_dir_all(root.join(folder)).map_err(|error| cannot(&root, error))?;
        }
        Ok(Self { root })
    }

    /// Where drafts of indexes are.
    pub(crate) fn drafts(&self) -> PathBuf {
        self.root.join("drafts")
    }

    pub(crate) fn record(&self, key: &Digest) -> Option<Record> {
        let record: Record = self.read("records", key)?;
        (record.v == VERSION && record.key == *key).then_some(record)
    }

    pub(crate) fn put_record(&self, record: &Record) -> Result<(), Error> {
        self.write("records", &record.key, &to_json(record))
    }

    pub(crate) fn alias(&self, key: &Digest) -> Option<Digest> {
        let alias: Alias = self.read("aliases", key)?;
        (alias.v == VERSION && alias.from == *key).then_some(alias.key)
    }

    pub(crate) fn put_alias(&self, from: &Digest, to: &Digest) -> Result<(), Error> {
        self.write("aliases", from, &to_json(&Alias { v: VERSION, from: from.clone(), key: to.clone() }))
    }

    pub(crate) fn validator(&self, of: &Digest) -> Option<Validator> {
        let validator: Validator = self.read("urls", of)?;
        (validator.v == VERSION && validator.of == *of).then_some(validator)
    }

    pub(crate) fn put_validator(&self, validator: &Validator) -> Result<(), Error> {
        self.write("urls", &validator.of, &to_json(validator))
    }

    /// What the name of a base image stood for when it was last looked up: a manifest or an index.
    pub(crate) fn base_image(&self, name: &Reference) -> Option<Descriptor> {
        let base: Base = self.read("bases", &key_of_base(name))?;
        (base.v == VERSION && base.name == name.to_string()).then_some(base.root)
    }

    /// Remembers that, for builds that may not ask.
    pub(crate) fn put_base_image(&self, name: &Reference, root: &Descriptor) -> Result<(), Error> {
        let base = Base { v: VERSION, name: name.to_string(), root: root.clone() };
        if self.base_image(name).as_ref() == Some(root) {
            return Ok(());
        }
        self.write("bases", &key_of_base(name), &to_json(&base))
    }

    /// Remembers that a repository has a blob, so that others at its registry can take it over from there.
    pub(crate) fn put_origin(&self, blob: &Digest, repository: &Reference) -> Result<(), Error> {
        let name = repository_name(repository);
        let mut repositories = self.origins(blob);
        if repositories.first() == Some(&name) {
            return Ok(());
        }
        repositories.retain(|other| *other != name);
        repositories.insert(0, name);
        repositories.truncate(MAX_ORIGINS);
        let origins = Origins { v: VERSION, of: blob.clone(), repositories };
        self.write("origins", blob, &to_json(&origins))
    }

    /// Repositories at this registry that probably have a blob.
    pub(crate) fn repositories_with(&self, blob: &Digest, registry: &str) -> Vec<String> {
        let of_registry = |name: &String| name.strip_prefix(registry)?.strip_prefix('/').map(str::to_owned);
        self.origins(blob).iter().filter_map(of_registry).collect()
    }

    fn origins(&self, blob: &Digest) -> Vec<String> {
        let origins: Option<Origins> = self.read("origins", blob);
        origins
            .filter(|origins| origins.v == VERSION && origins.of == *blob)
            .map_or_else(Vec::new, |o| o.repositories)
    }

    pub(crate) fn index(&self, layer: &DiffId) -> Option<Arc<LayerListing>> {
        let bytes = fs::read(self.path("layer-listings", &layer.0)).ok()?;
        let index = bytes.strip_prefix(owner_of_index(layer).as_bytes())?;
        LayerListing::decode(index).ok().map(Arc::new)
    }

    /// Whether there is an index, and not one of another version: only its beginning is looked at.
    pub(crate) fn has_index(&self, layer: &DiffId) -> bool {
        let owner = owner_of_index(layer);
        let Ok(file) = fs::File::open(self.path("layer-listings", &layer.0)) else { return false };
        let mut beginning = Vec::new();
        let wanted = (owner.len() + LayerListing::BEGINNING) as u64;
        let read = io::Read::read_to_end(&mut io::Read::take(file, wanted), &mut beginning);
        let is_other = beginning.strip_prefix(owner.as_bytes()).is_some_and(LayerListing::is_other_version);
        read.is_ok() && !is_other
    }

    pub(crate) fn put_index(&self, layer: &DiffId, index: &LayerListing) -> Result<(), Error> {
        let mut bytes = owner_of_index(layer).into_bytes();
        bytes.extend(index.encode());
        self.write("layer-listings", &layer.0, &bytes)
    }

    /// What earlier builds have read of the context in this directory.
    pub(crate) fn context_digests(&self, directory: &Path) -> Option<Vec<u8>> {
        fs::read(self.path("contexts", &key_of_context(directory))).ok()
    }

    pub(crate) fn put_context_digests(&self, directory: &Path, record: &[u8]) -> Result<(), Error> {
        self.write("contexts", &key_of_context(directory), record)
    }

    /// The time by the clock that files here get theirs from; `None` where no file can be made.
    pub(crate) fn moment(&self) -> Option<ocibuild_sys::Timestamp> {
        let file = tempfile::tempfile_in(&self.root).ok()?;
        ocibuild_sys::metadata_of_file(&file).ok().map(|found| found.mtime)
    }

    /// Whether no step was ever recorded here.
    pub(crate) fn has_no_records(&self) -> bool {
        fs::read_dir(self.root.join("records")).is_ok_and(|mut found| found.next().is_none())
    }

    /// All records, the unreadable ones left out.
    pub(crate) fn records(&self) -> Result<Vec<Record>, Error> {
        let folder = self.root.join("records");
        let mut out = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|error| cannot(&folder, error))? {
            let path = entry.map_err(|error| cannot(&folder, error))?.path();
            let record = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
            out.extend(record.filter(|record| record.v == VERSION));
        }
        Ok(out)
    }

    pub(crate) fn remove_record(&self, record: &Record) -> Result<(), Error> {
        remove(&self.path("records", &record.key)).map(|_| ())
    }

    /// Removes what is known of layers and of blobs but those to keep, aliases of records that are gone, and what is
    /// known of URLs; the bytes that went.
    pub(crate) fn remove_indexes(
        &self,
        keep: impl Fn(&DiffId) -> bool,
        keep_blob: impl Fn(&Digest) -> bool,
    ) -> Result<u64, Error> {
        let mut freed = 0;
        for (path, digest) in self.documents("layer-listings")? {
            if !keep(&DiffId(digest)) {
                freed += remove(&path)?;
            }
        }
        for (path, digest) in self.documents("origins")? {
            if !keep_blob(&digest) {
                freed += remove(&path)?;
            }
        }
        for folder in ["urls", "bases", "contexts"] {
            for (path, _) in self.documents(folder)? {
                freed += remove(&path)?;
            }
        }
        for (path, digest) in self.documents("aliases")? {
            if self.alias(&digest).is_none_or(|key| self.record(&key).is_none()) {
                freed += remove(&path)?;
            }
        }
        Ok(freed)
    }

    fn documents(&self, folder: &str) -> Result<Vec<(PathBuf, Digest)>, Error> {
        let folder = self.root.join(folder);
        let mut out = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|error| cannot(&folder, error))? {
            let path = entry.map_err(|error| cannot(&folder, error))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Ok(digest) = format!("sha256:{name}").parse() {
                out.push((path, digest));
            }
        }
        Ok(out)
    }

    /// Bytes of all documents.
    pub(crate) fn size(&self) -> u64 {
        let files = walkdir::WalkDir::new(&self.root).into_iter().filter_map(Result::ok);
        files
            .filter_map(|entry| entry.metadata().ok())
            .filter(std::fs::Metadata::is_file)
            .map(|file| file.len())
            .sum()
    }

    fn path(&self, folder: &str, key: &Digest) -> PathBuf {
        self.root.join(folder).join(key.hex())
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, folder: &str, key: &Digest) -> Option<T> {
        serde_json::from_slice(&fs::read(self.path(folder, key)).ok()?).ok()
    }

    fn write(&self, folder: &str, key: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(folder, key);
        let parent = path.parent().unwrap_or(&self.root);
        let result = tempfile::NamedTempFile::new_in(parent).and_then(|mut file| {
            io::Write::write_all(&mut file, bytes)?;
            file.as_file().sync_data()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        });
        result.map_err(|error| cannot(&path, error))
    }
}

fn key_of_base(name: &Reference) -> Digest {
    let mut framed = Framed::new("ocibuild base image v1");
    framed.field(name.to_string().as_bytes());
    framed.finish()
}

fn key_of_context(directory: &Path) -> Digest {
    let mut framed = Framed::new("ocibuild context digests v1");
    framed.field(std::os::unix::ffi::OsStrExt::as_bytes(directory.as_os_str()));
    framed.finish()
}

/// The first line of an index, which says what layer it is of: the record itself does not.
fn owner_of_index(layer: &DiffId) -> String {
    format!("{layer}\n")
}

fn repository_name(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

/// Removes a document that may be gone already; its size.
fn remove(path: &Path) -> Result<u64, Error> {
    let size = fs::metadata(path).map(|metadata| metadata.len()).unwrap_or_default();
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot(path, error)),
        _ => Ok(size),
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    json::to_vec(value).expect("records are plain data")
}

fn cannot(path: &Path, error: io::Error) -> Error {
    HostFailure::file(FileAction::WriteCache, path, error).into()
}
