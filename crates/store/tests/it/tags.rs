use std::collections::BTreeSet;
use std::process::Command;

use ocibuild_spec::{CancelToken, Descriptor};
use ocibuild_store::{BlobSink as _, ErrorKind, ImageLayout};
use ocibuild_testkit::TestImage;

use super::{amd64, name, open, put};

#[test]
fn names_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let first = put(&layout, &TestImage::new("linux/amd64").layer(&[("a", "1")]).build());
    let second = put(&layout, &TestImage::new("linux/amd64").layer(&[("a", "2")]).build());
    layout.tag(&name("app:1"), &first).unwrap();
    layout.tag(&name("localhost:5000/x/app"), &first).unwrap();
    layout.tag(&name("app:1"), &second).unwrap();
    let listed: Vec<_> = layout.list().unwrap().into_iter().map(|(name, d)| (name.to_string(), d)).collect();
    assert_eq!(
        listed,
        [
            ("docker.io/library/app:1".to_owned(), second.clone()),
            ("localhost:5000/x/app:latest".to_owned(), first.clone())
        ]
    );
    assert_eq!(layout.resolve(&name("docker.io/library/app:1")).unwrap(), Some(second.clone()));
    assert_eq!(layout.resolve(&name(&format!("app@{}", second.digest))).unwrap(), Some(second));
    assert_eq!(layout.resolve(&name(&format!("app@{}", first.digest))).unwrap(), None);
    assert!(layout.untag(&name("app:1")).unwrap());
    assert!(!layout.untag(&name("app:1")).unwrap());
    let source: &dyn ocibuild_spec::ImageSource = &layout;
    let cancel = ocibuild_spec::CancelToken::new();
    let found = source.resolve(&name("localhost:5000/x/app"), &amd64(), &cancel).unwrap();
    assert_eq!(found.descriptor.digest, first.digest);
    assert!(source.resolve(&name("app:1"), &amd64(), &cancel).is_err());
}

#[test]
fn incomplete_images_get_no_name() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let image = TestImage::new("linux/amd64").layer(&[("a", "1")]).build();
    for (missing, _) in image.all() {
        for (descriptor, bytes) in image.all() {
            layout.put_from(&descriptor, &mut bytes.as_slice()).unwrap();
        }
        let path = layout.root().join("blobs/sha256").join(missing.digest.hex());
        fs_err::remove_file(&path).unwrap();
        let error = layout.tag(&name("app"), &image.descriptor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incomplete, "{error}");
        fs_err::write(&path, "damaged").unwrap();
        let error = layout.tag(&name("app"), &image.descriptor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    assert_eq!(layout.list().unwrap(), []);
}

#[test]
fn entries_of_other_tools_stay() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let image = put(&layout, &TestImage::new("linux/amd64").build());
    let index = fs_err::read_to_string(layout.root().join("index.json")).unwrap();
    let entry = format!(
        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"v1"}}}}"#,
        image.digest, image.size
    );
    let edited = index.replace("\"manifests\":[]", &format!("\"manifests\":[{entry}]"));
    fs_err::write(layout.root().join("index.json"), edited).unwrap();
    layout.tag(&name("app"), &image).unwrap();
    assert_eq!(layout.list().unwrap().len(), 1);
    let index = fs_err::read_to_string(layout.root().join("index.json")).unwrap();
    assert!(index.contains("\"org.opencontainers.image.ref.name\":\"v1\""), "{index}");
    fs_err::write(layout.root().join("index.json"), &index[..index.len() / 2]).unwrap();
    let error = layout.list().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.hint().is_some());
}

/// Not a test of its own: the body of the processes that `processes_lose_no_names` starts.
#[test]
fn child_that_tags() {
    let Ok(work) = std::env::var("OCIBUILD_STORE_TEST_TAGS") else { return };
    let (root, rest) = work.split_once('|').unwrap();
    let (prefix, count) = rest.split_once('|').unwrap();
    let layout = ImageLayout::open_or_create(root).unwrap();
    let image = put(&layout, &TestImage::new("linux/amd64").build());
    for number in 0..count.parse::<u32>().unwrap() {
        layout.tag(&name(&format!("{prefix}:{number}")), &image).unwrap();
    }
}

