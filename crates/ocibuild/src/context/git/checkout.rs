use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use ocibuild_plan::address::{GitAddress, Transport, check_reference, is_full_commit, without_credentials};
use ocibuild_registry::{HttpRequest, Url};
use ocibuild_spec::{CancelToken, Timestamp};

use super::program::{Failure, Place, Session};
use super::source::GitSource;
use crate::advice::{Hint, Setting};
use crate::context::remotes::{GIT_TOKEN, Login, Remotes, of_http};
use crate::copy::Source;
use crate::error::{Error, ErrorKind};
use crate::failure::{GitFailure, HostFailure, HostOperation};

/// Most submodules of one repository, nested ones included.
const MAX_SUBMODULES: usize = 1000;

/// One repository, asked for what its address says.
pub(crate) struct GitJob<'a> {
    session: Session<'a>,
    remotes: &'a Remotes,
    address: &'a GitAddress,
    place: PathBuf,
    /// Where redirects led.
    remote: String,
}

/// What an address stands for today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The object: a commit, or the tag that names it.
    pub(crate) object: String,
    /// The commit, where the server said so.
    commit: Option<String>,
    /// The whole name of the branch or tag; the commit itself when there is none.
    name: String,
}

/// The files of a commit.
#[derive(Debug, Clone)]
pub(crate) struct GitFiles {
    pub(crate) source: Arc<dyn Source>,
    /// When it was committed.
    pub(crate) time: i64,
}

const WANTED: &str = "refs/ocibuild/wanted";

impl Resolved {
    /// What an address stands for that is a commit itself; `None` where the server has to be asked.
    pub(crate) fn pinned(address: &GitAddress) -> Option<Result<Self, Error>> {
        let commit = address.pinned()?;
        let name = address.reference().unwrap_or(commit).to_owned();
        let resolved = Self { object: commit.to_owned(), commit: Some(commit.to_owned()), name };
        Some(resolved.checked(address))
    }

    /// Refuses a commit that is not the one of `--checksum`.
    fn checked(self, address: &GitAddress) -> Result<Self, Error> {
        if let Some(checksum) = address.checksum() {
            let checksum = checksum.to_ascii_lowercase();
            let commit = self.commit.as_deref().unwrap_or(&self.object);
            if !self.object.starts_with(&checksum) && !commit.starts_with(&checksum) {
                let (address, commit) = (address.to_string(), commit.to_owned());
                return Err(GitFailure::ChecksumMismatch { address, checksum, commit }.into());
            }
        }
        Ok(self)
    }

    /// What distinguishes the files from those of other commits and other options (9.08).
    pub(crate) fn identity(&self, address: &GitAddress) -> String {
        let keeps = address.keeps_git_dir();
        let object = if keeps { &self.object } else { self.commit.as_ref().unwrap_or(&self.object) };
        let name = if keeps { self.name.as_str() } else { "" };
        let subdirectory = address.subdirectory().unwrap_or_default();
        let (submodules, times) = (address.submodules(), address.commit_times());
        format!("{object} {name:?} {subdirectory:?} {submodules} {times}")
    }
}

impl<'a> GitJob<'a> {
    /// Prepares to work in the new directory `place`.
    pub(crate) fn new(
        remotes: &'a Remotes,
        address: &'a GitAddress,
        place: &Path,
        cancel: &CancelToken,
    ) -> Result<Self, Error> {
        if remotes.http.is_offline() {
            return Err(GitFailure::Offline { address: address.to_string() }.into());
        }
        let mut session = remotes.git.session(place, cancel)?;
        let mut remote = address.remote().to_owned();
        if matches!(address.transport(), Transport::Http | Transport::Https) {
            // Redirects are followed here, where they are looked at; git follows none.
            session.set("http.followRedirects", "false");
            let url: Url = address.remote().parse().map_err(of_address)?;
            let login = remotes.git_login(address)?;
            if let Some(value) = login.header() {
                // Submodules on the same host have it, those elsewhere do not.
                let scope = format!("{}/", remote_origin(&url));
                session.set(format!("http.{scope}.extraHeader"), format!("Authorization: {value}"));
            }
            remote = discover(remotes, address, &url, &login, cancel)?;
        }
        let mut job = Self { session, remotes, address, place: place.to_owned(), remote };
        let remote = job.remote.clone();
        job.admit(&remote)?;
        Ok(job)
    }

