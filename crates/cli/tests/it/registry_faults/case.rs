use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;

/// One case of a fixture.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) file: PathBuf,
    pub(super) name: String,
    /// What is to be done, in order.
    pub(super) steps: Vec<String>,
    pub(super) code: i32,
    pub(super) says: Vec<String>,
    pub(super) report: Vec<String>,
    pub(super) rows: Vec<Row>,
}

/// What a listener must have seen: so many requests of this kind.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) text: String,
    pub(super) listener: String,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) authorization: String,
    pub(super) bytes: u64,
}

impl Case {
    /// The cases of a file.
    pub(super) fn read(path: &Path) -> Vec<Self> {
        let mut cases: Vec<Self> = Vec::new();
        for line in fs::read_to_string(path).unwrap().lines() {
            if let Some(name) = title_of(line) {
                cases.push(Self::new(path, name));
            } else if line.is_empty() || line.starts_with('#') {
            } else if let Some(case) = cases.last_mut() {
                case.line(line);
            } else {
                panic!("{}: {line}", path.display());
            }
        }
        cases
    }

    fn new(path: &Path, name: &str) -> Self {
        Self {
            file: path.to_owned(),
            name: name.to_owned(),
            steps: Vec::new(),
            code: -1,
            says: Vec::new(),
            report: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn line(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "ends" => self.code = rest.parse().unwrap(),
            "says" => self.says.push(rest.to_owned()),
            "|" => self.report.push(rest.to_owned()),
            "seen" => self.rows.push(Row::read(rest)),
            _ => self.steps.push(line.to_owned()),
        }
    }

    /// Whether a listener is part of it.
    pub(super) fn uses(&self, listener: &str) -> bool {
        let (place, first, faulty) =
            (format!("{{{listener}}}"), format!("{listener} "), format!("fault {listener} "));
        let is_used =
            |step: &String| step.contains(&place) || step.starts_with(&first) || step.starts_with(&faulty);
        self.steps.iter().any(is_used)
    }

    /// Whether it needs certificates.
    pub(super) fn is_about_tls(&self) -> bool {
        self.steps.iter().any(|step| step.contains("{secure"))
    }

    pub(super) fn title(&self) -> String {
        format!("{}: {}", self.file.file_stem().unwrap().to_string_lossy(), self.name)
    }
}

fn title_of(line: &str) -> Option<&str> {
    line.strip_prefix("== ")?.strip_suffix(" ==")
}

impl Row {
    fn read(text: &str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [listener, method, path, times, authorization, rest @ ..] = &words[..] else {
            panic!("seen {text}")
        };
        let number = |text: &str| text.parse::<usize>().unwrap_or_else(|_| panic!("seen {text}"));
        let (least, most) = match times.split_once("..") {
            Some((least, "")) => (number(least), usize::MAX),
            Some((least, most)) => (number(least), number(most)),
            None => (number(times), number(times)),
        };
        let bytes = rest.first().map_or(u64::MAX, |text| text.trim_start_matches("<=").parse().unwrap());
        assert!(["none", "basic", "bearer", "some", "-"].contains(authorization), "seen {text}");
        Self {
            text: text.to_owned(),
            listener: (*listener).to_owned(),
            method: (*method).to_owned(),
            path: (*path).to_owned(),
            least,
            most,
            authorization: (*authorization).to_owned(),
            bytes,
        }
    }
}

/// Writes these reports instead of those that stand in the fixtures, behind `says` or `ends`.
pub(super) fn write_reports(reports: &[(&Case, Vec<String>)]) {
    let mut files = BTreeMap::<&Path, BTreeMap<&str, &[String]>>::new();
    for (case, report) in reports {
        files.entry(&case.file).or_default().insert(&case.name, report);
    }
    for (path, of_case) in files {
        let text = fs::read_to_string(path).unwrap();
        let (mut new, mut title) = (Vec::new(), "");
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            title = title_of(line).unwrap_or(title);
            let report = of_case.get(title);
            if !(line.starts_with("| ") && report.is_some()) {
                new.push((*line).to_owned());
            }
            let next = lines.get(number + 1).copied().unwrap_or_default();
            let is_place =
                (line.starts_with("ends ") || line.starts_with("says ")) && !next.starts_with("says ");
            if let Some(report) = report.filter(|_| is_place) {
                new.extend(report.iter().map(|line| format!("| {line}")));
            }
        }
        fs::write(path, new.join("\n") + "\n").unwrap();
    }
}
