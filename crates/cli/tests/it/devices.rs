//! Device nodes: whoever makes them, no step opens them; and nobody loses them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use fs_err as fs;
use ocibuild::spec::Platform;
use ocibuild_testkit::{LoopDisk, StandIns, TestImage, skip, write_layout};
use tar::{EntryType, Header};

use crate::program::{Ended, Place, ended, namespaces};
use crate::users::{as_user, give_away};

/// Tells of each node that it is there and of each that could be opened, in words that are not in any Dockerfile.
const TRY: &str = "umask 0\nfor f in \"$@\"; do\n\
    if [ -b $f ] || [ -c $f ]; then echo \"node: $f\"; else echo \"no node: $f\"; continue; fi\n\
    (head -c 6 < $f) 2>/dev/null && echo \"could read $f\"\n\
    (echo pwned > $f) 2>/dev/null && echo \"could write $f\"\n\
    (true <> $f) 2>/dev/null && echo \"could open $f\"\ndone\n\
    echo x > /dev/null && head -c 3 /dev/zero | wc -c && head -c 3 /dev/random | wc -c && head -c 3 /dev/urandom | wc -c || echo \"could not use\"\n\
    (echo x > /dev/full) 2>&1 | grep -q 'No space' || echo \"could not fill\"\n\
    (true < /dev/tty) 2>&1 | grep -q 'No such device or address' || [ -t 0 ] || echo \"could not use tty\"\n\
    echo tried $# as $(id -u)\n";

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, kind: EntryType, mode: u32, content: &[u8]) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).unwrap();
}

fn node(tar: &mut tar::Builder<Vec<u8>>, path: &str, kind: EntryType, (major, minor): (u32, u32)) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o666);
    header.set_size(0);
    header.set_device_major(major).unwrap();
    header.set_device_minor(minor).unwrap();
    tar.append_data(&mut header, path, std::io::empty()).unwrap();
}

fn link(tar: &mut tar::Builder<Vec<u8>>, path: &str, target: &str, kind: EntryType) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o777);
    header.set_size(0);
    tar.append_link(&mut header, path, target).unwrap();
}

const CONTROL: (u32, u32) = (10, 237);

/// A layout with a base image whose first layer has the nodes `opt/disk`, `opt/control` and one in `/dev`, and whose second
/// has another name of `opt/disk`; and an archive of nodes.
fn write_base(place: &Place, disk: (u32, u32)) -> bool {
    let Ok(busybox) = fs::read("/bin/busybox") else {
        skip("/bin/busybox is missing");
        return false;
    };
    let mut tar = tar::Builder::new(Vec::new());
    for directory in ["bin/", "dev/", "etc/", "opt/", "proc/", "sys/", "tmp/"] {
        append(&mut tar, directory, EntryType::Directory, 0o755, b"");
    }
    append(&mut tar, "bin/busybox", EntryType::Regular, 0o755, &busybox);
    for applet in
        ["sh", "head", "wc", "grep", "id", "mknod", "ls", "mkdir", "chmod", "chown", "touch", "cat", "rm"]
    {
        link(&mut tar, &format!("bin/{applet}"), "busybox", EntryType::Symlink);
    }
    append(&mut tar, "etc/passwd", EntryType::Regular, 0o644, b"root:x:0:0::/root:/bin/sh\n");
    append(&mut tar, "opt/try", EntryType::Regular, 0o755, TRY.as_bytes());
    node(&mut tar, "dev/console", EntryType::Char, (5, 1));
    node(&mut tar, "opt/disk", EntryType::Block, disk);
    node(&mut tar, "opt/control", EntryType::Char, CONTROL);
    link(&mut tar, "opt/same", "opt/disk", EntryType::Link);
    let mut above = tar::Builder::new(Vec::new());
    link(&mut above, "opt/later", "opt/disk", EntryType::Link);
    let mut image = TestImage::new(&Platform::host().to_string()).layer_tar(tar.into_inner().unwrap());
    image = image.layer_tar(above.into_inner().unwrap());
    fs::create_dir_all(place.path("base.oci")).unwrap();
    write_layout(&place.path("base.oci"), &[("latest", &image.build())]);

    let mut archive = tar::Builder::new(Vec::new());
    node(&mut archive, "disk", EntryType::Block, disk);
    node(&mut archive, "control", EntryType::Char, CONTROL);
    fs::write(place.path("nodes.tar"), archive.into_inner().unwrap()).unwrap();
    true
}

const BASE: [&str; 2] = ["--build-context", "base=oci-layout://base.oci"];

/// The nodes of a tar of all files: `b MAJOR MINOR`, or of what a further name is one.
fn nodes_of(tar: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
    let entry = |entry: std::io::Result<tar::Entry<'_, fs::File>>| {
        let entry = entry.unwrap();
        let header = entry.header();
        let numbers = || {
            let (major, minor) = (header.device_major().unwrap(), header.device_minor().unwrap());
            format!("{}:{}", major.unwrap(), minor.unwrap())
        };
        let text = match header.entry_type() {
            EntryType::Block => format!("b {}", numbers()),
            EntryType::Char => format!("c {}", numbers()),
            EntryType::Link => format!("= {}", entry.link_name().unwrap().unwrap().display()),
            _ => return None,
        };
        Some((entry.path().unwrap().display().to_string(), text))
    };
    archive.entries().unwrap().filter_map(entry).collect()
}

