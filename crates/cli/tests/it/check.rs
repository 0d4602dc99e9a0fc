//! `build --check`, and what a build says about findings.

use serde_json::Value;

use crate::program::Place;

const DOCKERFILE: &str =
    "FROM scratch as base\nLABEL version=$VERSOIN\nENV VERSION=1\nFROM scratch\nWORKDIR rel\n";

fn list(stdout: &str) -> Vec<(String, u64)> {
    let list: Vec<Value> = serde_json::from_str(stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"));
    list.iter()
        .map(|item| (item["rule"].as_str().unwrap().to_owned(), item["line"].as_u64().unwrap_or_default()))
        .collect()
}

fn pairs(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(rule, line)| ((*rule).to_owned(), *line)).collect()
}

#[test]
fn findings_as_text() {
    let place = Place::with(DOCKERFILE);
    let ended = place.build(&["--check"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""));
    for text in [
        "\nWARNING: FromAsCasing - https://docs.docker.com/go/dockerfile/rule/from-as-casing/\n",
        "Usage of undefined variable '$VERSOIN'\n  --> Dockerfile:2\n",
        "2 | LABEL version=$VERSOIN\n  |                ^^^^^^^\n",
        "  --> Dockerfile:5\n",
        "\nCheck complete, 3 warnings have been found!\n",
    ] {
        assert!(ended.stdout.contains(text), "no {text:?} in:\n{}", ended.stdout);
    }
    place.write("Dockerfile", "FROM scratch\n");
    assert_eq!(place.build(&["--call=check"]).succeeds(), "Check complete, no warnings found.\n");
    assert_eq!(place.build(&["--check", "--format", "json"]).succeeds(), "[]\n");
    place.write("Dockerfile", "FROM scratch as x\n");
    let ended = place.build(&["--check"]);
    assert!(ended.stdout.ends_with("Check complete, 1 warning has been found!\n"), "{}", ended.stdout);
}

#[test]
fn findings_as_json() {
    let place = Place::with(DOCKERFILE);
    for flags in [&["--check", "--format", "json"][..], &["--call", "check,format=json"]] {
        let ended = place.build(flags);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let expected = [("FromAsCasing", 1), ("UndefinedVar", 2), ("WorkdirRelativePath", 5)];
        assert_eq!(list(&ended.stdout), pairs(&expected));
        let all: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(
            (&all[1]["column"], &all[1]["end_line"], &all[1]["file"]),
            (&16.into(), &2.into(), &"Dockerfile".into())
        );
        assert_eq!(all[1]["severity"], "warning");
    }
    let ended = place.build(&["--check", "--format=json", "--target", "base"]);
    assert_eq!(list(&ended.stdout), pairs(&[("FromAsCasing", 1), ("UndefinedVar", 2)]));
    let strict = "BUILDKIT_DOCKERFILE_CHECK=error=true;skip=UndefinedVar";
    let ended = place.build(&["--check", "--format=json", "--build-arg", strict]);
    assert_eq!(list(&ended.stdout), pairs(&[("FromAsCasing", 1), ("WorkdirRelativePath", 5)]));
    assert_eq!(ended.stderr, "error: lint violation found for rules: FromAsCasing, WorkdirRelativePath\n");
}

#[test]
fn checks_of_our_own() {
    let place = Place::with("FROM scratch\nENV A=AKIAIOSFODNN7EXAMPLE\n");
    place.write(".dockerignore", "state\n*.log\n");
    let flags = ["--check", "--format=json", "-t", "app"];
    assert_eq!(list(place.build(&flags).succeeds()), []);
    let enable = ["--enable-check", "LatestTag,UnusedIgnorePattern", "--enable-check=SecretValueInArgOrEnv"];
    let ended = place.build(&[&flags[..], &enable[..]].concat());
    let expected = [("SecretValueInArgOrEnv", 2), ("UnusedIgnorePattern", 2), ("LatestTag", 0)];
    assert_eq!(list(&ended.stdout), pairs(&expected));
    assert!(!ended.stdout.contains("AKIA"), "the value is shown: {}", ended.stdout);
    place.build(&["--enable-check", "LatesTag"]).fails(2, &["no such check", "did you mean LatestTag?"]);
    place.build(&["--enable-check", "UndefinedVar"]).fails(2, &["always runs", "skip"]);
}

#[test]
fn errors_are_no_findings() {
    let place = Place::with("# check=nonsense\nFROM scratch\n");
    place.build(&["--check", "--format=json"]).fails(2, &["invalid check option \"nonsense\"", "hint:"]);
    place.write("Dockerfile", "FROM scratch as a\nBOGUS\n");
    place.build(&["--check"]).fails(2, &["unknown instruction: BOGUS", "--> Dockerfile:2:1"]);
    place.write("Dockerfile", "FROM scratch\n");
    place.build(&["--format", "json"]).fails(2, &["--format is for --check", "hint:"]);
    place.build(&["--call", "outline", "--check"]).fails(2, &["cannot be used together", "hint:"]);
    place.build(&["--call", "chek"]).fails(2, &["no such method", "check"]);
    place.build(&["--call", "check,x=y"]).fails(2, &["x=y", "format=json"]);
}

