//! Steps and commands in a private network, as flags and the environment ask for it. Nothing is sent there.

use ocibuild_testkit::skip;
use serde_json::Value;

use crate::program::{Ended, Place, ended};
use crate::steps::with_base;

/// A place where steps can have one, with a base image.
fn place(dockerfile: &str) -> Option<Place> {
    let place = with_base(dockerfile)?;
    let report = place.run(&["doctor", "--format", "json"]);
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    if report["step"]["private_network"].is_null() {
        skip(&format!("no private network: {}", report["step"]["no_private_network"]));
        return None;
    }
    Some(place)
}

fn build(place: &Place, network: Option<&str>, args: &[&str]) -> Ended {
    let base = ["build", "--progress", "plain", "--build-context", "base=oci-layout://base.oci"];
    let mut command = place.command(&[&base, args, &["."]].concat());
    command.envs(network.map(|network| ("OCIBUILD_NETWORK", network)));
    ended(command.output().unwrap())
}

const SHOW: &str =
    "FROM base\nRUN readlink /proc/self/ns/net; ls /sys/class/net | tr '\\n' ' '; cat /proc/self/status\n";

#[test]
fn privileged_private_is_what_the_default_means() {
    let Some(place) = place(SHOW) else { return };
    let own = fs_err::read_link("/proc/self/ns/net").unwrap().display().to_string();
    let host = build(&place, None, &["--no-cache"]);
    host.succeeds();
    assert!(host.stderr.contains(&own), "{}", host.stderr);
    for (variable, args) in [
        (Some("private"), &["--no-cache"][..]),
        (None, &["--no-cache", "--network", "private"]),
        (Some("private"), &["--no-cache", "--network=default"]),
    ] {
        let private = build(&place, variable, args);
        private.succeeds();
        assert!(!private.stderr.contains(&own) && private.stderr.contains("net:["), "{}", private.stderr);
        // CAP_NET_RAW is the bit of value 0x2000, and CAP_NET_ADMIN that of 0x1000.
        assert!(private.stderr.contains("CapBnd:\t00000000a80405fb"), "{}", private.stderr);
    }
    // What the default means is no part of the key.
    let cached = build(&place, None, &[]);
    cached.succeeds();
    assert!(cached.stderr.contains("CACHED") && !cached.stderr.contains("net:["), "{}", cached.stderr);
}

#[test]
fn privileged_commands_have_one() {
    let Some(place) = place("FROM base\n") else { return };
    build(&place, None, &["-t", "app"]).succeeds();
    let own = fs_err::read_link("/proc/self/ns/net").unwrap().display().to_string();
    let shown = ["app", "readlink", "/proc/self/ns/net"];
    let private = place.run(&[&["run", "--network", "private"][..], &shown].concat());
    assert_ne!(private.succeeds().trim(), own);
    let mut by_variable = place.command(&[&["run"][..], &shown].concat());
    let by_variable = ended(by_variable.env("OCIBUILD_NETWORK", "private").output().unwrap());
    assert_ne!(by_variable.succeeds().trim(), own);
    assert_eq!(place.run(&[&["run"][..], &shown].concat()).succeeds().trim(), own);
}

#[test]
fn privileged_what_could_leave_it_is_refused_where_it_stands() {
    let Some(place) = place("FROM base\nRUN --security=insecure true\n") else { return };
    let ended = build(&place, Some("private"), &["--allow", "security.insecure"]);
    ended.fails(2, &["could leave its private network", "Dockerfile:2", "--network host"]);
}

#[test]
fn the_host_has_no_name_in_it() {
    let place = Place::with("FROM scratch\n");
    let flags = ["--add-host", "me:host-gateway", "--network", "private"];
    place.build(&flags).fails(2, &["--add-host me:host-gateway", "cannot be reached from a private network"]);
    place.run(&[&["run"][..], &flags, &["app"]].concat()).fails(2, &["--add-host me:host-gateway"]);
    place
        .build(&["--network", "privat"])
        .fails(2, &["--network privat: not one of", "did you mean private?"]);
    let mut named = place.command(&["build", "."]);
    ended(named.env("OCIBUILD_NETWORK", "bridge").output().unwrap()).fails(2, &["OCIBUILD_NETWORK=bridge"]);
}

#[test]
fn privileged_it_is_refused_without_namespaces() {
    let Some(place) = place("FROM base\nRUN true\n") else { return };
    let ended = build(&place, Some("private"), &["--sandbox", "chroot"]);
    ended
        .fails(5, &["a network of the step's own takes an executor with network namespaces", "Dockerfile:2"]);
}
