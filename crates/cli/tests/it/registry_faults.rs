//! What registries do wrong, as data: every file of `fixtures/registry` holds cases of one kind of fault, of which each
//! runs the program against registries in this process, over sockets.
//!
//! A case begins with `== NAME ==`. Its lines are carried out in their order:
//!
//! ```text
//! LISTENER has REPOSITORY:TAG [large|gzip]    an image stands there before
//! LISTENER puts REPOSITORY:TAG TYPE JSON      a document stands there before
//! LISTENER wants password                     and for a token as well, if it wants one
//! LISTENER wants token [from URL]
//! state has NAME [large|gzip]                 an image is in the state directory before
//! login HOST [identity]                       docker's configuration has credentials for it
//! context FILE TEXT                           a file of the build's context
//! before ARGUMENTS                            the program runs, and has to succeed
//! fault LISTENER METHOD PATH TIMES: ACTION    `once`, `N times` or `always`, then perhaps `after N`
//! run ARGUMENTS                               the program runs; this run is judged
//! ends CODE                                   0, 3 or 4
//! says WORDS                                  what the message holds: where it can, the registry's own text
//! | REPORT                                    the whole message
//! seen LISTENER METHOD PATH TIMES AUTHORIZATION [<=BYTES]
//! ```
//!
//! `registry` and `token` listen on 127.0.0.1, `elsewhere` on 127.0.0.2; nobody listens at `{closed}`; `{secure}` is
//! `registry` behind TLS, with the `{certificate}`. METHOD may be `*`; PATH is any part of one. Actions are those of
//! [`scene::action`]. In each `seen` line TIMES is `2`, `1..3` or `2..`, AUTHORIZATION is `none`, `basic`, `bearer`, `some` (of the requests) or `-` (not looked at), BYTES the most
//! that bodies brought. A listener with no line that allows `basic` must never see the password, one without `bearer`
//! never the token, and nobody but `registry` any byte of a layer. `{registry}` and the like stand for addresses,
//! `{layer}`, `{config}` and `{manifest}` for digests of the image, `{layer.size}` and `{config.size}` for sizes.
//!
//! With `OCIBUILD_UPDATE_FIXTURES=1` in the environment the reports are written instead of being compared; with
//! `OCIBUILD_TEST_CASE` only those cases are played whose names have this in them.

mod case;
mod judge;
mod scene;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fs_err as fs;
use ocibuild_testkit::{Certificates, skip};

use case::Case;
use scene::Scene;

/// Runs at the same time; most of their time they wait.
const AT_ONCE: usize = 6;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/registry");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What is wrong with how a case ended, and the report it ended with.
fn play(case: &Case) -> (Vec<String>, Vec<String>) {
    let mut scene = Scene::new(case);
    let ended = scene.play();
    let wrong = judge::judge(case, &scene, &ended);
    let report = scene.report(&ended);
    (wrong, report)
}

#[test]
fn every_fault_ends_well_or_is_told() {
    let update = std::env::var_os("OCIBUILD_UPDATE_FIXTURES").is_some_and(|value| value == "1");
    let only = std::env::var("OCIBUILD_TEST_CASE").unwrap_or_default();
    let cases: Vec<Case> = files().iter().flat_map(|path| Case::read(path)).collect();
    let mut kinds = BTreeMap::<&Path, usize>::new();
    for case in &cases {
        *kinds.entry(&case.file).or_default() += 1;
    }
    for (kind, count) in kinds {
        assert!(count <= 5, "{}: {count} cases of one kind", kind.display());
    }
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let has_openssl = Certificates::new().is_some();
    let is_played = |case: &Case| case.title().contains(&only) && (has_openssl || !case.is_about_tls());
    let cases: Vec<Case> = cases.into_iter().filter(is_played).collect();
    let (next, failures, reports) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (mut wrong, report) = play(case);
                    if !update && report != case.report {
                        wrong.push(format!("another report than\n{}", case.report.join("\n")));
                    }
                    if !wrong.is_empty() {
                        let wrong = wrong.join("\n  ");
                        let text = format!("== {}\n  {wrong}\n{}", case.title(), report.join("\n"));
                        failures.lock().unwrap().push(text);
                    }
                    reports.lock().unwrap().push((case, report));
                }
            });
        }
    });
    if update {
        case::write_reports(&reports.into_inner().unwrap());
    }
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    if !has_openssl {
        skip("cases about TLS need the program openssl");
    }
    assert!(failures.is_empty(), "{} cases went wrong:\n{}", failures.len(), failures.join("\n\n"));
}
