//! User namespaces in a program with many threads.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use ocibuild_sys::{IdMap, UserNamespace, id_map, user_namespaces_work};
use ocibuild_testkit::skip;

fn namespace() -> Option<UserNamespace> {
    if let Err(error) = user_namespaces_work() {
        skip(&format!("no user namespaces: {error}"));
        return None;
    }
    Some(UserNamespace::create().unwrap())
}

fn user_namespace() -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs_err::metadata("/proc/self/ns/user").unwrap())
}

#[test]
fn work_and_its_threads_are_inside_and_the_caller_is_not() {
    let Some(namespace) = namespace() else { return };
    let outside = user_namespace();
    let found: Mutex<Vec<u64>> = Mutex::default();
    let note = || found.lock().unwrap().push(user_namespace());
    namespace
        .run(|| {
            note();
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(note);
                }
            });
        })
        .unwrap();
    let found = found.into_inner().unwrap();
    assert_eq!(found.len(), 9);
    assert!(
        found.iter().all(|inside| *inside == found[0] && *inside != outside),
        "{found:?}, outside {outside}"
    );
    assert_eq!(user_namespace(), outside);
}

#[test]
fn ids_of_this_process_are_kept_by_root() {
    let Some(namespace) = namespace() else { return };
    let here = id_map();
    let inside = namespace.run(id_map).unwrap();
    if rustix::process::geteuid().is_root() && namespace.without_ranges().is_none() {
        let same =
            |map: &IdMap| map.users.iter().map(|range| (range.inside, range.count)).collect::<Vec<_>>();
        assert_eq!(same(&inside), same(&here));
        assert!(inside.setgroups);
    }
    assert!(inside.has_user(0) && inside.has_group(0));
}

#[test]
fn values_locks_and_channels_cross_the_border_while_others_work() {
    let Some(namespace) = namespace() else { return };
    let namespace = Arc::new(namespace);
    let count = Arc::new(Mutex::new(0_usize));
    let (sender, receiver) = mpsc::channel();
    // Others allocate, lock and send all the time, inside and outside.
    let busy: Vec<_> = (0..4)
        .map(|number| {
            let (namespace, count, sender) = (Arc::clone(&namespace), Arc::clone(&count), sender.clone());
            thread::spawn(move || {
                let work = move || {
                    for round in 0..200 {
                        let text = vec![number; 1 + round * 37 % 5000];
                        *count.lock().unwrap() += 1;
                        sender.send(text).unwrap();
                    }
                };
                if number % 2 == 0 { work() } else { namespace.run(work).unwrap() }
            })
        })
        .collect();
    drop(sender);
    assert_eq!(receiver.iter().count(), 800);
    for thread in busy {
        thread.join().unwrap();
    }
    assert_eq!(*count.lock().unwrap(), 800);
}

#[test]
fn a_panic_comes_to_the_caller() {
    let Some(namespace) = namespace() else { return };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        namespace.run(|| std::panic::resume_unwind(Box::new("on purpose")))
    }));
    let payload = result.map(|result: Result<(), _>| result.is_ok()).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"on purpose"));
    assert_eq!(namespace.run(|| 7).unwrap(), 7);
}

#[test]
fn storage_of_the_calling_thread_is_left_alone() {
    thread_local!(static VALUE: Cell<u32> = const { Cell::new(1) });
    let Some(namespace) = namespace() else { return };
    VALUE.set(2);
    let inside = namespace.run(|| VALUE.replace(3)).unwrap();
    assert_eq!((inside, VALUE.get()), (1, 2));
}

#[test]
fn a_thread_that_is_left_behind_goes_on() {
    let Some(namespace) = namespace() else { return };
    let steps = Arc::new(AtomicUsize::new(0));
    let (go, wait) = mpsc::channel::<()>();
    let (tell, done) = mpsc::channel();
    let counted = Arc::clone(&steps);
    let left = namespace
        .run(move || {
            thread::spawn(move || {
                wait.recv().unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                tell.send(id_map()).unwrap();
            })
        })
        .unwrap();
    assert_eq!(steps.load(Ordering::Relaxed), 0);
    go.send(()).unwrap();
    assert_eq!(done.recv().unwrap(), namespace.run(id_map).unwrap());
    left.join().unwrap();
    assert_eq!(steps.load(Ordering::Relaxed), 1);
}

#[test]
fn nothing_is_left_for_the_parent_of_this_program() {
    let Some(namespace) = namespace() else { return };
    for round in 0..200 {
        let process = namespace
            .run(|| {
                thread::scope(|scope| scope.spawn(|| ()).join().unwrap());
                std::process::id()
            })
            .unwrap();
        let status = fs_err::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        assert!(!status.contains("user-namespace"), "round {round}: {status}");
    }
}

#[test]
fn programs_can_be_started_inside() {
    let Some(namespace) = namespace() else { return };
    let output =
        namespace.run(|| std::process::Command::new("/bin/cat").arg("/proc/self/uid_map").output().unwrap());
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    let users = namespace.run(id_map).unwrap().users;
    assert_eq!(output.lines().count(), users.len(), "{output}");
}
