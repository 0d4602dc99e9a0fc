//! What a verb works with: the state directory, its snapshots, something that runs steps, and base images.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ocibuild::executor::{Executor, NamespaceExecutor, OwnSandbox, RuntimeExecutor};
use ocibuild::registry::{
    CloudServices, Credentials, HttpClient, HttpClientBuilder, MirrorRule, Proxies, Registry,
    RegistryBuilder, Retrying, read_ca_bundle,
};
use ocibuild::spec::{CancelToken, Descriptor, ImageSource, Platform, Reference, ResolvedImage, SourceError};
use ocibuild::store::{ArchiveSource, LayoutSource};
use ocibuild::{BaseImages, Error, Place, SnapshotDriver, StateDirectory};

use crate::args::{PlanArgs, RegistryArgs, SandboxArg, SnapshotterArg};
use crate::failure::{about, host, usage};
use crate::values::ImageSpec;

/// What this program calls itself.
const AGENT: &str = concat!("ocibuild/", env!("CARGO_PKG_VERSION"));
/// Longest wait for a service beside this machine.
const BESIDE: Duration = Duration::from_secs(1);

/// Opens the state directory for a verb that builds, runs or prunes.
pub(crate) fn open_state(root: &Path, snapshotter: SnapshotterArg) -> Result<StateDirectory, Error> {
    let driver = match snapshotter {
        SnapshotterArg::Auto => SnapshotDriver::Auto,
        SnapshotterArg::Overlay => SnapshotDriver::Overlay,
        SnapshotterArg::Copy => SnapshotDriver::Copy,
    };
    StateDirectory::open_with(root, driver).map_err(|error| {
        let error = error.place(Place::Argument(format!("--root {}", root.display())));
        if error.reports()[0].hints.is_empty() {
            return error.hint("name a directory that this user can make and write with --root DIR");
        }
        error
    })
}

/// For verbs that look at images only: nothing is tried out that would take privilege.
pub(crate) fn open_images(root: &Path) -> Result<StateDirectory, Error> {
    open_state(root, SnapshotterArg::Copy)
}

/// What carries steps out: a sandbox of our own, or the runtime that was named.
pub(crate) fn executor(runtime: Option<&Path>, sandbox: SandboxArg) -> Result<Box<dyn Executor>, Error> {
    let Some(runtime) = runtime else {
        let sandbox = match sandbox {
            SandboxArg::Auto => OwnSandbox::Best,
            SandboxArg::Namespaces => OwnSandbox::Namespaces,
            SandboxArg::Chroot => OwnSandbox::Chroot,
        };
        return Ok(Box::new(NamespaceExecutor::with(sandbox)));
    };
    let is_name = runtime.components().count() == 1;
    if !is_name && !runtime.is_absolute() {
        return Err(usage(format!("--runtime {}: neither a name nor an absolute path", runtime.display())));
    }
    Ok(Box::new(RuntimeExecutor::new(runtime)?))
}

/// Content of the host's `/etc/resolv.conf`; a host without one has no names to ask for.
pub(crate) fn resolv_conf() -> String {
    fs_err::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

/// The names of the state directory, then the registries.
#[derive(Debug)]
pub(crate) struct Images {
    pub(crate) source: BaseImages,
    /// Tells in the end what is to be known.
    _client: Option<Client>,
}

impl Images {
    pub(crate) fn new(state: &StateDirectory, args: &PlanArgs, notices: Notices) -> Result<Self, Error> {
        let client = if args.offline { None } else { Some(registry(&args.registry, notices)?) };
        let source = match &client {
            None => BaseImages::offline(state),
            Some(client) => BaseImages::new(state, Registry::clone(client)),
        };
        Ok(Self { source: source.pull(args.pull), _client: client })
    }
}

/// The proxies that the environment names.
pub(crate) fn proxies() -> Proxies {
    let env = |upper: &str, lower: &str| {
        let value = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        value(upper).or_else(|| value(lower))
    };
    Proxies {
        // Upper case is what a web server may be made to set for the programs it starts.
        http: env("http_proxy", "HTTP_PROXY"),
        https: env("HTTPS_PROXY", "https_proxy"),
        no_proxy: env("NO_PROXY", "no_proxy"),
    }
}

/// Where docker, containers and containerd keep what they know of hosts: the user's come first.
fn certs_d() -> Vec<PathBuf> {
    let home = config_home().into_iter();
    let own = home.flat_map(|home| {
        ["containers/certs.d", "docker/certs.d", "containerd/certs.d"].map(|name| home.join(name))
    });
    let system = ["/etc/containers/certs.d", "/etc/docker/certs.d", "/etc/containerd/certs.d"];
    own.chain(system.map(PathBuf::from)).collect()
}

/// Where the configuration of this user's programs is.
fn config_home() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))
}

