use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip;

/// A git repository in a directory, made with the host's `git` and nothing of its user's settings.
#[derive(Debug)]
pub struct GitRepository {
    directory: PathBuf,
}

impl GitRepository {
    /// An empty repository at `directory`, which is made; `None`, with a printed reason, on hosts without git.
    pub fn init(directory: &Path) -> Option<Self> {
        fs_err::create_dir_all(directory).expect("a test can write its directory");
        let repository = Self { directory: directory.to_owned() };
        let Ok(output) = repository.command().args(["init", "-q", "-b", "main"]).output() else {
            skip("there is no git (package `git`)");
            return None;
        };
        assert!(output.status.success(), "git init: {}", String::from_utf8_lossy(&output.stderr));
        Some(repository)
    }

    /// Runs git, and gives what it printed without the end of the line.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().expect("git was there before");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Writes files and commits everything at a second since 1970; the commit.
    pub fn commit(&self, files: &[(&str, &str)], seconds: u64) -> String {
        for (name, text) in files {
            let path = self.directory.join(name);
            fs_err::create_dir_all(path.parent().expect("a file is in a directory"))
                .and_then(|()| fs_err::write(&path, text))
                .expect("a test can write its directory");
        }
        self.git(&["add", "-A"]);
        let date = format!("@{seconds} +0000");
        let output = self
            .command()
            .env("GIT_COMMITTER_DATE", &date)
            .env("GIT_AUTHOR_DATE", &date)
            .args(["commit", "-q", "--allow-empty", "-m", "a commit"])
            .output()
            .expect("git was there before");
        assert!(output.status.success(), "git commit: {}", String::from_utf8_lossy(&output.stderr));
        self.publish();
        self.git(&["rev-parse", "HEAD"])
    }

    /// Makes what a server of plain files needs.
    pub fn publish(&self) {
        self.git(&["update-server-info"]);
    }

    /// The directory to serve as `NAME.git`.
    pub fn git_directory(&self) -> PathBuf {
        self.directory.join(".git")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command
            .current_dir(&self.directory)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .args(["-c", "user.name=test", "-c", "user.email=test@example.org"])
            .args(["-c", "protocol.file.allow=always"]);
        command
    }
}
