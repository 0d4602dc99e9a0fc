//! What both drivers know of a step, and do the same way once they have looked at what it left behind.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{Changeset, DiffId, EntryKind, OwnershipRecord};
use ocibuild_sys::RootDir;

use crate::directory::{Directory, Work};
use crate::known::{LayerFacts, LayerRoots};
use crate::place::{Writer, open_content};
use crate::{Changes, Error, ErrorKind, Node, NodeKind, Tree, changes};

/// The stack of a step, opened.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) directory: Directory,
    pub(crate) work: Work,
    pub(crate) base: Arc<Tree>,
    /// The directories of the layers, the lowest first.
    pub(crate) layers: LayerRoots,
    /// What is known of each of them, in the same order.
    pub(crate) facts: Vec<Arc<LayerFacts>>,
}

impl Step {
    pub(crate) fn new(directory: &Directory, stack: &[DiffId], base: Arc<Tree>) -> Result<Self, Error> {
        let (work, facts) = directory.work_on(stack)?;
        let layers = LayerRoots::new(stack.iter().map(|layer| directory.fs(layer)));
        Ok(Self { directory: directory.clone(), work, base, layers, facts })
    }

    pub(crate) fn writer(&self) -> Writer<'_> {
        Writer { layers: &self.layers, owners: self.directory.keeps_owners() }
    }

    /// The directories of the layers, and on top of them what the step changed.
    pub(crate) fn layers_and(&self, top: &Path) -> LayerRoots {
        LayerRoots::new(self.layers.paths().map(Path::to_owned).chain([top.to_owned()]))
    }

    /// The number of the layer that the step makes.
    pub(crate) fn layer(&self) -> u32 {
        u32::try_from(self.layers.len()).unwrap_or(u32::MAX)
    }

    /// Where files cannot be given away, those on disk say nothing of whom they belong to. Without a record, what the layers
    /// below have at this path keeps its owner, and everything else is root's, as who runs the step is to itself.
    pub(crate) fn keep_owner(
        &self,
        path: &Path,
        node: &mut Node,
        owners: Option<&OwnershipRecord>,
    ) -> Result<(), Error> {
        if self.directory.keeps_owners() {
            return Ok(());
        }
        if let Some(owners) = owners {
            let owned = owners.of(path).map_err(Error::io("find the owner of", path))?;
            (node.metadata.uid, node.metadata.gid) = (owned.uid, owned.gid);
            match owned.device {
                Some(EntryKind::CharacterDevice { major, minor }) => {
                    node.kind = NodeKind::CharacterDevice(major, minor);
                }
                Some(EntryKind::BlockDevice { major, minor }) => {
                    node.kind = NodeKind::BlockDevice(major, minor);
                }
                _ => {}
            }
            return Ok(());
        }
        let below = self.base.lookup(path).map(|id| self.base.node(id));
        let same_kind =
            |below: &&Node| std::mem::discriminant(&below.kind) == std::mem::discriminant(&node.kind);
        let owner = below.filter(same_kind).map_or((0, 0), |below| (below.metadata.uid, below.metadata.gid));
        (node.metadata.uid, node.metadata.gid) = owner;
        Ok(())
    }

    /// The changeset from the merged view below to `new`, whose changed files are in `top`.
    pub(crate) fn changeset(&self, top: &Path, new: &Tree) -> Result<(Tree, Changeset), Error> {
        let root = RootDir::open(top).map_err(Error::system("open", top))?;
        let mut failure = None;
        let mut same_content = |path: &Path, below: &Node, _: &Node| {
            failure.is_none()
                && self.same_content(&root, top, path, below).unwrap_or_else(|error| {
                    failure = Some(error);
                    false
                })
        };
        let Changes { mut entries, shared } = changes(&self.base, new, &mut same_content);
        if let Some(error) = failure {
            return Err(error);
        }
        for entry in &mut entries {
            let name = entry.path.file_name().unwrap_or_default();
            let deletes = matches!(entry.kind, EntryKind::Whiteout | EntryKind::OpaqueWhiteout);
            if !deletes && name.as_encoded_bytes().starts_with(b".wh.") {
                return Err(ErrorKind::ReservedName { path: std::mem::take(&mut entry.path) }.into());
            }
        }
        let mut after = Tree::clone(&self.base);
        after.apply_layer(self.layer(), &entries);
        let host = top.to_owned();
        let opener = move |entry: &ocibuild_spec::Entry, _| -> io::Result<Box<dyn Read + Send>> {
            let opened = open_content(&root, &entry.path).map_err(|error| error.below(&host))?;
            Ok(Box::new(opened))
        };
        Ok((after, Changeset::new(entries, opener).with_shared(shared)))
    }

    fn same_content(&self, root: &RootDir, top: &Path, path: &Path, below: &Node) -> Result<bool, Error> {
        let NodeKind::File { size, origin } = &below.kind else { return Ok(false) };
        if *size == 0 {
            return Ok(true);
        }
        let Some(layer) = self.layers.get(origin.layer) else {
            let (path, layer, count) = (path.to_owned(), origin.layer, self.layers.len());
            return Err(ErrorKind::ForeignTree { path, layer, count }.into());
        };
        let host = top.join(path);
        let mut a = open_content(layer?, &origin.path).map_err(Error::system("compare", &host))?;
        let mut b = open_content(root, path).map_err(Error::system("compare", &host))?;
        equal(&mut a, &mut b).map_err(Error::io("compare", host))
    }
}

fn equal(a: &mut File, b: &mut File) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let (a, b) = (fill(a, &mut left)?, fill(b, &mut right)?);
        if left[..a] != right[..b] {
            return Ok(false);
        }
        if a < left.len() {
            return Ok(true);
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Stops a long call.
pub(crate) fn check(cancel: &ocibuild_spec::CancelToken) -> Result<(), Error> {
    if cancel.is_cancelled() { Err(ErrorKind::Cancelled.into()) } else { Ok(()) }
}

/// The mount of a root file system.
pub(crate) fn rootfs_mount(kind: &str, source: PathBuf, options: Vec<String>) -> ocibuild_spec::Mount {
    let mut mount = ocibuild_spec::Mount::default();
    mount.set_destination("/".into());
    mount.set_typ(Some(kind.to_owned()));
    mount.set_source(Some(source));
    mount.set_options(Some(options));
    mount
}
