//! A merged view, written out.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use ocibuild_spec::CancelToken;
use ocibuild_sys::RootDir;

use crate::place::Writer;
use crate::step::check;
use crate::{Error, NodeId, NodeKind, Tree};

/// More threads than this only wait for the disk.
const MAX_THREADS: usize = 8;

/// What is to be made, found out before anything is.
#[derive(Default)]
struct Work {
    /// Parents first.
    directories: Vec<(PathBuf, NodeId)>,
    /// By directory: what is in it beside directories.
    leaves: Vec<(PathBuf, Vec<(OsString, NodeId)>)>,
    /// Further names of a file, and the first.
    links: Vec<(PathBuf, PathBuf)>,
}

/// Writes a merged view into the empty directory `rootfs`; files are from the layers that `writer` knows.
///
/// What layers hide of each other is never written, and nothing of the layers' directories is looked at but the
/// content of files.
pub(crate) fn fill(
    rootfs: &Path,
    view: &Tree,
    writer: Writer<'_>,
    cancel: &CancelToken,
) -> Result<(), Error> {
    let work = plan(view);
    let root = RootDir::open(rootfs).map_err(Error::system("open", rootfs))?;
    for (path, _) in &work.directories {
        let host = rootfs.join(path);
        let made = root.parent(path).and_then(|(parent, name)| parent.mkdir(name, 0o700));
        made.map_err(Error::system("make", host))?;
    }
    leaves(&root, rootfs, (view, writer), &work.leaves, cancel)?;
    for (path, first) in &work.links {
        let linked = root.parent(first).and_then(|(parent, name)| {
            let (new_parent, new_name) = root.parent(path)?;
            parent.hardlink(name, &new_parent, new_name)
        });
        match linked {
            // A device that may not be made has no other names either.
            Err(error) if error.kind() == ocibuild_sys::ErrorKind::NotFound => {}
            result => result.map_err(Error::system("link", rootfs.join(path)))?,
        }
    }
    // Last, and from the bottom, for what is made in a directory changes its time, and may not be allowed.
    for (path, id) in work.directories.iter().rev() {
        let host = rootfs.join(path);
        let (parent, name) = root.parent(path).map_err(Error::system("open", &host))?;
        writer.metadata(&parent, &name, &view.node(*id).metadata, false, &host)?;
    }
    Ok(())
}

fn plan(view: &Tree) -> Work {
    let mut work = Work::default();
    let mut firsts: HashMap<NodeId, PathBuf> = HashMap::new();
    let mut todo = vec![(PathBuf::new(), view.root())];
    while let Some((folder, id)) = todo.pop() {
        let mut leaves = Vec::new();
        for (name, child) in view.children(id) {
            let path = folder.join(name);
            match view.node(child).kind {
                NodeKind::Directory(_) => todo.push((path, child)),
                _ if firsts.contains_key(&child) => work.links.push((path, firsts[&child].clone())),
                _ => {
                    firsts.insert(child, path);
                    leaves.push((name.to_owned(), child));
                }
            }
        }
        if !leaves.is_empty() {
            work.leaves.push((folder.clone(), leaves));
        }
        if id != view.root() {
            work.directories.push((folder, id));
        }
    }
    work
}

fn leaves(
    root: &RootDir,
    rootfs: &Path,
    (view, writer): (&Tree, Writer<'_>),
    jobs: &[(PathBuf, Vec<(OsString, NodeId)>)],
    cancel: &CancelToken,
) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let run = || {
        while let Some((folder, names)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = fill_folder(root, rootfs, (view, writer), folder, names, cancel) {
                next.store(jobs.len(), Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    std::thread::scope(|scope| {
        for _ in 1..threads.min(jobs.len()) {
            // This thread does the work of those that do not start.
            if std::thread::Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn fill_folder(
    root: &RootDir,
    rootfs: &Path,
    (view, writer): (&Tree, Writer<'_>),
    folder: &Path,
    names: &[(OsString, NodeId)],
    cancel: &CancelToken,
) -> Result<(), Error> {
    let host = rootfs.join(folder);
    let parent = root.dir(folder).map_err(Error::system("open", &host))?;
    for (name, id) in names {
        check(cancel)?;
        writer.leaf(&parent, name, view.node(*id), &host.join(name))?;
    }
    Ok(())
}
