use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ocibuild::executor::Network;
use ocibuild::plan::StepNetwork;
use ocibuild::spec::{Platform, Reference};
use ocibuild::state::Volume;
use ocibuild::{Error, Place};

use super::Lookup;
use crate::args::ProgressArg;
use crate::failure::usage;

/// A name of an image.
pub(crate) fn reference(text: &str) -> Result<Reference, Error> {
    text.parse()
        .map_err(|error: ocibuild::spec::ReferenceError| usage(error.to_string()).hint(error.advice()))
}

/// `NAME=VALUE`, or `NAME` with the value from the environment; `None` when it is not set there either (3.23).
pub(crate) fn build_arg(text: &str, env: Lookup<'_>) -> Result<Option<(String, String)>, Error> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, env(text)),
    };
    if name.is_empty() {
        return Err(usage(format!("--build-arg {text:?} has no name"))
            .hint("write the name of an ARG before the \"=\": --build-arg VERSION=1.0"));
    }
    Ok(value.map(|value| (name.to_owned(), value)))
}

/// The same for `run --env`, as one text.
pub(crate) fn variable(text: &str, env: Lookup<'_>) -> Result<Option<String>, Error> {
    match text.split_once('=') {
        Some(("", _)) | None if text.is_empty() || text.starts_with('=') => {
            Err(usage(format!("--env {text:?} has no name")).hint("write --env NAME=VALUE"))
        }
        Some(_) => Ok(Some(text.to_owned())),
        None => Ok(env(text).map(|value| format!("{text}={value}"))),
    }
}

/// `KEY=VALUE`; a key alone has an empty value.
pub(crate) fn key_value(flag: &str, text: &str) -> Result<(String, String), Error> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(usage(format!("{flag} {text:?} has no key")).hint(format!("write {flag} KEY=VALUE")));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// `until=TIME`, as docker's filters have it: how long something was not used.
pub(crate) fn unused_for(filter: &str) -> Result<Duration, Error> {
    let malformed = |what: &str| {
        usage(format!("--filter {filter}: {what}")).hint("write --filter until=24h, or 30m, or 7d")
    };
    let Some(text) = filter.strip_prefix("until=") else {
        return Err(malformed("the one filter is until"));
    };
    let (mut seconds, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| malformed("not a time"))?;
        let length = match unit.as_bytes().first() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 60 * 60,
            Some(b'd') => 24 * 60 * 60,
            _ => return Err(malformed("not a time")),
        };
        let part = number.checked_mul(length).and_then(|part| seconds.checked_add(part));
        seconds = part.ok_or_else(|| malformed("too long"))?;
        rest = &unit[1..];
    }
    if text.is_empty() { Err(malformed("not a time")) } else { Ok(Duration::from_secs(seconds)) }
}

/// The platforms in the order given, each as often as it was given; none when the base's is to stay (4.17).
pub(crate) fn platforms(texts: &[String]) -> Result<Vec<Platform>, Error> {
    let parsed = |text: &str| {
        text.parse().map_err(|error| {
            let error = usage(format!("--platform {text}: {error}"));
            error.hint("write os/architecture[/variant]: --platform linux/amd64 or linux/arm64")
        })
    };
    texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).map(parsed).collect()
}

/// What `--network` and its variable say of the steps of a build, or of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NetworkChoice(Option<Network>);

/// What `default` means, where the flag says that or nothing.
const NETWORK: &str = "OCIBUILD_NETWORK";

/// `--network`.
pub(crate) fn network(flag: Option<&str>, env: Lookup<'_>) -> Result<NetworkChoice, Error> {
    let given = flag.filter(|text| !text.is_empty() && *text != "default");
    let (what, text) = match given {
        Some(text) => ("--network ", text.to_owned()),
        None => ("OCIBUILD_NETWORK=", env(NETWORK).unwrap_or_default()),
    };
    let network = match text.as_str() {
        "" | "default" => None,
        "host" => Some(Network::Host),
        "none" => Some(Network::None),
        "private" => Some(Network::Private),
        other => {
            let error = usage(format!("{what}{other}: not one of default, host, none, private"));
            let error = one_of(error, other, &["default", "host", "none", "private"]);
            return Err(error.hint("networks with names are for docker, podman or nerdctl"));
        }
    };
    Ok(NetworkChoice(network))
}

