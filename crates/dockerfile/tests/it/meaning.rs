//! What instructions mean.

use ocibuild_dockerfile::{Command, Dockerfile, Healthcheck, InstructionKind, RunCommand, RunNetwork, Stage};

fn stage(body: &str) -> Stage {
    let mut file = Dockerfile::parse(format!("FROM a\n{body}\n")).expect("the file is good");
    file.stages.remove(0)
}

fn kind(text: &str) -> InstructionKind {
    stage(text).instructions.remove(0).kind
}

fn run(text: &str) -> RunCommand {
    match kind(text) {
        InstructionKind::Run(run) => run.command,
        other => panic!("{other:?}"),
    }
}

#[test]
fn stages() {
    let file =
        Dockerfile::parse("ARG A\nFROM --platform= a as Build-1\n# one\n#\n# two\n\nRUN x \\\n y\nFROM b\n")
            .unwrap();
    assert_eq!(file.global_args.len(), 1);
    let stage = &file.stages[0];
    assert_eq!((stage.name.as_deref(), stage.name_as_written.as_deref()), (Some("build-1"), Some("Build-1")));
    assert_eq!((stage.platform.as_deref(), stage.as_keyword.as_deref()), (None, Some("as")));
    let instruction = &stage.instructions[0];
    assert_eq!(instruction.comments, ["two"]);
    assert_eq!(instruction.text, "RUN x  y");
    assert_eq!((instruction.location.start_line, instruction.location.end_line), (7, 8));
    assert_eq!(&file.source[instruction.location.span.range()], "RUN x \\\n y");
}

#[test]
fn run_forms() {
    let shell = |text: &str| RunCommand::Shell(text.into());
    assert_eq!(run("RUN a  b"), shell("a  b"));
    assert_eq!(run("RUN"), shell(""));
    assert_eq!(run("RUN []"), RunCommand::Exec(vec![]));
    assert_eq!(run("RUN <<-E\n\ta\n\t\tb\n\tE"), shell("a\nb\n"));
    assert_eq!(run("RUN 3<<E\na\nE"), shell("a\n"));
    assert_eq!(run("RUN <<-E cat\n\ta\n\tE"), shell("<<-E cat\n\ta\nE"));
    assert_eq!(run("RUN <<A # note\na\nA"), shell("<<A # note\na\nA"));
    assert_eq!(run("RUN cat <<A <<'B'\na\nA\nb\nB"), shell("cat <<A <<'B'\na\nA\nb\nB"));
    let script = RunCommand::Script { name: "E".into(), content: "#!/bin/x\n$a\n".into() };
    assert_eq!(run("RUN <<E\n#!/bin/x\n$a\nE"), script);
}

#[test]
fn run_flags() {
    let InstructionKind::Run(run) = kind("RUN --mount=type=a --network=none --mount=\"b c\" -- --x") else {
        panic!("no RUN")
    };
    assert_eq!(run.mounts, ["type=a", "b c"]);
    assert_eq!((run.network, run.security), (Some(RunNetwork::None), None));
    assert_eq!(run.command, RunCommand::Shell("--x".into()));
}

#[test]
fn transfers() {
    let InstructionKind::Copy(copy) = kind(
        "COPY --from= --link=TRUE --exclude=a --exclude=b x <<-\"A\" <<B <<B /d/\n\ta\n\tA\nb1\nB\nb2\nB",
    ) else {
        panic!("no COPY")
    };
    assert_eq!((copy.from, copy.parents, copy.transfer.link), (None, false, true));
    assert_eq!(copy.transfer.excludes, ["a", "b"]);
    assert_eq!(copy.transfer.sources, ["x"]);
    let bodies: Vec<_> =
        copy.transfer.heredocs.iter().map(|doc| (&doc.name[..], &doc.content[..], doc.expand)).collect();
    assert_eq!(bodies, [("A", "a\n", false), ("B", "b2\n", true), ("B", "b2\n", true)]);

    let InstructionKind::Add(add) = kind("ADD --keep-git-dir a b") else { panic!("no ADD") };
    assert_eq!((add.keep_git_dir, add.unpack, add.checksum), (Some(true), None, None));

    let InstructionKind::Add(add) = kind("ADD --unpack=false [\"<<E\", \"/j\"]") else { panic!("no ADD") };
    assert_eq!(add.unpack, Some(false));
    assert_eq!((&add.transfer.heredocs[0].name[..], &add.transfer.heredocs[0].content[..]), ("E", ""));
}

#[test]
fn healthchecks() {
    let check = |text| match kind(text) {
        InstructionKind::Healthcheck(check) => *check,
        other => panic!("{other:?}"),
    };
    assert_eq!(check("HEALTHCHECK --bogus none"), Healthcheck::None);
    let expected = Healthcheck::Command {
        command: Command::Exec(vec!["a".into()]),
        interval: 90_000_000_000,
        timeout: 0,
        start_period: 0,
        start_interval: 500_000_000,
        retries: 3,
    };
    let text = "HEALTHCHECK --interval=1m30s --timeout=0s --start-interval=500ms --retries=3 CMD [\"a\"]";
    assert_eq!(check(text), expected);
}

#[test]
fn triggers_are_stored_as_text() {
    let stored = |text| match kind(text) {
        InstructionKind::Onbuild(text) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(stored("onbuild   run a  \\\n  b"), "run a    b");
    assert_eq!(stored("ONBUILD COPY <<A <<B /\na\nA\nb\nB"), "COPY <<A <<B /\na\nA\nb\nB");
    assert_eq!(stored("ONBUILD BOGUS x"), "BOGUS x");
}
