//! Several platforms in one build: an index, directories for files, and steps that are shared.

use fs_err as fs;
use ocibuild::executor::Emulation;
use ocibuild::spec::{CancelToken, Digest, Platform};
use ocibuild::store::{ArchiveSource, LayoutSource};
use ocibuild::{Annotation, AnnotationLevel, Build, Built, Error, ErrorKind, Event, OutputEpoch, OutputKind};
use ocibuild_testkit::{ImageBlobs, TestImage, skip, write_layout_of};
use serde_json::{Value, json};

use super::support::{World, chain, name, shell_image, shell_layer, tar_file, tar_paths, write_files};

const EPOCH: i64 = 1_700_000_000;
const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/arm/v7"];

const DOCKERFILE: &str = "FROM multi
ARG TARGETARCH TARGETVARIANT
LABEL arch=$TARGETARCH$TARGETVARIANT
COPY one.txt /for/$TARGETARCH
";

/// An image of each platform that has it in the file `arch`.
fn image(platform: &str) -> ImageBlobs {
    TestImage::new(platform)
        .layer(&[("arch", platform)])
        .config(|c| c.env = vec!["PATH=/bin".to_owned()])
        .gzip()
        .build()
}

/// A world where `multi` has an image for each of three platforms.
fn world() -> World {
    let mut world = World::new();
    base(&mut world, "multi", &PLATFORMS.map(image));
    world.files(&[("one.txt", "one")]);
    world
}

fn base(world: &mut World, name: &str, images: &[ImageBlobs]) {
    world.base(name, &images[0]);
    let blobs: Vec<_> = images.iter().flat_map(ImageBlobs::all).collect();
    let manifests = images.iter().map(|image| image.descriptor.clone()).collect();
    write_layout_of(&world.path(&format!("bases/{name}")), &blobs, manifests);
}

fn build(world: &World, dockerfile: &str, platforms: &[&str]) -> Build {
    let build = world.prepare(dockerfile).source_date_epoch(EPOCH).tag(name("app:1"));
    platforms.iter().fold(build, |build, platform| build.platform(platform.parse().unwrap()))
}

fn fails(world: &World, build: Build) -> Error {
    let (result, _) = world.try_build_all(build, &CancelToken::new(), &mut |_| {});
    result.map(|built| built.descriptor.digest).unwrap_err()
}

