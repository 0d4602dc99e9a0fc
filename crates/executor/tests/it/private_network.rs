//! Private networks, with the real programs. The machine around a step is made of namespaces: it has services on its loopback
//! interface, a metadata service, and a way to an outside.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use fs_err as fs;
use ocibuild_executor::{Error, ErrorKind, Need, Network, NetworkProgram};
use ocibuild_testkit::{HangGuard, skip};

use crate::rootless::Rootless;
use crate::world::{World, chroot, run_step};

const PROGRAMS: [&str; 2] = ["pasta", "slirp4netns"];

/// What answers at each `ADDRESS/PORT`: HTTP, or at port 53 questions for names, all of which are those of the outside.
const LISTENERS: &str = r#"
import selectors, socket, sys, threading
def answer(caller):
    caller.recv(4096)
    caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nreached")
    # The caller closes it first.
    caller.recv(4096)
    caller.close()
every = selectors.DefaultSelector()
for word in sys.argv[1:]:
    address, port = word.rsplit("/", 1)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if port == "53" else socket.SOCK_STREAM
    one = socket.socket(family, kind)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((address, int(port)))
    if kind == socket.SOCK_STREAM:
        one.listen()
    every.register(one, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in every.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            threading.Thread(target=answer, args=(key.fileobj.accept()[0],), daemon=True).start()
            continue
        question, caller = key.fileobj.recvfrom(512)
        end = question.index(b"\0", 12) + 5
        found = question[end - 4 : end - 2] == b"\0\1"
        head = question[:2] + b"\x81\x80\0\1" + (b"\0\1" if found else b"\0\0") + b"\0\0\0\0"
        address = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton("203.0.113.1")
        key.fileobj.sendto(head + question[12:end] + (address if found else b""), caller)
"#;

/// Makes the machine, then becomes what its arguments say.
const MACHINE: &str = r#"
set -e
dir=$1; shift
ip link set lo up
ip link add eth0 type veth peer name out0
ip link add meta0 type veth peer name meta1
mkfifo $dir/outside $dir/here
exec 3<>$dir/outside 4<>$dir/here
unshare --net sh -c 'until ip link show out0 >/dev/null 2>&1; do :; done
    ip addr add 203.0.113.1/24 dev out0; ip addr add fd77::1/64 dev out0 nodad; ip link set out0 up; ip link set lo up
    exec python3 -c "$0" 203.0.113.1/80' "$LISTENERS" >&3 &
while [ "$(readlink /proc/$!/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do :; done
ip link set out0 netns $!
ip addr add 203.0.113.2/24 dev eth0; ip addr add fd77::2/64 dev eth0 nodad; ip link set eth0 up
ip route add default via 203.0.113.1; ip -6 route add default via fd77::1
ip addr add 169.254.169.254/32 dev meta0; ip link set meta0 up
python3 -c "$LISTENERS" 127.0.0.1/8001 ::1/8001 169.254.169.254/80 127.0.0.1/53 >&4 &
read ready <&3; read ready <&4
printf "$SERVERS" >$dir/resolv.conf
mount --bind $dir/resolv.conf /etc/resolv.conf
mount -t tmpfs tmpfs /dev/net
mknod -m 666 /dev/net/tun c 10 200
"#;

/// What a step says of each service: whether it was reached.
const TRY: &str = "for place in 203.0.113.1:80 127.0.0.1:8001 [::1]:8001 203.0.113.1:8001 [fd77::1]:8001 \
                   10.0.2.2:8001 10.0.2.3:8001 169.254.169.254:80 [::ffff:169.254.169.254]:80; do \
                   echo $place=$(busybox timeout 2 busybox wget -qO - http://$place/ 2>/dev/null); done; ";

/// Whether a program that connects a network is there.
const LEFT: &str = "grep -qsE '^(pasta|passt|slirp4netns)' /proc/[0-9]*/comm";

/// A machine in a directory.
struct Machine {
    dir: PathBuf,
    servers: &'static str,
}

impl Machine {
    /// Nothing, with the reason printed, where something is missing for it.
    fn new(world: &World) -> Option<Self> {
        for (program, argument) in [("ip", "-V"), ("python3", "-V"), ("unshare", "-V")] {
            if Command::new(program).arg(argument).output().is_err() {
                skip(&format!("{program} is missing"));
                return None;
            }
        }
        if !ocibuild_sys::in_initial_user_namespace() {
            skip("takes root, to make network interfaces");
            return None;
        }
        Some(Self { dir: world.dir.path().to_owned(), servers: "nameserver 127.0.0.1\\n" })
    }

    /// Has it around a command, which sees the processes of the machine alone. `then` is carried out in it.
    fn around(&self, command: &Command, then: &str) -> Command {
        let mut around = Command::new("unshare");
        around.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        around.args(["sh", "-c", &format!("{MACHINE}\n{then}"), "sh"]).arg(&self.dir);
        around.arg(command.get_program()).args(command.get_args());
        around.env("LISTENERS", LISTENERS).env("SERVERS", self.servers);
        for fifo in ["outside", "here", "said"] {
            let _ = fs::remove_file(self.dir.join(fifo));
        }
        around
    }

    fn run(&self, command: &Command) -> Output {
        let _guard = HangGuard::new("a step in a private network");
        self.around(command, &format!("\"$@\" || exit $?; ! {LEFT}")).output().unwrap()
    }
}

fn step(world: &World, options: &[&str], script: &str) -> Option<Command> {
    let mut command = Command::new(run_step()?);
    command.args(options).args([world.rootfs(), world.step.state.clone()]).args(["/bin/sh", "-c", script]);
    Some(command)
}

fn installed(program: &str) -> bool {
    let found = NetworkProgram::new(program);
    if let Err(error) = &found {
        skip(&error.to_string());
    }
    found.is_ok()
}

/// The services that were reached.
fn reached(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text.lines().filter(|line| line.contains('=')).count(), 9, "{text}");
    text.lines().filter_map(|line| line.strip_suffix("=reached")).map(str::to_owned).collect()
}

fn text(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(text).unwrap()
}

#[test]
fn privileged_only_the_outside_is_reached() {
    let Some(world) = World::privileged() else { return };
    let Some(machine) = Machine::new(&world) else { return };
    let Some(host) = step(&world, &[], TRY) else { return };
    let all = reached(&machine.run(&host));
    for service in ["203.0.113.1:80", "127.0.0.1:8001", "[::1]:8001", "169.254.169.254:80"] {
        assert!(all.iter().any(|found| found == service), "{all:?}");
    }
    for program in PROGRAMS.into_iter().filter(|program| installed(program)) {
        for runtime in [&[][..], &["--runtime", "runc"], &["--runtime", "crun"]] {
            let options = [&["--network-private", "--network-program", program], runtime].concat();
            let command = step(&world, &options, TRY).unwrap();
            assert_eq!(reached(&machine.run(&command)), ["203.0.113.1:80"], "{options:?}");
        }
    }
}

/// Who steps may be started by: root, a user with ranges of ids, and one with one id.
fn every_user(mut test: impl FnMut(&Machine, &dyn Fn(&[&str], &str) -> Command)) {
    let Some(world) = World::privileged() else { return };
    let Some(machine) = Machine::new(&world) else { return };
    test(&machine, &|options, script| step(&world, options, script).unwrap());
    for user in [Rootless::new(), Rootless::new().and_then(Rootless::with_ranges)].into_iter().flatten() {
        let Some(machine) = Machine::new(&user.world) else { return };
        test(&machine, &|options, script| user.command("", options, script));
    }
}

#[test]
fn privileged_ordinary_users_reach_the_outside_alone() {
    every_user(|machine, command| {
        for program in PROGRAMS.into_iter().filter(|program| installed(program)) {
            let options = ["--network-private", "--network-program", program];
            assert_eq!(reached(&machine.run(&command(&options, TRY))), ["203.0.113.1:80"], "{options:?}");
        }
    });
}

#[test]
fn privileged_names_are_found_by_servers_out_of_reach() {
    let Some(world) = World::privileged() else { return };
    let Some(mut machine) = Machine::new(&world) else { return };
    let ask = "cat /etc/resolv.conf; busybox nslookup outside.test";
    for program in PROGRAMS.into_iter().filter(|program| installed(program)) {
        let command = step(&world, &["--network-private", "--network-program", program], ask).unwrap();
        machine.servers = "nameserver 127.0.0.1\\noptions ndots:0\\n";
        let output = text(&machine.run(&command));
        assert!(output.starts_with("nameserver 10.0.2.3\noptions ndots:0\n"), "{output}");
        assert!(output.contains("Name:\toutside.test\nAddress: 203.0.113.1"), "{program}: {output}");
        // Nobody answers at an address of the outside, and nothing else is asked.
        machine.servers = "nameserver 203.0.113.1\\n";
        let output = text(&machine.run(&command));
        assert!(output.starts_with("nameserver 203.0.113.1\n"), "{output}");
        assert!(!output.contains("Address: 203.0.113.1\n"), "{program}: {output}");
    }
}

#[test]
fn privileged_nothing_is_left_of_a_killed_builder() {
    every_user(|machine, command| {
        for program in PROGRAMS.into_iter().filter(|program| installed(program)) {
            let _guard = HangGuard::new("a killed builder");
            let options = ["--network-private", "--network-program", program];
            let command = command(&options, "echo started; exec sleep 1000");
            let kill = format!(
                "mkfifo $dir/said; exec 5<>$dir/said; \"$@\" >&5 & read started <&5; {LEFT} || exit 97; \
                 kill -KILL $!; while {LEFT} || grep -qs '^sleep' /proc/[0-9]*/comm; do :; done; echo gone"
            );
            let output = machine.around(&command, &kill).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "gone\n", "{program}: {output:?}");
        }
    });
}

