//! `RUN --mount=type=ssh`: real agents, and what a step may do with them (5.1).

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use fs_err as fs;
use ocibuild::{ErrorKind, SshAgent};
use ocibuild_testkit::skip;

use crate::steps::{last_layer, worlds};
use crate::support::World;

fn programs() -> bool {
    for name in ["ssh-agent", "ssh-add", "ssh-keygen"] {
        if !["/usr/bin", "/bin", "/usr/local/bin"].iter().any(|dir| Path::new(dir).join(name).exists()) {
            skip(&format!("{name} is missing"));
            return false;
        }
    }
    true
}

/// A new key, and its public half.
fn key(directory: &Path, name: &str, passphrase: &str) -> (std::path::PathBuf, String) {
    let path = directory.join(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-C", name, "-N", passphrase, "-f"])
        .arg(&path)
        .stdin(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let public = fs::read_to_string(path.with_extension("pub")).unwrap();
    (path, public.split_whitespace().nth(1).unwrap().to_owned())
}

/// Asks the agent at a socket through what a step would see, with the client of the host.
fn listed(socket: &Path) -> String {
    let output = Command::new("ssh-add").arg("-L").env("SSH_AUTH_SOCK", socket).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn without_an_agent_there_is_a_variable_and_no_socket() {
    for (name, world) in worlds() {
        let (_, seen) = world.build(world.prepare(
            "FROM base\nRUN --mount=type=ssh echo [$SSH_AUTH_SOCK]; ls /run 2>&1 || true\n\
             RUN --mount=type=ssh,target=/a --mount=type=ssh echo [$SSH_AUTH_SOCK]\n\
             ENV SSH_AUTH_SOCK=mine\nRUN --mount=type=ssh echo [$SSH_AUTH_SOCK]\n",
        ));
        for words in ["[/run/buildkit/ssh_agent.0]", "[/a]", "[mine]", "No such file"] {
            assert!(seen.output.contains(words), "{name}: {words} in {}", seen.output);
        }
        for (options, id) in [("required", ""), ("id=x,required", "x")] {
            let (error, _) =
                world.fail(world.prepare(&format!("FROM base\nRUN --mount=type=ssh,{options} true\n")));
            let message = format!("no SSH key \"{id}\" forwarded from the client (line 2)");
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::Usage, message));
        }
    }
}

#[test]
fn sockets_have_mode_and_owner_and_leave_nothing() {
    if !programs() {
        return;
    }
    for (name, world) in worlds() {
        let (path, _) = key(&world.path(""), "one", "");
        let build = world.prepare(
            "FROM base\nRUN --mount=type=ssh --mount=type=ssh,id=other,target=/deep/sock,mode=0666,uid=7,gid=8,required \
             stat -c '%n %a %u:%g %F' /run/buildkit/ssh_agent.0 /deep/sock\n\
             RUN --network=none --mount=type=ssh ls /run/buildkit\nRUN ls /run /deep 2>&1 || true\n",
        );
        let keys = || SshAgent::Keys(vec![path.clone()]);
        let (image, seen) = world.build(build.ssh("default", keys()).ssh("other", keys()));
        for line in ["/run/buildkit/ssh_agent.0 600 0:0 socket", "/deep/sock 666 7:8 socket", "ssh_agent.0"] {
            assert!(seen.output.lines().any(|other| other == line), "{name}: {line} in {}", seen.output);
        }
        assert_eq!(seen.output.matches("No such file").count(), 2, "{name}: {}", seen.output);
        assert_eq!(last_layer(&world, &image), Vec::<String>::new(), "{name}");
        world.check_left_nothing();
    }
}

/// The client of the host is in the image, so that what answers is what the step reaches.
#[test]
fn steps_reach_the_keys_and_cannot_change_them() {
    if !programs() {
        return;
    }
    let Ok(base) = ocibuild_testkit::HostBase::shell_and_tools() else {
        skip("this host's tools make no image");
        return;
    };
    let Ok(base) = base.with_program("ssh-add") else {
        skip("the libraries of ssh-add were not found");
        return;
    };
    for (name, mut world) in worlds() {
        let (first, first_public) = key(&world.path(""), "first", "");
        let (second, second_public) = key(&world.path(""), "second", "");
        world.host_base("tools", &base);
        let dockerfile = "FROM tools\nRUN --mount=type=ssh ssh-add -L; ssh-add -D && echo removed; \
             ssh-add -x </dev/null && echo locked; ssh-add -L\n";
        let keys = SshAgent::Keys(vec![first.clone(), second]);
        let (_, seen) = world.build(world.prepare(dockerfile).ssh("default", keys));
        for public in [&first_public, &second_public] {
            assert_eq!(seen.output.matches(public.as_str()).count(), 2, "{name}: {}", seen.output);
        }
        assert!(
            !seen.output.contains("removed") && !seen.output.contains("locked"),
            "{name}: {}",
            seen.output
        );

        let Some(agent) = Agent::start(&world) else { return };
        agent.add(&first);
        let build = world.prepare(dockerfile).no_cache(true);
        let (_, seen) = world.build(build.ssh("default", SshAgent::Socket(agent.socket.clone())));
        assert_eq!(seen.output.matches(&first_public).count(), 2, "{name}: {}", seen.output);
        assert!(listed(&agent.socket).contains(&first_public), "{name}: the agent goes on as before");
    }
}

#[test]
fn agents_that_cannot_be_had_are_told() {
    if !programs() {
        return;
    }
    let Some(world) = World::with_shell() else { return };
    let build = || world.prepare("FROM base\nRUN --mount=type=ssh true\n");
    let (error, _) = world.fail(build().ssh("default", SshAgent::Socket(world.path("nowhere"))));
    assert!(error.to_string().contains("no agent answers at") && error.kind() == ErrorKind::Host, "{error}");
    let (path, _) = key(&world.path(""), "locked", "passphrase");
    let (error, _) = world.fail(build().ssh("default", SshAgent::Keys(vec![path])));
    assert!(error.to_string().contains("locked cannot be used"), "{error}");
    assert!(error.reports()[0].hint_texts()[0].contains("passphrase"), "{error:?}");
    fs::write(world.path("junk"), "no key").unwrap();
    let (error, _) = world.fail(build().ssh("default", SshAgent::Keys(vec![world.path("junk")])));
    assert!(error.to_string().contains("junk cannot be used"), "{error}");
    world.check_left_nothing();
}

/// An agent of who builds.
struct Agent {
    process: std::process::Child,
    socket: std::path::PathBuf,
}

impl Agent {
    fn start(world: &World) -> Option<Self> {
        let socket = world.path("agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).stderr(Stdio::null());
        let agent = Self { process: command.spawn().unwrap(), socket };
        for _ in 0..500 {
            if UnixStream::connect(&agent.socket).is_ok() {
                return Some(agent);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        skip("ssh-agent does not listen");
        None
    }

    fn add(&self, key: &Path) {
        let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket).status();
        assert!(added.unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