/// The texts of the files of a layout's or archive's index, whose bytes are checked on the way.
fn entries(index: &[u8]) -> Vec<Value> {
    let index: Value = serde_json::from_slice(index).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

#[test]
fn an_index_has_the_images_in_the_order_asked_for() {
    let world = world();
    let wanted = ["linux/arm64/v8", "linux/amd64", "linux/aarch64", "linux/arm"];
    let (built, _) = world.build_all(build(&world, DOCKERFILE, &wanted));
    let platforms: Vec<_> =
        built.images.iter().map(|image| image.descriptor.platform.as_ref().unwrap().to_string()).collect();
    assert_eq!(platforms, ["linux/arm64", "linux/amd64", "linux/arm/v7"], "normalised, each once");
    for (image, architecture) in built.images.iter().zip(["arm64", "amd64", "armv7"]) {
        assert_eq!(image.config.config.labels["arch"], architecture);
        assert_eq!(image.new_layers, 1);
        let created_by: Vec<_> = image.config.history.iter().map(|entry| entry.created_by.as_str()).collect();
        let short = architecture.trim_end_matches("v7");
        assert_eq!(created_by[2], format!("COPY one.txt /for/{short} # buildkit"));
    }
    let listed = |image: &ocibuild::BuiltImage, platform: &str| {
        format!(
            "    {{\n      \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\",\n      \"digest\": \"{}\",\n      \
             \"size\": {},\n      \"platform\": {{\n{platform}\n      }}\n    }}",
            image.descriptor.digest, image.descriptor.size
        )
    };
    let arch = |name: &str| format!("        \"architecture\": \"{name}\",\n        \"os\": \"linux\"");
    let expected = format!(
        "{{\n  \"schemaVersion\": 2,\n  \"mediaType\": \"application/vnd.oci.image.index.v1+json\",\n  \
         \"manifests\": [\n{},\n{},\n{}\n  ]\n}}",
        listed(&built.images[0], &arch("arm64")),
        listed(&built.images[1], &arch("amd64")),
        listed(&built.images[2], &format!("{},\n        \"variant\": \"v7\"", arch("arm"))),
    );
    let bytes = &built.index.as_ref().unwrap().bytes;
    assert_eq!(String::from_utf8_lossy(bytes), expected);
    assert_eq!(built.descriptor.digest, Digest::of(bytes));
    // The state directory has all of it under the name.
    for (image, platform) in built.images.iter().zip(&platforms) {
        let found = world.store().resolve(&name("app:1")).unwrap().unwrap();
        assert_eq!((&found.digest, &found.platform), (&built.descriptor.digest, &None));
        let resolved = ocibuild::spec::ImageSource::resolve(
            world.store(),
            &name("app:1"),
            &platform.parse().unwrap(),
            &CancelToken::new(),
        );
        assert_eq!(resolved.unwrap().config_bytes, image.config_bytes);
    }
}

#[test]
fn archives_and_layouts_name_the_index_alone() {
    let world = world();
    let wanted = build(&world, DOCKERFILE, &PLATFORMS)
        .output(world.output(OutputKind::OciArchive, "image.tar"))
        .output(world.output(OutputKind::OciLayout, "layout"));
    let (built, _) = world.build_all(wanted);
    let archive = fs::read(world.path("image.tar")).unwrap();
    let expected = json!({
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": built.descriptor.digest.to_string(),
        "size": built.descriptor.size,
        "annotations": {
            "io.containerd.image.name": "docker.io/library/app:1",
            "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
            "org.opencontainers.image.ref.name": "1",
        },
    });
    assert_eq!(entries(&tar_file(&archive, "index.json").unwrap()), std::slice::from_ref(&expected));
    assert_eq!(entries(&fs::read(world.path("layout/index.json")).unwrap()), [expected]);
    for (image, platform) in built.images.iter().zip(PLATFORMS) {
        let platform: Platform = platform.parse().unwrap();
        let archive = ArchiveSource::open(world.path("image.tar")).unwrap();
        let layout = LayoutSource::open(world.path("layout"), Some("1"), None).unwrap();
        for source in [&archive as &dyn ocibuild::spec::ImageSource, &layout] {
            let found = source.resolve(&name("app:1"), &platform, &CancelToken::new()).unwrap();
            assert_eq!(found.manifest_bytes, image.manifest_bytes);
            for (_, layer) in image.layers() {
                let mut bytes = Vec::new();
                let mut blob = source.open(&name("app:1"), layer, &CancelToken::new()).unwrap();
                std::io::Read::read_to_end(&mut blob, &mut bytes).unwrap();
                assert_eq!(Digest::of(&bytes), layer.digest);
            }
        }
    }
}

#[test]
fn one_platform_is_a_manifest_unless_an_index_is_asked_for() {
    let world = world();
    let one = || {
        build(&world, DOCKERFILE, &["linux/arm64"]).output(world.output(OutputKind::OciArchive, "one.tar"))
    };
    let listed = || entries(&tar_file(&fs::read(world.path("one.tar")).unwrap(), "index.json").unwrap());
    let (plain, _) = world.build_all(one());
    assert!(plain.index.is_none());
    assert_eq!(listed()[0]["digest"], plain.images[0].descriptor.digest.as_str());
    assert_eq!(listed()[0]["platform"], json!({"architecture": "arm64", "os": "linux"}));
    let (forced, _) = world.build_all(one().build_arg("BUILDKIT_MULTI_PLATFORM", "1"));
    assert_eq!(forced.index.as_ref().unwrap().index.manifests, [plain.images[0].descriptor.clone()]);
    assert_eq!(listed()[0]["digest"], forced.descriptor.digest.as_str());
    assert_eq!(listed()[0].get("platform"), None);
    for (platforms, value) in [(&PLATFORMS[..1], "maybe"), (&PLATFORMS[..], "false")] {
        let wanted = build(&world, DOCKERFILE, platforms).build_arg("BUILDKIT_MULTI_PLATFORM", value);
        assert_eq!(fails(&world, wanted).kind(), ErrorKind::Usage, "{value}");
    }
}

#[test]
fn docker_archives_have_no_place_for_an_index() {
    let world = world();
    let docker = || world.output(OutputKind::DockerArchive, "docker.tar");
    for wanted in [
        build(&world, DOCKERFILE, &PLATFORMS),
        build(&world, DOCKERFILE, &PLATFORMS[..1]).build_arg("BUILDKIT_MULTI_PLATFORM", "true"),
    ] {
        let error = fails(&world, wanted.output(docker()));
        let text = "docker exporter does not currently support exporting manifest lists";
        assert_eq!((error.kind(), error.reports()[0].message.as_str()), (ErrorKind::Usage, text));
        assert!(!world.path("docker.tar").exists());
    }
    world.build_all(build(&world, DOCKERFILE, &PLATFORMS[..1]).output(docker()));
}

#[test]
fn files_of_each_platform_have_a_directory() {
    let world = world();
    let wanted = build(&world, DOCKERFILE, &PLATFORMS)
        .output(world.output(OutputKind::Local, "out"))
        .output(world.output(OutputKind::Tar, "out.tar"));
    world.build_all(wanted);
    let tar = fs::read(world.path("out.tar")).unwrap();
    let mut expected = Vec::new();
    for (directory, platform) in ["linux_amd64", "linux_arm64", "linux_arm_v7"].iter().zip(PLATFORMS) {
        let short = platform.split('/').nth(1).unwrap();
        assert_eq!(fs::read_to_string(world.path(&format!("out/{directory}/arch"))).unwrap(), platform);
        assert_eq!(fs::read_to_string(world.path(&format!("out/{directory}/for/{short}"))).unwrap(), "one");
        for path in ["", "arch", "for/", &format!("for/{short}")] {
            expected.push(format!("{directory}/{path}"));
        }
        assert_eq!(tar_file(&tar, &format!("{directory}/arch")).unwrap(), platform.as_bytes());
    }
    assert_eq!(tar_paths(&tar), expected);
    for entry in tar::Archive::new(tar.as_slice()).entries().unwrap() {
        assert_eq!(entry.unwrap().header().mtime().unwrap(), EPOCH as u64);
    }
    // One platform has none, unless it is asked for.
    let one = || build(&world, DOCKERFILE, &PLATFORMS[2..]);
    world.build_all(one().output(world.output(OutputKind::Local, "one")));
    assert!(world.path("one/for/arm").is_file());
    world.build_all(one().output(world.output(OutputKind::Local, "split").platform_split(true)));
    assert!(world.path("split/linux_arm_v7/for/arm").is_file());
}

#[test]
fn without_directories_files_must_not_clash() {
    let world = world();
    let merged = |dockerfile: &str, kind, place: &str| {
        build(&world, dockerfile, &PLATFORMS[..2]).output(world.output(kind, place).platform_split(false))
    };
    let apart = "FROM scratch\nARG TARGETARCH\nCOPY one.txt /for/$TARGETARCH\n";
    world.build_all(merged(apart, OutputKind::Local, "out"));
    assert!(world.path("out/for/amd64").is_file() && world.path("out/for/arm64").is_file());
    world.build_all(merged(apart, OutputKind::Tar, "out.tar"));
    assert_eq!(tar_paths(&fs::read(world.path("out.tar")).unwrap()), ["for/", "for/amd64", "for/arm64"]);
    // Equal content clashes, too.
    for (kind, place) in [(OutputKind::Local, "clash"), (OutputKind::Tar, "clash.tar")] {
        let error = fails(&world, merged("FROM scratch\nCOPY one.txt /dir/f\n", kind, place));
        let text = "cannot overwrite dir/f from linux/amd64 with linux/arm64 when split option is disabled";
        assert!(chain(&error).contains(text), "{}", chain(&error));
    }
}

#[test]
fn a_link_in_place_of_a_platform_s_directory_leads_nowhere() {
    let world = world();
    write_files(&world.path("canary"), &[("arch", "alive")]);
    fs::create_dir(world.path("out")).unwrap();
    std::os::unix::fs::symlink(world.path("canary"), world.path("out/linux_amd64")).unwrap();
    world
        .build_all(build(&world, DOCKERFILE, &PLATFORMS[..2]).output(world.output(OutputKind::Local, "out")));
    assert_eq!(fs::read_to_string(world.path("canary/arch")).unwrap(), "alive");
    assert_eq!(fs::read_to_string(world.path("out/linux_amd64/arch")).unwrap(), "linux/amd64");
}

#[test]
fn an_emptied_directory_has_the_image_s_files_alone() {
    let world = world();
    let replaced = |place: &str| {
        let output = world.output(OutputKind::Local, place).replace(true);
        build(&world, DOCKERFILE, &PLATFORMS[..1]).output(output)
    };
    write_files(&world.path("out"), &[("mine", ""), ("arch/deep/er", "")]);
    std::os::unix::fs::symlink(world.path("context"), world.path("out/link")).unwrap();
    world.build_all(replaced("out"));
    let mut names: Vec<_> =
        fs::read_dir(world.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["arch", "for"]);
    assert!(world.path("context/one.txt").exists(), "links are removed, not followed");
    for place in ["context", "", "state", "state/tmp"] {
        let error = fails(&world, replaced(place));
        assert_eq!(error.kind(), ErrorKind::Usage, "{place}");
        assert!(world.path("context/one.txt").exists() && world.path("state/index.json").exists());
    }
}

#[test]
fn equal_cross_stages_are_built_once() {
    let Some(image) = shell_image() else { return };
    let mut world = world();
    world.base("base", image);
    let dockerfile = "FROM --platform=$BUILDPLATFORM base AS tools
RUN echo made > /made
RUN echo again >> /made
FROM --platform=$BUILDPLATFORM tools AS cross
ARG TARGETARCH
RUN echo $TARGETARCH >> /made
FROM multi
COPY --from=tools /made /shared
COPY --from=cross /made /made
";
    for no_cache in [false, true] {
        let (built, seen) = world.build_all(build(&world, dockerfile, &PLATFORMS[..2]).no_cache(no_cache));
        let count = |list: &[String], text: &str| list.iter().filter(|title| title.starts_with(text)).count();
        assert_eq!((count(&seen.done, "RUN echo made"), count(&seen.cached, "RUN echo made")), (1, 1));
        let cross = PLATFORMS[..2].iter().map(|text| text.split('/').nth(1).unwrap());
        for architecture in cross {
            assert_eq!(count(&seen.done, &format!("RUN echo {architecture} >>")), 1);
        }
        let shared: Vec<_> =
            built.images.iter().map(|image| image.layers().nth(1).unwrap().0.clone()).collect();
        assert_eq!(shared[0], shared[1]);
    }
}

#[test]
fn progress_names_the_platform_of_a_step() {
    let world = world();
    let dockerfile =
        "FROM --platform=linux/amd64 multi AS first\nCOPY one.txt /a\nFROM multi\nCOPY --from=first /a /b\n";
    let mut seen = Vec::new();
    let mut total = 0;
    let mut watch = |event: &Event| match event {
        Event::Started { steps } => total = *steps,
        Event::StepDone { step, title, .. } | Event::StepCached { step, title, .. } => {
            seen.push(format!("{step} {title}"));
        }
        _ => {}
    };
    let (result, _) =
        world.try_build_all(build(&world, dockerfile, &PLATFORMS[..2]), &CancelToken::new(), &mut watch);
    result.unwrap();
    assert_eq!(total, 4);
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            "0 [linux/amd64 first 2/2] COPY one.txt /a",
            "1 [linux/amd64 stage-1 2/2] COPY --from=first /a /b",
            "2 [linux/amd64 first 2/2] COPY one.txt /a",
            "3 [linux/arm64 stage-1 2/2] COPY --from=first /a /b",
        ]
    );
}

