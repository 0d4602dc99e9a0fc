//! Mistakes that newcomers make: each message names the place, the culprit and the next step.
//!
//! A file of `fixtures/mistakes` is one of them: lines `KEY: VALUE`, then the files of the context, each below a line
//! `-- NAME --`. The keys are `args` (the command line behind `ocibuild`, by default `build .`), `exit`, `place`,
//! `culprit`, `next`, `needs` (`busybox`: a base image of that name, and the right to run steps) and `transform`, what
//! text cannot hold (`crlf FILE`, `utf16 FILE`, `bom FILE`, `directory FILE`, `link FILE TARGET`).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fs_err as fs;
use ocibuild_testkit::Shared;

use crate::program::{Ended, Place};

/// A fixture.
#[derive(Default)]
struct Mistake {
    name: String,
    args: Vec<String>,
    exit: i32,
    places: Vec<String>,
    culprits: Vec<String>,
    next: Vec<String>,
    needs_busybox: bool,
    transforms: Vec<(String, String)>,
    files: Vec<(String, String)>,
}

fn read(path: &Path) -> Mistake {
    let text = fs::read_to_string(path).unwrap();
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let mut mistake = Mistake { name, exit: 2, ..Mistake::default() };
    mistake.args = vec!["build".to_owned(), ".".to_owned()];
    for line in text.lines() {
        if let Some(file) = line.strip_prefix("-- ").and_then(|line| line.strip_suffix(" --")) {
            mistake.files.push((file.to_owned(), String::new()));
        } else if let Some((_, content)) = mistake.files.last_mut() {
            content.push_str(line);
            content.push('\n');
        } else if !line.starts_with('#') {
            let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{}: {line}", mistake.name));
            key_of(&mut mistake, key, value);
        }
    }
    mistake
}

fn key_of(mistake: &mut Mistake, key: &str, value: &str) {
    match key {
        "args" => mistake.args = value.split(' ').map(|word| word.replace("\\s", " ")).collect(),
        "exit" => mistake.exit = value.parse().unwrap(),
        "place" => mistake.places.push(value.to_owned()),
        "culprit" => mistake.culprits.push(value.to_owned()),
        "next" => mistake.next.push(value.to_owned()),
        "needs" => mistake.needs_busybox = value == "busybox",
        "transform" => {
            let (how, file) = value.split_once(' ').unwrap();
            mistake.transforms.push((how.to_owned(), file.to_owned()));
        }
        other => panic!("{}: {other}", mistake.name),
    }
}

impl Mistake {
    fn make(&self) -> Place {
        let place = Place::new();
        fs::create_dir_all(place.path("context")).unwrap();
        for (name, content) in &self.files {
            place.write(&format!("context/{name}"), content);
        }
        for (how, name) in &self.transforms {
            let path = place.path(&format!("context/{name}"));
            match how.as_str() {
                "crlf" => fs::write(&path, fs::read_to_string(&path).unwrap().replace('\n', "\r\n")).unwrap(),
                "utf16" => {
                    let text = fs::read_to_string(&path).unwrap();
                    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
                    fs::write(&path, units.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
                }
                "bom" => {
                    let text = fs::read_to_string(&path).unwrap();
                    fs::write(&path, format!("\u{feff}{text}")).unwrap();
                }
                "directory" => fs::create_dir_all(&path).unwrap(),
                "link" => {
                    let (name, target) = name.split_once(' ').unwrap();
                    std::os::unix::fs::symlink(target, place.path(&format!("context/{name}"))).unwrap();
                }
                other => panic!("{other}"),
            }
        }
        place
    }

    fn run(&self, place: &Place) -> Ended {
        let mut args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let base;
        let busybox = self.needs_busybox.then(|| busybox().expect("asked before"));
        if let Some(busybox) = &busybox {
            base = format!("busybox=oci-layout://{}/base", busybox.path().display());
            args.splice(1..1, ["--build-context", &base]);
        }
        place.run_in("context", &args)
    }
}

/// A base image with busybox as its shell; `None` where steps cannot be run.
fn busybox() -> Option<Arc<tempfile::TempDir>> {
    static BASE: Shared<tempfile::TempDir> = Shared::new();
    BASE.get_or_make(|| {
        let program = Path::new("/bin/busybox");
        if !program.exists() || !rustix::process::geteuid().is_root() {
            return None;
        }
        let place = Place::with(
            "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nCOPY busybox /bin/ls\n",
        );
        fs::copy(program, place.path("busybox")).unwrap();
        place.build(&["-o", "type=oci,tar=false,dest=base", "-t", "busybox"]).succeeds();
        Some(place.into_directory())
    })
}

/// What is wrong with a message.
fn judge(mistake: &Mistake, ended: &Ended) -> Vec<String> {
    let mut wrong = Vec::new();
    if ended.code != Some(mistake.exit) {
        wrong.push(format!("ended with {:?}", ended.code));
    }
    let lines = |labels: &[&str]| -> String {
        let has_label = |line: &&str| labels.iter().any(|label| line.starts_with(label));
        ended.stderr.lines().filter(has_label).collect::<Vec<_>>().join("\n")
    };
    for place in &mistake.places {
        if !lines(&["  --> "]).contains(place.as_str()) {
            wrong.push(format!("no place {place:?}"));
        }
    }
    for culprit in &mistake.culprits {
        if !lines(&["error: ", "cause: ", "hint: "]).contains(culprit.as_str()) {
            wrong.push(format!("no culprit {culprit:?}"));
        }
    }
    for next in &mistake.next {
        if !lines(&["hint: "]).contains(next.as_str()) {
            wrong.push(format!("no next step {next:?}"));
        }
    }
    wrong
}

/// What is wrong with the message about a mistake, with the message.
fn failure_of(mistake: &Mistake) -> Option<String> {
    assert!(
        !mistake.places.is_empty() && !mistake.culprits.is_empty() && !mistake.next.is_empty(),
        "{}",
        mistake.name
    );
    let ended = mistake.run(&mistake.make());
    let wrong = judge(mistake, &ended);
    (!wrong.is_empty()).then(|| format!("== {}: {}\n{}", mistake.name, wrong.join("; "), ended.stderr))
}

#[test]
fn privileged_mistakes_are_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/mistakes");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 50, "{} mistakes", paths.len());
    let mistakes: Vec<Mistake> = paths.iter().map(|path| read(path)).collect();
    let base = busybox();
    let is_left_out = |mistake: &&Mistake| mistake.needs_busybox && base.is_none();
    let left_out = mistakes.iter().filter(is_left_out).count();
    // Several wait for servers that are not there: that takes time, but no processor.
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(mistake) = mistakes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !is_left_out(&mistake) {
                        failures.lock().unwrap().extend(failure_of(mistake));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    if left_out > 0 {
        ocibuild_testkit::skip(&format!(
            "{left_out} mistakes take root and a static busybox in /bin/busybox"
        ));
    }
}
