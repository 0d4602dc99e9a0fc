//! Ignore files: patterns, a line `---`, then what becomes of paths.

use std::fmt::Write;

use ocibuild_dockerfile::{IgnoreFile, IgnorePatterns, ignore_protocol};

use crate::fixtures::{entries, text};

#[test]
fn cases() {
    for path in entries("ignore") {
        let case = text(&path);
        let (patterns, expected) = case.split_once("---\n").expect("a line of three dashes");
        let paths: String = expected.lines().filter_map(|line| line.split_once(' ')).fold(
            String::new(),
            |mut paths, (_, path)| {
                writeln!(paths, "{path}").unwrap();
                paths
            },
        );
        let answers = ignore_protocol(patterns.as_bytes(), paths.as_bytes()).unwrap();
        let got: String =
            answers.lines().zip(paths.lines()).fold(String::new(), |mut got, (answer, path)| {
                writeln!(got, "{answer} {path}").unwrap();
                got
            });
        assert_eq!(got, expected, "{}", path.display());
    }
}

#[test]
fn errors_have_a_line() {
    for (file, line, message) in [
        ("a\n\n!\n", 3, "illegal exclusion pattern: \"!\""),
        ("! \t\r\n", 1, "illegal exclusion pattern: \"!\""),
        ("a\nb[\n", 2, "syntax error in pattern"),
        ("[]x]", 1, "syntax error in pattern"),
        ("x\\", 1, "syntax error in pattern"),
        ("[z-a]", 1, "syntax error in pattern"),
    ] {
        let error = IgnoreFile::parse(file).unwrap_err();
        assert_eq!((error.line, &error.message[..]), (line, message), "{file:?}");
    }
    let long = format!("a\n{}\n", "x".repeat(70_000));
    assert_eq!(IgnoreFile::parse(long).unwrap_err().line, 2);
}

#[test]
fn verdicts_name_the_line() {
    let patterns = IgnoreFile::parse("# top\n*\n!src\nsrc/*.o\n").unwrap().patterns;
    let line = |path: &str| (patterns.verdict(path).ignored, patterns.verdict(path).line);
    assert_eq!(line("a/b/c"), (true, Some(2)));
    assert_eq!(line("src/"), (false, Some(3)));
    assert_eq!(line("src/x.o"), (true, Some(4)));
    assert_eq!(IgnorePatterns::default().verdict("a").line, None);
}

#[test]
fn lists_keep_a_leading_slash() {
    let patterns = IgnorePatterns::new(["/a", "", ".", "b/", "!c"]).unwrap();
    assert!(!patterns.matches("a") && patterns.matches("b/x") && !patterns.matches("c"));
    assert!(patterns.has_exceptions() && !patterns.is_empty());
    assert!(IgnorePatterns::new([""]).unwrap().is_empty());
}

#[test]
fn names_that_are_no_text() {
    let patterns = IgnoreFile::parse(b"\xff*\nb?\n").unwrap().patterns;
    assert!(patterns.matches(b"\xffabc") && patterns.matches(b"b\xfe") && !patterns.matches(b"\xfe"));
}

#[test]
fn walks_can_be_cut_short() {
    let patterns = IgnorePatterns::new(["*", "!src/*/keep", "!docs", "!**/deep/x"]).unwrap();
    for directory in ["src", "src/a", "other", "other/deep"] {
        assert!(patterns.may_have_exceptions_below(directory), "{directory}");
    }
    let patterns = IgnorePatterns::new(["*", "!src/*/keep", "!docs/x"]).unwrap();
    for directory in ["other", "src/a/b", "docs/x", "docsx", "srcs"] {
        assert!(!patterns.may_have_exceptions_below(directory), "{directory}");
    }
    assert!(patterns.may_have_exceptions_below("docs/"));
}

#[test]
fn many_patterns_and_stars() {
    let file = "**/**/**/".repeat(200) + "x\n" + &"name\n".repeat(100_000) + &"*a".repeat(300) + "b\n";
    let patterns = IgnoreFile::parse(file).unwrap().patterns;
    assert!(patterns.matches("d/".repeat(500) + "x"));
    assert!(!patterns.matches("a".repeat(2000)));
    // Each of these is 64 KiB; the second once took minutes for a path of a thousand directories.
    for pattern in
        ["***/".repeat(16_000) + "x", "**/*?".repeat(13_000), "*a".repeat(30_000) + "b", "**a".repeat(20_000)]
    {
        assert!(!IgnoreFile::parse(pattern).unwrap().patterns.matches("ab/".repeat(1_000)));
    }
}
