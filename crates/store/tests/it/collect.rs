use std::collections::BTreeSet;

use ocibuild_spec::{
    Descriptor, Digest, Document, Index, Manifest, MediaType, json, parse_manifest_or_index,
};
use ocibuild_store::{BlobSink as _, ErrorKind, Freed, ImageLayout, read_document};
use ocibuild_testkit::{TestImage, index_of};
use proptest::prelude::*;

use super::{name, open, put};

#[test]
fn what_nothing_reaches_goes_and_the_rest_stays() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let images = ["linux/amd64", "linux/arm64"].map(|p| TestImage::new(p).layer(&[("a", p)]).build());
    for image in &images {
        put(&layout, image);
    }
    let (index, bytes) = index_of(&[&images[0], &images[1]]);
    layout.put_from(&index, &mut bytes.as_slice()).unwrap();
    layout.tag(&name("both"), &index).unwrap();
    let recorded = put(&layout, &TestImage::new("linux/amd64").layer(&[("b", "1")]).build());
    let layer = layout.put(MediaType::ImageLayer, b"a layer of a record").unwrap();
    let lost = layout.put(MediaType::ImageLayer, b"lost").unwrap();
    let keep = BTreeSet::from([recorded.digest.clone(), layer.digest.clone()]);
    let usage = layout.usage(&keep).unwrap();
    assert_eq!((usage.blobs, usage.reclaimable), (12, Freed { blobs: 1, bytes: 4 }));
    assert_eq!(layout.collect(&keep).unwrap(), Freed { blobs: 1, bytes: 4 });
    assert_eq!(layout.stat(&lost.digest).unwrap(), None);
    assert_eq!(layout.collect(&keep).unwrap(), Freed::default());
    layout.tag(&name("both"), &index).unwrap();
    assert_eq!(layout.collect(&BTreeSet::new()).unwrap().blobs, 4);
    layout.untag(&name("both")).unwrap();
    assert_eq!(layout.collect(&BTreeSet::new()).unwrap().blobs, 7);
    assert_eq!(layout.usage(&BTreeSet::new()).unwrap().blobs, 0);
}

#[test]
fn running_builds_keep_what_they_put_and_looked_up() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("state");
    let (building, pruning) = (open(&root), open(&root));
    let found = building.put(MediaType::ImageLayer, b"from an earlier build").unwrap();
    let unused = building.put(MediaType::ImageLayer, b"not looked at").unwrap();
    let lease = building.lease().unwrap();
    let second = building.clone().lease().unwrap();
    let new = building.put(MediaType::ImageLayer, b"new").unwrap();
    assert!(building.has(&found).unwrap());
    assert!(pruning.try_exclusive().unwrap().is_none());
    drop(second);
    assert_eq!(pruning.collect(&BTreeSet::new()).unwrap().blobs, 1);
    assert!(building.has(&found).unwrap() && building.has(&new).unwrap());
    assert!(!building.has(&unused).unwrap());
    drop(lease);
    assert!(pruning.try_exclusive().unwrap().is_some());
    assert_eq!(pruning.collect(&BTreeSet::new()).unwrap().blobs, 2);
    assert_eq!(fs_err::read_dir(pruning.private_dir("tmp")).unwrap().count(), 0);
}

#[test]
fn scratch_goes_with_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let scratch = layout.scratch().unwrap();
    fs_err::create_dir_all(scratch.path().join("deep/er")).unwrap();
    std::os::unix::fs::symlink("/", scratch.path().join("deep/link")).unwrap();
    assert_eq!(layout.sweep_dead_scratch().unwrap(), 0);
    let dead = layout.private_dir("tmp").join("run-dead");
    fs_err::create_dir(&dead).unwrap();
    fs_err::write(dead.join(".owner"), "").unwrap();
    fs_err::write(dead.join(".pins"), "garbage\n").unwrap();
    assert_eq!(layout.sweep_dead_scratch().unwrap(), 1);
    let path = scratch.path().to_owned();
    drop(scratch);
    assert!(!path.exists());
}

#[test]
fn a_damaged_manifest_stops_the_collection() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let image = TestImage::new("linux/amd64").layer(&[("a", "1")]).build();
    layout.tag(&name("app"), &put(&layout, &image)).unwrap();
    let path = layout.root().join("blobs/sha256").join(image.descriptor.digest.hex());
    let mut bytes = fs_err::read(&path).unwrap();
    bytes[0] ^= 1;
    fs_err::write(&path, bytes).unwrap();
    let error = layout.collect(&BTreeSet::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.hint().unwrap().contains("rmi"));
    assert!(layout.has(&image.layers[0].0).unwrap());
    layout.untag(&name("app")).unwrap();
    assert_eq!(layout.collect(&BTreeSet::new()).unwrap().blobs, 3);
    assert!(layout.open_blob(&image.layers[0].0).is_err());
}