/// Ways to carry out steps, and to keep their files.
fn ways() -> Vec<Vec<&'static str>> {
    let mut ways = vec![vec![], vec!["--snapshotter", "copy"]];
    for runtime in ["crun", "runc"] {
        if Command::new(runtime).arg("--version").stdout(Stdio::null()).status().is_ok() {
            ways.push(vec!["--runtime", runtime]);
            ways.push(vec!["--runtime", runtime, "--snapshotter", "copy"]);
        } else {
            skip(&format!("{runtime} is not installed"));
        }
    }
    ways
}

const NODES: &str = "/opt/disk /opt/control /opt/same /opt/later /added/disk /added/control \
    /copied/disk /copied/control /made/disk /made/control";

#[track_caller]
fn opened_none(result: &Ended, tried: &str) {
    let said = format!("{}{}", result.stdout, result.stderr);
    assert!(!said.contains("could ") && !said.contains("canary"), "{said}");
    assert!(said.contains(tried), "{said}");
}

/// The program with nodes that stand for those of this host, and with its cgroups or none.
fn guarded(place: &Place, nodes: &StandIns, cgroups: bool, args: &[&str]) -> Ended {
    let plain = place.command(args);
    let mut command = nodes.command(cgroups);
    command.arg(plain.get_program()).args(plain.get_args()).current_dir(place.path("")).stdin(Stdio::null());
    ended(command.env("HOME", place.path("")).output().unwrap())
}

#[test]
fn privileged_no_step_opens_the_devices_of_the_host() {
    if !namespaces() {
        return skip("this process may make no namespaces");
    }
    let place = Place::new();
    let Some(disk) = LoopDisk::attach(&place.path("")) else { return };
    let (major, minor) = disk.numbers();
    if !write_base(&place, (major, minor)) {
        return;
    }
    place.write(
        "Dockerfile",
        &format!(
            "FROM base\nADD nodes.tar /added/\nCOPY --from=base /opt/disk /opt/control /copied/\n\
             RUN mkdir /made && mknod -m 666 /made/disk b {major} {minor} && mknod -m 666 /made/control c 10 237\n\
             RUN chmod 600 /dev/null /proc/keys /dev/stdin; chown 7:7 /dev/zero; touch /dev/null /dev/tty; true\n\
             RUN --mount=type=cache,target=/cache,id=c sh -c 'mknod -m 666 /cache/disk b {major} {minor}; mknod -m 666 /cache/control c 10 237'; sh /opt/try {NODES}\n\
             RUN --mount=type=cache,target=/cache,id=c --mount=type=tmpfs,target=/mem --mount=type=bind,from=base,source=/opt,target=/bound,rw \\\n\
             for d in /mem /bound/new /dev /dev/shm; do mkdir -p $d; mknod -m 666 $d/disk b {major} {minor}; done; \\\n\
             sh /opt/try /cache/disk /cache/control /mem/disk /bound/disk /bound/new/disk /dev/disk /dev/shm/disk\n\
             USER 1000\nRUN --mount=type=cache,target=/cache,id=c sh /opt/try {NODES} /cache/disk\n"
        ),
    );
    let Some(stand_ins) = StandIns::make(&place.path("")) else { return };
    let before = stand_ins.lines();
    fs::create_dir(place.path("outside")).unwrap();
    let outside = format!("{}:/v", place.path("outside").display());
    let without_cgroups = [(vec![], false), (vec!["--snapshotter", "copy"], false)];
    for (way, cgroups) in ways().into_iter().map(|way| (way, true)).chain(without_cgroups) {
        let run = |args: &[&[&str]]| {
            let ended = guarded(&place, &stand_ins, cgroups, &args.concat());
            ended.succeeds();
            ended
        };
        let build: &[&[&str]] = &[&["build", "--progress", "plain"], &BASE, &way];
        let built = run(&[build.concat().as_slice(), &["--no-cache", "-o", "type=tar,dest=out.tar", "."]]);
        opened_none(&built, "tried 10 as 0");
        opened_none(&built, "tried 7 as 0");
        opened_none(&built, "tried 11 as 1000");
        assert!(!built.stderr.contains("no node:"), "{}", built.stderr);
        let nodes = nodes_of(&place.path("out.tar"));
        for directory in ["opt", "added", "copied", "made"] {
            assert_eq!(nodes[&format!("{directory}/control")], "c 10:237", "{way:?} {nodes:?}");
        }
        for directory in ["opt", "added", "copied", "made"] {
            let disk = &nodes[&format!("{directory}/disk")];
            assert_eq!(*disk, format!("b {major}:{minor}"), "{way:?} {nodes:?}");
        }
        run(&[build.concat().as_slice(), &["-t", "devices", "."]]);
        for user in ["0", "1000"] {
            let script = format!("sh /opt/try {NODES}");
            let ran = run(&[&["run"], &way, &["-u", user, "devices", "sh", "-c", &script]]);
            opened_none(&ran, &format!("tried 10 as {user}"));
        }
        let script = format!(
            "mknod /disk b {major} {minor}; mknod /v/disk b {major} {minor}; chmod 600 /dev/null; \
             sh /opt/try /disk /v/disk /host/loop{minor} /host/loop-control"
        );
        let volumes = ["run", "-v", "/dev:/host", "-v", &outside];
        let ran = run(&[&volumes, &way, &["-u", "0", "devices", "sh", "-c", &script]]);
        opened_none(&ran, "tried 4 as 0");
        fs::remove_file(place.path("outside/disk")).unwrap();
        assert!(disk.is_untouched(), "{way:?}");
        assert_eq!(stand_ins.lines(), before, "{way:?}");
    }
}