impl NetworkChoice {
    /// The mode of steps that have none of their own, of which `private` is none: it is what the default means.
    pub(crate) fn of_steps(self) -> StepNetwork {
        match self.0 {
            None | Some(Network::Private) => StepNetwork::Default,
            Some(Network::None) => StepNetwork::None,
            Some(Network::Host) => StepNetwork::Host,
        }
    }

    pub(crate) fn of_command(self) -> Network {
        self.0.unwrap_or_default()
    }

    pub(crate) fn is_private(self) -> bool {
        self.0 == Some(Network::Private)
    }

    /// Refuses names for the loopback interface of the host where that cannot be reached.
    pub(crate) fn check_hosts(self, entries: &[String]) -> Result<(), Error> {
        match entries.iter().find(|entry| entry.ends_with(HOST_GATEWAY)) {
            Some(entry) if self.is_private() => {
                let message =
                    format!("--add-host {entry}: this host cannot be reached from a private network");
                Err(usage(message).hint("omit it, or use --network host"))
            }
            _ => Ok(()),
        }
    }
}

/// The address of this host.
const HOST_GATEWAY: &str = "host-gateway";

/// The variables in a file of `run --env-file`: `NAME=VALUE` or `NAME` on a line, `#` in front of comments; quotes are part
/// of the value.
pub(crate) fn env_file(path: &Path, env: Lookup<'_>) -> Result<Vec<String>, Error> {
    let name = path.display();
    let text = fs_err::read_to_string(path).map_err(|error| {
        usage(format!("--env-file {name}: cannot read the file"))
            .caused_by(error)
            .hint("name a text file with NAME=VALUE on each line")
    })?;
    let mut variables = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let variable = line.split('=').next().unwrap_or_default();
        if variable.is_empty() || variable.contains(char::is_whitespace) || line.contains('\0') {
            return Err(usage(format!("--env-file {name}: {variable:?} is not the name of a variable"))
                .place(Place::File(format!("{name}:{}", number + 1)))
                .hint("write NAME=VALUE without spaces around the \"=\""));
        }
        if line.contains('=') {
            variables.push(line.to_owned());
        } else {
            variables.extend(env(variable).map(|value| format!("{variable}={value}")));
        }
    }
    Ok(variables)
}

/// Whether the network of the host and insecure steps are allowed.
pub(crate) fn allow(texts: &[String]) -> Result<(bool, bool), Error> {
    let (mut network_host, mut insecure) = (false, false);
    for text in texts {
        match text.as_str() {
            "network.host" => network_host = true,
            "security.insecure" => insecure = true,
            other => {
                let message = format!("--allow {other}: not one of network.host, security.insecure");
                return Err(one_of(usage(message), other, &["network.host", "security.insecure"]));
            }
        }
    }
    Ok((network_host, insecure))
}

pub(crate) fn progress(text: &str, quiet: bool) -> Result<ProgressArg, Error> {
    if quiet {
        return Ok(ProgressArg::Quiet);
    }
    Ok(match text {
        "auto" => ProgressArg::Auto,
        "tty" => ProgressArg::Tty,
        "plain" => ProgressArg::Plain,
        "ci" => ProgressArg::Ci,
        "json" => ProgressArg::Json,
        "quiet" | "none" => ProgressArg::Quiet,
        "rawjson" => {
            let error = usage("--progress rawjson is BuildKit's own format, which is not supported");
            return Err(error.hint("--progress json prints one object per line"));
        }
        other => {
            let error = usage(format!("--progress {other}: not one of auto, tty, plain, ci, json, quiet"));
            return Err(one_of(error, other, &["auto", "tty", "plain", "ci", "json", "quiet"]));
        }
    })
}

/// Names what was probably meant, and all that is possible.
pub(super) fn one_of(error: Error, given: &str, known: &[&str]) -> Error {
    let error = match ocibuild::dockerfile::nearest(given, known.iter().copied()) {
        Some(nearest) => error.hint(format!("did you mean {nearest}?")),
        None => error,
    };
    error.hint(format!("there are {}", known.join(", ")))
}