const PARAMETERS: &str = "\
# GLOBAL is global
ARG GLOBAL=base
ARG DEEP=$GLOBAL UNUSED=3
# base is where <it> starts
FROM --platform=$BUILDPLATFORM scratch AS base
# WHO is greeted
ARG WHO=world OTHER
ARG TARGETPLATFORM
RUN --mount=type=secret,id=token,required=true --mount=type=cache,target=/c true

FROM ${DEEP} AS other
ARG GLOBAL
ARG IN_OTHER=$GLOBAL
RUN --mount=type=ssh --mount=type=secret,id=token true

FROM scratch AS apart
ARG APART
FROM base AS Final
ARG WHO
COPY --from=other /x /
RUN --mount=type=ssh,id=k,required true
";

#[test]
fn what_a_target_takes_from_outside() {
    let place = Place::with(PARAMETERS);
    let text = place.build(&["--call", "outline", "--build-arg", "WHO=me"]).succeeds().to_owned();
    let expected = "\
TARGET:   final

BUILD ARG   VALUE   DESCRIPTION
GLOBAL      base    is global
DEEP        base
OTHER
IN_OTHER    base
WHO         me

SECRET   REQUIRED
token    true

SSH       REQUIRED
default
k         true

CACHE
/c
";
    assert_eq!(text, expected);
    let ended = place.build(&["--call=outline,format=json", "--target=base"]);
    let outline: Value = serde_json::from_str(ended.succeeds()).unwrap();
    assert_eq!(outline["description"], "is where <it> starts");
    let names: Vec<&str> =
        outline["args"].as_array().unwrap().iter().map(|arg| arg["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["WHO", "OTHER"]);
    let location = serde_json::json!({"ranges": [{"start": {"line": 7}, "end": {"line": 7}}]});
    assert_eq!(outline["args"][0]["location"], location);
    place.build(&["--call=outline", "--target=bas"]).fails(2, &["target stage \"bas\"", "base"]);
}

#[test]
fn the_stages_of_a_file() {
    let place = Place::with(PARAMETERS);
    let expected = "\
TARGET            DESCRIPTION
base              is where <it> starts
other
apart
final (default)
";
    assert_eq!(place.build(&["--call", "targets"]).succeeds(), expected);
    let ended = place.build(&["--call", "targets", "--format", "json"]);
    let targets: Value = serde_json::from_str(ended.succeeds()).unwrap();
    let last = serde_json::json!({
        "name": "final", "default": true, "base": "base",
        "location": {"ranges": [{"start": {"line": 18}, "end": {"line": 18}}]},
    });
    assert_eq!(targets["targets"][3], last);
    assert_eq!(targets["targets"][0]["platform"], "$BUILDPLATFORM");
    // Nothing is resolved: a file whose bases are nowhere has stages as well.
    place.write("Dockerfile", "FROM nowhere.invalid/x");
    assert!(place.build(&["--call", "targets"]).succeeds().ends_with("(default)\n"));
}

#[test]
fn a_build_tells_of_findings_in_the_end() {
    let place = Place::with(DOCKERFILE);
    let ended = place.build(&["-t", "app:1", "--target", "base"]);
    ended.succeeds();
    let summary = "2 warnings found (--check shows the lines):\n \
                   - FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)\n \
                   - UndefinedVar: Usage of undefined variable '$VERSOIN' (line 2)\n";
    assert!(ended.stderr.ends_with(summary), "{}", ended.stderr);
    assert_eq!(place.run(&["build", "-q", "."]).stderr, "");

    let ended = place.run(&["build", "--progress", "json", "-t", "app:1", "."]);
    let last: Value = serde_json::from_str(ended.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["findings"][0]["rule"]), (&"findings".into(), &"FromAsCasing".into()));

    // What failed comes first among the places that are named.
    place.write("Dockerfile", "FROM scratch as a\nCOPY missing /\n");
    let ended = place.build(&[]);
    ended.fails(2, &["1 warning found", "--> Dockerfile:2"]);
    let place_of_error = ended.stderr.find("Dockerfile:").unwrap();
    assert!(ended.stderr[place_of_error..].starts_with("Dockerfile:2"), "{}", ended.stderr);
}

#[test]
fn findings_as_errors_are_told_with_their_places() {
    let place = Place::with("# check=error=true\nFROM scratch as a\nCOPY missing /\n");
    let violation = "error: lint violation found for rules: FromAsCasing\n";
    place.build(&[]).fails(2, &[violation, "error: FromAsCasing: 'as' and", "--> Dockerfile:2:1", "hint:"]);
}