fn child(root: &std::path::Path, prefix: &str, count: u32) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["tags::child_that_tags", "--exact", "--nocapture"])
        .env("OCIBUILD_STORE_TEST_TAGS", format!("{}|{prefix}|{count}", root.display()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn processes_lose_no_names() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("state");
    let children: Vec<_> = (0..8).map(|number| child(&root, &format!("app{number}"), 50)).collect();
    for mut process in children {
        assert!(process.wait().unwrap().success());
    }
    assert_eq!(open(&root).list().unwrap().len(), 400);
}

#[test]
fn killed_processes_leave_a_layout_that_works() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("state");
    for round in 0..20_u64 {
        let mut process = child(&root, &format!("app{round}"), 10_000);
        std::thread::sleep(std::time::Duration::from_millis(5 + 7 * round));
        process.kill().unwrap();
        process.wait().unwrap();
        let layout = open(&root);
        for (name, descriptor) in layout.list().unwrap() {
            layout.tag(&name, &descriptor).unwrap();
        }
        layout.sweep_dead_scratch().unwrap();
        assert_eq!(
            fs_err::read_dir(layout.private_dir("tmp"))
                .unwrap()
                .filter(|entry| { entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("run-") })
                .count(),
            0
        );
        // Names of this round are gone again, so that the rounds stay quick.
        for (name, _) in layout.list().unwrap() {
            layout.untag(&name).unwrap();
        }
    }
}

#[test]
fn images_without_a_name_are_kept_until_they_have_one() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let image = put(&layout, &TestImage::new("linux/amd64").layer(&[("a", "1")]).build());
    layout.keep(&image).unwrap();
    layout.keep(&image).unwrap();
    assert_eq!(layout.unnamed().unwrap().len(), 1);
    assert_eq!(layout.list().unwrap(), []);
    assert_eq!(layout.collect(&BTreeSet::new()).unwrap().blobs, 0, "it is kept");
    layout.tag(&name("a:1"), &image).unwrap();
    assert_eq!(layout.unnamed().unwrap(), []);
    layout.keep(&image).unwrap();
    assert_eq!(layout.unnamed().unwrap(), [], "its name keeps it");
    assert!(!layout.forget(&image.digest).unwrap());
    assert!(layout.untag(&name("a:1")).unwrap());
    layout.keep(&image).unwrap();
    assert!(layout.forget(&image.digest).unwrap());
    assert!(layout.collect(&BTreeSet::new()).unwrap().blobs > 0);
    let missing = layout.keep(&image).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Incomplete);
}

#[test]
fn many_names_come_and_go_at_once_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let first = put(&layout, &TestImage::new("linux/amd64").layer(&[("a", "1")]).build());
    let second = put(&layout, &TestImage::new("linux/amd64").layer(&[("a", "2")]).build());
    layout.keep(&first).unwrap();
    layout.tag(&name("old"), &second).unwrap();
    let missing = TestImage::new("linux/amd64").layer(&[("a", "3")]).build().descriptor;
    let go = CancelToken::new();
    let named = |name_of: &str, image: &Descriptor| (Some(name(name_of)), image.clone());
    let wrong = [named("new", &first), named("missing", &missing), (None, second.clone())];
    assert_eq!(layout.enter_all(&wrong, &go).unwrap_err().kind(), ErrorKind::Incomplete);
    let cancelled = CancelToken::new();
    cancelled.cancel();
    let right =
        [named("new:1", &first), named("old", &first), named("new:1", &second), (None, first.clone())];
    assert_eq!(layout.enter_all(&right, &cancelled).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(layout.list().unwrap(), [(name("old"), second.clone())]);
    assert_eq!(layout.unnamed().unwrap(), std::slice::from_ref(&first));
    layout.enter_all(&right, &go).unwrap();
    // Of equal names the last counts, and what has a name needs no entry without one.
    assert_eq!(layout.list().unwrap(), [(name("new:1"), second), (name("old"), first)]);
    assert_eq!(layout.unnamed().unwrap(), []);
    let gone = layout.untag_all(&[name("old"), name("never"), name("new:1")]).unwrap();
    assert_eq!(gone, BTreeSet::from([name("new:1"), name("old")]));
    assert_eq!(layout.list().unwrap(), []);
}

/// Bytes that this thread has written so far.
fn written() -> u64 {
    let counters = fs_err::read_to_string("/proc/thread-self/io").unwrap();
    let line = counters.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
    line.parse().unwrap()
}

#[test]
fn the_index_is_written_once_for_many_names() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let image = put(&layout, &TestImage::new("linux/amd64").build());
    let cost = |count: u32| {
        let names: Vec<_> =
            (0..count).map(|number| (name(&format!("app:{number}")), image.clone())).collect();
        let before = written();
        layout.tag_all(&names, &CancelToken::new()).unwrap();
        let tagged = written();
        let names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
        assert_eq!(layout.untag_all(&names).unwrap().len(), names.len());
        (tagged - before, written() - tagged)
    };
    let (small, large) = (cost(500), cost(1000));
    assert!(large.0 < 3 * small.0, "{small:?} {large:?}");
    assert!(small.1 < small.0 && large.1 < large.0, "{small:?} {large:?}");
}
