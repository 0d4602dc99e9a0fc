//! The program, in a directory of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// For `env`: what the program does with these signals is its own choice.
pub(crate) const DEFAULT_SIGNALS: &str = "--default-signal=HUP,INT,QUIT,TERM";

/// A directory with a state directory, which the program is run in.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory can be made") }
    }

    /// A place with a Dockerfile in it.
    pub(crate) fn with(dockerfile: &str) -> Self {
        let place = Self::new();
        place.write("Dockerfile", dockerfile);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().expect("a path below the directory"))
            .expect("the directory can be written");
        fs_err::write(path, text).expect("the directory can be written");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs_err::read_to_string(self.path(name)).expect("the file is there")
    }

    /// The program, about to be run here with an environment that says nothing.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocibuild"));
        command.arg("--root").arg(self.path("state")).args(args);
        command.current_dir(self.directory.path()).env_clear().env("HOME", self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The same with the signals of a program that was started by hand: whoever runs the tests may ignore some, as `nohup`
    /// does, and the program leaves it at that.
    pub(crate) fn command_that_heeds_signals(&self, args: &[&str]) -> Command {
        let plain = self.command(args);
        let mut command = Command::new("/usr/bin/env");
        command.arg(DEFAULT_SIGNALS).arg(plain.get_program()).args(plain.get_args());
        command.current_dir(self.directory.path()).env_clear().env("HOME", self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args).output().expect("the program can be started"))
    }

    /// Runs the program in a directory of the place.
    pub(crate) fn run_in(&self, directory: &str, args: &[&str]) -> Ended {
        ended(
            self.command(args)
                .current_dir(self.path(directory))
                .output()
                .expect("the program can be started"),
        )
    }

    /// The directory, to be kept.
    pub(crate) fn into_directory(self) -> tempfile::TempDir {
        self.directory
    }

    pub(crate) fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ended {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().expect("the program can be started");
        let mut stdin = child.stdin.take().expect("a pipe was asked for");
        stdin.write_all(input).expect("the program reads");
        drop(stdin);
        ended(child.wait_with_output().expect("the program ends"))
    }

    /// `build` with what keeps it off the network and away from privilege.
    pub(crate) fn build(&self, args: &[&str]) -> Ended {
        let mut all = vec!["build", "--progress", "plain"];
        all.extend(args);
        all.push(".");
        self.run(&all)
    }
}

pub(crate) fn ended(output: Output) -> Ended {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("what is printed is Unicode");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Ended {
    /// It ended with this code and said all of this on standard error.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in:\n{}", self.stderr);
        }
        assert!(self.stdout.is_empty(), "{}", self.stdout);
    }

    #[track_caller]
    pub(crate) fn succeeds(&self) -> &str {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        &self.stdout
    }
}

/// Whether this process may make what a step needs.
pub(crate) fn namespaces() -> bool {
    Path::new("/proc/self/ns/user").exists() && ocibuild_testkit::sys::namespaces_work().is_ok()
}