/// A user's steps do not see nodes that the user may not make; the image has them, the same as if root had built it.
#[test]
fn privileged_a_user_builds_on_an_image_with_device_nodes() {
    let place = Place::new();
    let Some(kinds) = give_away(&place) else { return };
    if !write_base(&place, (7, 200)) {
        return;
    }
    place.write(
        "Dockerfile",
        "FROM base\nADD nodes.tar /added/\nCOPY --from=base /opt/disk /opt/control /copied/\n\
         RUN sh /opt/try; echo changed > /opt/try; echo > /new\n\
         RUN --mount=type=bind,from=base,source=/opt,target=/bound --mount=type=cache,target=/cache,from=base,source=/opt \\\n\
         ls /bound/try /cache/try; chmod 600 /dev/null /proc/keys 2>&1; touch -d 2001-01-01 /dev/null 2>&1; true\n\
         RUN rm -r /added; mkdir /added\n",
    );
    let Some(stand_ins) = StandIns::make(&place.path("")) else { return };
    let before = stand_ins.lines();
    let output = "type=oci,dest=out.tar,rewrite-timestamp=true";
    let args = [&["build", "--progress", "plain", "--no-cache"][..], &BASE].concat();
    let as_root = [&args[..], &["--iidfile", "root.iid", "-o", output, "."]].concat();
    let plain = place.command(&as_root);
    let mut command = stand_ins.command(true);
    command.arg(plain.get_program()).args(plain.get_args()).current_dir(place.path(""));
    ended(command.env("SOURCE_DATE_EPOCH", "0").env("HOME", place.path("")).output().unwrap()).succeeds();
    // The user may not replace it.
    fs::remove_file(place.path("out.tar")).unwrap();
    // Each runtime with one of the two drivers.
    let ways: Vec<_> = ways().into_iter().filter(|way| !way.contains(&"crun") || way.len() == 2).collect();
    for ranges in kinds {
        for way in ways.iter().filter(|way| !way.contains(&"runc") || way.len() == 4) {
            let built = as_user(
                &place,
                ranges,
                &[&args[..], way, &["--iidfile", "user.iid", "-t", "devices", "-o", output, "."]].concat(),
            );
            built.succeeds();
            opened_none(&built, "tried 0 as 0");
            assert_eq!(place.read("user.iid"), place.read("root.iid"), "{ranges} {way:?}: {}", built.stderr);
            let files = [&["build"][..], &BASE, way, &["-o", "type=tar,dest=files.tar", "."]].concat();
            as_user(&place, ranges, &files).succeeds();
            let nodes = nodes_of(&place.path("files.tar"));
            let expected = [
                ("copied/control", "c 10:237"),
                ("copied/disk", "b 7:200"),
                ("dev/console", "c 5:1"),
                ("opt/control", "c 10:237"),
                ("opt/disk", "b 7:200"),
                ("opt/later", "= opt/disk"),
                ("opt/same", "= opt/disk"),
            ];
            let expected = expected.map(|(path, text)| (path.to_owned(), text.to_owned()));
            assert_eq!(nodes, BTreeMap::from(expected), "{ranges} {way:?}");
            let local = [&["build"][..], &BASE, way, &["-o", "local", "."]].concat();
            as_user(&place, ranges, &local)
                .fails(5, &["cannot make the device node copied/control", "type=tar"]);
            as_user(&place, ranges, &[&["build"][..], &BASE, way, &["-t", "devices", "."]].concat())
                .succeeds();
            let ran = as_user(
                &place,
                ranges,
                &[
                    &["run"][..],
                    way,
                    &["devices", "sh", "-c", "ls /copied | wc -l; echo > /dev/null && ls /new"],
                ]
                .concat(),
            );
            assert_eq!(ran.succeeds(), "0\n/new\n", "{ranges} {way:?}");
        }
    }
    assert_eq!(stand_ins.lines(), before);
}