/// `HOST:IP` or `HOST=IP`; an IPv6 address may be in brackets.
pub(crate) fn host_entry(text: &str) -> Result<(String, IpAddr), Error> {
    let malformed = || {
        usage(format!("--add-host {text}: not of the form HOST:IP"))
            .hint("write --add-host db:10.0.0.5, with an address")
    };
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(malformed)?;
    let is_word =
        !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#');
    if !is_word {
        return Err(malformed());
    }
    if address == HOST_GATEWAY {
        // Steps are in the network of the host, which is reached there.
        return Ok((name.to_owned(), IpAddr::from([127, 0, 0, 1])));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address = bare.parse().map_err(|error: std::net::AddrParseError| malformed().caused_by(error))?;
    Ok((name.to_owned(), address))
}

/// Bytes, with an optional unit of powers of 1024: `64m`, `1GiB`, `1.5g`.
#[expect(clippy::cast_precision_loss, reason = "a fraction of a unit is no exact number of bytes anyway")]
pub(crate) fn size(flag: &str, text: &str) -> Result<u64, Error> {
    let malformed = || {
        usage(format!("{flag} {text}: not a size like 64m")).hint("write a number followed by b, k, m or g")
    };
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(malformed()),
    };
    let factor = 1_u64 << shift;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(malformed);
    }
    let number: f64 = number.parse().map_err(|_| malformed())?;
    let bytes = number * factor as f64;
    if bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(malformed()) }
}

/// The values of `--volume`, no two for one place.
pub(crate) fn volumes(texts: &[String]) -> Result<Vec<Volume>, Error> {
    let mut volumes: Vec<Volume> = Vec::new();
    for text in texts {
        let volume = volume(text)?;
        if volumes.iter().any(|other| other.target == volume.target) {
            return Err(usage(format!(
                "--volume {text}: something else is already at {}",
                volume.target.display()
            ))
            .hint("omit one of them, or mount it elsewhere"));
        }
        volumes.push(volume);
    }
    Ok(volumes)
}

