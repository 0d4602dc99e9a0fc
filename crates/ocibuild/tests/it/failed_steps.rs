//! Steps that fail, for programs that embed the library: kept, or attended to.

use ocibuild::executor::{Attached, Stream};
use ocibuild::failure::{Failure, KeptStep, LeftOut, StepFact};
use ocibuild::state::EnterOptions;
use ocibuild::state::PruneOptions;
use ocibuild::{CancelToken, Code, Error, ErrorKind, Event, Secret};

use crate::steps::worlds;
use crate::support::World;

const DOCKERFILE: &str =
    "FROM base\nWORKDIR /w\nRUN --mount=type=secret,id=s cat /run/secrets/s > /copy; exit 3\n";

fn kept(error: &Error) -> Option<&KeptStep> {
    let Some(Failure::Step(failure)) = error.failure() else { return None };
    failure.facts.iter().find_map(|fact| match fact {
        StepFact::Kept(kept) => Some(kept),
        _ => None,
    })
}

fn prepared(world: &World) -> ocibuild::Build {
    world.prepare(DOCKERFILE).secret("s", Secret::Value(b"value".to_vec()))
}

#[test]
fn a_step_that_fails_is_kept_if_that_is_wanted() {
    for (name, world) in worlds() {
        let (error, _) = world.fail(prepared(&world));
        assert_eq!(kept(&error), None, "{name}");
        let mut events = Vec::new();
        let planned = prepared(&world).keep_failed(true).plan(&world.backends()).unwrap();
        let error =
            planned.run(&world.backends(), &CancelToken::new(), |event| events.push(event)).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::StepFailed(3), "step-failed"), "{name}");
        let kept = kept(&error).unwrap();
        assert_eq!(kept.left_out, [LeftOut::Secret { target: "/run/secrets/s".into() }], "{name}");
        let is_told = |event: &Event| matches!(event, Event::StepKept { kept: told, .. } if told == kept);
        assert_eq!(events.iter().filter(|event| is_told(event)).count(), 1, "{name}");
        let mut options = EnterOptions::default();
        options.args = ["sh", "-c", "pwd; cat /copy; ls /run/secrets"].map(str::to_owned).to_vec();
        let mut said = Vec::new();
        let mut output = |_: Stream, bytes: &[u8]| said.extend_from_slice(bytes);
        let (state, executor) = (world.state(), world.executor.as_ref());
        let entered =
            state.enter(&kept.bundle, &options, executor, Attached::to(&mut output), &CancelToken::new());
        assert!(entered.unwrap().success(), "{name}");
        // The place of the secret is there, and nothing in it.
        assert_eq!(String::from_utf8(said).unwrap(), "/w\nvalues\n", "{name}");
        assert_eq!(state.prune(&PruneOptions::default()).unwrap().kept_steps, 1, "{name}");
        let mut output = |_: Stream, _: &[u8]| ();
        let gone =
            state.enter(&kept.bundle, &options, executor, Attached::to(&mut output), &CancelToken::new());
        assert!(gone.unwrap_err().is(Code::NoKeptStep), "{name}");
        world.check_left_nothing();
    }
}

