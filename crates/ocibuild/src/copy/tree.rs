//! The merged view of a stage or an image as a source.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use ocibuild_snapshot::{NodeKind, Origin, Tree};
use ocibuild_spec::ContentDigest;

use super::select::Selected;
use super::source::{Source, SourceKind, SourceNode};
use crate::error::Error;
use crate::failure::CopyProblem;
use crate::layers::LayerFiles;

/// The merged view of a stack of layers.
#[derive(Debug, Clone)]
pub(crate) struct TreeSource {
    tree: Arc<Tree>,
    files: Option<Arc<LayerFiles>>,
}

impl TreeSource {
    /// A source that can be looked at, but whose files cannot be opened.
    pub(crate) fn new(tree: Arc<Tree>) -> Self {
        Self { tree, files: None }
    }

    /// The same with the content of its files.
    pub(crate) fn with_files(mut self, files: LayerFiles) -> Self {
        self.files = Some(Arc::new(files));
        self
    }

    /// The content number and size of the file at a path.
    pub(crate) fn content(&self, path: &Path) -> Option<(usize, u64)> {
        match &self.tree.node(self.tree.lookup(path)?).kind {
            NodeKind::File { size, origin } => Some((usize::try_from(origin.content.0).ok()?, *size)),
            _ => None,
        }
    }

    /// Where the content of what was selected is.
    pub(crate) fn origins(&self, selected: &[Selected]) -> Result<Vec<(Origin, u64)>, Error> {
        let mut origins = Vec::new();
        let mut add = |path: &Path| {
            let node = self.tree.lookup(path).map(|id| &self.tree.node(id).kind);
            if let Some(NodeKind::File { size, origin }) = node {
                origins.push((origin.clone(), *size));
            }
        };
        for one in selected {
            add(&one.path);
            one.each_item(self, &mut |item| {
                add(&one.path.join(&item.path));
                Ok(())
            })?;
        }
        Ok(origins)
    }

    /// Where the content of the file at a path is.
    pub(crate) fn origin_of(&self, path: &Path) -> Vec<(Origin, u64)> {
        let node = self.tree.lookup(path).map(|id| &self.tree.node(id).kind);
        match node {
            Some(NodeKind::File { size, origin }) => vec![(origin.clone(), *size)],
            _ => Vec::new(),
        }
    }
}

impl Source for TreeSource {
    fn stat(&self, path: &Path) -> Result<Option<SourceNode>, Error> {
        let Some(id) = self.tree.lookup(path) else { return Ok(None) };
        let node = self.tree.node(id);
        let kind = match &node.kind {
            NodeKind::Directory(_) => SourceKind::Directory,
            NodeKind::File { size, .. } => SourceKind::File { size: *size },
            NodeKind::Symlink(target) => SourceKind::Symlink(target.clone()),
            NodeKind::Fifo => SourceKind::Fifo,
            NodeKind::CharacterDevice(major, minor) => SourceKind::CharacterDevice(*major, *minor),
            NodeKind::BlockDevice(major, minor) => SourceKind::BlockDevice(*major, *minor),
        };
        let links = matches!(kind, SourceKind::File { .. }).then_some((0, id.number()));
        Ok(Some(SourceNode { metadata: node.metadata.clone(), kind, links, in_place: None, known: None }))
    }

    fn known_digest(&self, path: &Path) -> Option<ContentDigest> {
        match &self.tree.node(self.tree.lookup(path)?).kind {
            NodeKind::File { origin, .. } => self.files.as_ref()?.digest(origin),
            _ => None,
        }
    }

    fn names(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        let id = self.tree.lookup(path);
        Ok(id.map(|id| self.tree.children(id).map(|(name, _)| name.to_owned()).collect()).unwrap_or_default())
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, Error> {
        let node = self.tree.lookup(path).map(|id| self.tree.node(id));
        match node.map(|node| &node.kind) {
            Some(NodeKind::File { size, origin }) => match &self.files {
                Some(files) => files.open(origin, *size),
                None => Err(CopyProblem::NoContent { path: path.to_owned() }.into()),
            },
            _ => Err(CopyProblem::NotRegular { path: path.to_owned() }.into()),
        }
    }
}
