//! Logging in, and what is sent afterwards.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ocibuild_testkit::{Fault, Reply, TestImage, TestRegistry, WebServer, skip};

use crate::program::{Ended, Place, ended};

/// Must never be seen on a screen.
const CANARY: &str = "pa55-c4n4ry";
/// `alice:pa55-c4n4ry`
const ENCODED: &str = "YWxpY2U6cGE1NS1jNG40cnk=";

fn without_secret(ended: Ended) -> Ended {
    for text in [&ended.stdout, &ended.stderr] {
        assert!(!text.contains(CANARY) && !text.contains(ENCODED), "{text}");
    }
    ended
}

/// Runs the program with a file as its standard input, which it need not read.
fn with_input(place: &Place, arguments: &[&str], input: &str) -> Ended {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, input.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    without_secret(ended(place.command(arguments).stdin(file).output().unwrap()))
}

fn login(place: &Place, arguments: &[&str], password: &str) -> Ended {
    let mut all = vec!["login", "-u", "alice", "--password-stdin", "--retry", "0"];
    all.extend(arguments);
    with_input(place, &all, &format!("{password}\n"))
}

fn run(place: &Place, arguments: &[&str]) -> Ended {
    without_secret(place.run(arguments))
}

fn config(place: &Place) -> Option<String> {
    fs_err::read_to_string(place.path(".docker/config.json")).ok()
}

