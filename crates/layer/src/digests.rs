use std::collections::HashSet;

use ocibuild_spec::{Content, ContentDigest, Entry, EntryKind};

/// The digests of the files of a layer, by where the content of each is in the plain tar.
///
/// Small, since there may be a million of them: 40 bytes a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileDigests {
    /// By content, ascending.
    files: Vec<(Content, ContentDigest)>,
}

impl FileDigests {
    /// The digest of the file whose content is there; `None` if the layer has no file there.
    pub fn get(&self, content: Content) -> Option<ContentDigest> {
        let at = self.files.binary_search_by_key(&content.0, |(content, _)| content.0).ok()?;
        Some(self.files[at].1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Adds one whose content lies behind that of all others, or which is [`sorted`](Self::sorted) in later.
    pub(crate) fn push(&mut self, content: Content, digest: ContentDigest) {
        self.files.push((content, digest));
    }

    /// In order, each content once.
    pub(crate) fn sorted(mut self) -> Self {
        self.files.sort_by_key(|(content, _)| content.0);
        self.files.dedup_by_key(|(content, _)| content.0);
        self
    }

    /// Those of the entries that remain of a layer.
    pub(crate) fn of_entries(mut self, entries: &[Entry]) -> Self {
        let content = |entry: &Entry| match entry.kind {
            EntryKind::File { content, .. } => Some(content),
            _ => None,
        };
        if entries.iter().filter_map(content).count() < self.files.len() {
            let kept: HashSet<Content> = entries.iter().filter_map(content).collect();
            self.files.retain(|(content, _)| kept.contains(content));
        }
        self.files.shrink_to_fit();
        self
    }
}
