//! The main job, end to end: builds `fixtures/simpleapp` on a base image made of this host's own shell and tools, runs
//! the image, and builds it again from the cache.
//!
//! It needs neither network nor container tools nor root. The image is left as an OCI layout in `target/quickstart`
//! under the tag `latest`. Run by cargo, the paths are those of the workspace; run by itself, of the current directory.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to whoever runs it")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use ocibuild::dockerfile::Dockerfile;
use ocibuild::executor::{NamespaceExecutor, Stream};
use ocibuild::registry::Registry;
use ocibuild::state::{ContainerOptions, State};
use ocibuild::store::{ImageLayout, LayoutDirectory, LayoutSource, OutputImage, copy_image};
use ocibuild::{Backends, Build, BuiltImage, Cache, CancelToken, ContextSource, Event, LocalContext};
use ocibuild_testkit::HostBase;

const NAME: &str = "simpleapp:latest";

/// What a run of the example leaves below `target/`, made anew each time.
const LEFTOVERS: [&str; 4] = ["quickstart", "quickstart-state", "quickstart-base", "quickstart-context"];

fn main() -> ExitCode {
    // Files of an image belong to root: an ordinary user becomes root of a user namespace, before any thread starts.
    if !rustix::process::geteuid().is_root() {
        match ocibuild::sys::enter_user_namespace() {
            Ok(namespace) if namespace.ranges => println!("ordinary user: in a user namespace with a range of ids"),
            Ok(_) => println!("ordinary user: in a user namespace with a single id"),
            Err(error) => {
                eprintln!("error: no usable sandbox: {error}");
                return ExitCode::from(5);
            }
        }
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(below) = cause {
                eprintln!("cause: {below}");
                cause = below.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let root = match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(package) => fs_err::canonicalize(Path::new(&package).join("../.."))?,
        None => PathBuf::from("."),
    };
    let target = root.join("target");
    fs_err::create_dir_all(&target)?;
    let folder = ocibuild::sys::DirHandle::open(&target)?;
    for name in LEFTOVERS {
        folder.remove_tree(name)?;
    }

    println!("\n== a base image of this host's own shell and tools");
    let base = target.join("quickstart-base");
    HostBase::find()?.write_layout(&base)?;
    let context = target.join("quickstart-context");
    copy_fixture(&root.join("fixtures/simpleapp"), &context)?;

    println!("\n== the first build");
    let first = build(&target, &context)?;
    println!("\n== the image {}", first.image.descriptor.digest);
    for (number, (diff_id, descriptor)) in first.image.layers().enumerate() {
        println!("layer {number}: {:>10} bytes  {}  (unpacked {diff_id})", descriptor.size, descriptor.digest);
    }
    export(&target, &first.image)?;

    println!("\n== the image's own output");
    show_container(&target)?;

    println!("\n== the second build");
    let second = build(&target, &context)?;
    println!("{} steps, {} of them cached", second.steps, second.cached);
    if second.cached != second.steps || second.image.descriptor.digest != first.image.descriptor.digest {
        return Err("the second build should have taken everything from the cache".into());
    }
    Ok(())
}

/// A build that is done, and how much of it was found in the cache.
struct Done {
    image: BuiltImage,
    steps: usize,
    cached: usize,
}

fn build(target: &Path, context: &Path) -> Result<Done, Box<dyn Error>> {
    let layout = ImageLayout::open_or_create(target.join("quickstart-state"))?;
    let snapshots = ocibuild::snapshot::auto(layout.private_dir("snapshots"))?;
    let backends = Backends {
        store: &layout,
        base_images: &Registry::anonymous(),
        snapshots: snapshots.as_ref(),
        executor: &NamespaceExecutor::new(),
        cache: &Cache::open(layout.private_dir("cache"))?,
    };
    let source = LayoutSource::open(target.join("quickstart-base"), None, None)?;
    let base = ContextSource::Image { source: Box::new(source), reference: "base".parse()? };
    let dockerfile = Dockerfile::parse(fs_err::read(context.join("Dockerfile"))?)?;
    let plan = Build::new(dockerfile, LocalContext::open(context)?)
        .build_context("base", base)
        .now(SystemTime::now())
        .resolv_conf(fs_err::read_to_string("/etc/resolv.conf").unwrap_or_default())
        .tag(NAME.parse()?)
        .plan(&backends)?;
    let (mut steps, mut cached) = (0, 0);
    let image = plan.run(&backends, &CancelToken::new(), |event| {
        show(&event);
        match event {
            Event::Started { steps: count } => steps = count,
            Event::StepCached { .. } => cached += 1,
            _ => {}
        }
    })?;
    Ok(Done { image, steps, cached })
}

/// Leaves the image for other tools.
fn export(target: &Path, image: &BuiltImage) -> Result<(), Box<dyn Error>> {
    let state = ImageLayout::open_or_create(target.join("quickstart-state"))?;
    let layout = LayoutDirectory::open_or_create(target.join("quickstart"))?;
    copy_image(&state, &image.descriptor, &layout)?;
    let names = vec![NAME.parse()?];
    layout.finish(&[OutputImage { descriptor: image.descriptor.clone(), names, created: image.config.created }])?;
    println!("OCI layout: {}, tag latest", target.join("quickstart").display());
    Ok(())
}

fn show(event: &Event<'_>) {
    match event {
        Event::Output { bytes, .. } => {
            for line in String::from_utf8_lossy(bytes).lines() {
                println!("  | {line}");
            }
        }
        Event::Started { .. } => {}
        other => println!("{other}"),
    }
}

fn show_container(target: &Path) -> Result<(), Box<dyn Error>> {
    let layout = ImageLayout::open_or_create(target.join("quickstart-state"))?;
    let cache = Cache::open(layout.private_dir("cache"))?;
    let snapshots = ocibuild::snapshot::auto(layout.private_dir("snapshots"))?;
    let state = State::new(&layout, &cache, snapshots.as_ref());
    let mut print = |_: Stream, bytes: &[u8]| print!("{}", String::from_utf8_lossy(bytes));
    let options = ContainerOptions::default();
    let status = state.run(&NAME.parse()?, &options, &NamespaceExecutor::new(), &mut print, &CancelToken::new())?;
    if status.success() { Ok(()) } else { Err(format!("the image ended with {}", status.code()).into()) }
}

/// Copies the fixture and makes the archive that its Dockerfile adds.
fn copy_fixture(fixture: &Path, context: &Path) -> Result<(), Box<dyn Error>> {
    fs_err::create_dir_all(context)?;
    for entry in fs_err::read_dir(fixture)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs_err::copy(entry.path(), context.join(entry.file_name()))?;
        }
    }
    let mut archive = tar::Builder::new(fs_err::File::create(context.join("words.tar"))?);
    archive.append_dir_all("words", fixture.join("words"))?;
    archive.into_inner()?;
    Ok(())
}
