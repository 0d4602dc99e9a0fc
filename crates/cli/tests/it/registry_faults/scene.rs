use std::collections::BTreeMap;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fs_err as fs;
use ocibuild::spec::Reference;
use ocibuild::store::{BlobSink as _, ImageLayout};
use ocibuild_testkit::{Certificates, Fault, ImageBlobs, LoggedRequest, TestImage, TestRegistry, TlsFront};

use super::case::Case;

/// What nobody may see who need not.
pub(super) const PASSWORD: &str = "canary-password";
/// `robot:` and the password in base64.
pub(super) const ENCODED: &str = "cm9ib3Q6Y2FuYXJ5LXBhc3N3b3Jk";
pub(super) const IDENTITY: &str = "canary-identity-token";
pub(super) const TOKEN: &str = "canary-token";

/// Longest time that a run may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The listeners, the state directory, and what has been done so far.
pub(super) struct Scene<'a> {
    case: &'a Case,
    place: tempfile::TempDir,
    listeners: BTreeMap<&'static str, TestRegistry>,
    /// The registry behind TLS, where a case is about that.
    _front: Option<(Certificates, TlsFront)>,
    /// The image that is in the state directory or at the registry.
    pub(super) image: ImageBlobs,
    words: Vec<(String, String)>,
    /// Requests of each listener before the run that is judged.
    before: BTreeMap<&'static str, usize>,
    /// Arguments of that run.
    pub(super) args: Vec<String>,
    /// What the name at the end of them stood for before: at the registry, and here.
    pub(super) stood: (Option<Vec<u8>>, Option<String>),
}

/// How the run that is judged ended.
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) took: Duration,
}

impl<'a> Scene<'a> {
    pub(super) fn new(case: &'a Case) -> Self {
        let place = tempfile::tempdir().unwrap();
        let started = [
            ("registry", TestRegistry::start()),
            ("token", TestRegistry::start()),
            ("elsewhere", TestRegistry::start_at("127.0.0.2")),
        ];
        started[1].1.require_token(TOKEN, None);
        let is = |word: &str| case.steps.iter().any(|step| step.contains(" has ") && step.ends_with(word));
        let image = image(is(" large"), is(" gzip"));
        let mut words: Vec<(String, String)> =
            started.iter().map(|(name, listener)| ((*name).to_owned(), listener.authority())).collect();
        // Of an address where nobody else is: the port of another would be taken by the next server.
        let closed = std::net::TcpListener::bind("127.0.0.3:0").unwrap().local_addr().unwrap();
        let (layer, config) = (&image.layers[0].0, &image.config.0);
        words.extend([
            ("closed".to_owned(), closed.to_string()),
            ("layer".to_owned(), layer.digest.to_string()),
            ("config".to_owned(), config.digest.to_string()),
            ("manifest".to_owned(), image.descriptor.digest.to_string()),
            ("layer.size".to_owned(), layer.size.to_string()),
            ("config.size".to_owned(), config.size.to_string()),
            ("manifest.size".to_owned(), image.manifest.len().to_string()),
            ("zeros".to_owned(), format!("sha256:{}", "0".repeat(64))),
            ("escape".to_owned(), "\u{1b}".to_owned()),
            ("spaces".to_owned(), " ".repeat(60_000)),
            ("place".to_owned(), place.path().display().to_string()),
        ]);
        let front = case.is_about_tls().then(|| front(&started[0].1, &mut words));
        fs::create_dir(place.path().join("context")).unwrap();
        let listeners = started.into_iter().collect();
        let (before, args, stood) = (BTreeMap::new(), Vec::new(), (None, None));
        Self { case, place, listeners, _front: front, image, words, before, args, stood }
    }

    /// A text of the fixture as it is meant.
    pub(super) fn meant(&self, text: &str) -> String {
        self.words
            .iter()
            .fold(text.to_owned(), |text, (word, value)| text.replace(&format!("{{{word}}}"), value))
    }

    pub(super) fn listener(&self, name: &str) -> &TestRegistry {
        self.listeners.get(name).unwrap_or_else(|| panic!("{}: no listener {name}", self.case.title()))
    }

    pub(super) fn listeners(&self) -> impl Iterator<Item = (&'static str, &TestRegistry)> {
        self.listeners.iter().map(|(name, listener)| (*name, listener))
    }

    /// What a listener heard in the run that is judged.
    pub(super) fn heard(&self, name: &str) -> Vec<LoggedRequest> {
        self.listener(name).requests().split_off(self.before.get(name).copied().unwrap_or(0))
    }

    pub(super) fn state(&self) -> ImageLayout {
        ImageLayout::open_or_create(self.place.path().join("state")).unwrap()
    }

    pub(super) fn state_path(&self, name: &str) -> std::path::PathBuf {
        self.place.path().join("state").join(name)
    }

    /// The name that the run is about, if it ends with one.
    pub(super) fn name(&self) -> Option<Reference> {
        self.args.last()?.parse().ok().filter(|_| matches!(&self.args[0][..], "pull" | "push"))
    }

