//! `ADD` of URLs and repositories: what they are today, whether that was added before, and their files (6.70 to 6.81).

use std::sync::{Arc, OnceLock};

use ocibuild_plan::{CopyStep, FileSource, SourceKind};
use ocibuild_spec::{Digest, Timestamp};

use super::PlatformBuild;
use crate::cache::Validator;
use crate::context::{
    BuildContext, Download, Fetcher, GitAddress, GitFiles, GitJob, HttpAddress, OneFile, RemoteSource,
    Remotes, Resolved, download, is_unchanged, new_place,
};
use crate::copy::{Choice, Part, Selected, Source, select};
use crate::error::Error;
use crate::failure::CopyProblem;
use crate::keys::{Framed, Inputs};
use crate::single_flight::SingleFlight;

/// What a build has asked for: nothing is asked for twice.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    remotes: OnceLock<Arc<Remotes>>,
    urls: SingleFlight<String, Known>,
    repositories: SingleFlight<String, Resolved>,
    checkouts: SingleFlight<String, GitFiles>,
    contexts: SingleFlight<String, Arc<BuildContext>>,
}

/// What is known of a URL.
#[derive(Debug, Clone)]
struct Known {
    digest: Digest,
    last_modified: Option<Timestamp>,
    /// The bytes, unless the server said that they are those of an earlier build.
    download: Option<Download>,
}

/// A source of an `ADD`.
enum AddSource<'a> {
    Path(&'a str),
    Http(HttpAddress),
    Git(GitAddress),
}

pub(super) fn is_remote(step: &CopyStep) -> bool {
    step.add && step.sources.iter().any(|source| SourceKind::of(source) != SourceKind::Path)
}

fn sources_of(step: &CopyStep) -> Result<Vec<AddSource<'_>>, Error> {
    let wrong =
        |error: &dyn std::fmt::Display| Error::from(CopyProblem::Address { reason: error.to_string() });
    step.sources
        .iter()
        .map(|source| match SourceKind::of(source) {
            SourceKind::Path => Ok(AddSource::Path(source)),
            SourceKind::Http => HttpAddress::parse(source)
                .map(|address| AddSource::Http(address.with_checksum(step.checksum.clone())))
                .map_err(|error| wrong(&error)),
            SourceKind::Git => GitAddress::parse(source)
                .and_then(|address| address.with_flags(step.keep_git_dir, step.checksum.as_deref()))
                .map(AddSource::Git)
                .map_err(|error| wrong(&error)),
        })
        .collect()
}

