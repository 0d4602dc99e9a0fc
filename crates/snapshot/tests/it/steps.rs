//! What steps change, as both drivers see it.

use ocibuild_spec::CancelToken;

use crate::fixture::{copies, disk, is_root, layer, overlay, run, stack};

const BASE: &str = "
    d d
    f d/a one
    f d/b two
    h d/hard d/a
    d d/sub 700
    f d/sub/x x
    d e
    f e/f text
    d e/g
    f e/g/h deep
    l link d/a
    p pipe
    f top top
";

/// Name, step, and what it changes on top of `BASE`.
const STEPS: &[(&str, &str, &[&str])] = &[
    ("nothing", "true", &[]),
    ("new file", "echo hi > new", &["f new 644 \"hi\\n\""]),
    ("new file deep", "echo hi > d/sub/new", &["d d 755", "d d/sub 700", "f d/sub/new 644 \"hi\\n\""]),
    ("append", "printf x >> top", &["f top 644 \"topx\""]),
    ("same length", "printf TOP > top", &["f top 644 \"TOP\""]),
    (
        "same length and time",
        "touch -r top m; printf TOP > top; touch -r m top; rm m",
        &["f top 644 \"TOP\""],
    ),
    ("touch", "touch top", &["f top 644 \"top\""]),
    ("touched and put back", "touch top; touch -d @1000000000 top", &[]),
    ("copied over itself", "cp -p top t; mv t top", &[]),
    ("chmod", "chmod 600 e/f", &["d e 755", "f e/f 600 \"text\""]),
    ("chmod to the same", "chmod 644 e/f", &[]),
    ("chmod of a directory", "chmod 700 e", &["d e 700"]),
    ("touch of a directory", "touch e", &[]),
    ("delete a file", "rm e/f", &["d e 755", "- e/f"]),
    ("delete a tree", "rm -r e", &["- e"]),
    ("deletions sort by name", "rm -r e top; : > early", &["- e", "f early 644 \"\"", "- top"]),
    ("delete and make again", "rm -r e; mkdir e; : > e/n", &["d e 755", "- e/f", "- e/g", "f e/n 644 \"\""]),
    ("delete and make the same again", "rm e/g/h; printf deep > e/g/h; touch -d @1000000000 e/g/h", &[]),
    ("file to directory", "rm top; mkdir top; : > top/x", &["d top 755", "f top/x 644 \"\""]),
    ("directory to file", "rm -r e; : > e", &["f e 644 \"\""]),
    ("directory to link", "rm -r e; ln -s d e", &["l e d"]),
    ("link to directory", "rm link; mkdir link", &["d link 755"]),
    ("link to another", "ln -sfn d/b link", &["l link d/b"]),
    ("link remade the same", "ln -sfn d/a link; touch -h -d @1000000000 link", &[]),
    ("rename", "mv top bottom", &["f bottom 644 \"top\"", "- top"]),
    (
        "rename of a directory",
        "mv e h",
        &["- e", "d h 755", "f h/f 644 \"text\"", "d h/g 755", "f h/g/h 644 \"deep\""],
    ),
    ("new hard links", "echo x > n1; ln n1 n2", &["f n1 644 \"x\\n\"", "h n2 n1"]),
    ("a hard link to what is left alone", "ln top zlink", &["f zlink 644 \"top\""]),
    ("a hard link to what changed", "ln top a; chmod 600 top", &["f a 600 \"top\"", "h top a"]),
    ("one hard link replaced", "rm d/hard; printf o > d/hard", &["d d 755", "f d/hard 644 \"o\""]),
    ("one hard link deleted", "rm d/hard", &["d d 755", "- d/hard"]),
    ("a hard link renamed", "mv d/hard d/harder", &["d d 755", "- d/hard", "f d/harder 644 \"one\""]),
    (
        "all hard links changed",
        "chmod 600 d/a d/hard",
        &["d d 755", "f d/a 600 \"one\"", "f d/hard 600 \"one\""],
    ),
    ("one hard link put in place of a file", "ln -f d/a top", &["f top 644 \"one\""]),
    ("pipes", "rm pipe; mkfifo -m 600 pipe; mkfifo -m 644 q", &["p pipe 600", "p q 644"]),
    ("names of bytes", "printf x > \"$(printf 'a\\nb\\377')\"", &["f a\nb\u{fffd} 644 \"x\""]),
];

