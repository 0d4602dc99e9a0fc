//! Changesets from text, tars from parts, and directories as text.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ocibuild_layer::{
    ApplyOptions, Compression, Devices, LayerListing, LayerOptions, Owners, WhiteoutFormat, WrittenLayer,
    write,
};
use ocibuild_spec::{
    CancelToken, Changeset, Content, Descriptor, DiffId, Entry, EntryKind, Metadata, Timestamp,
};

/// A layer that was written, with its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: Descriptor,
    pub(crate) tar_size: u64,
    pub(crate) index: LayerListing,
}

impl Written {
    fn new(layer: WrittenLayer, changeset: Changeset) -> Self {
        Self {
            diff_id: layer.diff_id.clone(),
            descriptor: layer.descriptor.clone(),
            tar_size: layer.tar_size,
            index: layer.into_index(changeset, false).unwrap(),
        }
    }
}

/// Entries with their contents, which [`Content`] numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) entries: Vec<Entry>,
    pub(crate) contents: Vec<Vec<u8>>,
}

pub(crate) fn metadata(mode: u32, uid: u32, gid: u32, seconds: i64) -> Metadata {
    Metadata { mode, uid, gid, mtime: Timestamp::from_seconds(seconds), xattrs: BTreeMap::new() }
}

impl Files {
    pub(crate) fn add(&mut self, path: impl AsRef<Path>, metadata: Metadata, kind: EntryKind) {
        self.entries.push(Entry { path: path.as_ref().to_owned(), metadata, kind });
    }

    pub(crate) fn file(&mut self, path: impl AsRef<Path>, metadata: Metadata, content: &[u8]) {
        let kind =
            EntryKind::File { size: content.len() as u64, content: Content(self.contents.len() as u64) };
        self.contents.push(content.to_vec());
        self.add(path, metadata, kind);
    }

    pub(crate) fn changeset(&self) -> Changeset {
        let contents = self.contents.clone();
        Changeset::new(self.entries.clone(), move |_, content| {
            let bytes = contents[usize::try_from(content.0).unwrap()].clone();
            Ok(Box::new(Cursor::new(bytes)))
        })
    }

    pub(crate) fn written(&self, options: &LayerOptions) -> (Written, Vec<u8>) {
        let mut blob = Vec::new();
        let layer = write(&self.changeset(), &mut blob, options, &CancelToken::new()).unwrap();
        (Written::new(layer, self.changeset()), blob)
    }

    pub(crate) fn tar(&self) -> (Written, Vec<u8>) {
        self.written(&LayerOptions { compression: Compression::None, ..LayerOptions::default() })
    }

    /// Reads the text of a fixture; returns the diff id it states as well.
    pub(crate) fn parse(text: &str) -> (Self, String) {
        let (mut files, mut diff_id) = (Self::default(), String::new());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(value) = line.strip_prefix("diff_id ") {
                value.clone_into(&mut diff_id);
            } else if let Some(attribute) = line.strip_prefix("x ") {
                let (name, hex) = attribute.split_once(' ').unwrap();
                let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                let value = (0..hex.len()).step_by(2).map(digit).collect();
                files.entries.last_mut().unwrap().metadata.xattrs.insert(name.to_owned(), value);
            } else {
                files.parse_entry(line);
            }
        }
        (files, diff_id)
    }

    fn parse_entry(&mut self, line: &str) {
        let mut parts = line.splitn(5, ' ');
        let mut part = || parts.next().unwrap();
        let (kind, mode, owner, time) = (part(), part(), part(), part());
        let mut strings = serde_json::Deserializer::from_str(part()).into_iter::<String>();
        let path = strings.next().unwrap().unwrap();
        let rest = strings.next().transpose().unwrap().unwrap_or_default();
        let (uid, gid) = owner.split_once(':').unwrap();
        let metadata = metadata(
            u32::from_str_radix(mode, 8).unwrap(),
            uid.parse().unwrap(),
            gid.parse().unwrap(),
            time.parse().unwrap(),
        );
        let device =
            || rest.split_once(',').map(|(major, minor)| (major.parse().unwrap(), minor.parse().unwrap()));
        let kind = match kind {
            "0" => return self.file(path, metadata, rest.as_bytes()),
            "1" => EntryKind::Hardlink { target: rest.into() },
            "2" => EntryKind::Symlink { target: rest.into() },
            "3" => device().map(|(major, minor)| EntryKind::CharacterDevice { major, minor }).unwrap(),
            "4" => device().map(|(major, minor)| EntryKind::BlockDevice { major, minor }).unwrap(),
            "5" => EntryKind::Directory,
            "6" => EntryKind::Fifo,
            "w" => EntryKind::Whiteout,
            _ => panic!("no such type: {line}"),
        };
        self.add(path, metadata, kind);
    }
}

