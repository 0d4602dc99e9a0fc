//! The filter of system calls, from inside: what is refused one way is refused the other.

use std::path::Path;
use std::process::Command;

use fs_err as fs;

use crate::world::{World, chain, executors};

/// Makes calls in the three ways that an `x86_64` kernel takes them, and prints the error number of each, 0 for none.
const PROBE: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int args[3];
static int flags[32];

static long call64(long number, long a, long b, long c) {
    long result;
    register long r10 __asm__("r10") = 0;
    register long r8 __asm__("r8") = 0;
    __asm__ volatile("syscall" : "=a"(result)
        : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
}

static long call32(long number, long a, long b, long c) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result)
        : "a"(number), "b"(a), "c"(b), "d"(c), "S"(0), "D"(0) : "r8", "r9", "r10", "r11", "memory");
    return result;
}

static void show(const char *name, long result) {
    printf("%s %ld\n", name, result < 0 ? -result : 0);
    fflush(stdout);
}

static void clone_of(const char *name, long result) {
    if (result == 0) _exit(0);
    show(name, result);
}

#define X32 0x40000000

int main(void) {
    long family[] = {38, 40};
    show("works getpid", call32(20, 0, 0, 0));
    show("works socket", call32(359, 2, 1, 0));
    for (int i = 0; i < 2; i++) {
        args[0] = family[i]; args[1] = 1; args[2] = 0;
        show("socket", call64(41, family[i], 1, 0));
        show("socket x32", call64(X32 | 41, family[i], 1, 0));
        show("socket i386", call32(359, family[i], 1, 0));
        show("socket of socketcall", call32(102, 1, (long)args, 0));
        show("socketpair of socketcall", call32(102, 8, (long)args, 0));
    }
    args[0] = 2;
    show("inet of socketcall", call32(102, 1, (long)args, 0));
    long user = 0x10000000 | 17;
    clone_of("clone", call64(56, user, 0, 0));
    clone_of("clone x32", call64(X32 | 56, user, 0, 0));
    clone_of("clone i386", call32(120, user, 0, 0));
    flags[0] = 0x10000000; flags[8] = 17;
    clone_of("clone3", call64(435, (long)flags, 88, 0));
    clone_of("clone3 x32", call64(X32 | 435, (long)flags, 88, 0));
    clone_of("clone3 i386", call32(435, (long)flags, 88, 0));
    show("unshare i386", call32(310, 0x10000000, 0, 0));
    show("personality", call64(135, 0x0040000, 0, 0));
    show("personality x32", call64(X32 | 135, 0x0040000, 0, 0));
    show("personality i386", call32(136, 0x0040000, 0, 0));
    return 0;
}
"#;

fn probe(directory: &Path) -> bool {
    if !cfg!(target_arch = "x86_64") || !ocibuild_testkit::has_tool("gcc") {
        ocibuild_testkit::skip("takes gcc for x86_64");
        return false;
    }
    let source = directory.join("probe.c");
    fs::write(&source, PROBE).unwrap();
    let mut compiler = Command::new("gcc");
    // Where 32-bit calls reach what it points to.
    compiler.args(["-static", "-no-pie", "-o"]).arg(directory.join("probe")).arg(&source);
    let compiled = compiler.output().unwrap();
    if !compiled.status.success() {
        let complaint = String::from_utf8_lossy(&compiled.stderr).into_owned();
        ocibuild_testkit::skip(&format!("gcc makes no static program: {complaint}"));
        return false;
    }
    let here = Command::new(directory.join("probe")).output().unwrap();
    if !here.status.success() {
        ocibuild_testkit::skip("this kernel takes no 32-bit calls");
        return false;
    }
    true
}

#[test]
fn privileged_no_way_of_calling_passes_the_filter() {
    let Some(mut world) = World::privileged() else { return };
    if !probe(&world.rootfs().join("bin")) {
        return;
    }
    world.step.args = vec!["/bin/probe".to_owned()];
    for uid in [0, 1000] {
        world.step.user.uid = uid;
        for (name, executor) in executors() {
            let (result, text) = world.run_with(&*executor);
            let status = result.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
            assert!(status.success(), "{name}: {status:?} {text}");
            assert_eq!(text.lines().count(), 23, "{name}: {text}");
            for line in text.lines() {
                let (call, errno) = line.rsplit_once(' ').unwrap();
                let expected: &[&str] = if call.starts_with("works") {
                    &["0"]
                } else {
                    &["1" /* EPERM */, "38" /* ENOSYS */]
                };
                assert!(expected.contains(&errno), "{name} as {uid}: {line}");
            }
        }
    }
}
