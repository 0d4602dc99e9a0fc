//! What a step changed in its copy.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ocibuild_spec::{CancelToken, OwnershipRecord, Timestamp};
use ocibuild_sys::{FileType, Metadata, RootDir};

use crate::place::node_of;
use crate::step::{Step, check};
use crate::walk::{Found, walk};
use crate::{Error, Node, NodeId, Tree};

/// What was on disk before the step, by path. A path of the merged view that is not here could not be made.
#[derive(Debug)]
pub(super) struct Record {
    paths: HashMap<PathBuf, Metadata>,
    /// The directories that something could not be made in.
    incomplete: HashMap<PathBuf, Incomplete>,
}

/// A directory without all that it should have.
#[derive(Debug)]
struct Incomplete {
    /// Another directory of the same name may have the same inode number.
    birth: Option<ocibuild_sys::Timestamp>,
    missing: Vec<OsString>,
}

impl Record {
    pub(super) fn of(rootfs: &Path, base: &Tree, cancel: &CancelToken) -> Result<Self, Error> {
        let mut paths = HashMap::new();
        walk(rootfs, &mut |found| {
            paths.insert(found.path.to_owned(), found.metadata);
            check(cancel)
        })?;
        let mut record = Self { paths, incomplete: HashMap::new() };
        record.note_missing(rootfs, base, cancel)?;
        Ok(record)
    }

    fn note_missing(&mut self, rootfs: &Path, base: &Tree, cancel: &CancelToken) -> Result<(), Error> {
        let root = RootDir::open(rootfs).map_err(Error::system("open", rootfs))?;
        let mut todo = vec![(PathBuf::new(), base.root())];
        while let Some((folder, id)) = todo.pop() {
            check(cancel)?;
            let mut missing = Vec::new();
            for (name, child) in base.children(id) {
                let path = folder.join(name);
                if base.is_directory(child) {
                    todo.push((path, child));
                } else if !self.paths.contains_key(&path) {
                    missing.push(name.to_owned());
                }
            }
            // The root itself stays whatever a step does.
            if !missing.is_empty() && id != base.root() {
                let found = root.parent(&folder).and_then(|(parent, name)| parent.birth_time(name));
                let birth = found.map_err(Error::system("look at", rootfs.join(&folder)))?;
                self.incomplete.insert(folder, Incomplete { birth, missing });
            }
        }
        Ok(())
    }
}

/// An inode with several names that was changed.
struct Inode {
    id: NodeId,
    /// Whether a name that it had before the step stands for it already.
    is_old: bool,
}

/// The merged view as the step left it: what was not touched is what it was.
pub(super) fn scan(
    step: &Step,
    rootfs: &Path,
    record: &Record,
    owners: Option<&OwnershipRecord>,
    cancel: &CancelToken,
) -> Result<Tree, Error> {
    let mut scan = Scan {
        step,
        rootfs,
        record,
        owners,
        new: Tree::clone(&step.base),
        seen: HashSet::new(),
        inodes: HashMap::new(),
        directories: Vec::new(),
    };
    walk(rootfs, &mut |found| {
        check(cancel)?;
        scan.seen.insert(found.path.to_owned());
        scan.visit(found)
    })?;
    Ok(scan.finish())
}

struct Scan<'a> {
    step: &'a Step,
    rootfs: &'a Path,
    record: &'a Record,
    owners: Option<&'a OwnershipRecord>,
    new: Tree,
    seen: HashSet<PathBuf>,
    inodes: HashMap<u64, Inode>,
    directories: Vec<(NodeId, ocibuild_spec::Metadata)>,
}

impl Scan<'_> {
    fn visit(&mut self, found: &Found<'_>) -> Result<(), Error> {
        let before = self.record.paths.get(found.path);
        // The kernel changes the time of an inode with everything else of it, its names included.
        if before.is_some_and(|before| *before == found.metadata) {
            if found.metadata.is_dir()
                && let Some(id) = self.step.base.lookup(found.path)
            {
                self.directories.push((id, self.step.base.node(id).metadata.clone()));
            }
            return Ok(());
        }
        if found.metadata.file_type == FileType::Socket {
            return Ok(());
        }
        let stays = before.is_some_and(|before| before.same_inode(&found.metadata));
        let linked = found.metadata.nlink > 1 && !found.metadata.is_dir();
        if linked
            && let Some(inode) = self.inodes.get_mut(&found.metadata.ino)
            && !(stays && inode.is_old)
        {
            inode.is_old |= stays;
            let id = inode.id;
            self.new.link(found.path, id, Timestamp::default());
            return Ok(());
        }
        let Some(mut node) = node_of(found, self.step.layer(), self.rootfs)? else { return Ok(()) };
        self.step.keep_owner(found.path, &mut node, self.owners)?;
        if found.metadata.is_dir() {
            return self.directory(found, node);
        }
        let id = self.new.insert(found.path, node, Timestamp::default());
        if linked {
            // An overlay copies each old name up by itself, so a second one gets a node of its own as well.
            self.inodes.entry(found.metadata.ino).or_insert(Inode { id, is_old: stays });
        }
        Ok(())
    }

    fn directory(&mut self, found: &Found<'_>, node: Node) -> Result<(), Error> {
        let metadata = node.metadata.clone();
        let existing = self.new.lookup(found.path).filter(|id| self.new.is_directory(*id));
        let id = existing.unwrap_or_else(|| self.new.insert(found.path, node, Timestamp::default()));
        self.directories.push((id, metadata));
        self.forget_missing(found)
    }

    /// What could not be made in a directory is gone with it, even if there is another one of its name now. (Of
    /// everything else the paths before the step tell.)
    fn forget_missing(&mut self, found: &Found<'_>) -> Result<(), Error> {
        let Some(incomplete) = self.record.incomplete.get(found.path) else { return Ok(()) };
        let birth = found.parent.birth_time(found.name);
        let birth = birth.map_err(Error::system("look at", self.rootfs.join(found.path)))?;
        let before = self.record.paths.get(found.path);
        let is_same = before.is_some_and(|before| before.same_inode(&found.metadata));
        if !is_same || birth != incomplete.birth {
            for name in &incomplete.missing {
                self.new.remove(&found.path.join(name), Timestamp::default());
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Tree {
        let mut gone: Vec<&PathBuf> =
            self.record.paths.keys().filter(|path| !self.seen.contains(*path)).collect();
        // A directory before what was in it, for then that is gone as well.
        gone.sort_unstable();
        for path in gone {
            self.new.remove(path, Timestamp::default());
        }
        for (id, metadata) in self.directories {
            *self.new.metadata_mut(id) = metadata;
        }
        self.new
    }
}
