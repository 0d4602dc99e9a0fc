//! The images that a plan starts from and copies from.

use ocibuild_spec::Reference;

use super::error::PlanError;
use super::fault::PlanFault;
use super::graph::{Graph, Node, named_context, parse_reference, unset_args};
use super::settings::Settings;
use super::stage::StageState;
use super::{BaseRequest, BaseResolver, FileSource, ImageOrigin, NamedContext, PlannedImage, StageBase};

/// What a node starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Root {
    /// Nothing.
    Scratch,
    /// An image, by its index among those of the plan.
    Image(usize),
    /// The files of a named context.
    Local(String),
}

impl Root {
    pub(super) fn stage_base(&self) -> StageBase {
        match self {
            Self::Scratch => StageBase::Scratch,
            Self::Image(index) => StageBase::Image(*index),
            Self::Local(name) => StageBase::LocalContext(name.clone()),
        }
    }

    pub(super) fn file_source(&self) -> FileSource {
        match self {
            Self::Scratch => FileSource::Empty,
            Self::Image(index) => FileSource::Image(*index),
            Self::Local(name) => FileSource::LocalContext(name.clone()),
        }
    }
}

/// Asks for images, each once.
pub(super) struct Bases<'r> {
    resolver: &'r mut dyn BaseResolver,
    pub(super) images: Vec<PlannedImage>,
    /// What an image's name may have been meant for.
    stage_names: Vec<String>,
}

impl<'r> Bases<'r> {
    pub(super) fn new(resolver: &'r mut dyn BaseResolver) -> Self {
        Self { resolver, images: Vec::new(), stage_names: Vec::new() }
    }

    /// Settles what the nodes from `first` on start from. References are checked for all of them, images are asked
    /// for only where `reachable` says so (4.13).
    pub(super) fn settle(
        &mut self,
        graph: &mut Graph<'_>,
        reachable: &[bool],
        settings: &Settings<'_>,
    ) -> Result<(), Vec<PlanError>> {
        check_references(graph, settings)?;
        self.stage_names = graph.nodes.iter().filter_map(|node| node.name.clone()).collect();
        for (node, _) in graph.nodes.iter_mut().zip(reachable).filter(|(_, reachable)| **reachable) {
            if node.base.is_none() && node.root.is_none() {
                let root = self.root_of(node, settings).map_err(|error| vec![at_node(error, node)])?;
                node.root = Some(root);
            }
        }
        Ok(())
    }

    fn root_of(&mut self, node: &Node<'_>, settings: &Settings<'_>) -> Result<Root, PlanError> {
        if let Some(context) = &node.replaced_by {
            // The graph looked the context up by this name, so it is a reference.
            let name = node.name.as_deref().unwrap_or(&node.base_name);
            return self.context_root(context, name, &parse_reference(name)?, node, settings);
        }
        if node.base_name == "scratch" {
            return Ok(Root::Scratch);
        }
        let reference = parse_reference(&node.base_name)?;
        if let Some(context) = named_context(&reference, node.platform.as_ref(), settings) {
            return self.context_root(&context, &node.base_name, &reference, node, settings);
        }
        self.image(&node.base_name, &reference, node, ImageOrigin::Default, settings)
    }

    fn context_root(
        &mut self,
        (context, kind): &(String, NamedContext),
        name: &str,
        reference: &Reference,
        node: &Node<'_>,
        settings: &Settings<'_>,
    ) -> Result<Root, PlanError> {
        match kind {
            NamedContext::Scratch => Ok(Root::Scratch),
            NamedContext::Local => Ok(Root::Local(context.clone())),
            NamedContext::Image => {
                self.image(name, reference, node, ImageOrigin::NamedContext(context.clone()), settings)
            }
        }
    }

    fn image(
        &mut self,
        name: &str,
        reference: &Reference,
        node: &Node<'_>,
        origin: ImageOrigin,
        settings: &Settings<'_>,
    ) -> Result<Root, PlanError> {
        let platform = node.platform.as_ref().unwrap_or_else(|| settings.target_platform()).clone();
        let same = |image: &PlannedImage| {
            image.platform == platform
                && image.origin == origin
                // One context holds one image, whatever name led to it.
                && (image.reference == *reference || origin != ImageOrigin::Default)
        };
        if let Some(known) = self.images.iter().position(same) {
            return Ok(Root::Image(known));
        }
        let request = BaseRequest { name: name.to_owned(), reference: reference.clone(), platform, origin };
        let image = self.resolver.resolve(&request).map_err(|source| {
            let context = match &request.origin {
                ImageOrigin::NamedContext(context) => Some(context.clone()),
                ImageOrigin::Default => None,
            };
            let contexts = settings.options.named_contexts.iter().map(|(context, _)| context.clone());
            let fault = PlanFault::BaseImage {
                name: name.to_owned(),
                context,
                is_base: node.stage.is_some(),
                stages: self.stage_names.clone(),
                contexts: contexts.collect(),
            };
            PlanError::new(fault).word(name).caused_by(source)
        })?;
        let BaseRequest { name, reference, platform, origin } = request;
        self.images.push(PlannedImage { name, reference, platform, origin, image });
        Ok(Root::Image(self.images.len() - 1))
    }
}

/// The state that a node without a parent stage begins with.
pub(super) fn state_of(images: &[PlannedImage], node: &Node<'_>, settings: &Settings<'_>) -> StageState {
    let platform = node.platform.as_ref().unwrap_or_else(|| settings.target_platform());
    match &node.root {
        Some(Root::Image(index)) => StageState::of_image(images[*index].image.config.clone()),
        _ if node.replaced_by.is_some() => StageState::of_replaced_stage(platform),
        Some(Root::Local(_)) => StageState::of_nothing(platform),
        // `--platform` has no effect on `scratch` itself, but on a context of that kind (4.05).
        _ if node.base_name == "scratch" => StageState::of_nothing(settings.target_platform()),
        _ => StageState::of_nothing(platform),
    }
}

/// Names that are not references are errors in every stage, needed or not.
fn check_references(graph: &Graph<'_>, settings: &Settings<'_>) -> Result<(), Vec<PlanError>> {
    let errors: Vec<PlanError> = graph
        .nodes
        .iter()
        .filter(|node| node.base.is_none() && node.root.is_none() && node.base_name != "scratch")
        .filter_map(|node| {
            let error = parse_reference(&node.base_name).err()?;
            let error = error.with_unset(unset_args(&node.unset, settings));
            Some(at_node(error, node))
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn at_node(error: PlanError, node: &Node<'_>) -> PlanError {
    match node.location {
        Some(location) => error.at(location),
        None => error,
    }
}
