//! What a build takes from outside, and the stages of a file: the requests `outline` and `targets` (10.09).

use std::collections::{HashMap, HashSet};

use ocibuild_dockerfile::{Dockerfile, Instruction, InstructionKind, Location, Text};
use serde::{Serialize, Serializer};

use super::env::{DeclaredArgs, Environment};
use super::error::PlanError;
use super::graph::Graph;
use super::settings::{Settings, automatic, declare};
use super::{MountKind, PlannedStage, StepKind};
use crate::address::base64;

/// What the target of a build takes from outside, in the order of the file. Serialized, it is BuildKit's document, with
/// the caches besides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// The target's name, in lower case; empty for a stage without one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What the comment above its `FROM` says of it: `# NAME DESCRIPTION`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Arguments that the target or a stage it needs declares, and global ones that their `FROM` lines use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<OutlineArg>,
    /// Secrets that steps mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<OutlineMount>,
    /// Agents that steps mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<OutlineMount>,
    /// Caches that steps mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<OutlineCache>,
    /// The file.
    #[serde(serialize_with = "sources")]
    pub sources: String,
}

/// An argument of an [`Outline`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// What the comment above its `ARG` says of it: `# NAME DESCRIPTION`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The value it has in this build; empty without one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Its `ARG`.
    #[serde(serialize_with = "ranges")]
    pub location: Location,
}

/// A secret or an agent of an [`Outline`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlineMount {
    /// Its identity.
    pub name: String,
    /// Whether the step fails without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The step that mounts it first.
    #[serde(serialize_with = "ranges")]
    pub location: Location,
}

/// A cache of an [`Outline`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlineCache {
    /// Its identity.
    #[serde(rename = "ID")]
    pub id: String,
    /// The step that mounts it first.
    #[serde(serialize_with = "ranges")]
    pub location: Location,
}

/// The stages of a file. Serialized, it is BuildKit's document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Targets {
    /// One for each `FROM`.
    pub targets: Vec<Target>,
    /// The file.
    #[serde(serialize_with = "sources")]
    pub sources: String,
}

/// A stage of [`Targets`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name, in lower case; empty for a stage without one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Whether it is built when no target is named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// What the comment above its `FROM` says of it: `# NAME DESCRIPTION`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it starts from, as written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub base: String,
    /// `FROM --platform`, as written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// Its `FROM` line.
    #[serde(serialize_with = "ranges")]
    pub location: Location,
}

impl Targets {
    /// The stages of `file`, which need not be one that can be built.
    pub fn of(file: &Dockerfile) -> Self {
        let targets = file.stages.iter().enumerate().map(|(index, stage)| {
            let name = stage.name.as_deref().unwrap_or_default().to_owned();
            Target {
                default: index + 1 == file.stages.len(),
                description: described(&stage.comments, &name),
                base: stage.base.to_string(),
                platform: stage.platform.as_deref().unwrap_or_default().to_owned(),
                location: stage.location,
                name,
            }
        });
        Self { targets: targets.collect(), sources: file.source.to_string() }
    }
}

/// Collects the outline of a planned build.
pub(super) struct Outliner<'a, 'f> {
    pub(super) graph: &'a Graph<'f>,
    /// The plan's stages, and the index among them of each node that is in it.
    pub(super) stages: &'a [PlannedStage],
    pub(super) planned: &'a [Option<usize>],
    /// The arguments at the end of each planned stage.
    pub(super) args: &'a [Option<&'a DeclaredArgs>],
}

impl Outliner<'_, '_> {
    /// The outline of the stage `target`.
    pub(super) fn outline(
        &self,
        file: &Dockerfile,
        settings: &Settings<'_>,
        target: usize,
    ) -> Result<Outline, PlanError> {
        let name = self.graph.nodes[target].name.clone().unwrap_or_default();
        let comments = file.stages.get(target).map(|stage| stage.comments.as_slice()).unwrap_or_default();
        let globals = Globals::of(file, settings)?;
        let mut outline = Outline {
            description: described(comments, &name),
            name,
            sources: file.source.to_string(),
            ..Outline::default()
        };
        let mut seen = Seen::default();
        let (mut pending, mut visited) = (vec![target], HashSet::new());
        while let Some(index) = pending.pop() {
            if !visited.insert(index) {
                continue;
            }
            let node = &self.graph.nodes[index];
            // The stage itself comes before its base, and that before what it copies from.
            pending.extend(node.needs.iter().rev().map(|(needed, _)| *needed));
            pending.extend(node.base);
            self.args_of(index, &globals, &mut seen, &mut outline);
            if let Some(stage) = self.planned[index] {
                mounts_of(&self.stages[stage], &settings.cache_namespace, &mut seen, &mut outline);
            }
        }
        outline.args.sort_by_key(|arg| arg.location.start_line);
        outline.secrets.sort_by_key(|secret| secret.location.start_line);
        outline.ssh.sort_by_key(|agent| agent.location.start_line);
        outline.cache.sort_by_key(|cache| cache.location.start_line);
        Ok(outline)
    }