#[test]
fn a_platform_without_an_image_is_named() {
    let world = world();
    let error = fails(&world, build(&world, DOCKERFILE, &["linux/amd64", "linux/s390x"]));
    assert_eq!(error.reports()[0].location.unwrap().start_line, 1);
    let text = chain(&error);
    assert!(text.contains("no match for platform in manifest") && text.contains("linux/s390x"), "{text}");
    // An earlier variant does.
    let (built, _) = world.build_all(build(&world, "FROM multi\n", &["linux/arm/v8"]));
    assert_eq!(built.images[0].config.variant, "v8");
}

#[test]
fn an_index_of_other_platforms_can_be_looked_at() {
    let world = world();
    let others: Vec<&str> =
        PLATFORMS.into_iter().filter(|text| !text.contains(&Platform::host().architecture)).collect();
    world.build_all(build(&world, DOCKERFILE, &others));
    let details = world.state().inspect(&name("app:1")).unwrap();
    assert_eq!(format!("linux/{}", details.config.architecture), others[0]);
    assert_eq!(world.state().images().unwrap().len(), 1);
}

#[test]
fn contexts_are_chosen_by_platform() {
    let mut world = world();
    world.base("multi::linux/arm64", &TestImage::new("linux/arm64").layer(&[("own", "own")]).build());
    let (built, _) = world.build_all(build(&world, "FROM multi\n", &PLATFORMS[..2]));
    let layers = |number: usize| built.images[number].layers().next().unwrap().0.clone();
    assert_eq!(layers(0).0, Digest::of(plain_layer("linux/amd64")));
    assert_ne!(layers(1).0, Digest::of(plain_layer("linux/arm64")));
}