const PRIVILEGED: &[(&str, &str, &[&str])] = &[
    (
        "directories without permissions",
        "mkdir -m 700 e/g/z z; : > z/f; chmod 0 z e/g/z",
        &["d e 755", "d e/g 755", "d e/g/z 0", "d z 0", "f z/f 644 \"\""],
    ),
    ("chown", "chown 1:2 e/f", &["d e 755", "f e/f 644 \"text\" 1:2"]),
    ("chown of a directory", "chown 1 e", &["d e 755 1:0"]),
    (
        "chown of everything",
        "chown -hR 5:5 d",
        &[
            "d d 755 5:5",
            "f d/a 644 \"one\" 5:5",
            "f d/b 644 \"two\" 5:5",
            "f d/hard 644 \"one\" 5:5",
            "d d/sub 700 5:5",
            "f d/sub/x 644 \"x\" 5:5",
        ],
    ),
    ("chown of a link", "chown -h 7:7 link", &["l link d/a 7:7"]),
    ("set-user-ID", "chmod 4755 top", &["f top 4755 \"top\""]),
    ("devices", "mknod null c 1 3", &["c null 1:3"]),
    ("capabilities", "setcap cap_net_raw+ep top", &["f top 644 \"top\""]),
    ("capabilities taken away", "setcap cap_net_raw+ep top; setcap -r top; touch -d @1000000000 top", &[]),
];

#[test]
fn a_copy_sees_what_steps_change() {
    for (name, script, expected) in STEPS {
        let state = tempfile::tempdir().unwrap();
        let snapshots = copies(state.path());
        let found = stack(&snapshots, &[layer(BASE)]).step(&snapshots, &format!("umask 022\n{script}"));
        assert_eq!(&found, expected, "{name}");
    }
}

#[test]
fn privileged_an_overlay_sees_what_steps_change() {
    let more = if is_root() { PRIVILEGED } else { &[] };
    for (name, script, expected) in STEPS.iter().chain(more) {
        let state = tempfile::tempdir().unwrap();
        let Some(snapshots) = overlay(state.path()) else { return };
        let found = stack(&snapshots, &[layer(BASE)]).step(&snapshots, &format!("umask 022\n{script}"));
        assert_eq!(&found, expected, "{name}");
    }
}

#[test]
fn privileged_a_copy_sees_what_only_root_can_change() {
    if !is_root() {
        return ocibuild_testkit::skip("not root");
    }
    for (name, script, expected) in PRIVILEGED {
        let state = tempfile::tempdir().unwrap();
        let snapshots = copies(state.path());
        let found = stack(&snapshots, &[layer(BASE)]).step(&snapshots, &format!("umask 022\n{script}"));
        assert_eq!(&found, expected, "{name}");
    }
}

/// Each step on top of all before: what one leaves in its layer is what the next one finds.
#[test]
fn privileged_long_builds_are_the_same_with_both() {
    let state = tempfile::tempdir().unwrap();
    let Some(overlay) = overlay(state.path()) else { return };
    let copies = copies(state.path());
    let (mut a, mut b) = (stack(&overlay, &[layer(BASE)]), stack(&copies, &[layer(BASE)]));
    let again = STEPS.iter().filter(|(name, ..)| !name.contains("capabilities"));
    for (name, script, _) in again {
        let script = format!("umask 022\n({script}) 2>/dev/null || true");
        let (a, b) = (a.step(&overlay, &script), b.step(&copies, &script));
        assert_eq!(a, b, "{name}");
    }
}

#[test]
fn privileged_stacks_of_many_layers() {
    let state = tempfile::tempdir().unwrap();
    let Some(overlay) = overlay(state.path()) else { return };
    let layers: Vec<_> = (0..150).map(|number| layer(&format!("d d\nf d/{number} {number}"))).collect();
    let mut many = stack(&overlay, &layers);
    let found = many.step(&overlay, "test $(ls d | wc -l) = 150; cat d/0 d/149 > sum");
    assert_eq!(found, ["f sum 644 \"0149\""]);
}

/// Two steps that do the same make the same layer, and the kernel refuses a directory that is stacked twice.
#[test]
fn a_layer_that_is_twice_in_a_stack() {
    let state = tempfile::tempdir().unwrap();
    twice(&copies(state.path()));
}

#[test]
fn privileged_a_layer_that_is_twice_in_a_stack() {
    let state = tempfile::tempdir().unwrap();
    if let Some(snapshots) = overlay(state.path()) {
        twice(&snapshots);
    }
}

