//! Users who are not root.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use fs_err as fs;
use ocibuild_testkit::skip;

use crate::program::{Ended, Place, ended, namespaces};

const ID: u32 = 41_322;

/// Runs the program as a user who exists in a mount namespace of the test alone, with or without a range of ids.
pub(crate) fn as_user(place: &Place, ranges: bool, args: &[&str]) -> Ended {
    ended(user_command(place, ranges, args).stdin(Stdio::null()).output().unwrap())
}

/// The same, about to be run.
pub(crate) fn user_command(place: &Place, ranges: bool, args: &[&str]) -> Command {
    let directory = place.path("").display().to_string();
    let range = if ranges { format!("kit:{}:65536", 700_000) } else { String::new() };
    let setup = format!(
        "cd {directory}; for f in $(ls -d nodes/* 2>/dev/null); do mount --bind $f /dev/${{f#nodes/}} || exit 99; done; echo kit:x:{ID}:{ID}::/:/bin/sh > passwd; echo '{range}' > subuid; \
         for f in passwd:passwd subuid:subuid subuid:subgid; do \
           [ -e /etc/${{f#*:}} ] || touch /etc/${{f#*:}}; mount --bind ${{f%:*}} /etc/${{f#*:}} || exit 99; done; \
         exec setpriv --reuid {ID} --regid {ID} --clear-groups \"$@\""
    );
    let state = place.path(if ranges { "state-ranges" } else { "state-one" });
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", &setup, "sh"])
        .arg(place.path("ocibuild"))
        .arg("--root")
        .arg(state)
        .args(args);
    command.env("SOURCE_DATE_EPOCH", "0").env("HOME", place.path(""));
    command
}

/// The program and the files of a place for somebody who is not root, where root can make one; which kinds there are.
pub(crate) fn give_away(place: &Place) -> Option<Vec<bool>> {
    if !namespaces() || !ocibuild_testkit::sys::in_initial_user_namespace() {
        skip("takes root, to be somebody else");
        return None;
    }
    if let Err(error) = ocibuild_testkit::sys::user_namespaces_work() {
        skip(&error);
        return None;
    }
    fs::copy(env!("CARGO_BIN_EXE_ocibuild"), place.path("ocibuild")).unwrap();
    let open = std::fs::Permissions::from_mode(0o1777);
    fs::set_permissions(place.path(""), open).unwrap();
    let mut kinds = vec![false];
    if Path::new("/usr/bin/newuidmap").exists() {
        kinds.push(true);
    } else {
        skip("newuidmap is missing");
    }
    Some(kinds)
}