/// What a step had mounted of a stage or context is in its bundle as the step left it, and nothing else of the stage is.
#[test]
fn what_was_mounted_of_a_stage_or_context_is_kept_with_a_step() {
    for (name, world) in worlds() {
        world.files(&[("c/f", "c\n"), ("g", "g\n")]);
        let dockerfile = "FROM base AS stage\nRUN mkdir -p /t/d && echo 1 > /t/d/a && echo 2 > /t/d/b && echo other > /t/x && \
             chown 3:4 /t/d/a\n\
             FROM base\nRUN --mount=from=stage,source=t/d,target=/m,rw --mount=from=stage,source=t/x,target=/x \
             --mount=source=c,target=/c --mount=source=g,target=/g --mount=source=c,target=/d,rw \
             --mount=type=tmpfs,target=/s echo more >> /m/a; rm /m/b; echo d >> /d/f; exit 3\n";
        let planned = world.prepare(dockerfile).keep_failed(true).plan(&world.backends()).unwrap();
        let error = planned.run(&world.backends(), &CancelToken::new(), |_| {}).unwrap_err();
        let kept = kept(&error).unwrap_or_else(|| panic!("{name}: {error:?}"));
        let files = walkdir::WalkDir::new(kept.bundle.join("mounts")).into_iter().map(Result::unwrap);
        let files: Vec<_> =
            files.filter(|file| file.file_type().is_file()).map(walkdir::DirEntry::into_path).collect();
        assert_eq!(files.len(), 5, "{name}: {files:?}");
        let mut options = EnterOptions::default();
        let script = "cat /m/a /x /c/f /g /d/f; ls /m; stat -c %u:%g /m/a; echo again >> /m/a; touch /x 2>/dev/null || echo read-only";
        options.args = ["sh", "-c", script].map(str::to_owned).to_vec();
        let (state, executor) = (world.state(), world.executor.as_ref());
        for expected in ["1\nmore\n", "1\nmore\nagain\n"] {
            let mut said = Vec::new();
            let mut output = |_: Stream, bytes: &[u8]| said.extend_from_slice(bytes);
            let entered =
                state.enter(&kept.bundle, &options, executor, Attached::to(&mut output), &CancelToken::new());
            assert!(entered.unwrap().success(), "{name}");
            let expected = format!("{expected}other\nc\ng\nc\nd\na\n3:4\nread-only\n");
            assert_eq!(String::from_utf8(said).unwrap(), expected, "{name}");
        }
        state.prune(&PruneOptions::default()).unwrap();
        world.check_left_nothing();
    }
}

#[test]
fn a_step_that_fails_is_attended_to_after_all_events() {
    for (name, world) in worlds() {
        let events = std::sync::Mutex::new(Vec::new());
        let mut said = Vec::new();
        let dockerfile =
            DOCKERFILE.replace("WORKDIR /w\nRUN", "WORKDIR /w\nRUN --mount=from=base,target=/b,rw");
        let planned = world.prepare(&dockerfile).secret("s", Secret::Value(b"value".to_vec()));
        let planned = planned.plan(&world.backends()).unwrap();
        let error = planned.run_attended(
            &world.backends(),
            &CancelToken::new(),
            |event| events.lock().unwrap().push(event),
            |step| {
                let last = events.lock().unwrap().last().cloned();
                assert!(matches!(last, Some(Event::StepEntered { .. })), "{name}: {last:?}");
                assert!(step.title().contains("RUN"), "{name}: {}", step.title());
                // Twice: what the first leaves, the second finds.
                for script in [
                    "cat /copy /run/secrets/s; echo more >> /copy; echo more > /b/new",
                    "cat /copy /b/new; exit 4",
                ] {
                    let mut shell = step.shell().unwrap();
                    shell.extend(["-c", script].map(str::to_owned));
                    let mut output = |_: Stream, bytes: &[u8]| said.extend_from_slice(bytes);
                    step.enter(shell, None, Attached::to(&mut output))?;
                }
                Err(step.enter(vec!["/none".to_owned()], None, Attached::to(&mut |_, _| ())).unwrap_err())
            },
        );
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StepFailed(3), "{name}");
        assert_eq!(String::from_utf8(said).unwrap(), "valuevaluevaluemore\nmore\n", "{name}");
        let Some(Failure::Step(failure)) = error.failure() else { panic!("{name}: {error:?}") };
        let is_told =
            |fact: &StepFact| matches!(fact, StepFact::NotEntered { reason } if reason.contains("/none"));
        assert!(failure.facts.iter().any(is_told), "{name}: {:?}", failure.facts);
        world.check_left_nothing();
    }
}

#[test]
fn nobody_attends_to_a_build_that_was_cancelled_or_succeeds() {
    for (name, world) in worlds() {
        for (dockerfile, cancels) in
            [("FROM base\nRUN echo begun; exec sleep 1000\n", true), ("FROM base\nRUN true\n", false)]
        {
            let cancel = CancelToken::new();
            let planned = world.prepare(dockerfile).plan(&world.backends()).unwrap();
            let token = cancel.clone();
            let built = planned.run_attended(
                &world.backends(),
                &cancel,
                |event| {
                    if cancels && matches!(event, Event::Output { .. }) {
                        token.cancel();
                    }
                },
                |_| panic!("{name}: nobody is to be called"),
            );
            assert_eq!(
                built.err().map(|error| error.kind()),
                cancels.then_some(ErrorKind::Cancelled),
                "{name}"
            );
        }
    }
}
