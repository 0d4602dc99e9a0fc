use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fs_err as fs;

use super::image::{self, Shown};

/// A case: its words, and its files in the order of the text.
pub(super) struct Case {
    comment: String,
    files: Vec<(String, String)>,
}

impl Case {
    pub(super) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let (mut comment, mut files) = (String::new(), Vec::<(String, String)>::new());
        for line in text.split_inclusive('\n') {
            let name = line.trim_end().strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --"));
            match (name, files.last_mut()) {
                (Some(name), _) => files.push((name.to_owned(), String::new())),
                (None, Some((_, content))) => content.push_str(line),
                (None, None) => comment.push_str(line),
            }
        }
        assert!(comment.contains('.'), "{} does not say what it shows", path.display());
        Self { comment, files }
    }

    fn file(&self, name: &str) -> Option<&str> {
        self.files.iter().find(|(known, _)| known == name).map(|(_, content)| content.as_str())
    }

    pub(super) fn expected(&self) -> &str {
        self.file("expected").unwrap_or_default()
    }

    /// A program that this host does not have, and without which its files cannot be made.
    pub(super) fn missing_program(&self) -> Option<&'static str> {
        let script = self.file("prepare.sh")?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_here = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).exists());
        let packers = ["bzip2", "xz", "zstd"];
        packers.into_iter().find(|name| script.contains(&format!("{name} ")) && !is_here(name))
    }

    /// Whether its files cannot be made by an ordinary user.
    pub(super) fn needs_root(&self) -> bool {
        let script = self.file("prepare.sh").unwrap_or_default();
        ["chown", "mknod", "setcap"].iter().any(|word| script.contains(word))
    }

    pub(super) fn write_expected(&mut self, path: &Path, got: &str) {
        self.files.retain(|(name, _)| name != "expected");
        self.files.push(("expected".to_owned(), got.to_owned()));
        let mut text = self.comment.clone();
        for (name, content) in &self.files {
            let _ = write!(text, "-- {name} --\n{content}");
        }
        fs::write(path, text).unwrap();
    }

    /// Builds the case and prints what came of it.
    pub(super) fn run(&self, base: &Path) -> String {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("context")).unwrap();
        for (name, content) in &self.files {
            if name == "Dockerfile" || name.starts_with("context/") || name.starts_with("beside/") {
                let path = place.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
        }
        self.script("prepare.sh", place.path());
        let shown =
            Shown { times: self.file("show-times").is_some(), created: self.file("show-created").is_some() };
        let first = self.build(place.path(), base, "arguments", &[]);
        if self.file("between.sh").is_none() {
            return print(place.path(), &first, shown);
        }
        assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
        fs::remove_dir_all(place.path().join("out")).unwrap();
        self.script("between.sh", place.path());
        let again = if self.file("arguments2").is_some() { "arguments2" } else { "arguments" };
        let second = self.build(place.path(), base, again, &["--progress", "json"]);
        let mut printed = steps(&second);
        printed.push_str(&print(place.path(), &second, shown));
        printed
    }

    fn script(&self, name: &str, place: &Path) {
        let Some(script) = self.file(name) else { return };
        let mut shell = Command::new("sh");
        shell.args(["-euc", script]).current_dir(place.join("context")).stdin(Stdio::null());
        let ended = shell.output().unwrap();
        assert!(ended.status.success(), "{name}: {}", String::from_utf8_lossy(&ended.stderr));
    }

    fn build(&self, place: &Path, base: &Path, arguments: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocibuild"));
        command.args(["--root", "state", "build", "-f", "Dockerfile"]);
        command.arg("--build-context").arg(format!("busybox=oci-layout://{}", base.display()));
        command.args(self.file(arguments).unwrap_or_default().lines());
        let is_check = self.file(arguments).is_some_and(|lines| lines.lines().any(|line| line == "--check"));
        if !is_check {
            command.args(["-o", "type=oci,tar=false,dest=out"]);
        }
        command.args(more).arg("context").current_dir(place).env_remove("SOURCE_DATE_EPOCH").output().unwrap()
    }
}

/// What a build printed, or what it made.
fn print(place: &Path, ended: &Output, shown: Shown) -> String {
    let out: PathBuf = place.join("out");
    if ended.status.success() && out.exists() {
        return image::print(&out, shown);
    }
    let mut text = format!("exit {}\n", ended.status.code().unwrap_or(-1));
    text.push_str(&String::from_utf8_lossy(&ended.stdout));
    text.push_str(&first_report(&String::from_utf8_lossy(&ended.stderr)));
    text
}

/// The headline of the first error, its place, and its hints.
fn first_report(stderr: &str) -> String {
    let report = stderr.lines().skip_while(|line| !line.starts_with("error:"));
    let mut text = String::new();
    for (number, line) in report.enumerate() {
        let is_next = number > 0 && line.starts_with("error:");
        if is_next {
            break;
        }
        if line.starts_with("error:") || line.starts_with("  --> ") || line.starts_with("hint:") {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// What happened to each step, by the events of the build.
fn steps(ended: &Output) -> String {
    let mut text = String::new();
    for line in String::from_utf8_lossy(&ended.stderr).lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let what = match event["event"].as_str() {
            Some("step-cached") => "cached",
            Some("step-done") => "made",
            _ => continue,
        };
        let _ = writeln!(text, "{what} {}", event["title"].as_str().unwrap_or_default());
    }
    text
}

/// The lines that differ.
pub(super) fn difference(expected: &str, got: &str) -> String {
    let (expected, got): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), got.lines().collect());
    let mut text = String::new();
    for line in expected.iter().filter(|line| !got.contains(line)) {
        let _ = writeln!(text, "  - {line}");
    }
    for line in got.iter().filter(|line| !expected.contains(line)) {
        let _ = writeln!(text, "  + {line}");
    }
    if text.is_empty() {
        text = format!("  in another order, or not as often:\n  - {expected:?}\n  + {got:?}\n");
    }
    text
}