/// Containers' configuration of registries: the user's file takes the place of the system's, and folders beside them add
/// to either. A file that is named is all there is.
fn registries_conf() -> Result<Vec<PathBuf>, Error> {
    const NAME: &str = "CONTAINERS_REGISTRIES_CONF";
    if let Some(path) = std::env::var_os(NAME).filter(|path| !path.is_empty()).map(PathBuf::from) {
        if !path.is_file() {
            return Err(usage(format!("{NAME}: there is no file {}", path.display()))
                .hint("name an existing file, or unset the variable"));
        }
        return Ok(vec![path]);
    }
    let own = config_home().map(|home| home.join("containers/registries.conf"));
    let own_folder = own.as_ref().map(|own| own.with_extension("conf.d"));
    let mut paths = match own.filter(|own| own.exists()) {
        Some(own) => vec![own],
        None => {
            ["/etc/containers/registries.conf", "/etc/containers/registries.conf.d"].map(PathBuf::from).into()
        }
    };
    paths.extend(own_folder);
    Ok(paths)
}

/// How it is told that something is to be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notices {
    /// As warnings.
    Lines,
    /// As objects of the event stream.
    Json,
    /// Not at all: nothing may be said, or nothing in between.
    Nothing,
}

impl Notices {
    /// Those of a verb with `--quiet`.
    pub(crate) fn unless(quiet: bool) -> Self {
        if quiet { Self::Nothing } else { Self::Lines }
    }

    fn tell(self, retrying: Retrying<'_>) {
        /// Shorter waits go unnoticed.
        const SHORT: Duration = Duration::from_millis(500);

        if self != Self::Nothing && retrying.pause >= SHORT {
            let seconds = retrying.pause.as_secs_f64();
            let message = format!("{}; trying again in {seconds:.0} s", retrying.why);
            crate::progress::warn(&message, self == Self::Json, crate::terminal::Screen::of_stderr());
        }
    }
}

/// The client of registries as the flags and the environment want it.
pub(crate) fn registry(args: &RegistryArgs, notices: Notices) -> Result<Client, Error> {
    let registry = registry_with(args, credentials(args)?, notices)?;
    Ok(Client { registry, as_json: notices == Notices::Json })
}

/// A client of registries that in the end says what is to be known about the credentials it used.
#[derive(Debug)]
pub(crate) struct Client {
    registry: Registry,
    as_json: bool,
}

impl std::ops::Deref for Client {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        &self.registry
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for warning in self.registry.warnings() {
            crate::progress::warn(&warning, self.as_json, crate::terminal::Screen::of_stderr());
        }
    }
}

/// Where credentials come from; those of clouds are asked for over the network.
pub(crate) fn credentials(args: &RegistryArgs) -> Result<Credentials, Error> {
    let built = |client: HttpClientBuilder| {
        let client = client.user_agent(AGENT).build();
        client.map_err(|error| usage("the client for credentials cannot be set up").caused_by(error))
    };
    // What is beside this machine answers at once or is not there.
    let metadata = built(HttpClient::builder().connect_timeout(BESIDE).stall_timeout(BESIDE))?;
    let trusted = own_certificates(args)?;
    let mut client = HttpClient::builder().proxies(proxies());
    if trusted.with_system {
        client = client.system_roots();
    }
    client = trusted.pem.into_iter().fold(client, HttpClientBuilder::ca_pem);
    crate::credentials::credentials(&CloudServices::new(metadata, built(client)?, SystemTime::now))
}

/// Certificates that are trusted.
struct Trusted {
    with_system: bool,
    pem: Vec<Vec<u8>>,
}

/// Those of the flags and the environment, whose file takes the place of the system's.
fn own_certificates(args: &RegistryArgs) -> Result<Trusted, Error> {
    let given = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let pem = given.iter().chain(&args.cacert).map(|path| certificate(path)).collect::<Result<_, _>>()?;
    Ok(Trusted { with_system: given.is_none(), pem })
}