fn plain_layer(platform: &str) -> Vec<u8> {
    TestImage::new(platform).layer(&[("arch", platform)]).build().layers[0].1.clone()
}

#[test]
fn a_program_for_another_platform_says_what_to_install() {
    let Some(tar) = shell_layer() else {
        skip("this host has no static busybox");
        return;
    };
    if shell_image().is_none() {
        return;
    }
    let other = if Platform::host().architecture == "s390x" { "linux/ppc64le" } else { "linux/s390x" };
    if matches!(Emulation::detect(&other.parse().unwrap()), Emulation::Interpreter(_)) {
        skip("this host has an interpreter for s390x");
        return;
    }
    let mut world = world();
    // An ELF header of a machine that this host is not, under the name of the shell.
    let mut program = vec![0; 64];
    program[..20].copy_from_slice(b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x16");
    let mut foreign = tar::Builder::new(Vec::new());
    let mut header = super::support::header(tar::EntryType::Regular, 0o755, program.len() as u64);
    foreign.append_data(&mut header, "bin/sh", program.as_slice()).unwrap();
    let foreign = TestImage::new(other).layer_tar(foreign.into_inner().unwrap()).build();
    world.base("foreign", &foreign);
    let error = fails(&world, build(&world, "FROM foreign\nCOPY one.txt /\nRUN true\n", &[other]));
    assert_eq!((error.kind(), error.reports()[0].location.unwrap().start_line), (ErrorKind::Host, 3));
    assert!(error.reports()[0].message.contains(other), "{error}");
    assert!(error.reports()[0].hint_texts().concat().contains("qemu-user-static"), "{error:?}");
    // What is only called so is executed.
    world.base("native", &TestImage::new(other).layer_tar(tar).build());
    world.build_all(build(&world, "FROM native\nRUN true\n", &[other]));
}

fn annotated(level: AnnotationLevel, platform: Option<&str>, key: &str, value: &str) -> Annotation {
    Annotation::of_manifest(key, value).level(level).platform(platform.map(|text| text.parse().unwrap()))
}

#[test]
fn annotations_of_an_index() {
    use AnnotationLevel::{Index, IndexDescriptor, Manifest, ManifestDescriptor};
    let world = world();
    let own = world.output(OutputKind::OciArchive, "image.tar").annotation(annotated(
        Manifest,
        Some("linux/arm64/v8"),
        "m",
        "arm & more",
    ));
    let wanted = [
        annotated(Manifest, None, "m", "all"),
        annotated(ManifestDescriptor, Some("linux/amd64"), "md", "1"),
        annotated(Index, None, "i", "2"),
        annotated(IndexDescriptor, None, "id", "3"),
    ];
    let build = build(&world, DOCKERFILE, &PLATFORMS[..2]).output(own);
    let (built, _) = world.build_all(wanted.into_iter().fold(build, Build::annotation));
    let archive = fs::read(world.path("image.tar")).unwrap();
    let entry = entries(&tar_file(&archive, "index.json").unwrap()).remove(0);
    assert_eq!(entry["annotations"]["id"], "3");
    let blob = |digest: &str| tar_file(&archive, &format!("blobs/sha256/{}", &digest[7..])).unwrap();
    let index: Value = serde_json::from_slice(&blob(entry["digest"].as_str().unwrap())).unwrap();
    assert_eq!(index["annotations"], json!({"i": "2"}));
    assert_eq!(index["manifests"][0]["annotations"], json!({"md": "1"}));
    assert_eq!(index["manifests"][1].get("annotations"), None);
    let manifests: Vec<_> =
        (0..2).map(|at| blob(index["manifests"][at]["digest"].as_str().unwrap())).collect();
    assert!(
        String::from_utf8_lossy(&manifests[0]).ends_with("  \"annotations\": {\n    \"m\": \"all\"\n  }\n}")
    );
    assert!(String::from_utf8_lossy(&manifests[1]).contains("\"m\": \"arm \\u0026 more\""));
    assert_eq!(built.images[1].manifest_bytes, manifests[1], "the result is that of the output");
}

#[test]
fn annotations_without_a_place_are_refused() {
    use AnnotationLevel::{Index, IndexDescriptor, Manifest};
    let world = world();
    for (annotation, platforms, text) in [
        (annotated(Index, None, "a", "b"), 1, "index annotations not supported for single platform export"),
        (
            annotated(IndexDescriptor, None, "a", "b"),
            1,
            "index annotations not supported for single platform export",
        ),
        (annotated(Manifest, Some("linux/s390x"), "a", "b"), 2, "no platform linux/s390x found in source"),
        (annotated(Index, Some("linux/amd64"), "a", "b"), 2, "but one index has them all"),
    ] {
        let output = world.output(OutputKind::OciLayout, "layout").annotation(annotation.clone());
        for wanted in [
            build(&world, DOCKERFILE, &PLATFORMS[..platforms]).annotation(annotation),
            build(&world, DOCKERFILE, &PLATFORMS[..platforms]).output(output),
        ] {
            let error = fails(&world, wanted);
            assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(text), "{error}");
        }
    }
    let docker = world.output(OutputKind::OciLayout, "layout").docker_media_types(true);
    let wanted = build(&world, DOCKERFILE, &[]).annotation(Annotation::of_manifest("a", "b")).output(docker);
    assert_eq!(fails(&world, wanted).kind(), ErrorKind::Usage);
}

