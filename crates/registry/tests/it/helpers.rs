use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ocibuild_registry::{
    ConfigSource, Credential, CredentialSource as _, CredentialStore, Helpers, Lookup, RegistryKey, Secret,
    Stored, Wanted,
};
use ocibuild_spec::{CancelToken, SourceErrorKind};
use ocibuild_testkit::HangGuard;

/// A helper that does what the script says. Another process writes it: one of ours that is about to start something
/// would keep a file that was open for writing from being run.
fn write(directory: &Path, name: &str, script: &str) {
    use std::io::Write as _;

    let path = directory.join(format!("docker-credential-{name}"));
    let mut shell = Command::new("sh")
        .args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
}

fn helpers(directory: &Path) -> Helpers {
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    let environment = [("PATH", path.clone()), ("DIRECTORY", directory.display().to_string())];
    Helpers::new(path)
        .environment(environment.map(|(key, value)| (OsString::from(key), OsString::from(value))))
        .timeout(Duration::from_millis(700))
}

fn find(helpers: Helpers, config: &str, registry: &str) -> Result<Lookup, ocibuild_spec::SourceError> {
    let source = ConfigSource::text("config", "HERE", Secret::new(config), helpers);
    source.find(Wanted { registry, repository: Some("team/app") }, &CancelToken::new())
}

#[test]
fn a_helper_is_told_the_server_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"server=$(cat); env > "$DIRECTORY/env"
test "$1" = get || exit 3
case "$server" in
https://index.docker.io/v1/) echo '{"ServerURL":"x","Username":"hub","Secret":"s"}' ;;
r.io:5000) echo '{"Username":"<token>","Secret":"idt"}' ;;
*) echo "credentials not found in native keychain"; exit 1 ;;
esac"#;
    write(directory.path(), "good.one_2-x", script);
    let config = r#"{"credsStore":"good.one_2-x","auths":{"else.io":{"auth":"YTpi"},"r.io:5000":{}}}"#;
    for (registry, expected) in [
        ("docker.io", Some("password of hub")),
        ("r.io:5000", Some("identity token")),
        ("else.io", Some("password of a")),
        ("r.io", None),
    ] {
        let found = find(helpers(directory.path()), config, registry).unwrap();
        let shown = match &found {
            Lookup::Match(hit) => Some(hit.credential.to_string()),
            Lookup::Miss(_) => None,
        };
        assert_eq!(shown.as_deref(), expected, "{found:?}");
    }
    let seen = fs_err::read_to_string(directory.path().join("env")).unwrap();
    assert!(seen.contains("DIRECTORY=") && !seen.contains("CARGO"), "{seen}");
}

