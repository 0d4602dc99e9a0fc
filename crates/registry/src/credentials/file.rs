use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ocibuild_spec::{CancelToken, SourceError, SourceErrorKind};

use super::config::Config;
use super::credential::Credential;
use super::helper::Helpers;
use super::key::RegistryKey;
use super::secret::Secret;
use super::source::{CredentialSource, Lookup, Match, Wanted};

/// Most bytes of a configuration file.
const MAX_FILE: u64 = 4 << 20;

/// A configuration file of docker (`config.json`) or of the containers tools (`auth.json`), or the text of one.
///
/// An entry of `auths` that names repositories comes first; then the helper of the registry (`credHelpers`), or that
/// for all (`credsStore`); then an entry for the registry.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    name: &'static str,
    place: String,
    content: Content,
    helpers: Helpers,
}

#[derive(Debug, Clone)]
enum Content {
    File { path: PathBuf, is_required: bool },
    Text(Secret),
    Missing(String),
}

impl ConfigSource {
    /// A file that need not be there.
    pub fn file(name: &'static str, path: impl Into<PathBuf>, helpers: Helpers) -> Self {
        let path = path.into();
        let place = path.display().to_string();
        Self { name, place, content: Content::File { path, is_required: false }, helpers }
    }

    /// The same as a file that the user named, and which has to be there.
    #[must_use]
    pub fn required(mut self) -> Self {
        if let Content::File { is_required, .. } = &mut self.content {
            *is_required = true;
        }
        self
    }

    /// A text that `place` holds.
    pub fn text(name: &'static str, place: impl Into<String>, text: Secret, helpers: Helpers) -> Self {
        Self { name, place: place.into(), content: Content::Text(text), helpers }
    }

    /// Nothing, since something is not set; it is there to be explained.
    pub fn missing(name: &'static str, place: impl Into<String>, why: impl Into<String>) -> Self {
        let content = Content::Missing(why.into());
        Self { name, place: place.into(), content, helpers: Helpers::none() }
    }

    /// The text, or why there is none; with what is to be said about the file.
    fn read(&self) -> Result<Result<(Secret, Vec<String>), String>, SourceError> {
        match &self.content {
            Content::Text(text) => Ok(Ok((text.clone(), Vec::new()))),
            Content::Missing(why) => Ok(Err(why.clone())),
            Content::File { path, is_required } => match read_file(path)? {
                Some(FileText { text, mode }) => Ok(Ok((text, warnings(path, mode)))),
                None if *is_required => {
                    let text = format!("{} names {}, which is not there", self.name, path.display());
                    Err(SourceError::new(SourceErrorKind::Configuration, text)
                        .hint("correct the path, or unset it"))
                }
                None => Ok(Err("there is no such file".to_owned())),
            },
        }
    }
}

impl CredentialSource for ConfigSource {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn find(&self, wanted: Wanted<'_>, cancel: &CancelToken) -> Result<Lookup, SourceError> {
        let (text, warnings) = match self.read()? {
            Ok(read) => read,
            Err(why) => return Ok(Lookup::Miss(why)),
        };
        let config = Config::parse(text.expose(), &self.place)?;
        let hit = |credential: Credential, key: String| {
            Ok(Lookup::Match(Match { warnings: warnings.clone(), ..Match::new(credential, key) }))
        };
        let candidates = config.candidates(wanted);
        for candidate in candidates.iter().filter(|candidate| candidate.is_scoped) {
            if let Some(credential) = candidate.credential(&self.place)? {
                return hit(credential, format!("entry {}", candidate.key));
            }
        }
        let helper = config.helper(wanted.registry);
        if let Some(helper) = &helper {
            let server = server_of(wanted.registry);
            let found = self.helpers.get(helper.name, &server, cancel).map_err(|error| {
                let hint = format!(
                    "{} of {} names this helper; install it, or take it out there",
                    helper.setting, self.place
                );
                if error.hint_text().is_some() { error } else { error.hint(hint) }
            })?;
            if let Some(credential) = found {
                return hit(credential, format!("docker-credential-{} ({})", helper.name, helper.setting));
            }
        }
        for candidate in candidates.iter().filter(|candidate| !candidate.is_scoped) {
            if let Some(credential) = candidate.credential(&self.place)? {
                return hit(credential, format!("entry {}", candidate.key));
            }
        }
        let nothing = format!("no entry for {}", wanted.registry);
        Ok(Lookup::Miss(match helper {
            Some(helper) => format!("docker-credential-{} has nothing, and {nothing}", helper.name),
            None => nothing,
        }))
    }
}

/// What docker's helpers call a registry.
pub(super) fn server_of(registry: &str) -> String {
    RegistryKey::parse(registry).map_or_else(|| registry.to_owned(), |key| key.stored())
}

pub(super) struct FileText {
    pub(super) text: Secret,
    mode: u32,
}

/// A file of bounded size, or `None` if there is none.
pub(super) fn read_file(path: &Path) -> Result<Option<FileText>, SourceError> {
    let unreadable = |error: io::Error| {
        SourceError::new(SourceErrorKind::Io, error.to_string())
            .hint("it may hold credentials: make it readable for this user, or name another file")
    };
    let file = match fs_err::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(error)),
    };
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let refuse = |why: String| {
        SourceError::new(SourceErrorKind::Configuration, format!("{}: {why}", path.display()))
            .hint("it should be a config.json of docker or an auth.json of podman")
    };
    if bytes.len() as u64 > MAX_FILE {
        return Err(refuse(format!("larger than {MAX_FILE} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| refuse("no text in UTF-8".to_owned()))?;
    Ok(Some(FileText { text: Secret::new(text), mode }))
}

fn warnings(path: &Path, mode: u32) -> Vec<String> {
    if mode & 0o004 == 0 {
        return Vec::new();
    }
    let path = path.display();
    vec![format!("everybody on this machine can read the credentials in {path}: chmod 600 {path}")]
}
