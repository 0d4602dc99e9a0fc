//! Build checks: the rules, their options, and those checks that need the text alone.
//!
//! What depends on values of variables, on the base image or on which stages are built is checked where these are
//! known; the findings go to the same [`Findings`].

mod finding;
mod options;
mod rule;

use std::collections::HashSet;

pub use finding::{Finding, Findings, Place};
pub use options::{CheckOptionError, CheckOptions};
pub use rule::{
    CONSISTENT_INSTRUCTION_CASING, COPY_IGNORED_FILE, DUPLICATE_STAGE_NAME, EXPOSE_INVALID_FORMAT,
    EXPOSE_PROTO_CASING, FROM_AS_CASING, FROM_PLATFORM_FLAG_CONST_DISALLOWED, INVALID_BASE_IMAGE_PLATFORM,
    INVALID_DEFAULT_ARG_IN_FROM, INVALID_DEFINITION_DESCRIPTION, JSON_ARGS_RECOMMENDED, LATEST_TAG,
    LEGACY_KEY_VALUE_FORMAT, MAINTAINER_DEPRECATED, MULTIPLE_INSTRUCTIONS_DISALLOWED, NO_EMPTY_CONTINUATION,
    REDUNDANT_TARGET_PLATFORM, RESERVED_STAGE_NAME, RULES, Rule, RuleKind, SECRET_VALUE_IN_ARG_OR_ENV,
    SECRETS_USED_IN_ARG_OR_ENV, STAGE_NAME_CASING, UNDEFINED_ARG_IN_FROM, UNDEFINED_VAR,
    UNUSED_IGNORE_PATTERN, WORKDIR_RELATIVE_PATH,
};

use crate::{Dockerfile, Instruction, InstructionKind, Location, Stage, Text};

impl Dockerfile {
    /// Adds what those checks find that need the text alone. They look at all stages, built or not.
    pub fn lint(&self, findings: &mut Findings) {
        let mut text = TextChecks { findings };
        text.whole_file(self);
        self.global_args.iter().for_each(|instruction| text.instruction(instruction));
        for stage in &self.stages {
            text.stage(stage);
            stage.instructions.iter().for_each(|instruction| text.instruction(instruction));
        }
    }
}

/// The checks of a text at work.
struct TextChecks<'a> {
    findings: &'a mut Findings,
}

impl TextChecks<'_> {
    /// The checks that a comment above an instruction cannot silence.
    fn whole_file(&mut self, file: &Dockerfile) {
        for location in &file.empty_continuations {
            let place = Place::Dockerfile(*location);
            self.findings.add(&NO_EMPTY_CONTINUATION, "Empty continuation line", place);
        }
        self.keyword_casing(&file.stages);
        let mut names = HashSet::new();
        for stage in &file.stages {
            let Some(name) = &stage.name else { continue };
            let place = Place::Dockerfile(stage.location);
            if matches!(&name[..], "scratch" | "context") {
                let message = format!("Stage name should not use the same name as reserved stage \"{name}\"");
                self.findings.add(&RESERVED_STAGE_NAME, message, place.clone());
            }
            if !names.insert(name) {
                let message = format!("Duplicate stage name \"{name}\", stage names should be unique");
                self.findings.add(&DUPLICATE_STAGE_NAME, message, place);
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
            self.findings.add(&CONSISTENT_INSTRUCTION_CASING, message, Place::Dockerfile(location));
        }
    }

    fn stage(&mut self, stage: &Stage) {
        if let (Some(name), Some(written)) = (&stage.name, &stage.name_as_written)
            && name.as_str() != written.as_str()
        {
            let message = format!("Stage name '{written}' should be lowercase");
            self.findings.add_at(&STAGE_NAME_CASING, message, stage.location, &stage.comments);
        }
        if let Some(keyword) = &stage.as_keyword
            && !fits_from(&stage.keyword, keyword)
        {
            let message = format!("'{keyword}' and '{}' keywords' casing do not match", stage.keyword);
            self.findings.add_at(&FROM_AS_CASING, message, stage.location, &stage.comments);
        }
        if let Some(name) = stage.name.as_deref() {
            self.description("FROM", &[name], stage.location, &stage.comments);
        }
    }

    fn instruction(&mut self, instruction: &Instruction) {
        let Instruction { location, comments, .. } = instruction;
        match &instruction.kind {
            InstructionKind::Maintainer(_) => {
                let message = "Maintainer instruction is deprecated in favor of using label";
                self.findings.add_at(&MAINTAINER_DEPRECATED, message, *location, comments);
            }
            InstructionKind::Arg(definitions) => {
                let names: Vec<&str> =
                    definitions.iter().map(|definition| definition.name.as_str()).collect();
                self.description("ARG", &names, *location, comments);
            }
            _ => {}
        }
    }

    /// The last line of the comment block above something with a name describes it.
    fn description(&mut self, keyword: &str, names: &[&str], location: Location, comments: &[Text]) {
        let Some(comment) = comments.last() else { return };
        let first = comment.split(' ').next().unwrap_or_default();
        if names.contains(&first) {
            return;
        }
        let example = match names {
            [name] => name,
            _ => "<arg_key>",
        };
        let message = format!("Comment for {keyword} should follow the format: `# {example} <description>`");
        self.findings.add_at(&INVALID_DEFINITION_DESCRIPTION, message, location, comments);
    }
}

/// Whether `AS` has the case of its `FROM`. A `FROM` in mixed case is reported by itself.
fn fits_from(from: &str, keyword: &str) -> bool {
    if is_lower(from) { is_lower(keyword) } else { !is_upper(from) || is_upper(keyword) }
}

fn stage_keywords(stage: &Stage) -> impl Iterator<Item = (&str, Location)> {
    let instructions =
        stage.instructions.iter().map(|instruction| (&instruction.keyword[..], instruction.location));
    std::iter::once((&stage.keyword[..], stage.location)).chain(instructions)
}

fn is_lower(keyword: &str) -> bool {
    !keyword.chars().any(char::is_uppercase)
}

fn is_upper(keyword: &str) -> bool {
    !keyword.chars().any(char::is_lowercase)
}
