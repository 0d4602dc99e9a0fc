//! A base image made of what this host has, so that builds can be tried where there is no network.

mod elf;
mod libraries;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use ocibuild_spec::{
    ContainerConfig, Descriptor, DiffId, Digest, History, ImageConfig, Index, Manifest, MediaType, Platform,
    RootFs, json,
};

use elf::Elf;
use libraries::Libraries;

/// Where the programs of a host are.
const PROGRAM_DIRECTORIES: [&str; 6] =
    ["/bin", "/usr/bin", "/sbin", "/usr/sbin", "/usr/local/bin", "/run/current-system/sw/bin"];

/// What is taken when it is there, the shell apart.
const TOOLS: &[&str] = &[
    "awk",
    "base64",
    "basename",
    "cat",
    "chgrp",
    "chmod",
    "chown",
    "cksum",
    "cmp",
    "comm",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "dirname",
    "du",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "fold",
    "getent",
    "grep",
    "groups",
    "gunzip",
    "gzip",
    "head",
    "hostname",
    "id",
    "install",
    "link",
    "ln",
    "ls",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mknod",
    "mktemp",
    "mv",
    "nproc",
    "od",
    "paste",
    "printenv",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "sha256sum",
    "sleep",
    "sort",
    "split",
    "stat",
    "sync",
    "tac",
    "tail",
    "tar",
    "tee",
    "test",
    "touch",
    "tr",
    "true",
    "truncate",
    "tty",
    "uname",
    "uniq",
    "unlink",
    "wc",
    "whoami",
    "xargs",
    "yes",
];

/// Directories of the image and their modes.
const DIRECTORIES: [(&str, u32); 13] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnobody:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// The files of a base image that runs on this host: a shell and tools with the libraries they need.
///
/// Nothing is executed to find them, and on a host that does not change the image is the same, byte for byte. What
/// may not be read is left out; only a shell must be there.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// let base = ocibuild_testkit::HostBase::find()?;
/// assert!(base.has("sh"));
/// base.write_layout(directory.path().join("base"))?; // an OCI layout with the tag `latest`
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct HostBase {
    /// By path in the image, without a leading slash.
    nodes: BTreeMap<String, Node>,
    /// By path on the host, links resolved: where it is in the image.
    taken: BTreeMap<PathBuf, String>,
}

#[derive(Debug)]
enum Node {
    Directory { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Symlink { target: String },
    HardLink { target: String },
}

impl HostBase {
    /// A statically linked busybox when this host has one, else its shell and tools.
    pub fn find() -> io::Result<Self> {
        match Self::busybox() {
            Some(base) => Ok(base),
            None => Self::shell_and_tools(),
        }
    }

    /// The host's busybox, if it needs no library.
    pub fn busybox() -> Option<Self> {
        let (path, content) = find_program("busybox")?;
        let elf = Elf::parse(&content)?;
        if elf.interpreter().is_some() || !elf.needs().libraries.is_empty() {
            return None;
        }
        let mut base = Self::without_programs();
        for name in applets(&content) {
            base.put(&format!("bin/{name}"), Node::Symlink { target: "busybox".to_owned() });
        }
        base.take(&path, "bin/busybox", content);
        base.has("sh").then_some(base)
    }

    /// The host's `/bin/sh` and whatever it has of usual tools.
    pub fn shell_and_tools() -> io::Result<Self> {
        let mut base = Self::without_programs();
        let libraries = Libraries::of_this_host();
        let shell = find_program("sh").ok_or_else(|| {
            let places = PROGRAM_DIRECTORIES.join(", ");
            io::Error::new(io::ErrorKind::NotFound, format!("this host has no shell `sh` in {places}"))
        })?;
        base.add_program("sh", shell, &libraries)?;
        for name in TOOLS {
            let Some(program) = find_program(name) else { continue };
            // A tool of which something is missing would only fail later.
            let _ = base.add_program(name, program, &libraries);
        }
        Ok(base)
    }

    /// The same with a program of the host, and the libraries it takes.
    pub fn with_program(mut self, name: &str) -> io::Result<Self> {
        let program = find_program(name).ok_or_else(|| {
            let places = PROGRAM_DIRECTORIES.join(", ");
            io::Error::new(io::ErrorKind::NotFound, format!("this host has no {name} in {places}"))
        })?;
        self.add_program(name, program, &Libraries::of_this_host())?;
        Ok(self)
    }

    /// Whether a program of this name is in `/bin`.
    pub fn has(&self, program: &str) -> bool {
        self.nodes.contains_key(&format!("bin/{program}"))
    }

    /// Names of the programs in `/bin`, sorted.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().filter_map(|path| path.strip_prefix("bin/"))
    }

