use std::sync::{Arc, OnceLock};

use ocibuild_plan::PlannedHistory;
use ocibuild_snapshot::Tree;
use ocibuild_spec::{Digest, History, Timestamp};

use crate::error::Error;
use crate::layers::{Layer, Layers};

/// A stage at some point of its build: what its layers are, and what keys of later steps build on.
#[derive(Debug, Clone)]
pub(crate) struct StageState<'a> {
    pub(crate) stack: Vec<Layer<'a>>,
    pub(crate) chain: Digest,
    /// The history of the image at the bottom.
    pub(crate) base_history: Vec<History>,
    /// How many layers that image has.
    pub(crate) base_layers: usize,
    /// Entries added since, with the time of their layer; of a stage it starts from, too.
    pub(crate) history: Vec<(PlannedHistory, Option<Timestamp>)>,
    /// What progress called the step of each layer above the base, and when the layer was made.
    pub(crate) made: Vec<(String, Timestamp)>,
    tree: Arc<OnceLock<Arc<Tree>>>,
    /// A view that is known of so many of the layers, the lowest.
    below: Option<(Arc<Tree>, usize)>,
}

impl<'a> StageState<'a> {
    pub(crate) fn new(stack: Vec<Layer<'a>>, chain: Digest, base_history: Vec<History>) -> Self {
        let base_layers = stack.len();
        Self {
            stack,
            chain,
            base_history,
            base_layers,
            history: Vec::new(),
            made: Vec::new(),
            tree: Arc::default(),
            below: None,
        }
    }

    /// The merged view of the layers, made when it is first asked for.
    pub(crate) fn tree(&self, layers: &Layers<'_>) -> Result<Arc<Tree>, Error> {
        if let Some(tree) = self.tree.get() {
            return Ok(Arc::clone(tree));
        }
        let (mut tree, known) =
            self.below.as_ref().map_or_else(|| (Tree::new(), 0), |(tree, known)| (Tree::clone(tree), *known));
        layers.extend_tree(&mut tree, &self.stack, known)?;
        let tree = Arc::new(tree);
        Ok(Arc::clone(self.tree.get_or_init(|| tree)))
    }

    /// Adds a layer. Should the view be asked for again, it begins with the one that is known.
    pub(crate) fn push(&mut self, layer: Layer<'a>, chain: Digest) {
        if let Some(tree) = self.tree.get() {
            self.below = Some((Arc::clone(tree), self.stack.len()));
        }
        self.tree = Arc::default();
        self.stack.push(layer);
        self.chain = chain;
    }
}