impl PlatformBuild<'_> {
    /// The inputs of the step with what its sources are today (9.08), and the files of the context among them.
    pub(super) fn remote_inputs(
        &self,
        step: &CopyStep,
        operation: &Inputs,
    ) -> Result<(Inputs, Vec<Part>), Error> {
        let mut inputs = operation.clone();
        let mut parts = Vec::new();
        for source in &sources_of(step)? {
            match source {
                AddSource::Path(word) => {
                    let source = self.local_source(&FileSource::Context)?;
                    let choice = Choice::new(&step.excludes, false)?;
                    let selected = [select(source.as_ref(), word, &choice)?];
                    let (digest, source) = self.digest(&source, &selected)?;
                    inputs.add("files", digest.to_string());
                    let selected = selected.into_iter().flatten().collect();
                    parts.push(Part { source, selected, unpacks: step.unpack != Some(false) });
                }
                AddSource::Http(address) => {
                    let known = self.url(address, false)?;
                    let time = known.last_modified.map(|time| time.to_string()).unwrap_or_default();
                    inputs.add("url", format!("{} {time} {}", known.digest, address.name()));
                }
                AddSource::Git(address) => {
                    inputs.add("repository", self.repository(address)?.identity(address));
                }
            }
        }
        Ok((inputs, parts))
    }

    /// What the sources of a step bring, each; `None` for those in the context.
    pub(super) fn fetch_remote(&self, step: &CopyStep) -> Result<Vec<Option<Part>>, Error> {
        sources_of(step)?.iter().map(|source| self.fetched_part(step, source)).collect()
    }

    /// What a source brings that is not in the context.
    fn fetched_part(&self, step: &CopyStep, source: &AddSource<'_>) -> Result<Option<Part>, Error> {
        match source {
            AddSource::Path(_) => Ok(None),
            AddSource::Http(address) => {
                let known = self.url(address, true)?;
                let download = known.download.ok_or_else(Error::cancelled)?;
                let file = OneFile { name: address.name().to_owned(), download };
                let selected = Selected::file(address.name(), file.node());
                let unpacks = step.unpack == Some(true);
                Ok(Some(Part { source: Arc::new(file), selected: vec![selected], unpacks }))
            }
            AddSource::Git(address) => {
                let source = self.checkout(address)?.source;
                let selected = select(source.as_ref(), "/", &Choice::new(&step.excludes, false)?)?;
                Ok(Some(Part { source, selected, unpacks: false }))
            }
        }
    }

    /// What is at a URL; with its bytes when `whole`.
    fn url(&self, address: &HttpAddress, whole: bool) -> Result<Known, Error> {
        let name = format!("{} {}", address.checksum().unwrap_or_default(), address.text());
        let is_enough = |known: &Known| !whole || known.download.is_some();
        self.session.remote.urls.get_or(&name, self.cancel, is_enough, |_| self.ask_for_url(address, whole))
    }

    fn ask_for_url(&self, address: &HttpAddress, whole: bool) -> Result<Known, Error> {
        let checksum = address.checksum();
        let remotes = self.remotes()?;
        let mut framed = Framed::new("ocibuild url v1");
        framed.field(address.text().as_bytes());
        let of = framed.finish();
        // A tag is the server's word; where the digest is given, the bytes themselves have to show it.
        let is_offline = remotes.http.is_offline();
        if !whole
            && let Some(validator) = self.backends.cache.validators().get(&of)
            // Offline the digest of the bytes that came last is all there is to know.
            && checksum.is_none_or(|checksum| is_offline && checksum == validator.digest.as_str())
            && (is_offline || is_unchanged(&remotes, address, &validator.etag, self.cancel)?)
        {
            let Validator { last_modified, digest, .. } = validator;
            return Ok(Known { digest, last_modified, download: None });
        }
        let download = download(&remotes, address, self.scratch(), self.cancel)?;
        let (digest, last_modified) = (download.digest.clone(), download.last_modified);
        if let Some(etag) = download.etag.clone() {
            let validator = Validator::new(of, etag, last_modified, digest.clone());
            self.backends.cache.validators().put(&validator)?;
        }
        Ok(Known { digest, last_modified, download: Some(download) })
    }

    /// The commit that an address stands for.
    fn repository(&self, address: &GitAddress) -> Result<Resolved, Error> {
        let ask = |_| match Resolved::pinned(address) {
            Some(resolved) => resolved,
            None => self.git_job(address, |job| job.resolve()),
        };
        self.session.remote.repositories.get_or(&name_of(address), self.cancel, |_| true, ask)
    }

    fn checkout(&self, address: &GitAddress) -> Result<GitFiles, Error> {
        let resolved = self.repository(address)?;
        let fetch = |_| self.git_job(address, |mut job| job.checkout(&resolved, self.now()));
        self.session.remote.checkouts.get_or(&name_of(address), self.cancel, |_| true, fetch)
    }

    fn git_job<T>(
        &self,
        address: &GitAddress,
        work: impl FnOnce(GitJob<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let remotes = self.remotes_of(address)?;
        let place = new_place(self.scratch(), "git")?;
        work(GitJob::new(&remotes, address, &place, self.cancel)?)
    }

    /// The files of a named context, fetched when they are first needed (4.35).
    pub(super) fn remote_context(&self, name: &str, source: &RemoteSource) -> Result<Arc<dyn Source>, Error> {
        let fetch = |_| {
            let (remotes, store) = (self.remotes()?, self.backends.store);
            let fetcher = Fetcher::new(&remotes, store, self.cancel, self.now());
            fetcher.fetch(source).map(Arc::new)
        };
        let context = self.session.remote.contexts.get_or(&name.to_owned(), self.cancel, |_| true, fetch)?;
        Ok(context.source())
    }

    /// What reaches a repository: by ssh with the keys of the agent that is forwarded by default.
    fn remotes_of(&self, address: &GitAddress) -> Result<Arc<Remotes>, Error> {
        const DEFAULT: &str = "default";
        let remotes = self.remotes()?;
        match self.build.settings.ssh.get(DEFAULT).filter(|_| address.is_ssh()) {
            None => Ok(remotes),
            Some(agent) => {
                let socket = self.session.agents.socket(DEFAULT, agent, self.scratch())?;
                Ok(Arc::new(Remotes::clone(&remotes).ssh_agent(socket)))
            }
        }
    }

    fn remotes(&self) -> Result<Arc<Remotes>, Error> {
        let known = &self.session.remote.remotes;
        if let Some(remotes) = known.get() {
            return Ok(Arc::clone(remotes));
        }
        let remotes = Arc::new(self.build.remotes()?);
        Ok(Arc::clone(known.get_or_init(|| remotes)))
    }
}

/// An error of a step that has remote sources, with the first of them as the word that it is about.
pub(super) fn named(error: Error, step: &CopyStep) -> Error {
    let is_remote = |source: &&String| source.contains("://") || source.starts_with("git@");
    match step.sources.iter().find(is_remote) {
        Some(source) => error.word(source),
        None => error,
    }
}

fn name_of(address: &GitAddress) -> String {
    let (checksum, keeps) = (address.checksum(), address.keep_git_dir());
    let (submodules, times) = (address.submodules(), address.commit_times());
    format!("{address} {checksum:?} {keeps:?} {submodules} {times}")
}

/// The key of a step whose sources say themselves what they are, so that a result is found without a request (6.71).
pub(super) fn pinned_key(step: &CopyStep, operation: &Inputs) -> Result<Option<Digest>, Error> {
    let sources = sources_of(step)?;
    let ([AddSource::Http(address)], Some(checksum)) = (&sources[..], step.checksum.as_deref()) else {
        return Ok(None);
    };
    let mut inputs = operation.clone();
    inputs.add("checksum", checksum);
    inputs.add("url", address.text());
    Ok(Some(inputs.key("add by checksum")))
}
