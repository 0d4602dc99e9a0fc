use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{CancelToken, Changeset, DiffId, Entry, Metadata, Mount, OwnershipRecord};
use ocibuild_sys::{DirHandle, OverlayAttributes, RootDir};

use crate::directory::Directory;
use crate::driver::Active;
use crate::fill::fill;
use crate::known::LayerFacts;
use crate::mount_points::{MountPoints, Top};
use crate::place::Writer;
use crate::step::{Step, check, rootfs_mount};
use crate::{Error, ErrorKind, LayerNotes, Node, NodeKind, Tree};

/// `OVL_MAX_STACK`.
const MAX_LAYERS: usize = 500;

/// A step's overlay: in its working directory is `work`, which is the kernel's; what the step changes comes into
/// `layer/fs`.
#[derive(Debug)]
pub(super) struct ActiveOverlay {
    step: Step,
    attributes: OverlayAttributes,
    /// Links to the layers, the highest first: their own paths would be too long for a list.
    lower: Vec<PathBuf>,
    /// What was put on top to begin with.
    corrected: BTreeSet<PathBuf>,
    mount_points: MountPoints,
}

impl ActiveOverlay {
    pub(super) fn prepare(
        directory: &Directory,
        attributes: OverlayAttributes,
        stack: &[DiffId],
        base: Arc<Tree>,
        cancel: &CancelToken,
    ) -> Result<Self, Error> {
        let visible = highest_first(stack);
        if visible.len() > MAX_LAYERS {
            return Err(ErrorKind::TooManyLayers { count: visible.len(), limit: MAX_LAYERS }.into());
        }
        let step = Step::new(directory, stack, base)?;
        let (handle, path) = (make_work(&step)?, step.work.path());
        let lower = if stack.is_empty() {
            // An overlay wants something below.
            handle.mkdir("0", 0o755).map_err(Error::system("make a directory in", path))?;
            vec![path.join("0")]
        } else {
            links(directory, &step, stack, &visible, &handle)?
        };
        let mut active = Self::new(step, attributes, lower);
        let facts = active.step.facts.clone();
        for facts in facts {
            check(cancel)?;
            active.correct(&facts.notes)?;
        }
        Ok(active)
    }

    /// An overlay above a directory that is no layer.
    pub(super) fn prepare_above(
        directory: &Directory,
        attributes: OverlayAttributes,
        lower: PathBuf,
    ) -> Result<Self, Error> {
        let step = Step::new(directory, &[], Arc::default())?;
        make_work(&step)?;
        Ok(Self::new(step, attributes, vec![lower]))
    }

    fn new(step: Step, attributes: OverlayAttributes, lower: Vec<PathBuf>) -> Self {
        let (corrected, mount_points) = (BTreeSet::new(), MountPoints::default());
        Self { step, attributes, lower, corrected, mount_points }
    }

    /// The kernel knows nothing of what a layer leaves to the layers below it, and the layer's directory is that of
    /// every image which has the layer. So what the merged view has at such a path is put on top.
    fn correct(&mut self, notes: &LayerNotes) -> Result<(), Error> {
        let base = Arc::clone(&self.step.base);
        // What layers above list is there as they list it.
        let on_disk = Metadata::of_implied_directory();
        // Parents come before what is below them, and with a directory its parents are made.
        let mut made = PathBuf::new();
        for path in notes.implied_directories.iter().rev() {
            let is_made =
                made.as_os_str().as_encoded_bytes().starts_with(path.as_os_str().as_encoded_bytes())
                    && made.starts_with(path);
            let differs = |id| base.is_directory(id) && base.node(id).metadata != on_disk;
            if !is_made && base.lookup(path).is_some_and(differs) {
                self.upper().directories(path, (0, 0), &mut |_| ())?;
                self.corrected.extend(path.ancestors().map(Path::to_owned));
                made.clone_from(path);
            }
        }
        for (path, _) in &notes.deferred_links {
            if let Some(id) = base.lookup(path) {
                self.correct_link(path, base.node(id))?;
            }
        }
        self.corrected.remove(Path::new(""));
        Ok(())
    }

    fn correct_link(&mut self, path: &Path, node: &Node) -> Result<(), Error> {
        let above = path.parent().unwrap_or(Path::new(""));
        let Some(name) = path.file_name() else { return Ok(()) };
        match &node.kind {
            // A higher layer has something else there.
            NodeKind::Directory(_) => return Ok(()),
            NodeKind::File { origin, .. } if origin.path == path => return Ok(()),
            _ => {}
        }
        let top = self.upper();
        let parent = top.directories(above, (0, 0), &mut |_| ())?;
        let host = top.host.join(path);
        if parent.try_stat(name).map_err(Error::system("look at", &host))?.is_none() {
            let make = || top.writer.leaf(&parent, name, node, &host);
            crate::place::keeping_time(&parent, &top.host.join(above), make)?;
        }
        // A device that may not be made was left out, and is not one that the step deletes.
        let is_there = parent.try_stat(name).map_err(Error::system("look at", &host))?.is_some();
        let corrected = path.ancestors().skip(usize::from(!is_there));
        self.corrected.extend(corrected.map(Path::to_owned));
        Ok(())
    }