/// A world whose steps are in a private network that a script connects, which is called as pasta is.
fn scripted(script: &str) -> Option<World> {
    let mut world = World::privileged()?;
    let path = world.dir.path().join("pasta");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.step.network = Network::Private;
    world.step.network_program = Some(NetworkProgram::new(path).unwrap());
    Some(world)
}

fn failure(world: &mut World) -> Error {
    let _guard = HangGuard::new("a step whose network cannot be connected");
    let (result, text) = world.shell("echo started").run();
    assert_eq!(text, "");
    result.unwrap_err()
}

#[test]
fn privileged_a_program_that_does_not_connect_is_named() {
    // It closes what it should say so on.
    let Some(mut world) = scripted("exec sleep 1000 <&-") else { return };
    let path = world.dir.path().join("pasta").display().to_string();
    let program = world.step.network_program.take().unwrap();
    world.step.network_program = Some(program.patience(Duration::from_millis(10)));
    let error = failure(&mut world);
    assert_eq!(error.kind(), ErrorKind::NetworkProgram);
    let expected = format!("{path}, which connects the private network of the step, was not ready in time");
    assert_eq!(error.to_string(), expected);
    let Some(mut world) = scripted("echo no way >&2; exit 3") else { return };
    let error = failure(&mut world);
    assert_eq!(error.kind(), ErrorKind::NetworkProgram);
    assert!(error.to_string().ends_with("ended before it was ready, and said: no way"), "{error}");
}

