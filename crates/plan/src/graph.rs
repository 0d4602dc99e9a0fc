//! Stages and images, and which of them need which.

use std::borrow::Cow;
use std::collections::HashMap;

use ocibuild_dockerfile::{Dockerfile, Findings, Instruction, InstructionKind, Location, suggest};
use ocibuild_spec::{Platform, Reference, ReferenceError};

use super::checks::FromLine;
use super::env::Environment;
use super::error::PlanError;
use super::fault::{PlanFault, UnsetArg};
use super::golang::parse_int;
use super::settings::{Settings, unknown_target};
use super::{NamedContext, bases::Root, mounts};

/// A stage of the file, or an image that files are copied or mounted from.
#[derive(Debug)]
pub(super) struct Node<'f> {
    /// Index in the file; `None` for an image.
    pub(super) stage: Option<usize>,
    pub(super) name: Option<String>,
    /// How messages call it; empty for an image.
    pub(super) display: String,
    /// The name after `FROM`, expanded, or that of the image.
    pub(super) base_name: String,
    /// `FROM --platform`, expanded.
    pub(super) platform: Option<Platform>,
    /// Arguments that the `FROM` line refers to.
    pub(super) used_args: Vec<String>,
    /// The `FROM` line, or the `COPY` or `RUN` that names the image.
    pub(super) location: Option<Location>,
    pub(super) text: &'f str,
    /// Variables of the `FROM` line that have no value.
    pub(super) unset: Vec<String>,
    /// The stage that `FROM` names.
    pub(super) base: Option<usize>,
    /// The named context that takes the stage's place (4.31).
    pub(super) replaced_by: Option<(String, NamedContext)>,
    pub(super) commands: Vec<Command<'f>>,
    /// What the commands copy and mount from, each time they do.
    pub(super) needs: Vec<(usize, Location)>,
    /// What it starts from, once that is known.
    pub(super) root: Option<Root>,
    pub(super) has_fired: bool,
}

/// An instruction in its stage.
#[derive(Debug)]
pub(super) struct Command<'f> {
    pub(super) instruction: Cow<'f, Instruction>,
    pub(super) location: Location,
    pub(super) is_trigger: bool,
    /// Nodes that files come from: one for `COPY --from`, one for each mount.
    pub(super) sources: Vec<Option<usize>>,
}

/// All nodes, those of the file first and in its order.
#[derive(Debug)]
pub(super) struct Graph<'f> {
    pub(super) nodes: Vec<Node<'f>>,
    /// Stages by name; a later one replaces an earlier one of the same name (4.06).
    names: HashMap<String, usize>,
    /// How many nodes are stages of the file.
    pub(super) stages: usize,
}

