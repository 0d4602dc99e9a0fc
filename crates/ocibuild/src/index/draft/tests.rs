use super::*;

fn image(name: &str, platform: &str) -> IndexEntry {
    let mut descriptor = Descriptor::of(MediaType::ImageManifest, name.as_bytes());
    descriptor.platform = Some(platform.parse().unwrap());
    IndexEntry { descriptor, name: name.parse().unwrap(), origin: Origin::State, is_of_base: false }
}

fn attestation(image: &IndexEntry) -> IndexEntry {
    let mut entry = IndexEntry { ..image.clone() };
    let about = image.descriptor.digest.to_string();
    entry.descriptor.digest = Digest::of(format!("about {about}"));
    entry.descriptor.platform = Some(Platform::new("unknown", "unknown", ""));
    entry.descriptor.annotations.insert(ABOUT.to_owned(), about);
    entry
}

fn draft(entries: &[IndexEntry]) -> IndexDraft {
    let mut draft = IndexDraft::new("registry.test/app:1".parse().unwrap());
    draft.add(entries.to_vec(), false).unwrap();
    draft
}

/// `platform name`, and `about name` for attestations.
fn shown(draft: &IndexDraft) -> Vec<String> {
    let name = |entry: &IndexEntry| entry.name.tag().unwrap_or_default().to_owned();
    let line = |entry: &IndexEntry| match entry.subject() {
        Some(_) => format!("about {}", name(entry)),
        None => format!("{} {}", entry.descriptor.platform.as_ref().unwrap(), name(entry)),
    };
    draft.entries.iter().map(line).collect()
}

#[test]
fn the_order_follows_from_what_is_listed() {
    let images =
        ["windows/amd64", "linux/s390x", "linux/arm/v7", "linux/arm64", "linux/amd64/v3", "linux/amd64"];
    let mut entries: Vec<IndexEntry> =
        images.iter().enumerate().map(|(at, platform)| image(&format!("x:{at}"), platform)).collect();
    entries.push(attestation(&entries[5].clone()));
    entries.insert(0, attestation(&entries[1].clone()));
    let expected = [
        "linux/amd64 5",
        "linux/amd64/v3 4",
        "linux/arm/v7 2",
        "linux/arm64 3",
        "linux/s390x 1",
        "windows/amd64 0",
        "about 5",
        "about 1",
    ];
    let first = draft(&entries);
    assert_eq!(shown(&first), expected);
    entries.reverse();
    assert_eq!(draft(&entries).document(), first.document());
    let mut later = draft(&entries[..3]);
    later.add(entries[3..].to_vec(), false).unwrap();
    assert_eq!(later.document(), first.document());
    let (descriptor, bytes) = first.document();
    let parsed = ocibuild_spec::parse_manifest_or_index(&bytes, Some(&descriptor.media_type)).unwrap();
    assert_eq!(parsed, ocibuild_spec::Document::Index(first.index()));
}

#[test]
fn a_platform_has_one_image() {
    let one = image("x:one", "linux/arm64");
    let mut two = image("x:two", "linux/arm64");
    // Another spelling of the same.
    two.descriptor.platform.as_mut().unwrap().variant = "v8".to_owned();
    let mut draft = draft(&[one.clone(), attestation(&one)]);
    let error = draft.clone().add(vec![two.clone()], false).unwrap_err().to_string();
    assert!(error.contains("x:one") && error.contains("x:two") && error.contains("linux/arm64"), "{error}");
    draft.add(vec![one.clone()], false).unwrap();
    draft.add(vec![two], true).unwrap();
    assert_eq!(shown(&draft), ["linux/arm64/v8 two"], "attestations go with their image");
    let mut server = image("x:2019", "windows/amd64");
    server.descriptor.platform.as_mut().unwrap().os_version = "10.0.17763".to_owned();
    let mut newer = image("x:2022", "windows/amd64");
    newer.descriptor.platform.as_mut().unwrap().os_version = "10.0.20348".to_owned();
    draft.add(vec![newer, server], false).unwrap();
    assert_eq!(shown(&draft)[1..], ["windows/amd64 2019", "windows/amd64 2022"]);
}

fn of_index(key: &str, value: &str) -> Annotation {
    Annotation { level: AnnotationLevel::Index, ..Annotation::of_manifest(key, value) }
}

fn of_descriptor(key: &str, platform: Option<&str>) -> Annotation {
    let platform = platform.map(|text| text.parse().unwrap());
    Annotation {
        level: AnnotationLevel::ManifestDescriptor,
        platform,
        ..Annotation::of_manifest(key, "value")
    }
}