    /// Does what the lines say, and gives how the run ended.
    pub(super) fn play(&mut self) -> Ended {
        for step in &self.case.steps {
            let step = self.meant(step);
            let words: Vec<&str> = step.splitn(3, ' ').collect();
            match words[..] {
                ["run", ..] => return self.judged_run(&step["run ".len()..]),
                ["before", ..] => {
                    let ended = self.run(&arguments(&step["before ".len()..]));
                    assert_eq!(ended.code, Some(0), "{}: {step}\n{}", self.case.title(), ended.stderr);
                }
                ["fault", name, rest] => self.fault(name, rest),
                ["login", host] => self.login(host, false),
                ["login", host, "identity"] => self.login(host, true),
                ["context", file, text] => {
                    fs::write(self.place.path().join("context").join(file), format!("{text}\n")).unwrap();
                }
                ["state", "has", name] => self.state_has(name.split(' ').next().unwrap()),
                [name, "has", what] => {
                    let (repository, tag) = what.split(' ').next().unwrap().split_once(':').unwrap();
                    self.listener(name).push(repository, tag, &self.image);
                }
                [name, "puts", what] => {
                    let [what, media_type, json] = what.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                        panic!("{step}")
                    };
                    let (repository, tag) = what.split_once(':').unwrap();
                    self.listener(name).put_manifest(repository, tag, media_type, json.as_bytes());
                }
                [name, "wants", "password"] => self.listener(name).require_password(ENCODED),
                [name, "wants", what] => {
                    let realm = what.strip_prefix("token from ");
                    assert!(realm.is_some() || what == "token", "{step}");
                    self.listener(name).require_token(TOKEN, realm);
                }
                _ => panic!("{}: {step}", self.case.title()),
            }
        }
        panic!("{}: nothing is run", self.case.title());
    }

    fn fault(&self, name: &str, text: &str) {
        let (rule, action_text) = text.split_once(": ").unwrap_or_else(|| panic!("fault {text}"));
        let words: Vec<&str> = rule.split(' ').collect();
        let [method, path, times, rest @ ..] = &words[..] else { panic!("fault {text}") };
        let (times, rest) = match (*times, rest) {
            ("once", rest) => (1, rest),
            ("always", rest) => (usize::MAX, rest),
            (number, ["times", rest @ ..]) => (number.parse().unwrap(), rest),
            _ => panic!("fault {text}"),
        };
        let skip = match rest {
            [] => 0,
            ["after", number] => number.parse().unwrap(),
            _ => panic!("fault {text}"),
        };
        let method = if *method == "*" { "" } else { method };
        self.listener(name).fault_of(method, path, skip, times, action(action_text));
    }

    fn login(&self, host: &str, identity: bool) {
        let entry = if identity {
            format!(r#"{{"auth":"{ENCODED}","identitytoken":"{IDENTITY}"}}"#)
        } else {
            format!(r#"{{"auth":"{ENCODED}"}}"#)
        };
        fs::create_dir_all(self.place.path().join("docker")).unwrap();
        let text = format!(r#"{{"auths":{{"{host}":{entry}}}}}"#);
        fs::write(self.place.path().join("docker/config.json"), text).unwrap();
    }

    fn state_has(&self, name: &str) {
        let layout = self.state();
        for (descriptor, bytes) in self.image.all() {
            layout.put_from(&descriptor, &mut bytes.as_slice()).unwrap();
        }
        layout.tag(&name.parse().unwrap(), &self.image.descriptor).unwrap();
    }

    fn judged_run(&mut self, text: &str) -> Ended {
        self.args = arguments(text);
        self.before = self.listeners().map(|(name, listener)| (name, listener.requests().len())).collect();
        if let Some(name) = self.name() {
            self.stood.0 = self.at_registry(&name);
            self.stood.1 = self.state().resolve(&name).unwrap().map(|found| found.digest.to_string());
        }
        self.run(&self.args)
    }

    /// The document that a name stands for at the registry.
    pub(super) fn at_registry(&self, name: &Reference) -> Option<Vec<u8>> {
        let tag =
            name.digest().map_or_else(|| name.tag().unwrap_or("latest").to_owned(), ToString::to_string);
        self.listener("registry").manifest(name.repository(), &tag).map(|(_, bytes)| bytes)
    }

    /// Runs the program, for so long and no longer.
    fn run(&self, args: &[String]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocibuild"));
        command.arg("--root").arg(self.place.path().join("state")).arg(&args[0]);
        if ["pull", "push", "build"].contains(&&args[0][..]) {
            command.args(["--retry", "2", "--retry-delay", "0.02", "--registry-timeout", "4"]);
        }
        let output = |name: &str| fs::File::create(self.place.path().join(name)).unwrap();
        command.args(&args[1..]).current_dir(self.place.path()).env_clear();
        command.env("HOME", self.place.path()).env("DOCKER_CONFIG", self.place.path().join("docker"));
        command
            .stdin(Stdio::null())
            .stdout(output("stdout").into_parts().0)
            .stderr(output("stderr").into_parts().0);
        let start = Instant::now();
        let mut child = command.spawn().unwrap();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if start.elapsed() > LIMIT => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    break None;
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let said = |name: &str| fs::read_to_string(self.place.path().join(name)).unwrap();
        let code = status.as_ref().and_then(ExitStatus::code);
        Ended { code, stdout: said("stdout"), stderr: said("stderr"), took: start.elapsed() }
    }

    /// What the program said in the end, with words instead of what is another one each time.
    pub(super) fn report(&self, ended: &Ended) -> Vec<String> {
        let lines = ended.stderr.lines().skip_while(|line| !line.starts_with("error"));
        let is_long = |value: &String| value.len() > 8;
        let worded = |line: &str| {
            self.words
                .iter()
                .filter(|(_, value)| is_long(value))
                .fold(line.to_owned(), |line, (word, value)| line.replace(value, &format!("{{{word}}}")))
        };
        lines.map(|line| without_number(&worded(line))).collect()
    }
}

/// A report in which uploads have no numbers: those depend on which one came first.
fn without_number(line: &str) -> String {
    const UPLOADS: &str = "/blobs/uploads/";
    let mut parts = line.split(UPLOADS);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, part| line + UPLOADS + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

fn arguments(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Puts TLS before a registry, with a certificate of its own.
fn front(registry: &TestRegistry, words: &mut Vec<(String, String)>) -> (Certificates, TlsFront) {
    let made = Certificates::new().expect("such cases are left out without openssl");
    let files = made.self_signed("server", "IP:127.0.0.1");
    let front = TlsFront::start(&registry.authority(), &files, None);
    let authority = front.authority();
    let named = authority.replace("127.0.0.1", "localhost");
    words.push(("certificate".to_owned(), files.certificate.display().to_string()));
    words.push(("secure.named".to_owned(), named));
    words.push(("secure".to_owned(), authority));
    (made, front)
}

/// An image of one layer; a large one is sent in a request of its own, and a small one is not.
fn image(large: bool, gzip: bool) -> ImageBlobs {
    let line = |number: usize| format!("layer canary {number:08}\n");
    let text: String = (0..if large { 140_000 } else { 200 }).map(line).collect();
    let image = TestImage::new("linux/amd64").layer(&[("canary", &text)]);
    if gzip { image.gzip().build() } else { image.build() }
}

/// What a listener does wrong, as the fixtures say it.
pub(super) fn action(text: &str) -> Fault {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("a number: {text}"));
    let words: Vec<&str> = text.splitn(3, ' ').collect();
    match words[..] {
        ["answers", ..] => answer(&text["answers ".len()..], Fault::Answer),
        ["refuses", "slowly", status] => Fault::DripRefusal(status.parse().unwrap(), 100),
        // Without reading what is sent.
        ["refuses", ..] => answer(&text["refuses ".len()..], Fault::Early),
        // But does what it is asked.
        ["lies", ..] => answer(&text["lies ".len()..], Fault::DoneButAnswers),
        ["says", name, value] => Fault::Header(name.trim_end_matches(':').to_owned(), value.to_owned()),
        ["omits", name] => Fault::Header(name.to_owned(), String::new()),
        ["redirects", "to", url] => Fault::Redirect(url.to_owned()),
        ["truncates", "after", count] => Fault::Truncate(number(count)),
        ["stalls", "after", count] => Fault::Stall(number(count)),
        ["resets", "after", count] => Fault::Reset(number(count)),
        ["trickles", "headers", pause] => Fault::TrickleHead(number(pause) as u64),
        ["trickles", "bytes", pause] => Fault::Trickle(number(pause) as u64),
        ["drips", bytes, pause] => Fault::Drip(number(bytes), number(pause) as u64),
        ["wants", "token", token] => Fault::ExpireToken(token.to_owned()),
        ["endless", status] => Fault::EndlessRefusal(status.parse().unwrap()),
        ["changes", "a", "byte"] => Fault::WrongBytes,
        ["adds", "a", "byte"] => Fault::OneMore,
        ["ignores", "the", "range"] => Fault::IgnoreRange,
        ["sends", "another", "range"] => Fault::WrongRange,
        ["hangs", "up"] => Fault::Hangup,
        ["is", "silent"] => Fault::Silent,
        ["loses", "uploads"] => Fault::LoseUploads,
        _ => panic!("no action: {text}"),
    }
}

/// `STATUS [NAME: VALUE]… BODY`.
fn answer(text: &str, kind: impl Fn(u16, Vec<(String, String)>, Vec<u8>) -> Fault) -> Fault {
    let (status, mut rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut headers = Vec::new();
    while let Some((header, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let (name, value) = header.split_once(": ").unwrap_or_else(|| panic!("a header: {header}"));
        headers.push((name.to_owned(), value.to_owned()));
        rest = after.trim_start();
    }
    kind(status.parse().unwrap(), headers, rest.as_bytes().to_vec())
}