/// `SRC:DST[:MODE,...]`
fn volume(text: &str) -> Result<Volume, Error> {
    let malformed = || {
        usage(format!("--volume {text}: not of the form SRC:DST[:ro]")).hint("write --volume ./data:/data")
    };
    let mut parts = text.split(':');
    let (Some(source), Some(target), modes, None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    if source.is_empty() || !target.starts_with('/') {
        return Err(malformed().hint("DST is an absolute path"));
    }
    let target = PathBuf::from(target);
    if target.components().count() == 1 {
        return Err(usage(format!("--volume {text}: DST cannot be the whole root file system"))
            .hint(format!("give it a directory: --volume {source}:/data")));
    }
    let mut read_only = false;
    for mode in modes.iter().flat_map(|modes| modes.split(',')) {
        match mode {
            "ro" => read_only = true,
            // That of the others is so already: no label keeps a command from files, and no mount comes through later.
            "rw" | "z" | "Z" | "private" | "rprivate" | "cached" | "delegated" | "consistent" => {}
            _ => {
                return Err(usage(format!("--volume {text}: unknown mode {mode:?}"))
                    .hint("the mode is ro or rw; z, Z and cached have no effect here"));
            }
        }
    }
    let is_path = source.starts_with(['/', '.']) || source.contains('/');
    if !is_path {
        return Err(usage(format!("--volume {text}: named volumes are not supported; SRC is a path"))
            .hint(format!("./{source} names a directory here")));
    }
    let source = fs_err::canonicalize(source).map_err(|error| {
        usage(format!("--volume {text}: cannot use the path"))
            .hint(format!("make it first: mkdir -p {source}"))
            .caused_by(error)
    })?;
    Ok(Volume::new(source, target).read_only(read_only))
}

/// The value of `--workdir`; `None` for one that says nothing.
pub(crate) fn workdir(text: &str) -> Result<Option<String>, Error> {
    if !text.is_empty() && !text.starts_with('/') {
        return Err(
            usage(format!("--workdir {text}: not an absolute path")).hint(format!("write --workdir /{text}"))
        );
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_filters_are_those_of_go_and_days() {
        for (text, seconds) in
            [("until=24h", 86_400), ("until=1h30m", 5400), ("until=10s", 10), ("until=7d", 604_800)]
        {
            assert_eq!(unused_for(text).unwrap().as_secs(), seconds, "{text}");
        }
        for bad in [
            "until=",
            "until=h",
            "until=24",
            "until=1w",
            "label=a",
            "24h",
            "until=99999999999999999d",
            "until=-1h",
        ] {
            assert!(unused_for(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variable_says_what_the_default_network_is() {
        let choice = |flag: Option<&str>, variable: Option<&str>| {
            let env = |name: &str| variable.filter(|_| name == "OCIBUILD_NETWORK").map(str::to_owned);
            network(flag, &env).map(|choice| (choice.of_steps(), choice.is_private(), choice.of_command()))
        };
        let host = (StepNetwork::Default, false, Network::Host);
        let private = (StepNetwork::Default, true, Network::Private);
        for (flag, variable, expected) in [
            (None, None, host),
            (Some("default"), Some(""), host),
            (None, Some("private"), private),
            (Some("default"), Some("private"), private),
            (Some("private"), None, private),
            (Some("none"), Some("private"), (StepNetwork::None, false, Network::None)),
            (Some("host"), Some("private"), (StepNetwork::Host, false, Network::Host)),
            (Some("host"), Some("nonsense"), (StepNetwork::Host, false, Network::Host)),
        ] {
            assert_eq!(choice(flag, variable).unwrap(), expected, "{flag:?} {variable:?}");
        }
        let error = choice(None, Some("privat")).unwrap_err().to_string();
        assert!(error.contains("OCIBUILD_NETWORK=privat:"), "{error}");
    }

    #[test]
    fn build_args_come_from_the_environment() {
        let env = |name: &str| (name == "SET").then(|| "value".to_owned());
        let of = |text: &str| build_arg(text, &env).unwrap();
        assert_eq!(of("A=b=c"), Some(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(of("A="), Some(("A".to_owned(), String::new())));
        assert_eq!(of("SET"), Some(("SET".to_owned(), "value".to_owned())));
        assert_eq!(of("UNSET"), None);
        assert!(build_arg("=x", &env).is_err());
        assert_eq!(variable("SET", &env).unwrap().as_deref(), Some("SET=value"));
        assert!(variable("=x", &env).is_err());
    }

    #[test]
    fn sizes_have_units() {
        let table = [("64m", 64 << 20), ("1GiB", 1 << 30), ("512", 512), ("1.5k", 1536), ("2b", 2), ("0", 0)];
        for (text, bytes) in table {
            assert_eq!(size("--shm-size", text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "m", "1x", "-1", "99999999999t", "1..2m"] {
            assert!(size("--shm-size", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_have_addresses() {
        assert_eq!(host_entry("a:1.2.3.4").unwrap().1.to_string(), "1.2.3.4");
        assert_eq!(host_entry("a=::1").unwrap().1.to_string(), "::1");
        assert_eq!(host_entry("a:[::1]").unwrap().1.to_string(), "::1");
        assert_eq!(host_entry("a:host-gateway").unwrap().1.to_string(), "127.0.0.1");
        for bad in ["a", ":1.2.3.4", "a:b", "a b:1.2.3.4", "a:host-gateways"] {
            assert!(host_entry(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volumes_are_paths() {
        assert!(volume("/tmp:/data:ro").unwrap().read_only);
        assert!(volume("/tmp:/data:Z,ro").unwrap().read_only);
        assert!(!volume("/tmp:/data:cached").unwrap().read_only);
        for bad in [
            "/tmp",
            "/tmp:data",
            "name:/data",
            "/tmp:/a:x",
            "/tmp:/a:ro:b",
            ":/a",
            "/tmp:/",
            "/tmp:/.",
            "/tmp:/a:",
        ] {
            assert!(volume(bad).is_err(), "{bad}");
        }
        let both = |texts: [&str; 2]| volumes(&texts.map(str::to_owned));
        assert!(both(["/tmp:/a", "/:/a/"]).is_err());
        assert_eq!(both(["/tmp:/a", "/:/a/b"]).unwrap().len(), 2);
    }
}