impl<'f> Graph<'f> {
    /// The stages with their `FROM` lines expanded. Errors of several of them are reported together.
    pub(super) fn of_stages(
        file: &'f Dockerfile,
        settings: &Settings<'_>,
        findings: &mut Findings,
    ) -> Result<Self, Vec<PlanError>> {
        let mut graph = Self { nodes: Vec::new(), names: HashMap::new(), stages: file.stages.len() };
        let mut errors = Vec::new();
        for (index, stage) in file.stages.iter().enumerate() {
            match stage_node(index, FromLine { stage, settings, findings }) {
                Ok(node) => graph.add_stage(node),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(graph) } else { Err(errors) }
    }

    fn add_stage(&mut self, mut node: Node<'f>) {
        if node.replaced_by.is_none() {
            node.base = self.names.get(&node.base_name).copied();
        }
        if let Some(name) = &node.name {
            self.names.insert(name.clone(), self.nodes.len());
        }
        self.nodes.push(node);
    }

    /// The stage to build (4.12).
    pub(super) fn target(&self, name: Option<&str>) -> Result<usize, PlanError> {
        match name.filter(|name| !name.is_empty()) {
            None => Ok(self.stages.saturating_sub(1)),
            Some(name) => self
                .names
                .get(&name.to_lowercase())
                .copied()
                .ok_or_else(|| unknown_target(name, self.nodes.iter().map(|node| node.display.as_str()))),
        }
    }

    /// Finds out what the instructions of all stages read from.
    pub(super) fn add_commands(&mut self, file: &'f Dockerfile) -> Result<(), PlanError> {
        for (index, stage) in file.stages.iter().enumerate() {
            for instruction in &stage.instructions {
                let location = instruction.location;
                let sources = self.sources(instruction, location)?;
                self.need(index, &sources, location);
                let command =
                    Command { instruction: Cow::Borrowed(instruction), location, is_trigger: false, sources };
                self.nodes[index].commands.push(command);
            }
        }
        self.check_cycles()
    }

    /// Puts the instructions of triggers before those of the stage (4.16).
    pub(super) fn add_triggers(&mut self, node: usize, triggers: Vec<Instruction>) -> Result<(), PlanError> {
        let location = self.nodes[node].location.unwrap_or_default();
        let mut commands = Vec::with_capacity(triggers.len());
        for instruction in triggers {
            let sources = self.sources(&instruction, location).map_err(|error| error.at(location))?;
            self.need(node, &sources, location);
            commands.push(Command {
                instruction: Cow::Owned(instruction),
                location,
                is_trigger: true,
                sources,
            });
        }
        commands.append(&mut self.nodes[node].commands);
        self.nodes[node].commands = commands;
        self.check_cycles()
    }

    fn need(&mut self, node: usize, sources: &[Option<usize>], location: Location) {
        // What a replaced stage would have read is not needed.
        if self.nodes[node].replaced_by.is_some() {
            return;
        }
        self.nodes[node].needs.extend(sources.iter().flatten().map(|source| (*source, location)));
    }

    fn sources(
        &mut self,
        instruction: &Instruction,
        location: Location,
    ) -> Result<Vec<Option<usize>>, PlanError> {
        match &instruction.kind {
            InstructionKind::Copy(copy) => match copy.from.as_deref() {
                None | Some("") => Ok(Vec::new()),
                Some(from) => Ok(vec![Some(self.copy_source(from, location)?)]),
            },
            InstructionKind::Run(run) => {
                run.mounts.iter().map(|flag| self.mount_source(flag, location)).collect()
            }
            _ => Ok(Vec::new()),
        }
    }

    /// 4.08
    fn copy_source(&mut self, from: &str, location: Location) -> Result<usize, PlanError> {
        check_unexpanded(from).map_err(|error| error.at(location))?;
        if let Some(index) = parse_int(from) {
            // Images named before count as further indexes, as they do for BuildKit.
            let known = usize::try_from(index).ok().filter(|index| *index < self.nodes.len());
            return known.ok_or_else(|| {
                let fault = PlanFault::StageIndex { index, stages: self.stages };
                PlanError::new(fault).at(location).word(from)
            });
        }
        Ok(self.stage_or_image(from, Some(location)))
    }

    fn mount_source(&mut self, flag: &str, location: Location) -> Result<Option<usize>, PlanError> {
        let from = mounts::from_name(flag).map_err(|error| error.at(location))?;
        Ok(from.map(|name| self.stage_or_image(&name, Some(location))))
    }

    fn stage_or_image(&mut self, name: &str, location: Option<Location>) -> usize {
        if let Some(stage) = self.names.get(&name.to_lowercase()) {
            return *stage;
        }
        self.nodes.push(Node {
            stage: None,
            name: None,
            display: String::new(),
            base_name: name.to_owned(),
            platform: None,
            used_args: Vec::new(),
            location,
            text: "",
            unset: Vec::new(),
            base: None,
            replaced_by: None,
            commands: Vec::new(),
            needs: Vec::new(),
            root: None,
            has_fired: false,
        });
        self.nodes.len() - 1
    }

    /// A stage may not read from itself, however long the way round (4.09).
    fn check_cycles(&self) -> Result<(), PlanError> {
        let mut visited = vec![false; self.nodes.len()];
        let mut on_path = vec![false; self.nodes.len()];
        for start in 0..self.nodes.len() {
            if visited[start] {
                continue;
            }
            // A stack of our own: as many stages as a file has lines may depend on each other in a row.
            let mut stack = vec![(start, 0)];
            (visited[start], on_path[start]) = (true, true);
            while let Some((node, next)) = stack.last_mut() {
                let Some((needed, _)) = self.nodes[*node].needs.get(*next) else {
                    on_path[*node] = false;
                    stack.pop();
                    continue;
                };
                *next += 1;
                if on_path[*needed] {
                    return Err(self.circular(start, &stack));
                }
                if !visited[*needed] {
                    (visited[*needed], on_path[*needed]) = (true, true);
                    stack.push((*needed, 0));
                }
            }
        }
        Ok(())
    }

    fn circular(&self, start: usize, stack: &[(usize, usize)]) -> PlanError {
        let node = &self.nodes[start];
        // BuildKit tells of every command on the way, and first of the one that closes the circle: the last of its stage
        // that reads from there.
        let closing = stack.last().and_then(|(node, next)| {
            let needs = &self.nodes[*node].needs;
            let (needed, _) = needs.get(next.checked_sub(1)?)?;
            needs.iter().rev().find(|(other, _)| other == needed)
        });
        let way: Vec<String> = stack
            .iter()
            .map(|(node, _)| self.nodes[*node].display.clone())
            .chain(stack.last().and_then(|(node, next)| {
                let (needed, _) = self.nodes[*node].needs.get(next.checked_sub(1)?)?;
                Some(self.nodes[*needed].display.clone())
            }))
            .collect();
        let same = |other: &&Node<'_>| other.name.is_some() && other.name == node.name;
        let namesakes: Vec<u32> =
            (self.nodes.iter().filter(same)).filter_map(|node| Some(node.location?.start_line)).collect();
        let error = PlanError::new(PlanFault::Circular { stage: node.display.clone(), way, namesakes });
        match closing {
            Some((_, location)) => error.at(*location),
            None => error,
        }
    }

    /// Which nodes `target` needs, itself included.
    pub(super) fn reachable(&self, target: usize, all: bool) -> Vec<bool> {
        let mut reached = vec![false; self.nodes.len()];
        let mut pending: Vec<usize> = if all { (0..self.stages).collect() } else { vec![target] };
        while let Some(index) = pending.pop() {
            if std::mem::replace(&mut reached[index], true) {
                continue;
            }
            let node = &self.nodes[index];
            pending.extend(node.base);
            pending.extend(node.needs.iter().map(|(needed, _)| *needed));
        }
        reached
    }
}

/// A stage as its `FROM` line has it (4.01, 4.05).
fn stage_node<'f>(index: usize, mut line: FromLine<'f, '_>) -> Result<Node<'f>, PlanError> {
    let (stage, settings) = (line.stage, line.settings);
    let at = |error: PlanError| error.at(stage.location);
    let globals = &settings.globals;
    let expanded =
        globals.expand_watched(&stage.base, settings.escape).map_err(|error| at(PlanError::from(error)))?;
    line.undefined(&expanded);
    let is_unset = |name: &&String| globals.get(name).is_none_or(str::is_empty);
    let mut unset: Vec<String> =
        expanded.unset.iter().chain(&expanded.used).filter(is_unset).cloned().collect();
    unset.dedup();
    let (base_name, mut used_args) = (expanded.value, expanded.used);
    if base_name.is_empty() {
        let unset = unset_args(&unset, settings);
        let fault = PlanFault::BlankBase { written: stage.base.to_string(), unset };
        return Err(at(PlanError::new(fault).word(&stage.base)));
    }
    let platform = match stage.platform.as_deref() {
        None | Some("") => None,
        Some(text) => Some(parse_platform(text, &mut line, &mut used_args).map_err(at)?),
    };
    let replaced_by = match &stage.name {
        Some(name) if !is_reserved(name) => {
            let reference: Reference = name
                .parse()
                .map_err(|_| at(PlanError::new(PlanFault::StageName { name: name.clone() }).word(name)))?;
            named_context(&reference, platform.as_ref(), settings)
        }
        _ => None,
    };
    Ok(Node {
        stage: Some(index),
        name: stage.name.clone(),
        display: stage.name.clone().unwrap_or_else(|| format!("stage-{index}")),
        base_name,
        platform,
        used_args,
        location: Some(stage.location),
        text: &stage.text,
        unset,
        base: None,
        replaced_by,
        commands: Vec::new(),
        needs: Vec::new(),
        root: None,
        has_fired: false,
    })
}

/// What is known of variables without a value.
pub(super) fn unset_args(unset: &[String], settings: &Settings<'_>) -> Vec<UnsetArg> {
    let of = |name: &String| UnsetArg {
        name: name.clone(),
        is_declared: settings.declared.contains(name),
        declared: settings.declared.clone(),
    };
    unset.iter().map(of).collect()
}

fn parse_platform(
    text: &str,
    line: &mut FromLine<'_, '_>,
    used_args: &mut Vec<String>,
) -> Result<Platform, PlanError> {
    let settings = line.settings;
    let globals = &settings.globals;
    let expanded = globals.expand_watched(text, settings.escape).map_err(|error| {
        PlanError::new(PlanFault::PlatformWord { written: text.to_owned(), error }).word(text)
    })?;
    line.undefined(&expanded);
    line.platform(text, &expanded);
    used_args.extend_from_slice(&expanded.used);
    let suggestion = || unset_names(&expanded.unset, settings);
    let expanded = &expanded.value;
    if expanded.is_empty() {
        let fault = PlanFault::EmptyPlatform { written: text.to_owned(), suggestion: suggestion() };
        return Err(PlanError::new(fault).word(text));
    }
    if expanded == "local" {
        return Ok(settings.options.build_platform.clone());
    }
    expanded.parse().map_err(|error| {
        let fault = PlanFault::Platform {
            written: text.to_owned(),
            value: expanded.clone(),
            error,
            suggestion: suggestion(),
        };
        PlanError::new(fault).word(text)
    })
}

/// What a variable without value was probably meant to be.
fn unset_names(unset: &[String], settings: &Settings<'_>) -> Option<String> {
    let mut known: Vec<&str> = settings.globals.names().collect();
    known.sort_unstable();
    unset.iter().find_map(|name| suggest(name, known.iter().copied())).map(str::to_owned)
}

/// `--from` is no place for variables, quotes or escapes (2.44).
fn check_unexpanded(from: &str) -> Result<(), PlanError> {
    let expanded = Environment::default().expand(from, '\\')?;
    if expanded == from {
        return Ok(());
    }
    Err(PlanError::new(PlanFault::FromVariable { from: from.to_owned() }).word(from))
}

/// Names that no context replaces (4.36).
pub(super) fn is_reserved(name: &str) -> bool {
    name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context")
}

/// The named context for a name and a platform (4.30): its name as the command line has it, and what it is.
pub(super) fn named_context(
    reference: &Reference,
    platform: Option<&Platform>,
    settings: &Settings<'_>,
) -> Option<(String, NamedContext)> {
    let platform = platform.unwrap_or_else(|| settings.target_platform());
    let key = short_name(reference);
    let with_platform = format!("{key}::{platform}");
    let contexts = &settings.options.named_contexts;
    let find = |key: &str| contexts.iter().rev().find(|(name, _)| normalised(name) == key).cloned();
    find(&with_platform).or_else(|| find(&key))
}

fn short_name(reference: &Reference) -> String {
    let familiar = reference.familiar();
    familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned()
}

/// The name of a context with its image part in the short form.
fn normalised(name: &str) -> String {
    let (image, platform) = match name.split_once("::") {
        Some((image, platform)) => (image, Some(platform)),
        None => (name, None),
    };
    let image = image.parse().map_or_else(|_| image.to_owned(), |reference| short_name(&reference));
    match platform {
        Some(platform) => format!("{image}::{platform}"),
        None => image,
    }
}

/// The reference that a name stands for, or the message about it (4.13).
pub(super) fn parse_reference(name: &str) -> Result<Reference, PlanError> {
    name.parse().map_err(|error: ReferenceError| {
        let fault = PlanFault::BaseName { name: name.to_owned(), error, unset: Vec::new() };
        PlanError::new(fault).word(name)
    })
}