fn twice(snapshots: &dyn ocibuild_snapshot::Snapshotter) {
    let (same, between) = (layer("f a one\nw b\n"), layer("f a two\nf b two\nf c two\n"));
    let mut stack = stack(snapshots, &[layer("f b zero"), same.clone(), between, same]);
    let found = stack.step(snapshots, "cat a c > out; test ! -e b");
    assert_eq!(found, ["f out 644 \"onetwo\""]);
}

#[test]
fn whiteouts_of_layers_are_honoured() {
    let state = tempfile::tempdir().unwrap();
    let snapshots = copies(state.path());
    whiteouts(&snapshots);
}

#[test]
fn privileged_whiteouts_of_layers_are_honoured() {
    let state = tempfile::tempdir().unwrap();
    if let Some(snapshots) = overlay(state.path()) {
        whiteouts(&snapshots);
    }
}

fn whiteouts(snapshots: &dyn ocibuild_snapshot::Snapshotter) {
    let upper = layer("d d\no d\nf d/new n\nw e\nw top\n");
    let mut stack = stack(snapshots, &[layer(BASE), upper]);
    let found = stack.step(snapshots, "ls -R . > list; mkdir e; rm d/new");
    assert_eq!(
        found,
        ["d d 755", "- d/new", "d e 755", "f list 644 \".:\\nd\\nlink\\nlist\\npipe\\n\\n./d:\\nnew\\n\""]
    );
}

/// The same layer over two others: what it leaves to them differs.
#[test]
fn implied_directories_and_links_into_lower_layers_are_those_of_each_stack() {
    let state = tempfile::tempdir().unwrap();
    shared_layers(&copies(state.path()));
}

#[test]
fn privileged_implied_directories_and_links_into_lower_layers_are_those_of_each_stack() {
    let state = tempfile::tempdir().unwrap();
    if let Some(snapshots) = overlay(state.path()) {
        shared_layers(&snapshots);
    }
}

fn shared_layers(snapshots: &dyn ocibuild_snapshot::Snapshotter) {
    let shared = layer("f d/in/new n\nh d/in/linked d/file\n");
    for (base, mode, text) in [
        ("d d 711\nd d/in 700\nf d/file one", "700", "one"),
        ("d d 755\nd d/in 1777\nf d/file two", "1777", "two"),
    ] {
        let mut stack = stack(snapshots, &[layer(base), shared.clone()]);
        let found = stack.step(snapshots, "stat -c %a d/in > out; cat d/in/linked d/in/new >> out");
        assert_eq!(found, [format!("f out 644 \"{mode}\\n{text}n\"")]);
        let found = stack.step(snapshots, "rm d/in/linked; cat d/file > out");
        let outer = if mode == "700" { "711" } else { "755" };
        let expected = [
            format!("d d {outer}"),
            format!("d d/in {mode}"),
            "- d/in/linked".to_owned(),
            format!("f out 644 \"{text}\""),
        ];
        assert_eq!(found, expected);
    }
}

/// A deep path of which a layer lists the end alone costs a step nothing: what is on disk is what the merged view has.
#[test]
fn privileged_implied_directories_that_are_right_on_disk_are_not_copied() {
    let state = tempfile::tempdir().unwrap();
    let Some(snapshots) = overlay(state.path()) else { return };
    let upper = |layers: &[crate::fixture::TestLayer]| {
        let snapshot = stack(&snapshots, layers).prepare(&snapshots);
        let options = snapshot.rootfs_mounts()[0].options().clone().unwrap();
        let upper = options.iter().find_map(|option| option.strip_prefix("upperdir=")).unwrap().to_owned();
        let names = fs_err::read_dir(upper).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<Vec<_>>()
    };
    let deep = layer("f d/in/new n\n");
    assert_eq!(upper(&[layer("d e 700\n"), deep.clone()]), [""; 0]);
    assert_eq!(upper(&[layer("d d 755\nd d/in 700\n"), deep]), ["d"]);
}

#[test]
fn sockets_are_left_out() {
    let state = tempfile::tempdir().unwrap();
    let snapshots = copies(state.path());
    let snapshot = stack(&snapshots, &[layer(BASE)]).prepare(&snapshots);
    let rootfs = snapshot.rootfs_mounts()[0].source().clone().unwrap();
    fs_err::remove_file(rootfs.join("top")).unwrap();
    for name in ["top", "new"] {
        std::os::unix::net::UnixListener::bind(rootfs.join(name)).unwrap();
    }
    let (_, changeset) = snapshot.diff(None, &ocibuild_spec::CancelToken::new()).unwrap();
    assert!(changeset.entries.is_empty(), "{changeset:?}");
}