#[test]
fn privileged_the_wait_for_a_program_can_be_cancelled() {
    let Some(mut world) = scripted("exec 3>${0%/*}/begun; exec sleep 1000") else { return };
    let begun = world.dir.path().join("begun");
    assert!(Command::new("mkfifo").arg(&begun).status().unwrap().success());
    let cancel = world.cancel.clone();
    // It is opened once the program opens it, too.
    let canceller = std::thread::spawn(move || {
        let _begun = fs::File::open(begun).unwrap();
        cancel.cancel();
    });
    assert_eq!(failure(&mut world).kind(), ErrorKind::Cancelled);
    canceller.join().unwrap();
}

#[test]
fn privileged_a_step_cannot_change_its_private_network() {
    let Some(mut world) = scripted("echo 1 >&0; exec sleep 1000") else { return };
    let rights = world.output("grep CapBnd /proc/self/status");
    let bits = u64::from_str_radix(rights.trim().trim_start_matches("CapBnd:").trim(), 16).unwrap();
    let [admin, raw] = ["CAP_NET_ADMIN", "CAP_NET_RAW"].map(|name| ocibuild_sys::capability(name).unwrap());
    assert_eq!(bits & (1 << admin | 1 << raw), 0, "{rights}");
    assert_ne!(bits, 0);
    world.step.insecure = true;
    let error = failure(&mut world);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "a step with CAP_NET_ADMIN cannot be kept in a private network");
}

#[test]
fn privileged_there_is_none_without_namespaces() {
    let (Some(mut world), Some(executor)) = (scripted("echo 1 >&0; exec sleep 1000"), chroot()) else {
        return;
    };
    let (result, _) = world.shell("true").run_with(&executor);
    assert_eq!(result.unwrap_err().need(), Some(Need::OwnNetwork));
}

#[test]
fn a_program_of_another_name_is_refused() {
    for name in ["/bin/sh", "no-such-program", "/nowhere/pasta"] {
        let error = NetworkProgram::new(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkProgramMissing);
        assert!(error.to_string().contains(name), "{error}");
    }
}