    fn without_programs() -> Self {
        let mut base = Self::default();
        for (path, mode) in DIRECTORIES {
            base.put(path, Node::Directory { mode });
        }
        for (path, text) in [("etc/passwd", PASSWD), ("etc/group", GROUP), ("etc/nsswitch.conf", NSSWITCH)] {
            base.put(path, Node::File { mode: 0o644, content: text.into() });
        }
        base
    }

    /// Adds a program, and what it takes to run it. All of that or nothing.
    fn add_program(
        &mut self,
        name: &str,
        program: (PathBuf, Vec<u8>),
        libraries: &Libraries,
    ) -> io::Result<()> {
        let (path, content) = program;
        let mut needed = BTreeMap::new();
        if let Some(interpreter) = script_interpreter(&content) {
            let content = fs::read(&interpreter)?;
            collect(&interpreter, &content, libraries, &mut needed)?;
            needed.insert(in_image(&interpreter), (interpreter, content));
        } else {
            collect(&path, &content, libraries, &mut needed)?;
        }
        for (place, (path, content)) in needed {
            self.take(&path, &place, content);
        }
        self.take(&path, &format!("bin/{name}"), content);
        Ok(())
    }

    /// A file of the host at `place`: a hard link if it is in the image already, which keeps programs small that are
    /// many programs under as many names.
    fn take(&mut self, path: &Path, place: &str, content: Vec<u8>) {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let node = match self.taken.get(&path) {
            Some(first) if first == place => return,
            Some(first) => Node::HardLink { target: first.clone() },
            None => {
                self.taken.insert(path, place.to_owned());
                Node::File { mode: 0o755, content }
            }
        };
        self.put(place, node);
    }

    /// Puts something in its place, and directories above it.
    fn put(&mut self, place: &str, node: Node) {
        for (at, _) in place.match_indices('/') {
            self.nodes.entry(place[..at].to_owned()).or_insert(Node::Directory { mode: 0o755 });
        }
        self.nodes.entry(place.to_owned()).or_insert(node);
    }

    /// Writes the image as an OCI layout with the tag `latest` into a directory, which is made when it is missing, and
    /// gives the descriptor of its manifest.
    pub fn write_layout(&self, directory: impl AsRef<Path>) -> io::Result<Descriptor> {
        let directory = directory.as_ref();
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let put = |media_type: MediaType, bytes: &[u8]| {
            let descriptor = Descriptor::of(media_type, bytes);
            fs::write(blobs.join(descriptor.digest.hex()), bytes).map(|()| descriptor)
        };
        let tar = self.tar()?;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar)?;
        let layer = put(MediaType::ImageLayerGzip, &gzip.finish()?)?;
        let config = put(MediaType::ImageConfig, &json::to_vec(&config(DiffId(Digest::of(&tar))))?)?;
        let manifest = Manifest::new(config, vec![layer]);
        let manifest = put(MediaType::ImageManifest, &json::to_vec_pretty(&manifest)?)?;
        let mut entry = manifest.clone();
        entry.platform = Some(Platform::host());
        entry.annotations.insert("org.opencontainers.image.ref.name".to_owned(), "latest".to_owned());
        fs::write(directory.join("index.json"), json::to_vec(&Index::new(vec![entry]))?)?;
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(manifest)
    }

    /// All files in one tar: everything root's, from 1970, and hard links after what they name.
    fn tar(&self) -> io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        let (links, others): (Vec<_>, Vec<_>) =
            self.nodes.iter().partition(|(_, node)| matches!(node, Node::HardLink { .. }));
        for (path, node) in others.into_iter().chain(links) {
            let mut header = tar::Header::new_gnu();
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(0);
            header.set_mode(0o777);
            match node {
                Node::Directory { mode } => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(*mode);
                    tar.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Node::File { mode, content } => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_mode(*mode);
                    header.set_size(content.len() as u64);
                    tar.append_data(&mut header, path, content.as_slice())?;
                }
                Node::Symlink { target } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    tar.append_link(&mut header, path, target)?;
                }
                Node::HardLink { target } => {
                    header.set_entry_type(tar::EntryType::Link);
                    header.set_mode(0o755);
                    tar.append_link(&mut header, path, target)?;
                }
            }
        }
        tar.into_inner()
    }
}

fn config(layer: DiffId) -> ImageConfig {
    let platform = Platform::host();
    ImageConfig {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        config: ContainerConfig {
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            cmd: vec!["/bin/sh".to_owned()],
            ..ContainerConfig::default()
        },
        history: vec![History {
            created_by: "shell and tools of this host".to_owned(),
            ..History::default()
        }],
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: Some(vec![layer]) },
        ..ImageConfig::default()
    }
}

/// The first program of this name that may be read.
fn find_program(name: &str) -> Option<(PathBuf, Vec<u8>)> {
    let paths = PROGRAM_DIRECTORIES.iter().map(|directory| Path::new(directory).join(name));
    paths.into_iter().find_map(|path| Some((path.clone(), fs::read(path).ok()?)))
}