#[test]
fn helpers_that_misbehave_are_named_and_ended() {
    let directory = tempfile::tempdir().unwrap();
    for (name, script, words) in [
        ("hang", "exec sleep 600", "did not end within"),
        ("deaf", "exec sleep 600 <&-", "did not end within"),
        ("large", "exec head -c 1073741824 /dev/zero", "more than a megabyte"),
        ("loud", "head -c 100000000 /dev/zero >&2; exec sleep 600", "did not end within"),
        ("garbage", "echo c4n4ry garbage", "not the JSON"),
        ("array", "echo '[\"c4n4ry\"]'", "not the JSON"),
        ("half", "echo '{\"Secret\":\"c4n4ry\"}'", "not the JSON"),
        ("silent", "exit 0", "not the JSON"),
        ("newline", r#"printf '%s' '{"Username":"a","Secret":"c4n4ry\nx"}'"#, "control character"),
        ("colon", r#"printf '%s' '{"Username":"a:b","Secret":"c4n4ry"}'"#, "colon"),
        ("locked", "echo 'the key ring is locked'; exit 1", "the key ring is locked"),
        ("complains", "echo 'no bus' >&2; exit 1", "no bus"),
        ("leaks", r#"echo '{"Username":"a","Secret":"c4n4ry"}'; exit 1"#, "does not say why"),
        ("escape", r"printf '\033[2Jbad\r\n'; exit 1", "`get`: [2Jbad"),
    ] {
        write(directory.path(), name, script);
        let _guard = HangGuard::new(format!("the helper {name}"));
        let config = format!(r#"{{"credHelpers":{{"r.io":"{name}"}}}}"#);
        let error = find(helpers(directory.path()), &config, "r.io").unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Denied, "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(&format!("docker-credential-{name}")) && text.contains(words), "{text}");
        assert!(!text.contains("c4n4ry") && !text.contains('\u{1b}'), "{text}");
        assert!(error.hint_text().unwrap().contains("credHelpers of HERE"), "{error:?}");
    }
}

#[test]
fn names_of_helpers_lead_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "evil", "echo '{\"Username\":\"a\",\"Secret\":\"b\"}'");
    for name in ["../evil", "/bin/sh", "a b", "a\\n", "x;sh", "é"] {
        let config = format!(r#"{{"credsStore":"{name}"}}"#);
        let error = find(helpers(directory.path()), &config, "r.io").unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Configuration, "{name}: {error}");
    }
    let config = r#"{"credsStore":"evil"}"#;
    for path in ["", ".", "relative:also/relative", "/nowhere"] {
        let error = find(Helpers::new(path), config, "r.io").unwrap_err();
        assert!(error.to_string().contains("in no directory of PATH"), "{error}");
    }
    assert!(matches!(find(helpers(directory.path()), config, "r.io"), Ok(Lookup::Match(_))));
    fs_err::set_permissions(
        directory.path().join("docker-credential-evil"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    find(Helpers::new(directory.path()), config, "r.io").unwrap_err();
}

#[test]
fn cancelling_ends_a_helper_at_once() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "hang", "exec sleep 600");
    let source = ConfigSource::text(
        "config",
        "HERE",
        Secret::new(r#"{"credsStore":"hang"}"#),
        helpers(directory.path()).timeout(Duration::from_mins(10)),
    );
    let cancel = CancelToken::new();
    let canceller = cancel.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        canceller.cancel();
    });
    let _guard = HangGuard::new("the helper that was cancelled");
    let error = source.find(Wanted { registry: "r.io", repository: None }, &cancel).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Cancelled);
    thread.join().unwrap();
}

#[test]
fn logins_go_to_the_helper_of_the_registry() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"case $1 in store) cat > "$DIRECTORY/kept" ;; erase) cat > "$DIRECTORY/erased"; rm "$DIRECTORY/kept" ;; esac"#;
    write(directory.path(), "keep", script);
    let path = directory.path().join("config.json");
    fs_err::write(&path, r#"{"credHelpers":{"r.io":"keep"},"auths":{"r.io":{"auth":"b2xkOnB3"}}}"#).unwrap();
    let store = CredentialStore::new(&path, helpers(directory.path()));
    let key = RegistryKey::parse("r.io").unwrap();
    let credential = Credential::password("alice", Secret::new("c4n4ry"));
    let kept = store.put(&key, &credential, &CancelToken::new()).unwrap();
    assert_eq!(kept, Stored::ByHelper("keep".to_owned()));
    let given = fs_err::read_to_string(directory.path().join("kept")).unwrap();
    assert_eq!(given, r#"{"Secret":"c4n4ry","ServerURL":"r.io","Username":"alice"}"#);
    let text = fs_err::read_to_string(&path).unwrap();
    assert!(
        text.contains("\"r.io\": {}") && !text.contains("b2xkOnB3") && !text.contains("c4n4ry"),
        "{text}"
    );
    assert!(store.remove(&key, &CancelToken::new()).unwrap());
    assert_eq!(fs_err::read_to_string(directory.path().join("erased")).unwrap(), "r.io");
    assert!(!directory.path().join("kept").exists());
    // Helpers know no repositories.
    let scoped = RegistryKey::parse("r.io/team").unwrap();
    assert_eq!(store.put(&scoped, &credential, &CancelToken::new()).unwrap(), Stored::InFile);
}