#[test]
fn tagging_and_collecting_at_once_never_meet() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("state");
    open(&root);
    std::thread::scope(|scope| {
        let builders: Vec<_> = (0..3)
            .map(|builder| {
                let root = &root;
                scope.spawn(move || {
                    for number in 0..25 {
                        let layout = open(root);
                        let lease = layout.lease().unwrap();
                        // Half of the content is shared, so that builders meet each other's blobs.
                        let content = format!("{}", number / 2);
                        let image = TestImage::new("linux/amd64").layer(&[("a", &content)]).build();
                        let tag = name(&format!("app{builder}:{number}"));
                        layout.tag(&tag, &put(&layout, &image)).unwrap();
                        layout.untag(&tag).unwrap();
                        drop(lease);
                    }
                })
            })
            .collect();
        while builders.iter().any(|builder| !builder.is_finished()) {
            open(&root).collect(&BTreeSet::new()).unwrap();
        }
    });
}

#[test]
fn owners_and_sweepers_remove_the_same_directories() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("state");
    open(&root);
    std::thread::scope(|scope| {
        let owners: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let layout = open(&root);
                    for _ in 0..80 {
                        let scratch = layout.scratch().unwrap();
                        fs_err::create_dir_all(scratch.path().join("deep/er")).unwrap();
                        fs_err::write(scratch.path().join("deep/file"), "").unwrap();
                        drop(layout.lease().unwrap());
                        drop(scratch);
                    }
                })
            })
            .collect();
        while owners.iter().any(|owner| !owner.is_finished()) {
            let layout = open(&root);
            layout.sweep_dead_scratch().unwrap();
            layout.collect(&BTreeSet::new()).unwrap();
        }
    });
    assert_eq!(fs_err::read_dir(root.join("tmp")).unwrap().count(), 0);
}

/// A collection leaves what a running build has announced, whatever its digest is of.
#[test]
fn what_a_build_protects_is_known_to_a_collection() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("state");
    let (building, pruning) = (open(&root), open(&root));
    let digest = ocibuild_spec::Digest::of("the plain tar of a layer");
    let lease = building.lease().unwrap();
    building.protect(&digest).unwrap();
    assert!(pruning.collection().unwrap().is_protected(&digest));
    drop(lease);
    assert!(!pruning.collection().unwrap().is_protected(&digest));
}

/// Who builds and prunes in one process does not wait for itself.
#[test]
fn reading_apart_from_ones_own_lease_waits_for_no_collection() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let image = put(&layout, &TestImage::new("linux/amd64").layer(&[("a", "1")]).build());
    let _lease = layout.lease().unwrap();
    let collection = layout.collection().unwrap();
    assert_eq!(layout.apart().stat(&image.digest).unwrap(), Some(image.size));
    drop(collection);
}

/// Puts a manifest of one layer that is about `subject`.
fn put_referrer(layout: &ImageLayout, subject: &Descriptor, text: &str) -> (Descriptor, Descriptor) {
    layout.put(MediaType::EmptyJSON, Descriptor::EMPTY_JSON).unwrap();
    let layer = layout.put(MediaType::Other("text/plain".to_owned()), text.as_bytes()).unwrap();
    let mut manifest = Manifest::new(Descriptor::empty(), vec![layer.clone()]);
    manifest.artifact_type = Some("text/plain".to_owned());
    manifest.subject = Some(Descriptor::new(MediaType::ImageManifest, subject.digest.clone(), subject.size));
    (layout.put(MediaType::ImageManifest, &json::to_vec(&manifest).unwrap()).unwrap(), layer)
}

#[test]
fn what_is_about_a_kept_image_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let [named, other] = ["named", "other"]
        .map(|text| put(&layout, &TestImage::new("linux/amd64").layer(&[("a", text)]).build()));
    layout.tag(&name("app"), &named).unwrap();
    let about_named = put_referrer(&layout, &named, "an attestation");
    let about_that = put_referrer(&layout, &about_named.0, "a signature of the attestation");
    let about_other = put_referrer(&layout, &other, "about what nothing keeps");
    let is_there = |blob: &Descriptor| layout.stat(&blob.digest).unwrap().is_some();
    // Other tools find referrers by their entries, which have no names.
    for listed in [&about_named.0, &about_other.0, &other] {
        layout.keep(listed).unwrap();
    }
    let collection = layout.collection().unwrap();
    collection.forget_unnamed().unwrap();
    let unnamed: Vec<Digest> = layout.unnamed().unwrap().into_iter().map(|entry| entry.digest).collect();
    assert_eq!(unnamed.iter().collect::<Vec<_>>(), [&about_named.0.digest]);
    // The other image with its config, layer and referrer, of which the empty config is used elsewhere.
    assert_eq!(collection.sweep(&BTreeSet::new()).unwrap().blobs, 5);
    drop(collection);
    for kept in [&about_named, &about_that] {
        assert!(is_there(&kept.0) && is_there(&kept.1), "{kept:?}");
    }
    assert!(is_there(&named) && is_there(&Descriptor::empty()));
    assert!(!is_there(&other) && !is_there(&about_other.0) && !is_there(&about_other.1));

    layout.untag(&name("app")).unwrap();
    layout.collection().unwrap().forget_unnamed().unwrap();
    layout.collect(&BTreeSet::new()).unwrap();
    assert_eq!(layout.usage(&BTreeSet::new()).unwrap().blobs, 0);
}

