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
//! With `OCIBUILD_UPDATE_FIXTURES=1` in the environment `expected` is written instead of being compared.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod base;
mod case;
mod files;
mod image;

use std::path::Path;
use std::process::ExitCode;

use ocibuild_testkit::{Trial, run_trials, skip};

use case::Case;

/// `copy::links` of `fixtures/build/copy/links.txt`.
fn name(path: &Path) -> String {
    let relative = path.strip_prefix(files::fixtures()).unwrap().with_extension("");
    relative.display().to_string().replace('/', "::")
}

fn check(path: &Path) {
    let mut case = Case::read(path);
    if case.needs_root() && !rustix::process::geteuid().is_root() {
        return skip("this case needs root");
    }
    if let Some(program) = case.missing_program() {
        return skip(&format!("this case needs {program}"));
    }
    if let Err(error) = ocibuild_testkit::sys::namespaces_work() {
        return skip(&format!("no namespaces here: {error}"));
    }
    let Some(base) = base::base() else { return skip("this host has no static busybox") };
    let got = case.run(base);
    if std::env::var_os("OCIBUILD_UPDATE_FIXTURES").is_some_and(|value| value == "1") {
        return case.write_expected(path, &got);
    }
    let difference = case::difference(case.expected(), &got);
    assert!(got == case.expected(), "{} is built differently:\n{difference}", path.display());
}

fn main() -> ExitCode {
    let files = files::case_files();
    assert!(files.len() > 250, "only {} cases", files.len());
    let trials: Vec<Trial<'_>> = files.iter().map(|path| Trial::new(name(path), || check(path))).collect();
    run_trials(&trials)
}
