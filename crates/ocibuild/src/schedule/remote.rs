//! `ADD` of URLs and repositories: what they are today, whether that was added before, and their files (6.70 to 6.81).

use std::collections::HashMap;
use std::sync::Arc;

use ocibuild_spec::{Digest, Timestamp};

use super::results::StepResult;
use super::{Reach, Run};
use crate::cache::Validator;
use crate::context::{
    BuildContext, Download, Fetcher, GitAddress, GitFiles, GitJob, HttpAddress, OneFile, RemoteSource,
    Remotes, Resolved, download, is_unchanged, new_place,
};
use crate::copy::{Choice, Part, Selected, Source, copy, digest_all, select};
use crate::keys::{Framed, Inputs};
use crate::plan::{CopyStep, FileSource, SourceKind};
use crate::stage::StageState;
use crate::{Error, ErrorKind};

/// What one run has asked for: nothing is asked for twice.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    remotes: Option<Arc<Remotes>>,
    urls: HashMap<String, Known>,
    repositories: HashMap<String, (Resolved, Option<GitFiles>)>,
    contexts: HashMap<String, BuildContext>,
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
    let wrong = |error: &dyn std::fmt::Display| Error::new(ErrorKind::Dockerfile, error.to_string());
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

impl Run<'_> {
    pub(super) fn remote_copy(
        &self,
        state: &StageState,
        step: &CopyStep,
        operation: &Inputs,
        reach: Reach,
        fresh: bool,
    ) -> Result<Option<StepResult>, Error> {
        let sources = sources_of(step)?;
        let pinned = pinned_key(step, &sources, operation);
        if !fresh
            && let Some(key) = pinned.as_ref().and_then(|key| self.backends.cache.alias(key))
            && let Some(found) = self.lookup(&key)?
        {
            return Ok(Some(found));
        }
        let (mut inputs, _) = self.remote_inputs(step, &sources, operation)?;
        if !fresh && let Some(found) = self.found(&inputs, pinned.as_ref())? {
            return Ok(Some(found));
        }
        if reach == Reach::Cached {
            return Ok(None);
        }
        let mut fetched = Vec::with_capacity(sources.len());
        for source in &sources {
            fetched.push(self.fetched_part(step, source)?);
        }
        // What came may be newer than what the server was asked about, or what the context had.
        let (today, local) = self.remote_inputs(step, &sources, operation)?;
        let mut local = local.into_iter();
        let parts = fetched.into_iter().filter_map(|part| part.or_else(|| local.next())).collect();
        if today != inputs {
            inputs = today;
            if !fresh && let Some(found) = self.found(&inputs, pinned.as_ref())? {
                return Ok(Some(found));
            }
        }
        let written = self.with_copy_context(state, |context| copy(step, parts, context))?;
        let key = inputs.key("copy");
        let result = self.record(key.clone(), inputs.0, written, fresh)?;
        if let Some(pinned) = &pinned {
            self.backends.cache.put_alias(pinned, &key)?;
        }
        Ok(Some(result))
    }

    fn found(&self, inputs: &Inputs, pinned: Option<&Digest>) -> Result<Option<StepResult>, Error> {
        let key = inputs.key("copy");
        let found = self.lookup(&key)?;
        if let (Some(_), Some(pinned)) = (&found, pinned) {
            self.backends.cache.put_alias(pinned, &key)?;
        }
        Ok(found)
    }

    /// The inputs of the step with what its sources are today (9.08), and the files of the context among them.
    fn remote_inputs(
        &self,
        step: &CopyStep,
        sources: &[AddSource<'_>],
        operation: &Inputs,
    ) -> Result<(Inputs, Vec<Part>), Error> {
        let mut inputs = operation.clone();
        let mut parts = Vec::new();
        for source in sources {
            match source {
                AddSource::Path(word) => {
                    let source = self.local_source(&FileSource::Context)?;
                    let choice = Choice::new(&step.excludes, false)?;
                    let selected = [select(source.as_ref(), word, &choice)?];
                    let (digest, source) = digest_all(&source, &selected, self.cancel)?;
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
        let checksum = address.checksum();
        let name = format!("{} {}", checksum.unwrap_or_default(), address.text());
        let known = self.session.remote.borrow().urls.get(&name).cloned();
        if let Some(known) = known.filter(|known| !whole || known.download.is_some()) {
            return Ok(known);
        }
        let remotes = self.remotes()?;
        let mut framed = Framed::new("ocibuild url v1");
        framed.field(address.text().as_bytes());
        let of = framed.finish();
        let mut known = None;
        // A tag is the server's word; where the digest is given, the bytes themselves have to show it (THREATS 39).
        let is_offline = remotes.http.is_offline();
        if !whole
            && let Some(validator) = self.backends.cache.validator(&of)
            // Offline the digest of the bytes that came last is all there is to know.
            && checksum.is_none_or(|checksum| is_offline && checksum == validator.digest.as_str())
            && (is_offline || is_unchanged(&remotes, address, &validator.etag, self.cancel)?)
        {
            let Validator { last_modified, digest, .. } = validator;
            known = Some(Known { digest, last_modified, download: None });
        }
        let known = if let Some(known) = known {
            known
        } else {
            let download = download(&remotes, address, self.scratch.path(), self.cancel)?;
            let (digest, last_modified) = (download.digest.clone(), download.last_modified);
            if let Some(etag) = download.etag.clone() {
                let validator = Validator::new(of, etag, last_modified, digest.clone());
                self.backends.cache.put_validator(&validator)?;
            }
            Known { digest, last_modified, download: Some(download) }
        };
        self.session.remote.borrow_mut().urls.insert(name, known.clone());
        Ok(known)
    }

    /// The commit that an address stands for.
    fn repository(&self, address: &GitAddress) -> Result<Resolved, Error> {
        let name = name_of(address);
        if let Some((resolved, _)) = self.session.remote.borrow().repositories.get(&name) {
            return Ok(resolved.clone());
        }
        let resolved = if let Some(resolved) = Resolved::pinned(address) {
            resolved?
        } else {
            let remotes = self.remotes_of(address)?;
            let place = new_place(self.scratch.path(), "git")?;
            GitJob::new(&remotes, address, &place, self.cancel)?.resolve()?
        };
        self.session.remote.borrow_mut().repositories.insert(name, (resolved.clone(), None));
        Ok(resolved)
    }

    fn checkout(&self, address: &GitAddress) -> Result<GitFiles, Error> {
        let name = name_of(address);
        let resolved = self.repository(address)?;
        let known = self.session.remote.borrow().repositories.get(&name).and_then(|(_, files)| files.clone());
        if let Some(files) = known {
            return Ok(files);
        }
        let remotes = self.remotes_of(address)?;
        let place = new_place(self.scratch.path(), "git")?;
        let files = GitJob::new(&remotes, address, &place, self.cancel)?.checkout(&resolved, self.now())?;
        self.session.remote.borrow_mut().repositories.insert(name, (resolved, Some(files.clone())));
        Ok(files)
    }

    /// The files of a named context, fetched when they are first needed (4.35).
    pub(super) fn remote_context(&self, name: &str, source: &RemoteSource) -> Result<Arc<dyn Source>, Error> {
        if let Some(context) = self.session.remote.borrow().contexts.get(name) {
            return Ok(context.source());
        }
        let remotes = self.remotes()?;
        let store = self.backends.store;
        let fetcher = Fetcher { remotes: &remotes, store, cancel: self.cancel, now: self.now() };
        let context = fetcher.fetch(source)?;
        let files = context.source();
        self.session.remote.borrow_mut().contexts.insert(name.to_owned(), context);
        Ok(files)
    }

    /// What reaches a repository: by ssh with the keys of the agent that is forwarded by default.
    fn remotes_of(&self, address: &GitAddress) -> Result<Arc<Remotes>, Error> {
        const DEFAULT: &str = "default";
        let remotes = self.remotes()?;
        match self.build.settings.ssh.get(DEFAULT).filter(|_| address.is_ssh()) {
            None => Ok(remotes),
            Some(agent) => {
                let socket = self.session.agents.socket(DEFAULT, agent, self.scratch.path())?;
                Ok(Arc::new(Remotes::clone(&remotes).ssh_agent(socket)))
            }
        }
    }

    fn remotes(&self) -> Result<Arc<Remotes>, Error> {
        if let Some(remotes) = &self.session.remote.borrow().remotes {
            return Ok(Arc::clone(remotes));
        }
        let remotes = Arc::new(self.build.remotes()?);
        self.session.remote.borrow_mut().remotes = Some(Arc::clone(&remotes));
        Ok(remotes)
    }
}

fn name_of(address: &GitAddress) -> String {
    let (checksum, keeps) = (address.checksum(), address.keep_git_dir());
    let (submodules, times) = (address.submodules(), address.commit_times());
    format!("{address} {checksum:?} {keeps:?} {submodules} {times}")
}

/// The key of a step whose sources say themselves what they are, so that a result is found without a request (6.71).
fn pinned_key(step: &CopyStep, sources: &[AddSource<'_>], operation: &Inputs) -> Option<Digest> {
    let [AddSource::Http(address)] = sources else { return None };
    let mut inputs = operation.clone();
    inputs.add("checksum", step.checksum.as_deref()?);
    inputs.add("url", address.text());
    Some(inputs.key("add by checksum"))
}
