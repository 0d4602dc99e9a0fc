//! `doctor`, as several users.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::{Value, json};

use crate::program::{Ended, Place, ended, namespaces};

/// The members of an object, in the order of their names.
fn members(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

fn names(place: &Place) -> Vec<String> {
    let entries = fs_err::read_dir(place.path(".")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_json_is_as_documented() {
    let place = Place::new();
    let answer = place.run(&["doctor", "--format", "json"]);
    let report: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(members(&report), ["kernel", "runtimes", "sandbox", "sandboxes", "snapshots", "step", "user"]);
    let kinds = report["sandboxes"].as_array().unwrap();
    let found: Vec<&Value> = kinds.iter().map(|kind| &kind["name"]).collect();
    assert_eq!(found, ["root", "user-namespace", "one-id", "chroot", "unprivileged"]);
    for kind in kinds {
        assert_eq!(members(kind), ["hints", "name", "reason", "state", "users"]);
        assert_eq!(kind["users"].is_array(), kind["state"] == "works", "{kind}");
        assert_eq!(kind["reason"].is_object(), kind["state"] == "refused", "{kind}");
    }
    assert_eq!(kinds[4]["state"], "unsupported");
    assert_eq!(members(&report["snapshots"]), ["driver", "reason", "tried_in"]);
    let works = !report["sandbox"].is_null();
    assert_eq!(answer.code, Some(if works { 0 } else { 5 }), "{}", answer.stderr);
    assert_eq!(answer.stderr.is_empty(), works, "{}", answer.stderr);
    if works {
        let step = members(&report["step"]);
        assert_eq!(step.len(), 11, "{step:?}");
        assert!(step.contains(&"own_proc") && step.contains(&"devices"), "{step:?}");
    }
    // Neither a state directory nor anything else.
    assert_eq!(names(&place), Vec::<String>::new());
}

#[test]
fn the_text_has_a_line_for_each_kind() {
    let place = Place::new();
    let answer = place.run(&["doctor"]);
    let lines: Vec<&str> = answer.stdout.lines().collect();
    for kind in [
        "namespaces made by root",
        "user namespace with several ids",
        "user namespace with one id",
        "chroot without namespaces",
        "no namespaces and no chroot",
    ] {
        assert_eq!(lines.iter().filter(|line| line.starts_with(kind)).count(), 1, "{kind} {lines:#?}");
    }
    assert_eq!(lines.iter().filter(|line| line.ends_with("not supported yet")).count(), 1);
    assert!(lines.contains(&"Runtimes:") && lines.contains(&"Host:"), "{lines:#?}");
    place.run(&["doctor", "--format", "yaml"]).fails(2, &["yaml"]);
}

const ID: u32 = 41_322;

/// The program as a user that exists in a mount namespace alone, with these ids in `/etc/subuid` and `/etc/subgid`.
fn as_user(ranges: &str, args: &str) -> Option<Ended> {
    if !rustix::process::geteuid().is_root() || !namespaces() {
        ocibuild_testkit::skip("this takes root, to be somebody else");
        return None;
    }
    let place = Place::new();
    for (name, text) in [
        ("passwd", format!("root:x:0:0::/root:/bin/sh\nkit:x:{ID}:{ID}::/:/bin/sh\n")),
        ("subuid", ranges.to_owned()),
        ("subgid", ranges.to_owned()),
    ] {
        place.write(name, &text);
    }
    let directory = place.path("home");
    fs_err::create_dir(&directory).unwrap();
    std::os::unix::fs::chown(&directory, Some(ID), Some(ID)).unwrap();
    fs_err::set_permissions(place.path("."), std::fs::Permissions::from_mode(0o755)).unwrap();
    fs_err::copy(env!("CARGO_BIN_EXE_ocibuild"), place.path("program")).unwrap();
    let setup = format!(
        "for f in passwd subuid subgid; do [ -e /etc/$f ] || touch /etc/$f; mount --bind $f /etc/$f || exit 99; done; \
         exec setpriv --reuid {ID} --regid {ID} --clear-groups ./program --root home/state {args}"
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &setup]).current_dir(place.path("."));
    let ended = ended(command.output().unwrap());
    assert_eq!(fs_err::read_dir(directory).unwrap().count(), 0, "nothing is left behind");
    Some(ended)
}

fn report(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error} {}", ended.stderr))
}

#[test]
fn privileged_a_user_without_ids_is_told_how_to_get_them() {
    let Some(ended) = as_user("", "doctor --format json") else { return };
    let found = report(&ended);
    assert_eq!((ended.code, &found["sandbox"], &found["user"]), (Some(0), &json!("one-id"), &json!(ID)));
    let kinds = &found["sandboxes"];
    assert_eq!(kinds[0]["reason"]["code"], "not-root");
    assert_eq!(kinds[1]["reason"]["code"], "no-range");
    assert_eq!(kinds[1]["reason"]["message"], "/etc/subuid has no range for this user");
    assert!(kinds[1]["hints"][0].as_str().unwrap().contains("usermod --add-subuids"), "{kinds}");
    assert_eq!(kinds[2]["users"], json!([[0, 0]]));
    assert_eq!(found["step"]["devices"], "mounts");
    let text = as_user("", "doctor").unwrap();
    assert!(
        text.stdout.contains("What would allow more:\n  have root give this user ids"),
        "{}",
        text.stdout
    );
}

#[test]
fn privileged_a_user_with_ids_has_them() {
    if !std::path::Path::new("/usr/bin/newuidmap").exists() {
        return ocibuild_testkit::skip("newuidmap is missing");
    }
    let Some(ended) = as_user("kit:500000:65536\n", "doctor --format json") else { return };
    let found = report(&ended);
    assert_eq!((ended.code, &found["sandbox"]), (Some(0), &json!("user-namespace")));
    assert_eq!(found["sandboxes"][1]["users"], json!([[0, 65_536]]));
    assert_eq!(found["sandboxes"][2]["state"], "works");
}

#[test]
fn privileged_root_without_capabilities_is_told_which() {
    if !rustix::process::geteuid().is_root() {
        return ocibuild_testkit::skip("this takes root");
    }
    let place = Place::new();
    let without = |dropped: &str, format: &str| {
        let plain = place.command(&["doctor", "--format", format]);
        let mut command = Command::new("setpriv");
        command.args([&format!("--bounding-set={dropped}"), "--inh-caps=-all"]);
        command.arg(plain.get_program()).args(plain.get_args()).current_dir(place.path("."));
        ended(command.output().unwrap())
    };
    // No namespaces, but what Docker gives.
    let ended = without("-sys_admin,-setfcap", "json");
    let found = report(&ended);
    assert_eq!((ended.code, &found["sandbox"]), (Some(0), &json!("chroot")), "{found}");
    let step = &found["step"];
    assert_eq!((&step["own_proc"], &step["own_network"]), (&json!(true), &json!(false)), "{found}");
    assert_eq!(step["devices"], json!("inherited"), "{found}");
    let limits: Vec<&Value> = step["limits"].as_array().unwrap().iter().map(|limit| &limit["of"]).collect();
    assert_eq!(limits, ["memory", "processes", "CPU time", "CPUs"], "{found}");
    let nothing = without("-sys_admin,-setfcap,-sys_chroot", "json");
    let found = report(&nothing);
    assert_eq!((nothing.code, &found["sandbox"], &found["step"]), (Some(5), &Value::Null, &Value::Null));
    assert_eq!(nothing.stderr, "error: no RUN can be executed here\n");
    let reason = |number: usize| &found["sandboxes"][number]["reason"];
    assert_eq!(reason(0)["obstacles"], json!(["this process is root without CAP_SYS_ADMIN"]));
    for number in [1, 2] {
        assert_eq!(reason(number)["errno"], json!(1), "{found}");
        assert_eq!(reason(number)["obstacles"], json!(["this process does not have CAP_SETFCAP"]));
    }
    assert_eq!(found["snapshots"]["driver"], "copy");
    assert_eq!(reason(3)["obstacles"], json!(["this process does not have CAP_SYS_CHROOT"]));
    let text = without("-sys_admin,-setfcap,-sys_chroot", "text");
    assert!(text.stdout.contains("docker run --cap-add SETFCAP"), "{}", text.stdout);
    assert_eq!(names(&place), Vec::<String>::new());
}

#[test]
fn privileged_a_build_says_once_what_its_steps_run_in() {
    if !rustix::process::geteuid().is_root() || !namespaces() {
        return ocibuild_testkit::skip("this takes root, which may mount");
    }
    let place = Place::with("FROM base\nRUN echo one\nRUN echo two\n");
    ocibuild_testkit::HostBase::find().unwrap().write_layout(place.path("base")).unwrap();
    let base = format!("base=oci-layout://{}", place.path("base").display());
    let build = |progress: &str| {
        let flags = ["build", "--snapshotter", "copy", "--progress", progress, "--build-context", &base, "."];
        let ended = place.run(&flags);
        ended.succeeds();
        ended.stderr
    };
    let said =
        |text: &str| text.lines().filter(|line| line.starts_with("sandbox: ")).map(str::to_owned).collect();
    let first: Vec<String> = said(&build("plain"));
    assert_eq!(first, ["sandbox: namespaces made by root, copies"]);
    let cached: Vec<String> = said(&build("plain"));
    assert_eq!(cached, Vec::<String>::new(), "nothing runs");
    place.write("Dockerfile", "FROM base\nRUN echo other\n");
    let events = build("json");
    let mut objects = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let event = objects.find(|object| object["event"] == "sandbox").expect("there is one");
    assert_eq!(members(&event), ["event", "kind", "runtime", "snapshots", "text", "users", "v"]);
    assert_eq!((&event["kind"], &event["snapshots"]), (&json!("root"), &json!("copy")));
    assert_eq!(
        (&event["runtime"], &event["text"]),
        (&Value::Null, &json!("namespaces made by root, copies"))
    );
}