/// The same with these credentials and no others.
pub(crate) fn registry_with(
    args: &RegistryArgs,
    credentials: Credentials,
    notices: Notices,
) -> Result<Registry, Error> {
    let mut builder = Registry::builder().user_agent(AGENT).proxies(proxies());
    builder = builder.on_retry(move |retrying| notices.tell(retrying));
    let trusted = own_certificates(args)?;
    if trusted.with_system {
        builder = builder.system_roots();
    }
    builder = trusted.pem.into_iter().fold(builder, RegistryBuilder::ca_pem);
    for directory in certs_d() {
        builder = builder.certs_d(directory);
    }
    for path in registries_conf()? {
        builder = builder.registries_conf(path);
    }
    for text in &args.registry_mirror {
        let rule = text.parse::<MirrorRule>().map_err(usage);
        builder = builder.mirror(about("--registry-mirror", text)(rule)?);
    }
    for name in &args.insecure_registry {
        builder = builder.insecure(name);
    }
    builder = args.allow_link_local.iter().fold(builder, RegistryBuilder::allow_link_local);
    builder = builder.credentials(credentials);
    for text in &args.allow_token_realm {
        let (of, host) = text.split_once('=').map_or((None, text.as_str()), |(of, host)| (Some(of), host));
        if host.is_empty() || host.contains(['/', ':']) {
            let error = usage(format!("--allow-token-realm {text}: this is not a host"));
            return Err(error.hint("write the host alone, without scheme and port: auth.example.com"));
        }
        builder = builder.allow_realm(of, host);
    }
    let retries = args.retry.unwrap_or(4).saturating_add(1);
    let delay = seconds("--retry-delay", args.retry_delay)?.unwrap_or(Duration::from_secs(1));
    builder = builder.retries(retries, delay, Duration::from_mins(1));
    if let Some(silence) = seconds("--registry-timeout", args.registry_timeout)? {
        builder = builder.stall_timeout(silence).connect_timeout(silence.min(Duration::from_secs(10)));
    }
    builder.build().map_err(|error| usage("the registry client cannot be set up").caused_by(error))
}

fn seconds(flag: &str, value: Option<f64>) -> Result<Option<Duration>, Error> {
    let Some(value) = value else { return Ok(None) };
    match Duration::try_from_secs_f64(value) {
        Ok(time) if time <= Duration::from_hours(1) && (flag == "--retry-delay" || !time.is_zero()) => {
            Ok(Some(time))
        }
        _ => Err(usage(format!("{flag} {value}: not a time in seconds"))
            .hint("give seconds, up to an hour: 0.5, 30")),
    }
}

/// Certificates of a file. Several clients ask for them, and a pipe can be read only once.
pub(crate) fn certificate(path: &Path) -> Result<Vec<u8>, Error> {
    static KNOWN: Mutex<BTreeMap<PathBuf, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bytes) = known.get(path) {
        return Ok(bytes.clone());
    }
    let read = read_ca_bundle(path);
    if let Ok(bytes) = &read {
        known.insert(path.to_owned(), bytes.clone());
    }
    read.map_err(|error| host(format!("cannot read the certificates in {}", path.display()), error))
        .map_err(|error| error.place(Place::Argument(format!("--cacert {}", path.display()))))
}

/// An image given as a named context, which is opened when a build first asks for it: one that nobody needs may be
/// missing (4.35).
#[derive(Debug)]
pub(crate) struct NamedImage(pub(crate) ImageSpec);

impl NamedImage {
    fn source(&self) -> Result<Box<dyn ImageSource>, SourceError> {
        let ImageSpec { path, tag, digest, is_archive } = &self.0;
        if *is_archive {
            return Ok(Box::new(ArchiveSource::open(path)?));
        }
        Ok(Box::new(LayoutSource::open(path, tag.as_deref(), digest.as_ref())?))
    }
}

impl ImageSource for NamedImage {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        cancel: &CancelToken,
    ) -> Result<ResolvedImage, SourceError> {
        self.source()?.resolve(reference, platform, cancel)
    }

    fn open(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        self.source()?.open(reference, descriptor, cancel)
    }
}
