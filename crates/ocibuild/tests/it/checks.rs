//! Build checks: the cases of `fixtures/checks`, the examples of `docs/diagnostics`, and what becomes of findings.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use fs_err as fs;
use ocibuild::dockerfile::lint::{RULES, RuleKind};
use ocibuild::dockerfile::{Finding, Place};
use ocibuild::spec::{CancelToken, Descriptor, ImageSource, Platform, Reference, ResolvedImage, SourceError};
use ocibuild::store::LayoutSource;
use ocibuild::{Build, CheckReport, Error, ErrorKind, Event};
use ocibuild_testkit::{ImageBlobs, TestImage, write_layout};

use super::support::{World, name};

const AMD64: &str = "linux/amd64";

/// A registry that has every image: what it is like follows from its name.
#[derive(Debug)]
struct AnyImage {
    kinds: BTreeMap<&'static str, LayoutSource>,
}

impl AnyImage {
    fn new(directory: &Path) -> Self {
        let plain = TestImage::new(AMD64).layer(&[("etc/motd", "hello")]);
        let shell = TestImage::new(AMD64).layer(&[("etc/motd", "hello")]).config(|config| {
            config.shell = vec!["/bin/sh".to_owned(), "-c".to_owned()];
            config.env = vec!["GREETING=hello".to_owned()];
            config.working_dir.push_str("/srv");
        });
        let triggers = TestImage::new(AMD64).layer(&[("etc/motd", "hello")]).config(|config| {
            config.on_build =
                ["env Key value", "WORKDIR rel", "CMD run", "LABEL a=$NOPE"].map(str::to_owned).to_vec();
        });
        let images: [(&str, ImageBlobs); 5] = [
            ("plain", plain.build()),
            ("arm64", TestImage::new("linux/arm64").layer(&[("etc/motd", "hello")]).build()),
            ("hollow", TestImage::new("linux/arm64").build()),
            ("shell", shell.build()),
            ("triggers", triggers.build()),
        ];
        let open = |(kind, image): (&'static str, ImageBlobs)| {
            let layout = directory.join(kind);
            fs::create_dir_all(&layout).unwrap();
            write_layout(&layout, &[("latest", &image)]);
            (kind, LayoutSource::open(layout, None, None).unwrap())
        };
        Self { kinds: images.into_iter().map(open).collect() }
    }

    fn image(&self, reference: &Reference) -> &LayoutSource {
        let name = reference.repository();
        let kind = self.kinds.keys().find(|kind| name.contains(**kind)).unwrap_or(&"plain");
        &self.kinds[kind]
    }
}

impl ImageSource for AnyImage {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        cancel: &CancelToken,
    ) -> Result<ResolvedImage, SourceError> {
        self.image(reference).resolve(reference, platform, cancel)
    }

    fn open(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        self.image(reference).open(reference, descriptor, cancel)
    }
}

fn world() -> World {
    let mut world = World::new();
    world.registry = Some(Box::new(AnyImage::new(&world.path("registry"))));
    world
}

/// A build of the host that the cases are written for.
fn prepare(world: &World, dockerfile: &str) -> Build {
    world.prepare(dockerfile).platform(AMD64.parse().unwrap())
}

fn check(world: &World, build: Build) -> Result<CheckReport, Error> {
    build.check(&world.backends(), &CancelToken::new())
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// `LINE Rule: message`
fn shown(finding: &Finding) -> String {
    let line = match &finding.place {
        Place::Dockerfile(location) if location.end_line > location.start_line => {
            format!("{}-{}", location.start_line, location.end_line)
        }
        Place::Dockerfile(location) => location.start_line.to_string(),
        Place::IgnoreFile { name, line } => format!("{name}:{line}"),
        Place::CommandLine => "-".to_owned(),
    };
    format!("{line} {}: {}\n", finding.rule.name, finding.message)
}

/// The parts of a case, each behind a line `--- NAME`.
fn parts(case: &str) -> BTreeMap<&str, &str> {
    case.split("\n--- ").skip(1).map(|part| part.split_once('\n').unwrap_or((part, ""))).collect()
}

fn with_flags(mut build: Build, flags: &str) -> Build {
    for flag in flags.lines() {
        let (flag, value) = flag.split_once(' ').unwrap();
        build = match flag {
            "--target" => build.target(value),
            "--platform" => build.platform(value.parse().unwrap()),
            "--build-arg" => {
                let (key, value) = value.split_once('=').unwrap();
                build.build_arg(key, value)
            }
            "--enable-check" => build.enable_check(value),
            "--tag" => build.tag(name(value)),
            other => panic!("unknown flag {other}"),
        };
    }
    build
}

fn findings_of(case: &BTreeMap<&str, &str>) -> String {
    let world = world();
    if let Some(ignore) = case.get("ignore") {
        world.files(&[(".dockerignore", &format!("{ignore}\n"))]);
    }
    for path in case.get("files").iter().flat_map(|files| files.lines()) {
        world.files(&[(path, "")]);
    }
    let build = prepare(&world, &format!("{}\n", case["Dockerfile"]));
    let report = check(&world, with_flags(build, case.get("flags").unwrap_or(&"")));
    match report {
        Ok(report) => {
            let violation = report.violation().map(|violation| format!("error: {violation}\n"));
            report.findings.iter().map(shown).chain(violation).collect()
        }
        Err(error) => format!("error: {}\n", error.reports()[0].message),
    }
}

#[test]
fn cases_have_their_findings() {
    let mut count = 0;
    for entry in fs::read_dir(folder("fixtures/checks")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let mut got = String::new();
        for case in text.split("=== ").skip(1) {
            count += 1;
            let case = case.trim_end();
            let input = case.split("\n--- findings").next().unwrap();
            got.extend(["=== ", input, "\n--- findings\n", &findings_of(&parts(input)), "\n"]);
        }
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            fs::write(&path, &got).unwrap();
            continue;
        }
        assert_eq!(got, text, "{}", path.display());
    }
    assert!(count > 50, "only {count} cases");
}