#[test]
fn names_of_whiteouts_are_refused() {
    let state = tempfile::tempdir().unwrap();
    let snapshots = copies(state.path());
    let snapshot = stack(&snapshots, &[layer(BASE)]).prepare(&snapshots);
    crate::fixture::run(&*snapshot, ": > d/.wh.a");
    let error = snapshot.diff(None, &ocibuild_spec::CancelToken::new()).unwrap_err();
    assert!(error.to_string().starts_with("d/.wh.a cannot be in a layer"), "{error}");
}

#[test]
fn a_step_on_nothing() {
    let state = tempfile::tempdir().unwrap();
    let snapshots = copies(state.path());
    assert_eq!(stack(&snapshots, &[]).step(&snapshots, "echo x > f"), ["f f 644 \"x\\n\""]);
}

#[test]
fn privileged_a_step_on_nothing() {
    let state = tempfile::tempdir().unwrap();
    if let Some(snapshots) = overlay(state.path()) {
        assert_eq!(stack(&snapshots, &[]).step(&snapshots, "echo x > f"), ["f f 644 \"x\\n\""]);
    }
}

#[test]
fn times_keep_their_nanoseconds() {
    let state = tempfile::tempdir().unwrap();
    let snapshots = copies(state.path());
    let snapshot = stack(&snapshots, &[]).prepare(&snapshots);
    crate::fixture::run(&*snapshot, ": > f; touch -d @7.000000001 f");
    let (_, changeset) = snapshot.diff(None, &ocibuild_spec::CancelToken::new()).unwrap();
    let time = changeset.entries[0].metadata.mtime;
    assert_eq!((time.seconds, time.nanoseconds), (7, 1));
}

/// What a step left, written out by each driver; and nothing of it is a file of a layer.
#[test]
fn privileged_what_a_step_left_is_written_out_the_same_by_both() {
    if !is_root() {
        return ocibuild_testkit::skip("not root");
    }
    let state = tempfile::tempdir().unwrap();
    let Some(overlay) = overlay(state.path()) else { return };
    let copies = copies(state.path());
    let upper = layer("d d\nw d/b\nf d/c three\n");
    // An overlay makes files of links that it changes, and a changeset of links to what it leaves alone.
    let links = ["hard link", "rename", "everything"];
    let same =
        STEPS.iter().chain(PRIVILEGED).filter(|(name, ..)| !links.iter().any(|link| name.contains(link)));
    for (name, script, _) in same {
        let written = [&overlay as &dyn ocibuild_snapshot::Snapshotter, &copies].map(|snapshots| {
            let stack = stack(snapshots, &[layer(BASE), upper.clone()]);
            let before: Vec<_> = stack.layers.iter().map(|layer| disk(&snapshots.layer_dir(layer))).collect();
            let mut snapshot = stack.prepare(snapshots);
            run(&*snapshot, &format!("umask 022\n({script}) 2>/dev/null || true"));
            // What was left is found once more, and goes on from there.
            snapshot.renew().unwrap();
            run(&*snapshot, "umask 022; echo again > again; test ! -e gone");
            let (after, _) = snapshot.diff(None, &CancelToken::new()).unwrap();
            let out = state.path().join("out");
            snapshot.write_out(&after, &out, &CancelToken::new()).unwrap();
            // Times of the steps are not the same, and of a directory a changeset may forget that alone.
            run_in(&out, "find . '(' -type d -o -newermt @1500000000 ')' -exec touch -h -d @5 {} +");
            let found = disk(&out);
            run_in(&out, "find . -type f -exec sh -c 'echo changed >> \"$1\"' sh {} ';'; rm -rf ./*");
            let now: Vec<_> = stack.layers.iter().map(|layer| disk(&snapshots.layer_dir(layer))).collect();
            assert_eq!(now, before, "{name}: the layers are as they were");
            std::fs::remove_dir(&out).unwrap();
            found
        });
        assert!(written[0].iter().any(|line| line.contains("again")), "{name}: {written:?}");
        assert_eq!(written[0], written[1], "{name}");
    }
}

fn run_in(directory: &std::path::Path, script: &str) {
    let status = std::process::Command::new("sh").args(["-ec", script]).current_dir(directory).status();
    assert!(status.unwrap().success(), "{script}");
}
