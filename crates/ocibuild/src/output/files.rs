//! Outputs that are the files of images: a directory, or one tar.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use ocibuild_layer::{Compression, LayerOptions};
use ocibuild_snapshot::{Tree, changes};
use ocibuild_spec::{Changeset, Entry, EntryKind, Metadata, Timestamp};
use ocibuild_sys::DirHandle;

use super::{ExportJob, at_path, directory_name, unwritable};
use crate::copy::{Choice, Source, TreeSource, select};
use crate::error::Error;
use crate::failure::{FileAction, HostFailure, HostOperation, OutputFailure};
use crate::finished::FinishedImage;
use crate::unpacked::{Nodes, write_entries};

/// The files of all platforms together.
#[derive(Default)]
struct Files {
    entries: Vec<Entry>,
    /// Where in `entries` a path is.
    places: HashMap<PathBuf, Place>,
    sources: Vec<Arc<TreeSource>>,
}

/// Of which platform an entry is, and where it is there.
struct Place {
    entry: usize,
    source: usize,
    path: PathBuf,
}

impl Files {
    fn of(wanted: &ExportJob<'_>) -> Result<Self, Error> {
        let mut files = Self::default();
        for image in wanted.images {
            let (mut entries, source) = rootfs(image)?;
            if let Some(epoch) = wanted.epoch {
                for entry in &mut entries {
                    entry.metadata.mtime = Timestamp::from_seconds(epoch);
                }
            }
            let own = files.sources.len();
            files.sources.push(source);
            let prefix = wanted.platform_split.then(|| directory_name(&image.plan.platform));
            if let Some(name) = &prefix {
                let directory = directory(name, wanted.epoch);
                files.add(directory, PathBuf::new(), own, wanted)?;
            }
            for mut entry in entries {
                let path = entry.path.clone();
                if let Some(prefix) = &prefix {
                    entry.path = Path::new(prefix).join(&entry.path);
                    if let EntryKind::Hardlink { target } = &mut entry.kind {
                        *target = Path::new(prefix).join(&*target);
                    }
                }
                files.add(entry, path, own, wanted)?;
            }
        }
        Ok(files)
    }

    /// Directories of several platforms become one; anything else at the same path is an error (11.33).
    fn add(
        &mut self,
        entry: Entry,
        path: PathBuf,
        source: usize,
        wanted: &ExportJob<'_>,
    ) -> Result<(), Error> {
        let Some(known) = self.places.get(&entry.path) else {
            self.places.insert(entry.path.clone(), Place { entry: self.entries.len(), source, path });
            self.entries.push(entry);
            return Ok(());
        };
        let earlier = &mut self.entries[known.entry];
        if earlier.kind == EntryKind::Directory && entry.kind == EntryKind::Directory {
            *earlier = entry;
            return Ok(());
        }
        let platform = |number: usize| wanted.images[number].plan.platform.clone();
        let (first, second) = (platform(known.source), platform(source));
        Err(OutputFailure::Collision { path: entry.path, first, second }.into())
    }

    fn open(&self, entry: &Entry) -> Result<Box<dyn Read + Send>, Error> {
        match self.places.get(&entry.path) {
            Some(place) => self.sources[place.source].open(&place.path),
            None => Err(OutputFailure::NoContent { path: entry.path.clone() }.into()),
        }
    }
}

/// The directory of a platform.
fn directory(name: &str, epoch: Option<i64>) -> Entry {
    Entry {
        path: PathBuf::from(name),
        metadata: Metadata {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::from_seconds(epoch.unwrap_or_default()),
            xattrs: std::collections::BTreeMap::new(),
        },
        kind: EntryKind::Directory,
    }
}

/// All files of one image, with their content.
fn rootfs(image: &FinishedImage<'_>) -> Result<(Vec<Entry>, Arc<TreeSource>), Error> {
    let layers = &image.source;
    let tree = image.state.tree(layers)?;
    let entries = changes(&Tree::new(), &tree, &mut |_, _, _| false).entries;
    let view = TreeSource::new(tree);
    let selected = select(&view, "/", &Choice::default())?;
    let files = layers.files(&image.state.stack, &view.origins(&selected)?)?;
    Ok((entries, Arc::new(view.with_files(files))))
}

pub(super) fn tar(wanted: &ExportJob<'_>, writer: &mut dyn Write) -> Result<(), Error> {
    let mut files = Files::of(wanted)?;
    let entries = std::mem::take(&mut files.entries);
    let open = move |entry: &Entry, _| files.open(entry).map_err(io::Error::other);
    let changeset = Changeset::new(entries, open);
    let options = LayerOptions { compression: Compression::None, clamp_mtime: None, threads: 1 };
    ocibuild_layer::write(&changeset, writer, &options, wanted.images[0].cancel)?;
    writer.flush().map_err(|error| HostFailure::operation(HostOperation::WriteTar, error).into())
}

/// Writes the files into a directory, over what is there or in its place; links in it lead nowhere outside.
pub(super) fn local(wanted: &ExportJob<'_>, path: &Path, replace: bool) -> Result<(), Error> {
    let files = Files::of(wanted)?;
    fs::create_dir_all(path).map_err(|error| unwritable(path, error))?;
    if replace {
        empty(path).map_err(|error| HostFailure::file(FileAction::Empty, path, error))?;
    }
    let open = |entry: &Entry| files.open(entry);
    let cancel = wanted.images[0].cancel;
    let written = write_entries(path, &files.entries, &open, Nodes::Required, cancel);
    written.map_err(|error| at_path(error, path))
}

fn empty(path: &Path) -> Result<(), ocibuild_sys::Error> {
    let directory = DirHandle::open(path)?;
    let names = directory.read_dir()?.map(|entry| Ok(entry?.name));
    for name in names.collect::<Result<Vec<_>, ocibuild_sys::Error>>()? {
        directory.remove_tree(name)?;
    }
    Ok(())
}