#[test]
fn every_rule_has_a_case_that_finds_it() {
    let texts: String = fs::read_dir(folder("fixtures/checks"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    for rule in RULES {
        assert!(texts.contains(&format!(" {}: ", rule.name)), "no case finds {}", rule.name);
    }
}

/// A fenced block of a page, the first behind `heading` with this language.
fn block<'t>(page: &'t str, heading: &str, language: &str) -> Option<&'t str> {
    let section = page.split_once(&format!("\n## {heading}\n"))?.1;
    let section = section.split("\n## ").next()?;
    let text = section.split_once(&format!("```{language}\n"))?.1;
    text.split_once("```").map(|(text, _)| text)
}

/// The findings of an example, with those checks made that are not made by default.
fn example(page: &str, heading: &str) -> Vec<Finding> {
    let world = world();
    world.files(&[("app.c", ""), ("src/main.c", "")]);
    if let Some(ignore) = block(page, heading, "gitignore") {
        world.files(&[(".dockerignore", ignore)]);
    }
    let dockerfile = block(page, heading, "dockerfile").expect("each page has two examples");
    let mut build = prepare(&world, dockerfile);
    // `$ ocibuild build --check --build-arg NAME=VALUE .`
    let command = block(page, heading, "console").unwrap_or_default();
    let mut words = command.split_whitespace();
    while words.any(|word| word == "--build-arg") {
        let (key, value) = words.next().and_then(|pair| pair.split_once('=')).unwrap();
        build = build.build_arg(key, value);
    }
    for rule in RULES.iter().filter(|rule| rule.kind != RuleKind::Ordinary) {
        build = build.enable_check(rule.name);
    }
    check(&world, build).unwrap_or_else(|error| panic!("{error}: {dockerfile}")).findings
}

#[test]
fn every_rule_has_a_page_whose_examples_are_true() {
    let pages = folder("docs/diagnostics");
    for rule in RULES {
        let path = pages.join(format!("{}.md", rule.name));
        let page = fs::read_to_string(&path).unwrap();
        assert!(page.starts_with(&format!("# {}\n", rule.name)), "{}", path.display());
        let bad: Vec<Finding> =
            example(&page, "Bad").into_iter().filter(|finding| finding.rule == rule).collect();
        let said = bad.first().unwrap_or_else(|| panic!("{}: no finding", path.display())).to_string();
        let output = block(&page, "Output", "text").unwrap().trim_end();
        assert_eq!(output, said, "{}", path.display());
        let good = example(&page, "Good");
        assert_eq!(good, [], "{}", path.display());
        if rule.kind == RuleKind::Ordinary {
            continue;
        }
        assert!(page.contains("not made by default"), "{}", path.display());
    }
    let index = fs::read_to_string(pages.join("README.md")).unwrap();
    for entry in fs::read_dir(&pages).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let rule = file.strip_suffix(".md").unwrap();
        if rule == "errors" {
            continue;
        }
        assert!(rule == "README" || RULES.iter().any(|known| known.name == rule), "no rule {rule}");
        assert!(
            rule == "README" || index.contains(&format!("[{rule}]({file})")),
            "{file} is not in the index"
        );
    }
}

#[test]
fn findings_come_last_whether_a_build_succeeds_or_fails() {
    let world = world();
    for (dockerfile, succeeds) in
        [("FROM scratch\nWORKDIR a\n", true), ("FROM scratch\nWORKDIR a\nCOPY missing /\n", false)]
    {
        let planned = prepare(&world, dockerfile).plan(&world.backends()).unwrap();
        let mut events = Vec::new();
        let result = planned.run(&world.backends(), &CancelToken::new(), |event| {
            events.push(match event {
                Event::Findings { findings } => findings.iter().map(ToString::to_string).collect::<String>(),
                _ => String::new(),
            });
        });
        assert_eq!(result.is_ok(), succeeds);
        let message = "WorkdirRelativePath: Relative workdir \"a\" can have unexpected results if the base image \
                       changes (line 2)";
        assert_eq!(events.last().map(String::as_str), Some(message));
        assert_eq!(events.iter().filter(|event| !event.is_empty()).count(), 1);
    }
}

#[test]
fn findings_as_errors_stop_a_build_before_its_first_step() {
    let world = world();
    let dockerfile = "# check=error=true\nFROM busybox:1\nWORKDIR a\nCMD run\nCOPY missing /\n";
    let (error, seen) = world.fail(prepare(&world, dockerfile));
    assert_eq!(error.kind(), ErrorKind::Dockerfile);
    let reports = error.reports();
    assert_eq!(
        reports[0].message,
        "lint violation found for rules: JSONArgsRecommended, WorkdirRelativePath"
    );
    assert_eq!(reports[0].location, None);
    let lines: Vec<_> = reports[1..].iter().map(|report| report.location.unwrap().start_line).collect();
    assert_eq!(lines, [3, 4]);
    assert_eq!(seen, super::support::Seen::default());

    let report = check(&world, prepare(&world, dockerfile)).unwrap();
    assert_eq!((report.findings.len(), report.is_error), (2, true));
}