#[test]
fn dockers_media_types() {
    let world = world();
    let output = |place: &str| world.output(OutputKind::OciArchive, place).docker_media_types(true);
    let (built, _) = world.build_all(build(&world, DOCKERFILE, &PLATFORMS[..2]).output(output("a.tar")));
    let text = |built: &Built| {
        let index = built.index.as_ref().map(|index| index.bytes.clone()).unwrap_or_default();
        let manifests = built.images.iter().map(|image| image.manifest_bytes.clone());
        String::from_utf8(manifests.fold(index, |all, bytes| [all, bytes].concat())).unwrap()
    };
    let media_types = |text: &str| {
        let mut found: Vec<_> = text
            .split("\"mediaType\": \"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    assert_eq!(
        media_types(&text(&built)),
        [
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ]
    );
    let entry = entries(&tar_file(&fs::read(world.path("a.tar")).unwrap(), "index.json").unwrap()).remove(0);
    assert_eq!(entry["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    let zstd =
        build(&world, DOCKERFILE, &PLATFORMS[..1]).compression(ocibuild::layer::Compression::ZSTD, true);
    let (built, _) = world.build_all(zstd.output(output("b.tar")));
    assert!(text(&built).contains("application/vnd.docker.image.rootfs.diff.tar.zstd"));
    assert!(!text(&built).contains("tar.gzip"), "the base's layer is converted, too");
}

#[test]
fn base_layers_are_converted_only_by_force() {
    let world = world();
    let zstd = ocibuild::layer::Compression::ZSTD;
    let plain = image(PLATFORMS[0]).layers[0].0.digest.clone();
    let of = |force: bool| {
        let wanted = build(&world, DOCKERFILE, &PLATFORMS[..1]).compression(zstd, force);
        let (built, _) = world.build_all(wanted);
        let layers: Vec<_> =
            built.images[0].layers().map(|(id, layer)| (id.clone(), layer.clone())).collect();
        (layers, built.images[0].config_bytes.clone())
    };
    let (kept, config) = of(false);
    assert_eq!(kept[0].1.digest, plain);
    assert!(kept[1].1.media_type.to_string().ends_with("+zstd"));
    for _ in 0..2 {
        let (converted, same) = of(true);
        assert!(converted.iter().all(|(_, layer)| layer.media_type.to_string().ends_with("+zstd")));
        assert_eq!((&converted[0].0, &same), (&kept[0].0, &config), "the content is the same");
    }
    world.check_blobs();
}

#[test]
fn an_output_may_have_an_epoch_of_its_own() {
    let world = world();
    let dockerfile = "FROM scratch\nARG X\nLABEL a=b\nCOPY one.txt /\n";
    let wanted = |epoch: OutputEpoch, rewrite: bool| {
        let output = world.output(OutputKind::OciArchive, "a.tar").epoch(epoch);
        build(&world, dockerfile, &[]).no_cache(true).rewrite_timestamps(rewrite).output(output)
    };
    let annotation = || {
        let archive = fs::read(world.path("a.tar")).unwrap();
        entries(&tar_file(&archive, "index.json").unwrap())[0]["annotations"]["org.opencontainers.image.created"].clone()
    };
    let times = |built: &Built| {
        let history = &built.images[0].config.history;
        history.iter().map(|entry| entry.created.unwrap().seconds).collect::<Vec<_>>()
    };
    // Later times are clamped, earlier ones stay.
    let (built, _) = world.build_all(wanted(OutputEpoch::At(1000), false));
    assert_eq!((annotation(), times(&built)), (json!("1970-01-01T00:16:40Z"), vec![1000; 3]));
    let (built, _) = world.build_all(wanted(OutputEpoch::At(EPOCH + 1), false));
    assert_eq!(times(&built), [EPOCH; 3]);
    // Without one the history keeps the build's, and nothing else does.
    let (built, _) = world.build_all(wanted(OutputEpoch::None, true));
    assert_eq!((annotation(), times(&built)), (json!("1970-01-01T00:00:00Z"), vec![EPOCH; 3]));
    let rewritten =
        |epoch| world.build_all(wanted(epoch, true)).0.images[0].layers().last().unwrap().0.clone();
    assert_ne!(rewritten(OutputEpoch::At(1000)), rewritten(OutputEpoch::At(2000)));
    let other = world.output(OutputKind::OciArchive, "b.tar").epoch(OutputEpoch::At(5));
    assert_eq!(fails(&world, wanted(OutputEpoch::At(1000), true).output(other)).kind(), ErrorKind::Usage);
}
