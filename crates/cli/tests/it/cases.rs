//! Whole builds as data: every file below `fixtures/build` is a case that the program builds.
//!
//! A case begins with what it shows and the rules it is about, in words with the rules' numbers. Then come files, each
//! after a line `-- NAME --`: `Dockerfile`, what is in `context/`, `prepare.sh` for what text cannot hold (run by `sh` in
//! the context's directory), `arguments` of the build, one a line, and `expected`, which is what
//! [`image`] prints of the result, or the exit code and the first report of a build that fails. With `between.sh`
//! (run in the same place) the case is built twice, `expected` is that of the second build (with `arguments2` where
//! they are there), and begins with what happened to each of its steps. With `show-times` the times of files are
//! printed too, with `show-created` those of the image and its history. The base image `busybox` has busybox, its links, and the users root and app (1000:1001).
//!
//! With `OCIBUILD_UPDATE_FIXTURES=1` in the environment `expected` is written in place of being compared.

mod base;
mod case;
mod image;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fs_err as fs;
use ocibuild_testkit::skip;

use case::Case;

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/build")
}

pub(crate) fn case_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for section in fs::read_dir(fixtures()).unwrap() {
        let section = section.unwrap().path();
        if section.is_dir() {
            files.extend(fs::read_dir(section).unwrap().map(|file| file.unwrap().path()));
        }
    }
    files.sort();
    files
}

#[test]
fn every_case_gives_what_it_says() {
    if let Err(error) = ocibuild::sys::namespaces_work() {
        return skip(&format!("no namespaces here: {error}"));
    }
    let Some(base) = base::base() else { return skip("this host has no static busybox") };
    let update = std::env::var_os("OCIBUILD_UPDATE_FIXTURES").is_some();
    let files = case_files();
    assert!(!files.is_empty());
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut case = Case::read(path);
            if case.needs_root() && !rustix::process::geteuid().is_root() {
                skip(&format!("{} needs root", path.display()));
                continue;
            }
            if let Some(program) = case.missing_program() {
                skip(&format!("{} needs {program}", path.display()));
                continue;
            }
            let got = case.run(base);
            if update {
                case.write_expected(path, &got);
            } else if got != case.expected() {
                let difference = case::difference(case.expected(), &got);
                wrong.lock().unwrap().push(format!("{}:\n{difference}", path.display()));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), files.len(), wrong.join("\n"));
}