/// Whether the tests may set owners and make devices.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Options that work for whoever runs the tests.
pub(crate) fn options(whiteouts: WhiteoutFormat) -> ApplyOptions {
    let mut options = ApplyOptions::new(whiteouts);
    if !is_root() {
        options.owners = Owners::Ignore;
        options.devices = Devices::Skip;
    }
    options
}

/// The tree below `root` as one line per path, in order: type, mode, owner, time, path, content or target.
pub(crate) fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    list(root, Path::new(""), &mut lines);
    lines
}

fn list(root: &Path, below: &Path, lines: &mut Vec<String>) {
    let mut names: Vec<PathBuf> = fs_err::read_dir(root.join(below))
        .unwrap()
        .map(|entry| below.join(entry.unwrap().file_name()))
        .collect();
    names.sort();
    for path in names {
        let full = root.join(&path);
        let metadata = fs_err::symlink_metadata(&full).unwrap();
        let (kind, rest) = match metadata.file_type() {
            kind if kind.is_dir() => ("dir", String::new()),
            kind if kind.is_symlink() => ("link", fs_err::read_link(&full).unwrap().display().to_string()),
            kind if kind.is_file() => {
                ("file", String::from_utf8_lossy(&fs_err::read(&full).unwrap()).into_owned())
            }
            kind if kind.is_fifo() => ("fifo", String::new()),
            kind if kind.is_char_device() => ("char", numbers(metadata.rdev())),
            _ => ("block", numbers(metadata.rdev())),
        };
        let line =
            format!("{kind} {:o} {} {} {rest}", metadata.mode() & 0o7777, metadata.mtime(), path.display());
        lines.push(line.trim_end().to_owned());
        if kind == "dir" {
            // Only root may look into what denies it.
            fs_err::set_permissions(&full, std::fs::Permissions::from_mode(0o700)).unwrap();
            list(root, &path, lines);
        }
    }
}

fn numbers(device: u64) -> String {
    format!("{},{}", rustix::fs::major(device), rustix::fs::minor(device))
}

/// A header as other programs write it, with whatever is wrong in it.
pub(crate) struct Header {
    pub(crate) name: Vec<u8>,
    pub(crate) typeflag: u8,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) link: Vec<u8>,
    pub(crate) device: (u32, u32),
}

pub(crate) fn header(name: &[u8], typeflag: u8) -> Header {
    Header { name: name.to_vec(), typeflag, size: 0, mode: 0o644, link: Vec::new(), device: (0, 0) }
}

impl Header {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut block = vec![0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, b"0000000\x000000000\0");
        put(124, format!("{:011o}\0", self.size).as_bytes());
        put(136, format!("{:011o}\0", 1_700_000_000).as_bytes());
        put(148, b"        ");
        put(156, &[self.typeflag]);
        put(157, &self.link);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}\0{:07o}\0", self.device.0, self.device.1).as_bytes());
        seal(&mut block);
        block
    }
}

pub(crate) fn seal(block: &mut [u8]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

pub(crate) fn pad(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub(crate) fn file(name: &str, content: &[u8]) -> Vec<u8> {
    let header = Header { size: content.len() as u64, ..header(name.as_bytes(), b'0') };
    [header.bytes(), pad(content.to_vec())].concat()
}

pub(crate) fn folder(name: &str, mode: u32) -> Vec<u8> {
    Header { mode, ..header(name.as_bytes(), b'5') }.bytes()
}

pub(crate) fn symlink(name: &str, target: &str) -> Vec<u8> {
    Header { mode: 0o777, link: target.into(), ..header(name.as_bytes(), b'2') }.bytes()
}

pub(crate) fn hardlink(name: &str, target: &str) -> Vec<u8> {
    Header { link: target.into(), ..header(name.as_bytes(), b'1') }.bytes()
}

pub(crate) fn whiteout(path: &str) -> Vec<u8> {
    file(path, b"")
}

/// One PAX record.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest + 1..rest + 20).find(|length| length.to_string().len() + rest == *length).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// An extended header of these records.
pub(crate) fn pax(typeflag: u8, records: &[Vec<u8>]) -> Vec<u8> {
    let body = records.concat();
    let header = Header { size: body.len() as u64, ..header(b"pax", typeflag) };
    [header.bytes(), pad(body)].concat()
}

/// A tar of these parts, with its end.
pub(crate) fn tar(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), vec![0; 1024]].concat()
}

pub(crate) fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// Runs one test of this binary as a user without any privilege, from a copy that such a user can reach.
pub(crate) fn again_as_nobody(test: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let place = tempfile::tempdir().unwrap();
    fs_err::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = place.path().join("tests");
    fs_err::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs_err::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = std::process::Command::new(&copy);
    command.args([test, "--exact"]).uid(65534).gid(65534).current_dir("/");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

pub(crate) fn is_tar(mut bytes: &[u8]) -> bool {
    ocibuild_layer::is_tar(&mut bytes, &ocibuild_layer::Limits::UNLIMITED).unwrap()
}