    /// Looks where a remote is, which git would not do, and makes git ask there and nowhere else.
    fn admit(&mut self, remote: &str) -> Result<(), Error> {
        let refused =
            |error: ocibuild_registry::HttpError| of_http(error).prefixed(&self.address.to_string());
        match RemoteHost::of(remote) {
            // git takes none of these, and says so.
            RemoteHost::None => Ok(()),
            RemoteHost::Other { host, port } => {
                self.remotes.http.resolve(&host, port).map(drop).map_err(refused)
            }
            RemoteHost::Web(url) => {
                let addresses = self.remotes.http.resolve_url(&url).map_err(refused)?;
                let is_name =
                    !url.host().starts_with('[') && url.host().parse::<std::net::Ipv4Addr>().is_err();
                if let Some(addresses) = addresses.filter(|_| is_name) {
                    let addresses: Vec<String> =
                        addresses.iter().map(|address| shown_address(*address)).collect();
                    let pin = format!("{}:{}:{}", url.host(), url.port(), addresses.join(","));
                    self.session.set("http.curloptResolve", pin);
                }
                Ok(())
            }
            RemoteHost::Odd => {
                let (address, submodule) = (self.address.to_string(), without_credentials(remote));
                Err(GitFailure::SubmoduleAddress { address, submodule }.into())
            }
        }
    }

    /// Asks the server, unless the address is a commit.
    pub(crate) fn resolve(&self) -> Result<Resolved, Error> {
        if let Some(resolved) = Resolved::pinned(self.address) {
            return resolved;
        }
        let resolved = match self.address.reference() {
            Some(reference) => self.named(reference)?,
            None => self.default_branch()?,
        };
        resolved.checked(self.address)
    }

    fn default_branch(&self) -> Result<Resolved, Error> {
        let lines = self.ls_remote(&["--symref", "--", &self.remote, "HEAD"])?;
        let name = lines.iter().find_map(|(value, name)| {
            (name == "HEAD").then(|| value.strip_prefix("ref: ").map(str::to_owned))?
        });
        let object = lines.iter().find(|(value, name)| name == "HEAD" && !value.starts_with("ref: "));
        let (Some((object, _)), Some(name)) = (object, name) else {
            return Err(GitFailure::NoDefaultBranch { address: self.address.to_string() }.into());
        };
        // A server may call its branch anything, even like an option of git.
        check_reference(&name).map_err(|error| self.malformed(error.to_string()))?;
        Ok(Resolved { object: object_id(object)?, commit: Some(object_id(object)?), name })
    }

    /// A branch before a tag, as git itself prefers.
    fn named(&self, reference: &str) -> Result<Resolved, Error> {
        let peeled = format!("{reference}^{{}}");
        let lines = self.ls_remote(&["--", &self.remote, reference, &peeled])?;
        let find = |name: &str| {
            lines.iter().find(|(_, found)| found == name).map(|(value, _)| object_id(value)).transpose()
        };
        let short = |prefix: &str| reference.strip_prefix(prefix).unwrap_or(reference);
        let whole = format!("refs/{}", short("refs/"));
        let branch = format!("refs/heads/{}", short("refs/heads/"));
        let tag = format!("refs/tags/{}", short("refs/tags/"));
        for name in [whole, branch, tag] {
            if let Some(object) = find(&name)? {
                let commit = find(&format!("{name}^{{}}"))?;
                let commit = commit.or_else(|| name.starts_with("refs/heads/").then(|| object.clone()));
                return Ok(Resolved { object, commit, name });
            }
        }
        let (address, reference) = (self.address.remote().to_owned(), reference.to_owned());
        Err(GitFailure::NoSuchReference { address, reference }.into())
    }