#[test]
fn platforms_and_annotations_are_changed() {
    let one = image("x:one", "linux/amd64");
    let mut draft = draft(&[one.clone(), image("x:two", "linux/arm64"), attestation(&one)]);
    let by_name = EntrySelector::Image("x:two".parse().unwrap());
    draft
        .change(&IndexChange {
            entry: Some(by_name.clone()),
            architecture: Some("arm".to_owned()),
            variant: Some("6".to_owned()),
            os_features: vec!["f".to_owned()],
            annotations: vec![of_index("i", "1"), of_descriptor("d", None)],
            ..IndexChange::default()
        })
        .unwrap();
    let two = draft.entries[1].descriptor.clone();
    assert_eq!(two.platform.as_ref().unwrap().to_string(), "linux/arm/v6");
    assert_eq!(two.platform.unwrap().os_features, ["f"]);
    assert_eq!(two.annotations["d"], "value");
    assert_eq!(draft.annotations["i"], "1");
    assert!(draft.entries[0].descriptor.annotations.is_empty());
    let of_platform = EntrySelector::Platform("linux/arm/v6".parse().unwrap());
    draft
        .change(&IndexChange {
            entry: Some(of_platform),
            architecture: Some("arm64".to_owned()),
            os_version: Some("1".to_owned()),
            ..IndexChange::default()
        })
        .unwrap();
    let platform = draft.entries[1].descriptor.platform.clone().unwrap();
    assert_eq!((platform.to_string().as_str(), platform.os_version.as_str()), ("linux/arm64", "1"));
    let all = IndexChange {
        annotations: vec![of_descriptor("all", None), of_descriptor("own", Some("linux/amd64"))],
        ..IndexChange::default()
    };
    draft.change(&all).unwrap();
    let keys = |at: usize| -> Vec<&str> {
        draft.entries[at].descriptor.annotations.keys().map(String::as_str).collect()
    };
    assert_eq!([keys(0), keys(1), keys(2)], [vec!["all", "own"], vec!["all", "d"], vec![ABOUT]]);
}

#[test]
fn changes_that_make_no_sense() {
    let one = image("x:one", "linux/amd64");
    let draft = draft(&[one.clone(), image("x:one", "linux/arm64")]);
    let wrong = |change: IndexChange| {
        let mut changed = draft.clone();
        let error = changed.change(&change).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Usage);
        error.to_string()
    };
    let os = |entry: Option<EntrySelector>, os: &str| {
        wrong(IndexChange { entry, os: Some(os.to_owned()), ..IndexChange::default() })
    };
    let name = |text: &str| Some(EntrySelector::Image(text.parse().unwrap()));
    let amd64 = || Some(EntrySelector::Platform("linux/amd64".parse().unwrap()));
    assert!(os(None, "linux").contains("which image"));
    assert!(os(name("x:other"), "linux").contains("is not in"));
    assert!(os(name("x:one"), "linux").contains("more than one"));
    assert!(os(amd64(), "").contains("is not a platform"));
    assert!(os(amd64(), "a/b").contains("is not a platform"));
    let arm =
        IndexChange { entry: amd64(), architecture: Some("aarch64".to_owned()), ..IndexChange::default() };
    assert!(wrong(arm).contains("two images for linux/arm64"));
    let annotations = vec![Annotation::of_manifest("a", "b")];
    assert!(wrong(IndexChange { annotations, ..IndexChange::default() }).contains("no place"));
}

#[test]
fn a_draft_goes_on_with_what_there_is_now() {
    let (a, b, c) = (image("x:a", "linux/amd64"), image("x:b", "linux/arm64"), image("x:c", "linux/s390x"));
    let mut draft = IndexDraft::new("registry.test/app:1".parse().unwrap());
    let annotations = |value: &str| BTreeMap::from([("k".to_owned(), value.to_owned())]);
    draft.rebase(Some(Digest::of("1")), vec![a.clone(), attestation(&a)], annotations("old")).unwrap();
    draft.add(vec![b.clone()], false).unwrap();
    assert_eq!(shown(&draft), ["linux/amd64 a", "linux/arm64 b", "about a"]);
    let before = draft.index();
    // Somebody else replaced one and added one.
    let newer = image("x:newer", "linux/amd64");
    draft.rebase(Some(Digest::of("2")), vec![newer, c], annotations("new")).unwrap();
    assert_eq!(shown(&draft), ["linux/amd64 newer", "linux/arm64 b", "linux/s390x c"]);
    assert_eq!(draft.annotations["k"], "old");
    assert!(draft.is_within(&before) && draft.is_within(&draft.index()));
    let mut theirs = draft.index();
    theirs.manifests.remove(1);
    assert!(!draft.is_within(&theirs));
    // Somebody else has an image for our platform.
    let other = image("x:other", "linux/arm64");
    assert!(draft.clone().rebase(None, vec![other.clone()], BTreeMap::new()).is_err());
    draft.replace = true;
    draft.rebase(None, vec![other.clone(), attestation(&other)], BTreeMap::new()).unwrap();
    assert_eq!(shown(&draft), ["linux/arm64 b"]);
}
