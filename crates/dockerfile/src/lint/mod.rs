//! Build checks that need the text alone.
//!
//! What depends on values of variables, on the base image or on which stages are built is checked where these are known.

mod options;

use std::collections::HashSet;

pub use options::{CheckOptionError, CheckOptions};

use crate::{Diagnostic, Dockerfile, Instruction, InstructionKind, Location, Node, Severity, Stage};

impl Dockerfile {
    /// The findings of the build checks that need the text alone, sorted by line.
    pub fn lint(&self, options: &CheckOptions) -> Vec<Diagnostic> {
        let mut findings = Findings { options, list: Vec::new() };
        findings.whole_file(self);
        for stage in &self.stages {
            findings.stage(stage);
            stage.instructions.iter().for_each(|instruction| findings.instruction(instruction));
        }
        let mut list = findings.list;
        list.sort_by_key(|finding| finding.location.map(|location| location.start_line));
        list
    }
}

struct Findings<'a> {
    options: &'a CheckOptions,
    list: Vec<Diagnostic>,
}

impl Findings<'_> {
    fn add(&mut self, rule: &'static str, message: impl Into<String>, location: Location) {
        if self.options.reports(rule, false) {
            self.list.push(Diagnostic {
                id: rule,
                severity: Severity::Warning,
                message: message.into(),
                location: Some(location),
                label_span: None,
                causes: Vec::new(),
                hints: Vec::new(),
            });
        }
    }

    /// As [`Self::add`], unless a comment above the instruction is against it.
    fn add_at(&mut self, rule: &'static str, message: String, location: Location, comments: &[String]) {
        if CheckOptions::of_comments(comments).reports(rule, false) {
            self.add(rule, message, location);
        }
    }

    /// The checks that a comment above an instruction cannot silence.
    fn whole_file(&mut self, file: &Dockerfile) {
        for node in file.nodes.iter().filter(|node| node.empty_continuation) {
            self.add("NoEmptyContinuation", "Empty continuation line", last_line(node, &file.source));
        }
        self.keyword_casing(&file.stages);
        let mut names = HashSet::new();
        for stage in &file.stages {
            let Some(name) = &stage.name else { continue };
            if matches!(&name[..], "scratch" | "context") {
                let message = format!("Stage name should not use the same name as reserved stage \"{name}\"");
                self.add("ReservedStageName", message, stage.location);
            }
            if !names.insert(name) {
                let message = format!("Duplicate stage name \"{name}\", stage names should be unique");
                self.add("DuplicateStageName", message, stage.location);
            }
        }
    }

    fn keyword_casing(&mut self, stages: &[Stage]) {
        let keywords = || stages.iter().flat_map(stage_keywords);
        let lower = keywords().filter(|(keyword, _)| is_lower(keyword)).count();
        let upper = keywords().filter(|(keyword, _)| is_upper(keyword)).count();
        let (fits, wanted): (fn(&str) -> bool, _) =
            if lower > upper { (is_lower, "lowercase") } else { (is_upper, "uppercase") };
        for (keyword, location) in keywords().filter(|(keyword, _)| !fits(keyword)) {
            let message =
                format!("Command '{keyword}' should match the case of the command majority ({wanted})");
            self.add("ConsistentInstructionCasing", message, location);
        }
    }

    fn stage(&mut self, stage: &Stage) {
        if let (Some(name), Some(written)) = (&stage.name, &stage.name_as_written)
            && name != written
        {
            let message = format!("Stage name '{written}' should be lowercase");
            self.add_at("StageNameCasing", message, stage.location, &stage.comments);
        }
        if let Some(keyword) = &stage.as_keyword {
            let fits = if is_lower(&stage.keyword) { is_lower(keyword) } else { is_upper(keyword) };
            if !fits {
                let message = format!("'{keyword}' and '{}' keywords' casing do not match", stage.keyword);
                self.add_at("FromAsCasing", message, stage.location, &stage.comments);
            }
        }
    }

    fn instruction(&mut self, instruction: &Instruction) {
        let (rule, message) = match &instruction.kind {
            InstructionKind::Maintainer(_) => {
                let message = "Maintainer instruction is deprecated in favor of using label";
                ("MaintainerDeprecated", message.to_owned())
            }
            InstructionKind::Env(pairs) if pairs.legacy => ("LegacyKeyValueFormat", legacy("ENV")),
            InstructionKind::Label(pairs) if pairs.legacy => ("LegacyKeyValueFormat", legacy("LABEL")),
            _ => return,
        };
        self.add_at(rule, message, instruction.location, &instruction.comments);
    }
}

fn legacy(keyword: &str) -> String {
    format!("\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format")
}

fn stage_keywords(stage: &Stage) -> impl Iterator<Item = (&str, Location)> {
    let instructions =
        stage.instructions.iter().map(|instruction| (&instruction.keyword[..], instruction.location));
    std::iter::once((&stage.keyword[..], stage.location)).chain(instructions)
}

fn is_lower(keyword: &str) -> bool {
    keyword == keyword.to_lowercase()
}

fn is_upper(keyword: &str) -> bool {
    keyword == keyword.to_uppercase()
}

/// The last line of a node as its location.
fn last_line(node: &Node, source: &str) -> Location {
    let mut location = node.location;
    let text = source.get(location.span.range()).unwrap_or_default();
    location.span.start += text.rfind('\n').map_or(0, |newline| newline + 1);
    location.start_line = location.end_line;
    location
}