    fn upper(&self) -> Top<'_> {
        Top { host: self.step.work.fs(), base: &self.step.base, writer: self.step.writer() }
    }
}

/// Makes the directory of the kernel.
fn make_work(step: &Step) -> Result<DirHandle, Error> {
    let path = step.work.path();
    let handle = DirHandle::open(path).map_err(Error::system("open", path))?;
    handle.mkdir("work", 0o700).map_err(Error::system("make a directory in", path))?;
    Ok(handle)
}

/// Links to the layers of a stack. Those that are kept beside the layers serve all steps; should two layers of the stack
/// have one name there, this step gets links of its own, `0`, `1` and so on in its working directory.
fn links(
    directory: &Directory,
    step: &Step,
    stack: &[DiffId],
    visible: &[&DiffId],
    handle: &DirHandle,
) -> Result<Vec<PathBuf>, Error> {
    let facts: HashMap<&DiffId, &LayerFacts> =
        stack.iter().zip(step.facts.iter().map(AsRef::as_ref)).collect();
    let kept = |layer: &&DiffId| match facts.get(*layer) {
        Some(facts) => directory.link(layer, facts),
        None => Ok(None),
    };
    let kept: Option<Vec<String>> = visible.iter().map(kept).collect::<Result<_, Error>>()?;
    if let Some(names) = kept {
        return Ok(names.iter().map(|name| directory.links().join(name)).collect());
    }
    let path = step.work.path();
    for (number, layer) in visible.iter().enumerate() {
        let linked = handle.symlink(directory.fs(layer), number.to_string());
        linked.map_err(Error::system("make a link in", path))?;
    }
    Ok((0..visible.len()).map(|number| path.join(number.to_string())).collect())
}

/// The layers of a stack from the top, each once: the kernel refuses the same directory twice, and what a layer does
/// further down it does again at its highest place.
fn highest_first(stack: &[DiffId]) -> Vec<&DiffId> {
    let mut seen = std::collections::BTreeSet::new();
    stack.iter().rev().filter(|layer| seen.insert(*layer)).collect()
}

impl Active for ActiveOverlay {
    fn top(&mut self) -> (Top<'_>, &mut MountPoints) {
        let top = Top { host: self.step.work.fs(), base: &self.step.base, writer: self.step.writer() };
        (top, &mut self.mount_points)
    }

    fn mounts(&self) -> Vec<Mount> {
        let path = self.step.work.path().display();
        let lower: Vec<String> = self.lower.iter().map(|link| link.display().to_string()).collect();
        let mut options = vec![
            format!("lowerdir={}", lower.join(":")),
            format!("upperdir={path}/layer/fs"),
            format!("workdir={path}/work"),
            "index=off".to_owned(),
        ];
        match self.attributes {
            // A layer must not be able to point the kernel at other directories than its own.
            OverlayAttributes::Trusted => {
                options.extend(["redirect_dir=nofollow".to_owned(), "metacopy=off".to_owned()]);
            }
            // Those two are so here, and cannot be given.
            OverlayAttributes::User => options.push("userxattr".to_owned()),
        }
        if has_volatile() {
            options.push("volatile".to_owned());
        }
        vec![rootfs_mount("overlay", "overlay".into(), options)]
    }

    fn changes(
        &self,
        owners: Option<&OwnershipRecord>,
        cancel: &CancelToken,
    ) -> Result<(Tree, Changeset), Error> {
        let upper = self.step.work.fs();
        let new = super::scan::scan(&self.step, upper, self.attributes, &self.corrected, owners, cancel)?;
        self.step.changeset(upper, &new)
    }

    /// The kernel refuses a directory in which it worked for a mount that flushed nothing.
    fn renew_mounts(&mut self) -> Result<(), Error> {
        let path = self.step.work.path();
        let handle = DirHandle::open(path).map_err(Error::system("open", path))?;
        handle.remove_tree("work").map_err(Error::system("remove a directory in", path))?;
        handle.mkdir("work", 0o700).map_err(Error::system("make a directory in", path))
    }

    fn leave(&self, after: &Tree, directory: &Path, cancel: &CancelToken) -> Result<(), Error> {
        fs_err::create_dir(directory).map_err(Error::io("make", directory))?;
        let layers = self.step.layers_and(self.step.work.fs());
        let writer = Writer { layers: &layers, owners: self.step.directory.keeps_owners() };
        fill(directory, after, writer, cancel)
    }

    fn publish(&self, layer: &DiffId, entries: &[Entry]) -> Result<(), Error> {
        let upper = self.step.work.fs();
        let root = RootDir::open(upper).map_err(Error::system("open", upper))?;
        super::commit::reduce(&root, upper, entries, self.attributes)?;
        self.step.directory.publish(&self.step.work, layer, &LayerNotes::default())
    }
}

/// Whether the kernel knows overlays that flush nothing (Linux 5.10): whatever a step flushes is flushed with
/// everything else, once, or built again.
fn has_volatile() -> bool {
    let release = rustix::system::uname();
    let mut numbers = release.release().to_str().unwrap_or_default().split(['.', '-']);
    let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
    (next(), next()) >= (5, 10)
}
