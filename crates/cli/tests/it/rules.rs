//! `docs/dockerfile-support.md` holds: its links lead to files and tests that there are, and a rule links exactly the
//! cases of `fixtures/build` that name it.

use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::case_files::{case_files, fixtures};

const PAGE: &str = "../../docs/dockerfile-support.md";

/// The number of a rule; some have a word behind it, as `5.1 bind`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    section: u32,
    fraction: String,
    word: String,
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        let (number, word) = text.split_once(' ').unwrap_or((text, ""));
        let (section, fraction) = number.split_once('.')?;
        let is_number = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
        let section = section.parse().ok().filter(|_| is_number)?;
        Some(Self { section, fraction: fraction.to_owned(), word: word.to_owned() })
    }
}

/// From one rule to another, or one rule twice.
#[derive(Debug)]
struct Rules(Rule, Rule);

impl Rules {
    fn parse(text: &str, between: &str) -> Option<Self> {
        let (first, last) = text.split_once(between).unwrap_or((text, text));
        let rules = Self(Rule::parse(first)?, Rule::parse(last)?);
        (rules.0.section == rules.1.section && rules.0 <= rules.1).then_some(rules)
    }

    fn overlap(&self, other: &Self) -> bool {
        self.0 <= other.1 && other.0 <= self.1
    }
}

/// What a row of a table says: its rules, and the words and targets of its links.
struct Row<'a> {
    rules: Rules,
    links: Vec<(&'a str, &'a str)>,
}

fn links(text: &str) -> Vec<(&str, &str)> {
    let parts = text.split("](").collect::<Vec<_>>();
    let pairs = parts.iter().zip(parts.iter().skip(1));
    pairs
        .map(|(before, after)| {
            let label = before.rsplit_once('[').unwrap().1;
            (label, after.split_once(')').unwrap().0)
        })
        .collect()
}

fn rows(page: &str) -> Vec<Row<'_>> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("| "));
    lines
        .filter_map(|line| {
            let (rules, rest) = line.split_once(" | ")?;
            Some(Row { rules: Rules::parse(rules, "–")?, links: links(rest) })
        })
        .collect()
}

/// The rules in the parentheses of what a case says of itself.
fn named_by(case: &Path) -> Vec<Rules> {
    let text = fs::read_to_string(case).unwrap();
    let words = text.split("\n-- ").next().unwrap();
    let groups = words.split('(').skip(1).filter_map(|rest| rest.split_once(')')).map(|(group, _)| group);
    let named = groups.flat_map(|group| group.split(", ").flat_map(|part| part.split(" and ")));
    named.filter_map(|part| Rules::parse(part, " to ")).collect()
}

fn page() -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

#[test]
fn links_lead_to_files_and_tests() {
    let (path, text) = page();
    let local: Vec<(&str, &str)> =
        links(&text).into_iter().filter(|(_, target)| !target.starts_with('#')).collect();
    assert!(local.len() > 300);
    for (label, target) in local {
        let (target, heading) = target.split_once('#').unwrap_or((target, ""));
        let file = path.parent().unwrap().join(target);
        assert!(file.exists(), "{target} is not there");
        if !heading.is_empty() {
            let text = fs::read_to_string(&file).unwrap();
            let headings = text.lines().filter(|line| line.starts_with('#'));
            let mut names =
                headings.map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"));
            assert!(names.any(|name| name == heading), "{target} has no heading {heading}");
        }
        if file.extension().is_some_and(|extension| extension == "rs") {
            let name = label.trim_matches('`');
            let source = fs::read_to_string(&file).unwrap();
            let (before, _) = source
                .split_once(&format!("fn {name}("))
                .unwrap_or_else(|| panic!("no function {name} in {target}"));
            let attributes = before.rsplit("\n\n").next().unwrap();
            assert!(attributes.contains("#[test]"), "{name} in {target} is no test");
        }
    }
}

#[test]
fn rules_and_cases_name_each_other() {
    let (_, text) = page();
    let rows = rows(&text);
    for pair in rows.windows(2) {
        assert!(!pair[0].rules.overlap(&pair[1].rules), "{:?} has two rows", pair[1].rules);
    }
    for case in case_files() {
        let named = named_by(&case);
        let target = format!("../fixtures/build/{}", case.strip_prefix(fixtures()).unwrap().display());
        assert!(!named.is_empty(), "{} names no rule", case.display());
        for rules in &named {
            let is_known = rows.iter().any(|row| row.rules.overlap(rules));
            assert!(is_known, "{} names {rules:?}, which has no row", case.display());
        }
        for row in &rows {
            let says = named.iter().any(|rules| rules.overlap(&row.rules));
            let has_link = row.links.iter().any(|(_, link)| *link == target);
            assert_eq!(says, has_link, "{:?} and {}: one names the other", row.rules, case.display());
        }
    }
    assert!(rows.iter().all(|row| !row.links.is_empty()), "a rule that nothing shows");
}
