//! Flags about steps, as the program takes them: secrets, agents, limits; and how a container ends.

use ocibuild_testkit::{HostBase, skip};

use crate::program::{Ended, Place, namespaces};

/// A place with a base image that has a shell.
pub(crate) fn with_base(dockerfile: &str) -> Option<Place> {
    if !namespaces() {
        skip("this process may make no namespaces");
        return None;
    }
    let place = Place::with(dockerfile);
    match HostBase::find().and_then(|base| base.write_layout(place.path("base.oci"))) {
        Ok(_) => Some(place),
        Err(error) => {
            skip(&format!("this host gives no base image: {error}"));
            None
        }
    }
}

const BASE: [&str; 2] = ["--build-context", "base=oci-layout://base.oci"];

fn build(place: &Place, args: &[&str]) -> Ended {
    place.build(&[&BASE, args].concat())
}

#[test]
fn secrets_come_from_files_and_variables_and_go_nowhere() {
    let Some(place) = with_base(
        "FROM base\nCOPY Dockerfile /\nRUN --mount=type=secret,id=file --mount=type=secret,id=NAMED,env=NAMED \\\n\
         --mount=type=secret,id=other,env=OTHER,required \\\n\
         test \"$(cat /run/secrets/file)\" = \"$OTHER\" && test ${#NAMED} = 15 && test ${#OTHER} = 11\n",
    ) else {
        return;
    };
    place.write("outside/secret", "canary-file");
    let flags = [
        "--secret",
        "id=file,src=outside/secret",
        "--secret",
        "id=NAMED",
        "--secret",
        "type=file,id=other,src=outside/secret",
    ];
    let output = [
        "-o",
        "type=oci,dest=out.tar,compression=uncompressed",
        "--metadata-file",
        "meta.json",
        "--iidfile",
        "iid",
    ];
    for progress in ["plain", "json", "ci"] {
        let mut all = vec!["build", "--no-cache", "--progress", progress];
        all.extend(BASE.iter().chain(&flags).chain(&output));
        all.push(".");
        let result = place.command(&all).env("NAMED", "canary-variable").output().unwrap();
        let said = [result.stdout, result.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(result.status.success() && !said.contains("canary"), "{said}");
        assert!(!place.read("meta.json").contains("canary"));
        let archive = fs_err::read(place.path("out.tar")).unwrap();
        assert!(!String::from_utf8_lossy(&archive).contains("canary"));
    }
    let plan = place.run(&["plan", BASE[0], BASE[1], "."]);
    assert!(plan.succeeds().contains("secret"));
    build(&place, &["--no-cache"])
        .fails(2, &["secret other: not found", "--> Dockerfile:3", "--secret id=other,src=FILE"]);
    build(&place, &["--secret", "canary"]).fails(2, &["--secret: not of the form"]);
}

#[test]
fn agents_are_those_that_were_named() {
    let Some(place) = with_base("FROM base\nRUN --mount=type=ssh,required true\n") else { return };
    build(&place, &[])
        .fails(2, &["no SSH key \"\" forwarded from the client", "--> Dockerfile:2", "--ssh default"]);
    build(&place, &["--ssh", "default"]).fails(2, &["SSH_AUTH_SOCK is not set", "hint:"]);
    build(&place, &["--ssh", "default=."]).fails(2, &["neither the socket of an agent nor a key"]);
    build(&place, &["--ssh", "other=Dockerfile"]).fails(2, &["no SSH key"]);
}

#[test]
fn devices_are_refused_where_they_stand() {
    let place = Place::with("FROM scratch\nRUN --device=nvidia.com/gpu=all /x\n");
    place.build(&[]).fails(2, &["RUN --device=nvidia.com/gpu=all is not supported", "--> Dockerfile:2"]);
}

#[test]
fn the_hosts_address_is_given_for_host_gateway() {
    let Some(place) = with_base("FROM base\nRUN cat /etc/hosts\n") else { return };
    let ended = build(&place, &["--add-host", "me=host-gateway", "--add-host", "six:[::1]"]);
    ended.succeeds();
    assert!(ended.stderr.contains("127.0.0.1\tme") && ended.stderr.contains("::1\tsix"), "{}", ended.stderr);
}

#[test]
fn containers_end_as_a_shell_says_it() {
    let Some(place) = with_base("FROM base\nRUN echo > /text\n") else { return };
    build(&place, &["-t", "app"]).succeeds();
    place.run(&["run", "app", "sh", "-c", "exit 9"]).fails(9, &[]);
    place.run(&["run", "app", "nosuch"]).fails(127, &["\"nosuch\"", "not found in $PATH"]);
    place.run(&["run", "app", "/no/such"]).fails(127, &["/no/such", "no such file"]);
    place.run(&["run", "app", "/text"]).fails(126, &["/text", "permission denied"]);
    place.run(&["run", "app", "/bin"]).fails(126, &["/bin"]);
}

#[test]
fn limits_hold_for_steps_and_for_commands() {
    let Some(place) = with_base("FROM base\nRUN ulimit -n; df -k /dev/shm | tail -n 1\n") else { return };
    let flags = [
        "--ulimit",
        "nofile=100:200",
        "--shm-size",
        "1m",
        "--pids-limit",
        "50",
        "-m",
        "64m",
        "--cpus",
        "1.5",
    ];
    let ended = build(&place, &[&flags[..], &["-t", "app"]].concat());
    if ended.stderr.contains("the limits of the step cannot be set") {
        return skip(&ended.stderr);
    }
    ended.succeeds();
    assert!(ended.stderr.contains(" 100\n") && ended.stderr.contains(" 1024 "), "{}", ended.stderr);
    let run = |script: &str| place.run(&[&["run"], &flags[..], &["app", "sh", "-c", script]].concat());
    let ended = run("ulimit -n; df -k /dev/shm | tail -n 1");
    ended.succeeds();
    assert!(ended.stdout.starts_with("100\n") && ended.stdout.contains(" 1024 "), "{}", ended.stdout);
    assert_ne!(run("i=0; while [ $i -lt 60 ]; do sleep 9 & i=$((i+1)); done").code, Some(0));
    assert_ne!(run("x=$(head -c 300000000 /dev/zero | tr '\\0' a); echo ${#x}").stdout, "300000000\n");
}

/// A pipe cannot be flushed. Where files of a step are kept in an overlay that flushes nothing, or beside caches that
/// outlive it, the kernel says so.
#[test]
fn what_a_step_flushes_is_flushed_only_where_it_is_kept() {
    const FLUSH: &str =
        "(echo text | dd conv=fsync 2>/dev/null; test $? = \"$FAILS\" && touch /as-expected) | cat";
    let Some(place) = with_base(&format!(
        "FROM base\nARG FAILS PLAIN\nRUN export FAILS=$PLAIN; {FLUSH}; test -e /as-expected && rm /as-expected\n\
         RUN --mount=type=cache,target=/cache {FLUSH}; test -e /as-expected\n"
    )) else {
        return;
    };
    for (plain, cached, flags) in
        [("1", "1", &["--snapshotter", "overlay"][..]), ("0", "1", &["--snapshotter", "copy"])]
    {
        let arguments = [format!("PLAIN={plain}"), format!("FAILS={cached}")];
        let arguments: Vec<&str> =
            arguments.iter().flat_map(|argument| ["--build-arg", &argument[..]]).collect();
        build(&place, &[flags, &arguments, &["--no-cache"]].concat()).succeeds();
    }
}
