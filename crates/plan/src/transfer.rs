//! `COPY` and `ADD` (5.2).

use ocibuild_dockerfile::{Add, Copy, ExpandError, Text, Transfer, expand};

use super::chmod::Chmod;
use super::config::strings;
use super::error::PlanError;
use super::fault::PlanFault;
use super::remote::{self, SourceKind};
use super::stage::{Origin, StagePlanner, Task};
use super::{CopyStep, FileSource, StepKind, paths};
use crate::address::{GitAddress, HttpAddress, without_credentials};

/// The words of an instruction after expansion.
struct Words {
    chown: Option<String>,
    chmod: Option<String>,
    checksum: Option<String>,
    sources: Vec<String>,
    destination: String,
    heredocs: Vec<(String, String)>,
}

impl StagePlanner<'_> {
    pub(super) fn copy(&mut self, copy: &Copy, task: Task<'_>) -> Result<(), PlanError> {
        let words = self.transfer_words(&copy.transfer, None)?;
        let from = match task.origins.first().and_then(Option::as_ref) {
            None => FileSource::Context,
            Some(Origin::Ready(source)) => source.clone(),
            Some(Origin::Later) => return Err(self.later_copy(copy)),
        };
        check_chmod(words.chmod.as_deref())?;
        for source in &words.sources {
            let kind = SourceKind::of(source);
            if kind != SourceKind::Path {
                let fault = PlanFault::CopyOfRemote { source_text: source.clone(), kind };
                return Err(PlanError::new(fault).word(source));
            }
            if from == FileSource::Context {
                self.check_source("Copy", source);
            }
        }
        let created_by = created_by("COPY", copy.parents, &words);
        let step = CopyStep {
            add: false,
            from,
            parents: copy.parents,
            keep_git_dir: None,
            unpack: None,
            ..self.copy_step(&copy.transfer, words)
        };
        self.push_step(StepKind::Copy(Box::new(step)), task, created_by);
        Ok(())
    }

    pub(super) fn add(&mut self, add: &Add, task: Task<'_>) -> Result<(), PlanError> {
        let words = self.transfer_words(&add.transfer, add.checksum.as_deref())?;
        check_chmod(words.chmod.as_deref())?;
        check_checksum(&words)?;
        for source in words.sources.iter().filter(|source| SourceKind::of(source) == SourceKind::Path) {
            self.check_source("Add", source);
        }
        check_addresses(&words, add.keep_git_dir)?;
        let created_by = created_by("ADD", false, &words);
        let step = CopyStep {
            add: true,
            from: FileSource::Context,
            parents: false,
            keep_git_dir: add.keep_git_dir,
            unpack: add.unpack,
            ..self.copy_step(&add.transfer, words)
        };
        self.push_step(StepKind::Copy(Box::new(step)), task, created_by);
        if let Some(step) = self.steps.last_mut() {
            let words: Vec<String> = step.text.split(' ').map(without_credentials).collect();
            step.text = words.join(" ");
        }
        Ok(())
    }

    /// The order is the one in which BuildKit finds errors.
    fn transfer_words(&mut self, transfer: &Transfer, checksum: Option<&str>) -> Result<Words, PlanError> {
        let mut given = |value: Option<&str>| -> Result<Option<String>, PlanError> {
            let value = value.map(|value| self.expand(value)).transpose()?;
            Ok(value.filter(|value| !value.is_empty()))
        };
        let chown = given(transfer.chown.as_deref())?;
        let chmod = given(transfer.chmod.as_deref())?;
        let checksum = given(checksum)?;
        let quoted = |error: ExpandError| of_transfer(error, transfer);
        let sources = self.expand_all(&transfer.sources).map_err(quoted)?;
        let destination = self.expand(&transfer.destination).map_err(quoted)?;
        let mut heredocs = Vec::with_capacity(transfer.heredocs.len());
        for heredoc in &transfer.heredocs {
            let content = if heredoc.expand {
                let expanded = expand::expand_heredoc(&heredoc.content, &self.state.environment)?;
                self.check_undefined(&expanded.unset);
                expanded.value
            } else {
                heredoc.content.to_string()
            };
            heredocs.push((heredoc.name.to_string(), content));
        }
        Ok(Words { chown, chmod, checksum, sources, destination, heredocs })
    }

    fn copy_step(&self, transfer: &Transfer, words: Words) -> CopyStep {
        CopyStep {
            add: false,
            from: FileSource::Context,
            destination: paths::destination(self.state.workdir(), &words.destination),
            sources: words.sources,
            heredocs: words.heredocs,
            link: transfer.link && words.chmod.is_none(),
            chown: words.chown,
            chmod: words.chmod,
            parents: false,
            excludes: strings(&transfer.excludes),
            checksum: words.checksum,
            keep_git_dir: None,
            unpack: None,
        }
    }

    fn later_copy(&self, copy: &Copy) -> PlanError {
        let from = copy.from.as_deref().unwrap_or_default();
        let fault = PlanFault::LaterCopy { from: from.to_owned(), stage: self.name.to_owned() };
        PlanError::new(fault).word(from)
    }
}

/// The error about a path, with those around it.
fn of_transfer(error: ExpandError, transfer: &Transfer) -> PlanError {
    let words = transfer.sources.iter().chain([&transfer.destination]).map(Text::as_str);
    let (words, word) = (words.collect::<Vec<_>>().join(" "), error.word.clone());
    PlanError::new(PlanFault::TransferWord { error, words }).word(&word)
}

fn check_chmod(chmod: Option<&str>) -> Result<(), PlanError> {
    let Some(text) = chmod else { return Ok(()) };
    Chmod::parse(text)
        .map(drop)
        .map_err(|error| PlanError::new(PlanFault::Mode { text: text.to_owned(), error }).word(text))
}

/// 5.209
fn check_checksum(words: &Words) -> Result<(), PlanError> {
    let Some(checksum) = &words.checksum else { return Ok(()) };
    let [source] = words.sources.as_slice() else {
        return Err(PlanError::new(PlanFault::ChecksumOfSeveral).word(checksum));
    };
    match SourceKind::of(source) {
        SourceKind::Http => remote::check_digest(checksum),
        SourceKind::Git => Ok(()),
        SourceKind::Path => Err(PlanError::new(PlanFault::ChecksumOfPath).word(source)),
    }
}

/// Addresses that could never be fetched are wrong already in the file.
fn check_addresses(words: &Words, keep_git_dir: Option<bool>) -> Result<(), PlanError> {
    for source in &words.sources {
        let problem = match SourceKind::of(source) {
            SourceKind::Path => None,
            SourceKind::Http => HttpAddress::parse(source).err().map(PlanFault::HttpAddress),
            SourceKind::Git => GitAddress::parse(source)
                .and_then(|address| address.with_flags(keep_git_dir, words.checksum.as_deref()))
                .err()
                .map(PlanFault::GitAddress),
        };
        if let Some(fault) = problem {
            return Err(PlanError::new(fault).word(source));
        }
    }
    Ok(())
}

fn created_by(keyword: &str, parents: bool, words: &Words) -> String {
    let mut text = keyword.to_owned();
    if parents {
        text.push_str(" --parents");
    }
    for (flag, value) in [(" --chown=", &words.chown), (" --chmod=", &words.chmod)] {
        if let Some(value) = value {
            text.extend([flag, value]);
        }
    }
    for source in &words.sources {
        text.push(' ');
        text.push_str(&without_credentials(source));
    }
    for (name, _) in &words.heredocs {
        text.extend([" <<", name]);
    }
    text.extend([" ", &words.destination, " # buildkit"]);
    text
}