    /// Values and names that `git ls-remote` prints.
    fn ls_remote(&self, arguments: &[&str]) -> Result<Vec<(String, String)>, Error> {
        let mut all = vec!["ls-remote", "--quiet"];
        all.extend(arguments);
        let printed = self.session.run(Place::NOWHERE, &all).map_err(|failure| self.failed(failure))?;
        let text = String::from_utf8_lossy(&printed);
        let pairs = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(pairs.map(|(value, name)| (value.to_owned(), name.to_owned())).collect())
    }

    /// Fetches a commit and writes its files. `now` is the time they get unless the address wants another.
    pub(crate) fn checkout(&mut self, resolved: &Resolved, now: Timestamp) -> Result<GitFiles, Error> {
        let keeps = self.address.keeps_git_dir();
        let tree = self.place.join("tree");
        let repository = if keeps { tree.join(".git") } else { self.place.join("repository") };
        fs::create_dir_all(&tree)
            .map_err(|error| HostFailure::operation(HostOperation::MakeDirectory, error))?;
        let place = Place { repository: Some(&repository), tree: Some(&tree) };
        let format =
            if resolved.object.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
        self.run(place, &["init", "--quiet", "--template=", format])?;
        self.run(place, &["config", "remote.origin.url", self.address.remote()])?;
        let target = if keeps && resolved.name.starts_with("refs/") { &resolved.name } else { WANTED };
        self.fetch(place, resolved, target)?;
        let commit = self.commit_of(place, resolved)?;
        self.run(place, &["checkout", "--quiet", "--force", "--detach", &commit])?;
        let time = self.text(place, &["log", "-1", "--format=%ct", &commit, "--"])?;
        let time = time.parse().map_err(|_| self.malformed(format!("the commit {commit} has no time")))?;
        if self.address.submodules()
            && fs::symlink_metadata(tree.join(".gitmodules")).is_ok_and(|m| m.is_file())
        {
            self.submodules(place, &tree)?;
        }
        if keeps {
            self.tidy(place, &repository)?;
        }
        let mtime = if self.address.commit_times() { Timestamp::from_seconds(time) } else { now };
        let source = GitSource::open(&tree, self.address.subdirectory(), mtime, keeps)
            .map_err(|error| error.prefixed(&self.address.to_string()))?;
        Ok(GitFiles { source: Arc::new(source), time })
    }