    fn args_of(&self, index: usize, globals: &Globals, seen: &mut Seen, outline: &mut Outline) {
        let node = &self.graph.nodes[index];
        let mut own: HashMap<&str, OutlineArg> = HashMap::new();
        let mut used: Vec<&str> = node.used_args.iter().map(String::as_str).collect();
        for command in &node.commands {
            let Instruction { kind: InstructionKind::Arg(definitions), comments, .. } = &*command.instruction
            else {
                continue;
            };
            for definition in definitions {
                used.push(&definition.name);
                // Without a value of its own it is the global one.
                if definition.default.is_none() && globals.passes_on(&definition.name) {
                    continue;
                }
                let value =
                    self.args[index].and_then(|args| args.value(&definition.name)).unwrap_or_default();
                let arg = OutlineArg {
                    name: definition.name.to_string(),
                    description: described(comments, &definition.name),
                    value: value.to_owned(),
                    location: command.location,
                };
                own.insert(&definition.name, arg);
            }
        }
        // Those of one line stay in its order.
        used.reverse();
        let mut marked = HashSet::new();
        while let Some(name) = used.pop() {
            let global = globals.args.get(name).filter(|_| !own.contains_key(name));
            let arg = own.get(name).or(global.map(|global| &global.arg));
            let Some(arg) = arg.filter(|_| marked.insert(name)) else { continue };
            if seen.args.insert(name.to_owned()) {
                outline.args.push(arg.clone());
            }
            used.extend(global.iter().flat_map(|global| &global.needs).map(String::as_str));
        }
    }
}

/// What is in the outline already: the place nearest to the target counts.
#[derive(Default)]
struct Seen {
    args: HashSet<String>,
    mounts: HashSet<(MountKind, String)>,
}

/// Global arguments by name, as the last `ARG` of each left them.
struct Globals {
    args: HashMap<String, GlobalArg>,
    /// Names with a value, the automatic ones among them.
    values: Environment,
    /// Names with a value of the command line.
    given: HashSet<String>,
}

struct GlobalArg {
    arg: OutlineArg,
    /// Other global arguments in its value.
    needs: Vec<String>,
}

impl Globals {
    fn of(file: &Dockerfile, settings: &Settings<'_>) -> Result<Self, PlanError> {
        let mut values = automatic(file, settings.options, &settings.build_args);
        let mut args: HashMap<String, GlobalArg> = HashMap::new();
        for instruction in &file.global_args {
            for definition in instruction.declared() {
                let name: &str = &definition.name;
                let mut needs = declare(definition, settings.escape, &settings.build_args, &mut values)?;
                if let Some(at) = needs.iter().position(|needed| needed == name) {
                    needs.remove(at);
                    needs.extend(args.get(name).into_iter().flat_map(|earlier| earlier.needs.clone()));
                }
                let has_value = definition.default.is_some() || settings.build_args.contains_key(name);
                let value = values.get(name).filter(|_| has_value).unwrap_or_default();
                let arg = OutlineArg {
                    name: name.to_owned(),
                    description: described(&instruction.comments, name),
                    value: value.to_owned(),
                    location: instruction.location,
                };
                args.insert(name.to_owned(), GlobalArg { arg, needs });
            }
        }
        Ok(Self { args, values, given: settings.build_args.keys().cloned().collect() })
    }

    /// Whether an `ARG` of a stage without a default stands for the global argument.
    fn passes_on(&self, name: &str) -> bool {
        self.values.get(name).is_some() && !self.given.contains(name)
    }
}

fn mounts_of(stage: &PlannedStage, cache_namespace: &str, seen: &mut Seen, outline: &mut Outline) {
    for step in &stage.steps {
        let StepKind::Run(run) = &step.kind else { continue };
        for mount in &run.mounts {
            let is_listed = matches!(mount.kind, MountKind::Secret | MountKind::Ssh | MountKind::Cache);
            if !is_listed || !seen.mounts.insert((mount.kind, mount.id.clone())) {
                continue;
            }
            let location = step.location;
            let list = match mount.kind {
                MountKind::Cache => {
                    let id = mount.id.strip_prefix(cache_namespace).and_then(|id| id.strip_prefix('/'));
                    outline.cache.push(OutlineCache { id: id.unwrap_or(&mount.id).to_owned(), location });
                    continue;
                }
                MountKind::Secret => &mut outline.secrets,
                _ => &mut outline.ssh,
            };
            let name = if mount.id.is_empty() { "default" } else { &mount.id };
            list.push(OutlineMount { name: name.to_owned(), required: mount.required, location });
        }
    }
}

/// What the comment block above a definition says of `name`.
fn described(comments: &[Text], name: &str) -> String {
    let text = |comment: &Text| comment.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    comments.iter().filter(|_| !name.is_empty()).find_map(text).unwrap_or_default()
}

/// A list of one file, as Go writes bytes.
fn sources<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    [base64(text.as_bytes())].serialize(serializer)
}

#[derive(Serialize)]
struct Ranges {
    ranges: [Range; 1],
}

#[derive(Serialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Serialize)]
struct Position {
    line: u32,
}

/// A list of one range, in whole lines.
fn ranges<S: Serializer>(location: &Location, serializer: S) -> Result<S::Ok, S::Error> {
    let at = |line| Position { line };
    let range = Range { start: at(location.start_line), end: at(location.end_line) };
    Ranges { ranges: [range] }.serialize(serializer)
}