/// A document of a layout: what it lists and what it is about, each a document before it.
#[derive(Debug, Clone)]
struct Planned {
    is_index: bool,
    lists: Vec<prop::sample::Index>,
    subject: Option<prop::sample::Index>,
    is_named: bool,
    is_kept: bool,
}

fn planned() -> impl Strategy<Value = Vec<Planned>> {
    let index = any::<prop::sample::Index>;
    let one = (
        any::<bool>(),
        prop::collection::vec(index(), 0..3),
        prop::option::of(index()),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
    );
    let one = one.prop_map(|(is_index, lists, subject, is_named, is_kept)| Planned {
        is_index,
        lists,
        subject,
        is_named,
        is_kept,
    });
    prop::collection::vec(one, 1..12)
}

/// Puts a document and, of a manifest, a layer of its own.
fn put_planned(layout: &ImageLayout, before: &[Descriptor], plan: &Planned) -> Descriptor {
    let pick = |index: &prop::sample::Index| (!before.is_empty()).then(|| index.get(before).clone());
    let subject = plan.subject.as_ref().and_then(pick);
    let number = before.len().to_string();
    if plan.is_index {
        let mut index = Index::new(plan.lists.iter().filter_map(pick).collect());
        index.subject = subject;
        index.annotations.insert("number".to_owned(), number);
        return layout.put(MediaType::ImageIndex, &json::to_vec(&index).unwrap()).unwrap();
    }
    let layer = layout.put(MediaType::ImageLayer, number.as_bytes()).unwrap();
    layout.put(MediaType::EmptyJSON, Descriptor::EMPTY_JSON).unwrap();
    let mut manifest = Manifest::new(Descriptor::empty(), vec![layer]);
    manifest.subject = subject;
    layout.put(MediaType::ImageManifest, &json::to_vec(&manifest).unwrap()).unwrap()
}

/// What is to stay, found the slow way: until nothing is added any more.
fn expected(documents: &[(Digest, Document)], roots: BTreeSet<Digest>) -> BTreeSet<Digest> {
    let mut kept = roots;
    loop {
        let before = kept.len();
        for (digest, document) in documents {
            if kept.contains(digest) {
                kept.extend(document.children().map(|child| child.digest.clone()));
            }
            if document.subject().is_some_and(|subject| kept.contains(&subject.digest)) {
                kept.insert(digest.clone());
            }
        }
        if kept.len() == before {
            return kept;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn collections_keep_what_is_reached_and_what_is_about_it(plans in planned()) {
        let directory = tempfile::tempdir().unwrap();
        let layout = open(&directory.path().join("state"));
        let (mut put, mut keep, mut roots) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for plan in &plans {
            let descriptor = put_planned(&layout, &put, plan);
            if plan.is_named {
                layout.tag(&name(&format!("app:{}", put.len())), &descriptor).unwrap();
                roots.insert(descriptor.digest.clone());
            }
            if plan.is_kept {
                keep.insert(descriptor.digest.clone());
            }
            put.push(descriptor);
        }
        let document = |descriptor: &Descriptor| {
            let bytes = read_document(&layout, descriptor).unwrap();
            (descriptor.digest.clone(), parse_manifest_or_index(&bytes, None).unwrap())
        };
        let documents: Vec<(Digest, Document)> = put.iter().map(document).collect();
        let mut all: BTreeSet<Digest> = put.iter().map(|descriptor| descriptor.digest.clone()).collect();
        all.extend(documents.iter().flat_map(|(_, document)| document.children()).map(|child| child.digest.clone()));
        roots.extend(keep.iter().cloned());
        let expected = expected(&documents, roots);
        layout.collect(&keep).unwrap();
        let there: BTreeSet<Digest> =
            all.into_iter().filter(|digest| layout.stat(digest).unwrap().is_some()).collect();
        prop_assert_eq!(there, expected);
    }
}