/// Debian's `docker-registry` that knows alice; ended on drop.
struct RealRegistry {
    process: Child,
    authority: String,
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(place: &Place) -> Option<RealRegistry> {
    let made = Command::new("htpasswd").args(["-Bbn", "alice", CANARY]).output().ok()?;
    place.write("htpasswd", &String::from_utf8(made.stdout).unwrap());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = place.path("");
    let at = at.display();
    place.write(
        "registry.yml",
        &format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {at}/data}}}}\n\
             auth: {{htpasswd: {{realm: test, path: {at}/htpasswd}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
        ),
    );
    let process = Command::new("docker-registry")
        .arg("serve")
        .arg(place.path("registry.yml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let registry = RealRegistry { process, authority: format!("127.0.0.1:{port}") };
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "docker-registry does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    Some(registry)
}

#[test]
fn the_reference_registry_takes_a_login() {
    let place = Place::with("FROM scratch\nCOPY Dockerfile /\n");
    let Some(server) = start(&place) else { return skip("docker-registry or htpasswd is not installed") };
    let host = server.authority.as_str();
    let image = format!("{host}/team/app:1");
    place.build(&["-t", &image]).succeeds();
    run(&place, &["push", &image]).fails(4, &["asks for a login", &format!("ocibuild login {host}")]);
    login(&place, &[host], "wrong").fails(4, &["UNAUTHORIZED", "password of alice was sent"]);
    assert_eq!(config(&place), None, "a password that was refused was stored");
    let ended = login(&place, &[host], CANARY);
    assert_eq!(ended.succeeds(), "Login Succeeded\n");
    assert!(
        ended.stderr.contains("unencrypted in") && ended.stderr.contains("config.json"),
        "{}",
        ended.stderr
    );
    assert!(config(&place).unwrap().contains(ENCODED));
    let mode = fs_err::metadata(place.path(".docker/config.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A refused one does not replace it either.
    login(&place, &[host], "wrong").fails(4, &["UNAUTHORIZED"]);
    assert!(config(&place).unwrap().contains(ENCODED));
    run(&place, &["push", &image]).succeeds();
    run(&place, &["rmi", &image]).succeeds();
    run(&place, &["pull", &image]).succeeds();
    place.write("Dockerfile", &format!("FROM {image}\nCOPY Dockerfile /more\n"));
    without_secret(place.build(&["--pull"])).succeeds();
    // What is stored here is read by others, and what others store is read here.
    let skopeo = |arguments: &[&str]| {
        let mut command = Command::new("skopeo");
        command.args(arguments).env("HOME", place.path("")).stdin(Stdio::null()).output()
    };
    let (own, other) = (place.path(".docker/config.json"), place.path("auth.json"));
    let (own, other) = (own.to_str().unwrap(), other.to_str().unwrap());
    let listed =
        skopeo(&["list-tags", "--tls-verify=false", "--authfile", own, &format!("docker://{host}/team/app")]);
    match listed {
        Err(_) => skip("skopeo is not installed"),
        Ok(listed) => {
            assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
            let arguments =
                ["login", "--tls-verify=false", "--authfile", other, "-u", "alice", "-p", CANARY, host];
            assert!(skopeo(&arguments).unwrap().status.success());
            run(&place, &["logout", host]).succeeds();
            let command = place.command(&["pull", &image]).env("REGISTRY_AUTH_FILE", other).output().unwrap();
            without_secret(crate::program::ended(command)).succeeds();
            login(&place, &[host], CANARY).succeeds();
        }
    }
    assert_eq!(run(&place, &["logout", host]).succeeds(), format!("Removing login credentials for {host}\n"));
    assert_eq!(run(&place, &["logout", host]).succeeds(), format!("Not logged in to {host}\n"));
    let ended = without_secret(place.build(&["--pull"]));
    ended.fails(4, &["asks for a login", "Dockerfile:1", &format!("ocibuild login {host}")]);
    // Credentials that are there and wrong are told with where they are from.
    let ended = place
        .command(&["pull", "--retry", "0", &image])
        .env("OCIBUILD_REGISTRY", host)
        .env("OCIBUILD_REGISTRY_USERNAME", "alice")
        .env("OCIBUILD_REGISTRY_PASSWORD", format!("{CANARY}x"))
        .output()
        .unwrap();
    let ended = crate::program::ended(ended);
    without_secret(ended).fails(4, &["UNAUTHORIZED", "password of alice was sent", "OCIBUILD_REGISTRY"]);
}

#[test]
fn token_services_are_asked_as_well() {
    let (place, server, tokens) = (Place::new(), TestRegistry::start(), WebServer::start());
    server.push("team/app", "1", &TestImage::new("linux/amd64").build());
    server.require_token("t0ken", Some(&tokens.url("/token")));
    let host = &server.authority();
    tokens.put("/token", Reply::of(r#"{"details":"incorrect username or password"}"#).status(401));
    login(&place, &[host], CANARY).fails(4, &["401: incorrect username or password"]);
    assert_eq!(config(&place), None);
    tokens.put("/token", Reply::of(r#"{"token":"t0ken"}"#));
    login(&place, &[host], CANARY).succeeds();
    run(&place, &["pull", &server.reference("team/app", "1")]).succeeds();
    let asked = tokens.requests().pop().unwrap();
    assert_eq!(asked.headers["authorization"], format!("Basic {ENCODED}"));
    // On another host it takes a word of the user.
    server.require_token("t0ken", Some(&tokens.url("/token").replace("127.0.0.1", "localhost")));
    let before = tokens.requests().len();
    let image = server.reference("team/app", "1");
    run(&place, &["pull", &image])
        .fails(4, &["localhost", "--allow-token-realm localhost", "nothing was sent"]);
    login(&place, &[host], CANARY).fails(4, &["--allow-token-realm localhost"]);
    assert_eq!(tokens.requests().len(), before);
    run(&place, &["pull", "--allow-token-realm", &format!("{host}=localhost"), &image]).succeeds();
    login(&place, &["--allow-token-realm", "localhost", host], CANARY).succeeds();
    run(&place, &["pull", "--allow-token-realm", "http://localhost/", &image]).fails(2, &["not a host"]);
}

#[test]
fn what_is_wrong_with_a_login_is_told_before_anybody_is_asked() {
    let place = Place::new();
    for (arguments, words) in [
        (vec!["-u", "a", "-p", CANARY, "r.io"], "not accepted on the command line"),
        (vec!["-u", "a", &format!("--password={CANARY}"), "r.io"], "not accepted on the command line"),
        (vec!["-u", "a", &format!("-p{CANARY}"), "r.io"], "not accepted on the command line"),
        (vec!["--password-stdin", "r.io"], "needs a user name"),
        (vec!["-u", "a", "r.io"], "no terminal"),
        (vec!["r.io"], "no terminal"),
        (vec!["-u", "a", "--password-stdin", "registry"], "no image has a registry of this name"),
        (vec!["-u", "a", "--password-stdin", "a b"], "not a registry"),
        (vec!["-u", "a", "--password-stdin", "r.io:0"], "not a registry"),
        (vec!["-u", "a", "--password-stdin", "r.io"], "the password is empty"),
    ] {
        let mut all = vec!["login"];
        all.extend(arguments);
        with_input(&place, &all, "\n").fails(2, &[words]);
    }
    with_input(&place, &["login", "-u", "a", "--password-stdin", "r.io"], "a\nb\n")
        .fails(2, &["several lines"]);
    assert_eq!(config(&place), None);
    place.write(".docker/config.json", "{ \"auths\": ");
    let server = TestRegistry::start();
    login(&place, &[&server.authority()], CANARY).fails(2, &["config.json", "ends early"]);
    assert_eq!(config(&place).unwrap(), "{ \"auths\": ");
}

#[test]
fn an_open_registry_checks_nothing() {
    let (place, server) = (Place::new(), TestRegistry::start());
    let ended = login(&place, &[&server.authority()], CANARY);
    assert_eq!(ended.succeeds(), "Login Succeeded\n");
    assert!(ended.stderr.contains("does not ask for a login"), "{}", ended.stderr);
    assert!(server.requests().iter().all(|request| !request.headers.contains_key("authorization")));
    // A path is for these repositories alone.
    login(&place, &[&format!("{}/team", server.authority())], CANARY).succeeds();
    assert!(config(&place).unwrap().contains(&format!("\"{}/team\"", server.authority())));
}

#[test]
fn it_is_explained_which_credentials_win() {
    let place = Place::new();
    let text = r#"{"auths":{"r.io:5000":{"auth":"AUTH"},"r.io:5000/team":{"identitytoken":"AUTH"}}}"#;
    place.write(".docker/config.json", &text.replace("AUTH", ENCODED));
    place.write("auth.json", &format!(r#"{{"auths":{{"r.io:5000":{{"auth":"{ENCODED}"}}}}}}"#));
    let explain = |image: &str, variables: &[(&str, &str)]| {
        let mut command = place.command(&["auth", "explain", "--insecure-registry", "r.io:5000", image]);
        without_secret(ended(command.envs(variables.iter().copied()).output().unwrap()))
    };
    let told = explain("r.io:5000/team/app:1", &[]);
    let text = told.succeeds();
    assert!(text.starts_with("SOURCE ") && text.contains("there is no such file"), "{text}");
    assert!(text.contains("entry r.io:5000/team ") && text.contains("identity token"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("docker ") && line.ends_with("used")), "{text}");
    let named = place.path("auth.json").display().to_string();
    let told = explain("r.io:5000/other", &[("REGISTRY_AUTH_FILE", &named)]);
    let text = told.succeeds();
    let verdict = |source: &str| {
        let line = text.lines().find(|line| line.starts_with(source)).unwrap();
        line.rsplit("   ").next().unwrap().trim().to_owned()
    };
    assert_eq!(
        (verdict("REGISTRY_AUTH_FILE"), verdict("docker ")),
        ("used".into(), "not reached".into()),
        "{text}"
    );
    assert!(text.contains("password of alice"), "{text}");
    assert!(text.ends_with(&format!("is sent, from REGISTRY_AUTH_FILE ({named})\n")), "{text}");
    let told = explain("r.io/other", &[]);
    assert!(told.succeeds().ends_with("r.io/other: no credentials are sent\n"), "{}", told.stdout);
    let objects = run(&place, &["auth", "explain", "--format", "json", "r.io:5000/other"]);
    let used =
        objects.succeeds().lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let used: Vec<_> = used.filter(|object| object["verdict"] == "used").collect();
    assert_eq!((used.len(), used[0]["username"].as_str()), (1, Some("alice")));
    // Mirrors have credentials of their own.
    let mirrored = run(&place, &["auth", "explain", "--registry-mirror", "r.io=r.io:5000/team", "r.io/app"]);
    let conclusions: Vec<&str> =
        mirrored.succeeds().lines().filter(|line| line.starts_with("r.io")).collect();
    assert!(conclusions[0].starts_with("r.io:5000/team/app: the identity token is sent"), "{conclusions:?}");
    assert_eq!(conclusions[1], "r.io/app: no credentials are sent");
    // What cannot be read is an error here as it is for a pull.
    place.write(".docker/config.json", "no json");
    let told = explain("r.io:5000/x", &[]);
    assert_eq!(told.code, Some(2), "{}", told.stderr);
    assert!(told.stdout.contains("nothing is sent, as docker cannot be used"), "{}", told.stdout);
    assert!(told.stderr.contains("config.json is malformed: line 1"), "{}", told.stderr);
}

#[test]
fn files_that_everybody_can_read_are_warned_about() {
    let (place, server) = (Place::new(), TestRegistry::start());
    server.push("app", "1", &TestImage::new("linux/amd64").build());
    server.require_token("t0ken", None);
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"{ENCODED}"}}}}}}"#, server.authority());
    place.write(".docker/config.json", &text);
    let file = place.path(".docker/config.json");
    for (mode, is_warned) in [(0o644, true), (0o600, false)] {
        fs_err::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let ended = run(&place, &["pull", &server.reference("app", "1")]);
        ended.succeeds();
        assert_eq!(
            ended.stderr.contains("warning: everybody on this machine can read"),
            is_warned,
            "{}",
            ended.stderr
        );
    }
    fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    place.write("Dockerfile", &format!("FROM {}\n", server.reference("app", "1")));
    let ended = without_secret(place.run(&["build", "--pull", "--progress", "json", "."]));
    ended.succeeds();
    let objects: Vec<serde_json::Value> =
        ended.stderr.lines().map(|line| serde_json::from_str(line).expect("objects only")).collect();
    assert!(
        objects.iter().any(|object| object.to_string().contains("everybody on this machine")),
        "{objects:?}"
    );
}

#[test]
fn helpers_are_asked_and_their_failures_told() {
    let (place, server) = (Place::new(), TestRegistry::start());
    server.push("app", "1", &TestImage::new("linux/amd64").build());
    let image = server.reference("app", "1");
    let script = |name: &str, text: &str| {
        // Written by another process, so that nothing of this one keeps it open for writing.
        let path = place.path("bin").join(format!("docker-credential-{name}"));
        let command =
            "mkdir -p \"${1%/*}\" && printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"";
        let made = Command::new("sh").args(["-c", command, "sh"]).arg(path).arg(text).status().unwrap();
        assert!(made.success());
    };
    let pull = |helper: &str| {
        place.write(".docker/config.json", &format!(r#"{{"credsStore":"{helper}"}}"#));
        let challenge = vec![("www-authenticate".to_owned(), "Basic realm=\"x\"".to_owned())];
        server.fault("/v2/", 1, Fault::Answer(401, challenge, Vec::new()));
        let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap());
        let ended =
            ended(place.command(&["pull", "--retry", "0", &image]).env("PATH", path).output().unwrap());
        without_secret(ended)
    };
    script("good", &format!(r#"echo '{{"Username":"alice","Secret":"{CANARY}"}}'"#));
    pull("good").succeeds();
    assert!(server.requests().iter().any(|request| {
        request.headers.get("authorization").is_some_and(|header| *header == format!("Basic {ENCODED}"))
    }));
    script("garbage", &format!("echo '{CANARY}'"));
    pull("garbage").fails(4, &["docker-credential-garbage", "not the JSON", "credsStore"]);
    script("endless", "exec head -c 1073741824 /dev/zero");
    pull("endless").fails(4, &["docker-credential-endless", "more than a megabyte"]);
    pull("missing").fails(4, &["docker-credential-missing", "in no directory of PATH", "credsStore"]);
    pull("../evil").fails(2, &["is not the name of a credential helper"]);
}

#[test]
fn a_terminal_is_asked_without_showing_the_password() {
    let (place, server) = (Place::new(), TestRegistry::start());
    server.require_token("t", None);
    let script = Command::new("script").arg("--version").output();
    if script.is_err() {
        return skip("the program script is not installed");
    }
    let program = place.command(&["login", &server.authority()]);
    let line: Vec<String> = std::iter::once(program.get_program())
        .chain(program.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut child = Command::new("script")
        .args(["-qec", &line.join(" "), "/dev/null"])
        .env("HOME", place.path(""))
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut screen = Vec::new();
    for (prompt, text) in [("Username: ", "alice\n"), ("Password: ", &format!("{CANARY}\n"))] {
        while !screen.ends_with(prompt.as_bytes()) {
            let mut byte = [0];
            assert_eq!(stdout.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&screen));
            screen.push(byte[0]);
        }
        stdin.write_all(text.as_bytes()).unwrap();
    }
    stdout.read_to_end(&mut screen).unwrap();
    let mut output = child.wait_with_output().unwrap();
    output.stdout = screen;
    let ended = without_secret(ended(output));
    drop(stdin);
    let shown = ended.succeeds();
    assert!(
        shown.contains("Username: ") && shown.contains("Password: ") && shown.contains("Login Succeeded"),
        "{shown}"
    );
    assert!(config(&place).unwrap().contains(ENCODED));
}

#[test]
fn the_identity_of_a_cloud_is_explained_and_asked_about_its_own_registries_alone() {
    let (place, cloud) = (Place::new(), WebServer::start());
    // `AWS:pa55-c4n4ry`
    let answer =
        r#"{"authorizationData":[{"authorizationToken":"QVdTOnBhNTUtYzRuNHJ5","expiresAt":4102444800}]}"#;
    cloud.put("/ecr", Reply::of(answer));
    let explain = |image: &str| {
        let mut command = place.command(&["auth", "explain", image]);
        command.env("AWS_ACCESS_KEY_ID", "AKIA").env("AWS_SECRET_ACCESS_KEY", CANARY);
        command.env("AWS_ENDPOINT_URL_ECR", cloud.url("/ecr"));
        without_secret(ended(command.output().unwrap()))
    };
    let told = explain("123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app");
    let line = told.succeeds().lines().find(|line| line.starts_with("AWS identity")).unwrap().to_owned();
    assert!(line.contains("password of AWS") && line.ends_with("used"), "{line}");
    assert_eq!(cloud.requests().len(), 1);
    let told = explain("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.test/team/app");
    assert!(told.succeeds().contains("it is not an AWS registry"), "{}", told.stdout);
    assert_eq!(cloud.requests().len(), 1);
    cloud.put("/ecr", Reply::of(r#"{"message":"the keys are not valid"}"#).status(400));
    let told = explain("123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app");
    assert_eq!(told.code, Some(4), "{}", told.stderr);
    assert!(told.stderr.contains("400: the keys are not valid"), "{}", told.stderr);
}