    /// The one commit if the server gives it, else everything that leads to it.
    fn fetch(&self, place: Place<'_>, resolved: &Resolved, target: &str) -> Result<(), Error> {
        let wanted = format!("+{}:{target}", resolved.object);
        let one = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
        let attempts: [(&[&str], &[&str]); 3] = [
            (&["--depth=1"], &[&wanted]),
            (&[], &[&wanted]),
            (&[], &["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]),
        ];
        let mut last = None;
        for (options, refspecs) in attempts {
            let mut arguments = one.to_vec();
            arguments.extend(options);
            arguments.extend(["--", self.remote.as_str()]);
            arguments.extend(refspecs);
            match self.session.run(place, &arguments) {
                Ok(_) => return Ok(()),
                Err(Failure::Complaint(text)) if may_be_narrower(&text) => {
                    last = Some(Failure::Complaint(text));
                }
                Err(failure) => return Err(self.failed(failure)),
            }
        }
        Err(last.map_or_else(Error::cancelled, |failure| self.failed(failure)))
    }

    fn commit_of(&self, place: Place<'_>, resolved: &Resolved) -> Result<String, Error> {
        let name = format!("{}^{{commit}}", resolved.object);
        let commit = self.text(place, &["rev-parse", "--verify", "--quiet", "--end-of-options", &name]);
        let commit = match commit {
            Err(error) if error.kind() == ErrorKind::Network => {
                let (address, object) = (self.address.to_string(), resolved.object.clone());
                return Err(GitFailure::NoSuchCommit { address, object }.into());
            }
            other => other?,
        };
        if !is_full_commit(&commit) || resolved.commit.as_ref().is_some_and(|known| *known != commit) {
            let reason = format!("{} leads to the commit {commit}", resolved.object);
            return Err(self.malformed(reason).into());
        }
        Ok(commit)
    }

    /// Fetches submodules level by level, so that where each is can be looked at before git goes there.
    fn submodules(&mut self, place: Place<'_>, tree: &Path) -> Result<(), Error> {
        let mut pending = self.submodules_of(place, tree)?;
        let mut count = 0;
        while let Some(tree) = pending.pop() {
            count += 1;
            if count > MAX_SUBMODULES {
                let (address, maximum) = (self.address.to_string(), MAX_SUBMODULES);
                return Err(GitFailure::TooManySubmodules { address, maximum }.into());
            }
            let is_there = |name: &str| fs::symlink_metadata(tree.join(name)).is_ok_and(|it| it.is_file());
            if is_there(".git") && is_there(".gitmodules") {
                let place = Place { repository: None, tree: Some(&tree) };
                pending.extend(self.submodules_of(place, &tree)?);
            }
        }
        Ok(())
    }

    /// Fetches the submodules of one repository, without their own; where they are.
    fn submodules_of(&mut self, place: Place<'_>, tree: &Path) -> Result<Vec<PathBuf>, Error> {
        self.run(place, &["submodule", "--quiet", "init"])?;
        // As git made them absolute.
        for url in self.settings(place, &["--get-regexp", r"^submodule\..*\.url$"])? {
            self.admit(&url)?;
        }
        let update = ["submodule", "--quiet", "update"];
        let mut shallow = update.to_vec();
        shallow.push("--depth=1");
        match self.session.run(place, &shallow) {
            Ok(_) => {}
            Err(Failure::Complaint(text)) if may_be_narrower(&text) => self.run(place, &update)?,
            Err(failure) => return Err(self.failed(failure)),
        }
        let paths =
            self.settings(place, &["--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$"])?;
        let is_plain =
            |path: &String| Path::new(path).components().all(|it| matches!(it, Component::Normal(_)));
        Ok(paths.iter().filter(|path| is_plain(path)).map(|path| tree.join(path)).collect())
    }

    /// Values that `git config` lists; none where it finds nothing.
    fn settings(&self, place: Place<'_>, arguments: &[&str]) -> Result<Vec<String>, Error> {
        let mut all = vec!["config", "--null"];
        all.extend(arguments);
        let printed = match self.session.run(place, &all) {
            Ok(printed) => printed,
            Err(Failure::Complaint(_)) if !self.session.is_cancelled() => return Ok(Vec::new()),
            Err(failure) => return Err(self.failed(failure)),
        };
        let text = String::from_utf8_lossy(&printed);
        let values = text.split('\0').filter_map(|entry| entry.split_once('\n'));
        Ok(values.map(|(_, value)| value.to_owned()).collect())
    }

    /// What only this machine knows leaves a repository that comes along.
    fn tidy(&self, place: Place<'_>, repository: &Path) -> Result<(), Error> {
        self.run(place, &["reflog", "expire", "--all", "--expire=now"])?;
        for name in ["FETCH_HEAD", "ORIG_HEAD"] {
            match fs::remove_file(repository.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(HostFailure::operation(HostOperation::TidyRepository, error).into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn malformed(&self, reason: String) -> GitFailure {
        GitFailure::Malformed { address: self.address.to_string(), reason }
    }

    fn run(&self, place: Place<'_>, arguments: &[&str]) -> Result<(), Error> {
        self.session.run(place, arguments).map(drop).map_err(|failure| self.failed(failure))
    }

    fn text(&self, place: Place<'_>, arguments: &[&str]) -> Result<String, Error> {
        let printed = self.session.run(place, arguments).map_err(|failure| self.failed(failure))?;
        Ok(String::from_utf8_lossy(&printed).trim().to_owned())
    }

    fn failed(&self, failure: Failure) -> Error {
        match failure {
            Failure::Stopped(error) => error.prefixed(&self.address.to_string()),
            Failure::Complaint(_) if self.session.is_cancelled() => Error::cancelled(),
            Failure::Complaint(text) => {
                let is_refusal = ["fsck error", "fsckObjects", "not allowed", "refusing", "unsafe"];
                let error = Error::from(GitFailure::NotFetched {
                    address: self.address.to_string(),
                    is_refused: is_refusal.iter().any(|word| text.contains(word)),
                    said: text.clone().into(),
                });
                match hint_for(&text, self.address.transport()) {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            }
        }
    }
}

/// Where git would go for a remote.
#[derive(Debug, PartialEq, Eq)]
enum RemoteHost {
    Web(Url),
    Other {
        host: String,
        port: u16,
    },
    /// Nowhere: it is a path.
    None,
    /// It could be read in several ways.
    Odd,
}

impl RemoteHost {
    fn of(remote: &str) -> Self {
        let is_odd = |c: char| c <= ' ' || c == '\\' || c == '\u{7f}' || !c.is_ascii();
        let Some((scheme, rest)) = remote.split_once("://") else {
            // `[user@]host:path`, but not `./a:b`.
            return match remote.split_once(':') {
                Some((host, _)) if host.contains('/') => Self::None,
                // `helper::address`, of which none is allowed.
                Some((_, path)) if path.starts_with(':') => Self::None,
                Some((host, _)) => Self::at(host, 22, is_odd),
                None => Self::None,
            };
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        match scheme.to_ascii_lowercase().as_str() {
            scheme @ ("http" | "https") if !authority.contains(is_odd) => {
                format!("{scheme}://{host}{path}").parse().map_or(Self::Odd, Self::Web)
            }
            "ssh" | "git+ssh" | "ssh+git" => Self::at(host, 22, is_odd),
            "git" => Self::at(host, 9418, is_odd),
            "http" | "https" => Self::Odd,
            _ => Self::None,
        }
    }

    fn at(host: &str, usual: u16, is_odd: impl Fn(char) -> bool) -> Self {
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, port.parse().ok()),
            _ => (host, Some(usual)),
        };
        match port {
            Some(port) if !name.is_empty() && !name.starts_with('-') && !name.contains(is_odd) => {
                Self::Other { host: name.to_owned(), port }
            }
            _ => Self::Odd,
        }
    }
}

/// An address as curl's `--resolve` takes it.
fn shown_address(address: std::net::SocketAddr) -> String {
    match address.ip() {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn hint_for(complaint: &str, transport: Transport) -> Option<Hint> {
    if complaint.contains("Host key verification failed") {
        return Some("the key of the host must be known: put it into ~/.ssh/known_hosts".into());
    }
    if complaint.contains("Permission denied") && transport == Transport::Ssh {
        return Some(
            Hint::from("keys come from an SSH agent alone: forward one with ")
                .setting(Setting::Ssh, "default")
                .text(", or a key with ")
                .setting(Setting::Ssh, "default=FILE"),
        );
    }
    if complaint.contains("cannot run ssh") || complaint.contains("ssh: not found") {
        return Some("install ssh (package `openssh-client`)".into());
    }
    (complaint.contains("transport 'file' not allowed"))
        .then(|| "a submodule lies on this machine: only http, https, ssh and git are supported".into())
}

/// Servers that do not give single commits, or not without their history, say so in these ways.
fn may_be_narrower(complaint: &str) -> bool {
    [
        "not our ref",
        "unadvertised object",
        "shallow",
        "--depth",
        "Server does not allow request",
        "couldn't find remote ref",
        "did not send all necessary objects",
        "Cannot obtain needed",
        "Unable to find current revision",
    ]
    .iter()
    .any(|words| complaint.contains(words))
}

#[expect(clippy::needless_pass_by_value, reason = "so that it can be given to `map_err`")]
fn of_address(error: ocibuild_registry::UrlError) -> Error {
    GitFailure::Address { reason: error.to_string() }.into()
}

fn object_id(text: &str) -> Result<String, Error> {
    if is_full_commit(text) {
        return Ok(text.to_owned());
    }
    let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    Err(GitFailure::NotAHash { shown }.into())
}

fn remote_origin(url: &Url) -> String {
    let scheme = match url.scheme() {
        ocibuild_registry::Scheme::Http => "http",
        ocibuild_registry::Scheme::Https => "https",
    };
    format!("{scheme}://{}", url.authority())
}

/// Where a repository is after redirects, which are followed only where any download's would be.
fn discover(
    remotes: &Remotes,
    address: &GitAddress,
    url: &Url,
    login: &Login,
    cancel: &CancelToken,
) -> Result<String, Error> {
    const INFO: &str = "/info/refs";
    let asked: Url = format!("{url}{INFO}").parse().map_err(of_address)?;
    let mut request = HttpRequest::get(asked.with_query("service", "git-upload-pack"));
    if let Some(value) = login.header() {
        request = request.header("authorization", value);
    }
    let response = remotes.http.follow(&request, cancel).map_err(of_http)?;
    let refused = |is_refused, reason: String, login| {
        Error::from(GitFailure::Status { url: url.to_string(), reason, is_refused, login })
    };
    match response.status {
        200..=299 => {}
        status @ (401 | 403) => {
            let host = address.web_host();
            let wanted = format!("{GIT_TOKEN}.{host}");
            let login = Some(login.advice(&wanted, host));
            return Err(refused(false, format!("invalid response status {status}"), login));
        }
        status => return Err(refused(false, format!("invalid response status {status}"), None)),
    }
    let found = &response.url;
    match found.path().strip_suffix(INFO) {
        Some(path) => Ok(format!("{}{path}", remote_origin(found))),
        None => Err(refused(true, format!("a redirect leads to {found}, which is not a repository"), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_of_submodules_have_hosts() {
        let web = |text: &str| RemoteHost::Web(text.parse().unwrap());
        let other = |host: &str, port| RemoteHost::Other { host: host.to_owned(), port };
        for (remote, expected) in [
            ("https://h.test/r.git", web("https://h.test/r.git")),
            ("HTTPS://user:secret@h.test:8443/r.git", web("https://h.test:8443/r.git")),
            ("http://[::1]/r", web("http://[::1]/r")),
            ("http://good.test#@169.254.169.254/", web("http://good.test#@169.254.169.254/")),
            ("ssh://git@h.test:2222/r", other("h.test", 2222)),
            ("git://h.test/r", other("h.test", 9418)),
            ("git@h.test:r.git", other("h.test", 22)),
            ("h.test:r.git", other("h.test", 22)),
            ("../r.git", RemoteHost::None),
            ("/srv/r.git", RemoteHost::None),
            ("./a:b", RemoteHost::None),
            ("ext::sh -c id", RemoteHost::None),
            ("file:///etc", RemoteHost::None),
            ("http://2852039166/r", RemoteHost::Odd),
            ("http://0xa9.0xfe.0xa9.0xfe/r", RemoteHost::Odd),
            ("http://good.test\\@169.254.169.254/r", RemoteHost::Odd),
            ("ssh://-oProxyCommand=x/r", RemoteHost::Odd),
        ] {
            assert_eq!(RemoteHost::of(remote), expected, "{remote}");
        }
    }
}
