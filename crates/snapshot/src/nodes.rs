//! Nodes of trees that have most of them in common.

use std::sync::Arc;

use crate::Node;

/// So many nodes are shared, or copied, together.
const CHUNK: usize = 64;

/// A list of nodes. Its clones share what none of them has changed: a clone costs a pointer for each chunk, and a change
/// a copy of one chunk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nodes {
    /// All but the last one are full.
    chunks: Vec<Arc<Vec<Node>>>,
}

impl Nodes {
    pub(crate) fn len(&self) -> usize {
        let last = self.chunks.last().map_or(0, |last| last.len());
        self.chunks.len().saturating_sub(1) * CHUNK + last
    }

    pub(crate) fn get(&self, number: usize) -> &Node {
        &self.chunks[number / CHUNK][number % CHUNK]
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> &mut Node {
        &mut Arc::make_mut(&mut self.chunks[number / CHUNK])[number % CHUNK]
    }

    pub(crate) fn push(&mut self, node: Node) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => Arc::make_mut(last).push(node),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(node);
                self.chunks.push(Arc::new(chunk));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ocibuild_spec::Metadata;

    use super::*;
    use crate::NodeKind;

    fn node(mode: usize) -> Node {
        let mode = u32::try_from(mode).unwrap();
        Node { metadata: Metadata { mode, ..Metadata::default() }, kind: NodeKind::Fifo }
    }

    fn modes(nodes: &Nodes) -> Vec<u32> {
        (0..nodes.len()).map(|number| nodes.get(number).metadata.mode).collect()
    }

    #[test]
    fn clones_share_what_neither_changed() {
        let mut old = Nodes::default();
        assert_eq!(old.len(), 0);
        for number in 0..5 * CHUNK + 3 {
            old.push(node(number));
        }
        let before = modes(&old);
        let mut new = old.clone();
        new.get_mut(CHUNK + 1).metadata.mode = 7;
        new.push(node(9));
        assert_eq!((modes(&old), old.len()), (before.clone(), before.len()));
        let mut after = before;
        after[CHUNK + 1] = 7;
        after.push(9);
        assert_eq!(modes(&new), after);
        let shared = old.chunks.iter().zip(&new.chunks).filter(|(old, new)| Arc::ptr_eq(old, new)).count();
        assert_eq!((shared, old.chunks.len()), (4, 6), "all but the changed one and the last");
    }
}