/// Tools that a busybox has: its names are a list of texts in it.
fn applets(busybox: &[u8]) -> BTreeSet<&'static str> {
    let texts: BTreeSet<&[u8]> = busybox.split(|byte| *byte == 0).filter(|text| text.len() < 16).collect();
    TOOLS.iter().chain(&["sh"]).copied().filter(|name| texts.contains(name.as_bytes())).collect()
}

/// The program that a script names in its first line.
fn script_interpreter(content: &[u8]) -> Option<PathBuf> {
    let line = content.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let program = std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()?;
    Some(PathBuf::from(program))
}

fn in_image(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

/// Files of the host by their place in the image.
type Needed = BTreeMap<String, (PathBuf, Vec<u8>)>;

/// What a program needs: its loader, in its place, and its libraries, all of them where the loader looks by itself.
fn collect(path: &Path, content: &[u8], libraries: &Libraries, needed: &mut Needed) -> io::Result<()> {
    let missing = |what: &str| {
        io::Error::new(io::ErrorKind::NotFound, format!("{} needs {what}, which is not here", path.display()))
    };
    let program = Elf::parse(content).ok_or_else(|| missing("an interpreter"))?;
    let Some(loader) = program.interpreter() else { return Ok(()) };
    let kind = program.kind().ok_or_else(|| missing("a machine"))?;
    let loader = PathBuf::from(loader);
    // Links resolved, that is a directory of the C library's package, and so one that its loader was built to know.
    let real = fs::canonicalize(&loader)?;
    let beside = real.parent().unwrap_or(Path::new("/"));
    needed.insert(in_image(&loader), (loader.clone(), fs::read(&loader)?));
    let mut home = None;
    let mut seen = BTreeSet::new();
    let mut open = vec![(path.to_owned(), content.to_owned())];
    let mut found = Vec::new();
    while let Some((path, content)) = open.pop() {
        let Some(needs) = Elf::parse(&content).map(|elf| elf.needs()) else { continue };
        let resolved = fs::canonicalize(&path)?;
        let origin = resolved.parent().unwrap_or(Path::new("/"));
        for name in needs.libraries {
            if !seen.insert(name.clone()) {
                continue;
            }
            let library = libraries
                .find(&name, kind, &needs.directories, origin, beside)
                .ok_or_else(|| missing(&name))?;
            if name.starts_with("libc.") {
                home = library.parent().map(Path::to_owned);
            }
            let content = fs::read(&library)?;
            found.push((name, library.clone(), content.clone()));
            open.push((library, content));
        }
    }
    let home = home.unwrap_or_else(|| beside.to_owned());
    // Before glibc 2.34, names of users are looked up by a library that nothing names.
    let lookup = "libnss_files.so.2";
    if let Ok(content) = fs::read(home.join(lookup)) {
        found.push((lookup.to_owned(), home.join(lookup), content));
    }
    for (name, library, content) in found {
        let file = Path::new(&name).file_name().unwrap_or_default();
        needed.insert(in_image(&home.join(file)), (library, content));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_a_shell_with_its_libraries() {
        let base = HostBase::shell_and_tools().unwrap();
        for name in ["sh", "cat", "ls", "date", "mkdir", "env", "id", "tar", "gzip"] {
            assert!(base.has(name), "{name} is missing");
        }
        let Node::File { content, .. } = &base.nodes["bin/sh"] else { panic!("the shell is no file") };
        let elf = Elf::parse(content).unwrap();
        if let Some(loader) = elf.interpreter() {
            assert!(base.nodes.contains_key(loader.trim_start_matches('/')), "{loader} is missing");
        }
        for library in elf.needs().libraries {
            let found = base.nodes.keys().any(|path| path.ends_with(&format!("/{library}")));
            assert!(found, "{library} is missing");
        }
    }

    #[test]
    fn the_same_host_gives_the_same_image() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str| HostBase::find().unwrap().write_layout(directory.path().join(name)).unwrap();
        assert_eq!(write("one"), write("two"));
        let read = |name: &str| fs::read(directory.path().join(name).join("index.json")).unwrap();
        assert_eq!(read("one"), read("two"));
    }

    #[test]
    fn hard_links_follow_what_they_name() {
        let base = HostBase::shell_and_tools().unwrap();
        let tar = base.tar().unwrap();
        let mut seen = BTreeSet::new();
        for entry in tar::Archive::new(tar.as_slice()).entries().unwrap() {
            let entry = entry.unwrap();
            if entry.header().entry_type().is_hard_link() {
                let target = entry.link_name().unwrap().unwrap().into_owned();
                assert!(seen.contains(&target), "{}", target.display());
            }
            seen.insert(entry.path().unwrap().into_owned());
        }
    }
}
