use std::path::{Path, PathBuf};

use ocibuild_dockerfile::Dockerfile;
use ocibuild_spec::{Descriptor, Digest, ImageConfig, Manifest, ResolvedImage};
use serde_json::{Value, json};

use super::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/plan")
}

/// Images by the last part of their name, with configs from the fixtures.
struct Images {
    configs: Value,
    asked: Vec<String>,
}

impl Images {
    fn new() -> Self {
        let text = fs_err::read_to_string(fixtures().join("images.json")).unwrap();
        Self { configs: serde_json::from_str(&text).unwrap(), asked: Vec::new() }
    }
}

impl BaseResolver for Images {
    fn resolve(&mut self, request: &BaseRequest) -> Result<ResolvedImage, ResolveError> {
        let name = match &request.origin {
            ImageOrigin::Default => request.reference.familiar_name(),
            ImageOrigin::NamedContext(name) => format!("context {name}"),
        };
        self.asked.push(format!("{name} {}", request.platform));
        let config = self.configs.get(&name).ok_or("there is no such image")?;
        let config: ImageConfig = serde_json::from_value(config.clone())?;
        let digest = Digest::of(name.as_bytes());
        let descriptor = |kind: &str| json!({ "mediaType": kind, "digest": digest.to_string(), "size": 1 });
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": [],
        });
        Ok(ResolvedImage {
            descriptor: serde_json::from_value::<Descriptor>(descriptor(manifest_type))?,
            manifest: serde_json::from_value::<Manifest>(manifest)?,
            manifest_bytes: Vec::new(),
            config,
            config_bytes: Vec::new(),
        })
    }
}

fn options(args: &str) -> PlanOptions {
    let mut options = PlanOptions::new("linux/amd64".parse().unwrap());
    for line in args.lines() {
        let (flag, value) = line.split_once(' ').unwrap_or((line, ""));
        let pair = || {
            let (name, value) = value.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        match flag {
            "--until-step" => options.until_step = value.parse().ok(),
            "--target" => options.target = Some(value.to_owned()),
            "--platform" => options.platform = Some(value.parse().unwrap()),
            "--build-arg" => options.build_args.push(pair()),
            "--label" => options.labels.push(pair()),
            "--allow" if value == "network.host" => options.allow_network_host = true,
            "--allow" => options.allow_insecure = true,
            "--network" => options.network = StepNetwork::None,
            "--all-stages" => options.all_stages = true,
            "--build-context" => {
                let (name, kind) = pair();
                let kind = match kind.as_str() {
                    "image" => NamedContext::Image,
                    "scratch" => NamedContext::Scratch,
                    _ => NamedContext::Local,
                };
                options.named_contexts.push((name, kind));
            }
            other => panic!("unknown flag {other}"),
        }
    }
    options
}

fn try_plan(file: &str, args: &str) -> Result<Plan, PlanErrors> {
    let file = Dockerfile::parse(file).unwrap();
    plan(&file, &options(args), &mut Images::new())
}

fn planned(file: &str, args: &str) -> Plan {
    try_plan(file, args).unwrap()
}

/// The errors as `line: message`, `-` for those without a line.
fn errors(file: &str, args: &str) -> Vec<String> {
    let errors = try_plan(file, args).map(|plan| plan.stages.len()).unwrap_err();
    errors
        .iter()
        .map(|error| {
            let line = error.location.map_or("-".to_owned(), |location| location.start_line.to_string());
            format!("{line}: {}", error.fault())
        })
        .collect()
}

/// The step counts as progress counts it, and what comes after it is as if it were not there.
#[test]
fn a_plan_may_end_with_a_step() {
    let file = "FROM scratch AS below\nCOPY a /\nFROM alpine AS top\nENV A=1\nRUN one\nUSER u\nWORKDIR /w\nENV A=2\nRUN three\n";
    for (step, steps, env, user, workdir) in [
        (1, 0, None, "", ""),
        (2, 1, Some("1"), "", ""),
        (3, 2, Some("1"), "u", "/w"),
        (4, 3, Some("2"), "u", "/w"),
    ] {
        let plan = planned(file, &format!("--until-step {step}"));
        let stage = &plan.stages[plan.target];
        let config = &stage.config.config;
        let value = config.env.iter().find_map(|variable| variable.strip_prefix("A="));
        assert_eq!(
            (stage.steps.len(), value, config.user.as_str(), config.working_dir.as_str()),
            (steps, env, user, workdir),
            "{step}"
        );
        assert_eq!(stage.progress_total, 4, "{step}");
    }
    assert_eq!(planned(file, "--target below\n--until-step 1").stages[0].steps.len(), 1);
    for (args, steps) in [("--until-step 5", 4), ("--until-step 0", 4), ("--target below\n--until-step 2", 1)]
    {
        let error = try_plan(file, args).map(|plan| plan.stages.len()).unwrap_err();
        let faults: Vec<&PlanFault> = error.iter().map(PlanError::fault).collect();
        let [PlanFault::NoSuchStep { steps: found, .. }] = faults[..] else { panic!("{faults:?}") };
        assert_eq!(found.len(), steps, "{args}: {found:?}");
    }
}

fn history(plan: &Plan) -> Vec<&str> {
    plan.stages[plan.target].history.iter().map(|entry| entry.created_by.as_str()).collect()
}

fn runs(plan: &Plan) -> Vec<&RunStep> {
    let steps = plan.stages[plan.target].steps.iter();
    steps
        .filter_map(|step| match &step.kind {
            StepKind::Run(run) => Some(&**run),
            _ => None,
        })
        .collect()
}

fn copies(plan: &Plan) -> Vec<&CopyStep> {
    let steps = plan.stages[plan.target].steps.iter();
    steps
        .filter_map(|step| match &step.kind {
            StepKind::Copy(copy) => Some(&**copy),
            _ => None,
        })
        .collect()
}

#[test]
fn fixtures_have_their_plans() {
    let mut count = 0;
    for entry in fs_err::read_dir(fixtures()).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        count += 1;
        let file = fs_err::read_to_string(folder.join("Dockerfile")).unwrap();
        let args = fs_err::read_to_string(folder.join("args")).unwrap_or_default();
        let text = render_text(&planned(&file, &args), "Dockerfile");
        let expected = folder.join("expected.txt");
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            fs_err::write(&expected, &text).unwrap();
        }
        assert_eq!(text, fs_err::read_to_string(&expected).unwrap(), "{}", folder.display());
    }
    assert!(count > 5, "only {count} fixtures");
}

#[test]
fn only_what_the_target_needs_is_asked_for_and_once() {
    let file = Dockerfile::parse(
        "FROM alpine AS a\nFROM nowhere AS unused\nFROM alpine\nCOPY --from=alpine /x /\nCOPY --from=a /x /\n\
         RUN --mount=from=tools,target=/t true\nFROM nowhere\n",
    )
    .unwrap();
    let mut images = Images::new();
    plan(&file, &PlanOptions { target: None, ..options("") }, &mut images).unwrap_err();
    assert_eq!(images.asked, ["nowhere linux/amd64"]);
    let file = Dockerfile::parse(
        "FROM alpine AS a\nFROM nowhere AS unused\nFROM alpine\nCOPY --from=alpine /x /\nCOPY --from=a /x /\n\
         RUN --mount=from=tools,target=/t true\n",
    )
    .unwrap();
    let mut images = Images::new();
    let plan = plan(&file, &options(""), &mut images).unwrap();
    assert_eq!(images.asked, ["alpine linux/amd64", "tools linux/amd64"]);
    assert_eq!(plan.stages.len(), 2);
    assert_eq!(plan.images.len(), 2);
}

#[test]
fn errors_have_a_place_and_words() {
    for (file, args, expected) in [
        ("FROM ${X}\n", "", "1: base name (${X}) should not be blank"),
        ("FROM --platform=$P alpine\n", "", "1: empty platform value from expression $P"),
        ("FROM --platform=a/b/c/d alpine\n", "", "1: failed to parse platform a/b/c/d"),
        ("ARG A=${B:?no}\nFROM alpine\n", "", "1: failed to process \"${B:?no}\": B: no"),
        ("FROM alpine AS a-\n", "", "1: invalid context name a-: invalid reference format"),
        ("FROM alpine AS a\nFROM A\n", "", "2: failed to parse stage name \"A\": invalid reference format"),
        ("FROM alpine AS one\n", "--target 0", "-: target stage \"0\" could not be found"),
        (
            "FROM alpine AS one\n",
            "--target oen",
            "-: target stage \"oen\" could not be found (did you mean one?)",
        ),
        ("FROM alpine\nCOPY --from=$S a /\n", "", "2: variable expansion is not supported for --from"),
        ("FROM alpine\nCOPY --from=1 a /\n", "", "2: invalid stage index 1"),
        ("FROM alpine\nCOPY --from=-1 a /\n", "", "2: invalid stage index -1"),
        (
            "FROM alpine\nCOPY --from=Data a /\n",
            "",
            "2: failed to parse stage name \"Data\": invalid reference format",
        ),
        ("FROM alpine\nRUN --mount=from=Data true\n", "", "2: failed to parse stage name \"Data\""),
        (
            "FROM alpine\nRUN --mount=from=$X,target=/x true\n",
            "",
            "2: 'from' doesn't support variable expansion",
        ),
        ("FROM alpine AS me\nCOPY --from=me a /\n", "", "2: circular dependency detected on stage: me"),
        (
            "FROM alpine AS a\nCOPY --from=b a /\nFROM alpine AS b\nCOPY --from=a a /\n",
            "",
            "4: circular dependency detected on stage: a",
        ),
        (
            "FROM alpine AS a\nCOPY --from=b a /\nFROM alpine AS b\nCOPY --from=c a /\nFROM alpine AS c\n\
             RUN --mount=from=a,target=/m true\nCOPY --from=a a /\n",
            "",
            "7: circular dependency detected on stage: a",
        ),
        // The stage that the way begins at need not be part of the circle.
        (
            "FROM alpine AS a\nCOPY --from=b a /\nFROM alpine AS b\nCOPY --from=c a /\nFROM alpine AS c\n\
             COPY --from=b a /\n",
            "",
            "6: circular dependency detected on stage: a",
        ),
        (
            "FROM alpine\nCOPY --from=b a /\nFROM alpine AS b\n",
            "--target stage-0\n",
            "-: target stage \"stage-0\" could not be found",
        ),
        (
            "FROM alpine AS a\nCOPY --from=B a /\nFROM alpine AS b\n",
            "--target a",
            "2: cannot copy from stage \"B\", it needs to be defined before current stage \"a\"",
        ),
        (
            "FROM alpine AS a\nRUN --mount=from=b,target=t true\nFROM alpine AS b\n",
            "--target a",
            "2: cannot mount from stage \"b\" to \"t\", stage needs to be defined before current command",
        ),
        ("FROM triggers\nCOPY --from=9 a /\n", "", "2: invalid stage index 9"),
        ("FROM alpine AS a\nONBUILD BOGUS\nFROM a\n", "", "3: unknown instruction: BOGUS"),
        (
            "FROM alpine AS a\nONBUILD COPY --from=$X a /\nFROM a\n",
            "",
            "3: variable expansion is not supported",
        ),
        ("FROM alpine AS a\nONBUILD COPY --from=b a /\nFROM a AS b\n", "", "3: circular dependency detected"),
        ("FROM alpine\nLABEL a=\"${X:?gone}\"\n", "", "2: failed to process \"\\\"${X:?gone}\\\"\": X: gone"),
        ("FROM alpine\nVOLUME $NONE\n", "", "2: VOLUME specified can not be an empty string"),
        ("FROM alpine\nSTOPSIGNAL SIGBOGUS\n", "", "2: invalid signal: SIGBOGUS"),
        ("FROM alpine\nCOPY --chmod=17777 a /\n", "", "2: invalid chmod parameter: '17777'"),
        ("FROM alpine\nCOPY http://x/y /\n", "", "2: source can't be a URL for COPY"),
        ("FROM alpine\nCOPY git@x:y /\n", "", "2: source can't be a git ref for COPY"),
        (
            "FROM alpine\nADD --checksum=sha256:0 a b /\n",
            "",
            "2: checksum can't be specified for multiple sources",
        ),
        ("FROM alpine\nADD --checksum=sha256:0 a /\n", "", "2: checksum requires HTTP(S) or Git sources"),
        ("FROM alpine\nADD --checksum=sha256:0 http://x/a /\n", "", "2: invalid checksum digest length"),
        ("FROM alpine\nRUN --device=a/b=c true\n", "", "2: RUN --device=a/b=c is not supported"),
        ("FROM alpine\nRUN []\n", "", "2: arguments are required"),
        ("FROM alpine\nRUN --network=host true\n", "", "2: network.host is not allowed"),
        ("FROM alpine\nRUN --security=insecure true\n", "", "2: security.insecure is not allowed"),
        ("FROM alpine\n", "--build-arg SOURCE_DATE_EPOCH=today", "-: invalid SOURCE_DATE_EPOCH: today"),
        ("ARG SOURCE_DATE_EPOCH=1x\nFROM alpine\n", "", "-: invalid SOURCE_DATE_EPOCH: 1x"),
        ("FROM alpine\nFROM nowhere\n", "", "2: cannot load image nowhere"),
    ] {
        let found = errors(file, args);
        assert!(found[0].starts_with(expected), "{file}{found:?}");
    }
}

#[test]
fn independent_errors_come_together() {
    let file = "FROM alpine AS a\nSTOPSIGNAL X\nEXPOSE http\nRUN --network=host true\nFROM alpine\nCOPY http://x /\n\
                COPY --from=a /x /\n";
    assert_eq!(
        errors(file, ""),
        ["2: invalid signal: X", "3: invalid containerPort: http", "6: source can't be a URL for COPY"]
    );
    // What follows a variable that cannot be set is not looked at.
    assert_eq!(errors("FROM alpine\nENV A=${B?}\nLABEL c=${A?}\n", "").len(), 1);
    assert_eq!(errors("FROM $A\nFROM $B\n", "").len(), 2);
}

#[test]
fn a_small_file_makes_no_plan_of_gigabytes() {
    let lines = |count: u32, line: &dyn Fn(u32) -> String| (0..count).map(line).collect::<Vec<_>>().concat();
    let variables = lines(1500, &|n| format!("ENV a{n}=1\n"));
    let too_much = "the history and environments of this build take more than 16 MiB";
    let chain = lines(3000, &|n| format!("FROM s{n} AS s{}\n", n + 1));
    let growing = "WORKDIR a\n".repeat(6000);
    for rest in ["RUN x\n".repeat(3000), chain, growing] {
        let found = errors(&format!("FROM alpine AS s0\n{variables}{rest}"), "");
        assert!(matches!(&found[..], [error] if error.ends_with(too_much)), "{found:?}");
    }
    let too_much = "the instructions of this stage that make no layer take more than 2 MiB";
    let large = |count: usize| lines(1, &|_| format!("LABEL a={}\n", "v".repeat(60_000)).repeat(count));
    assert!(try_plan(&format!("FROM alpine\n{}", large(34)), "").is_ok());
    for rest in
        [large(36), large(170), lines(60_000, &|n| format!("LABEL k{n}=12345678901234567890123456\n"))]
    {
        let found = errors(&format!("FROM alpine\n{rest}RUN x\n"), "");
        assert!(matches!(&found[..], [error] if error.ends_with(too_much)), "{found:?}");
    }
}

#[test]
fn errors_point_at_the_words_to_blame() {
    let file = "FROM alpine\nLABEL a=1 b=${X?}\n";
    let errors = try_plan(file, "").unwrap_err();
    let span = errors.first().label_span.unwrap();
    assert_eq!(&file[span.range()], "${X?}");
    assert_eq!(errors.to_string(), "failed to process \"${X?}\": X: is not allowed to be unset (line 2)");
}

#[test]
fn mounts_are_read_key_by_key() {
    for (flag, message) in [
        ("required,type=secret,id=x", "unexpected key 'required' for mount type 'bind'"),
        ("type=bind,size=1,target=/x", "unexpected key 'size' for mount type 'bind'"),
        ("x,target=/x", "invalid field 'x' must be a key=value pair"),
        ("typ=tmpfs", "unexpected key 'typ' in 'typ=tmpfs' (did you mean type?)"),
        ("type=tmp", "unsupported mount type \"tmp\" (did you mean tmpfs?)"),
        ("ro=maybe,target=/x", "invalid value for ro: maybe"),
        ("type=tmpfs,size=abc,target=/x", "invalid value for size: abc"),
        ("mode=0700,target=/x", "mode not allowed for \"bind\" type mounts"),
        ("type=tmpfs,uid=1,target=/x", "uid not allowed for \"tmpfs\" type mounts"),
        ("type=cache,mode=9,target=/x", "invalid value 9 for mode"),
        ("type=cache,gid=x,target=/x", "invalid value x for gid"),
        ("sharing=locked,target=/x", "invalid cache sharing set for bind mount"),
        ("type=cache,sharing=some,target=/x", "unsupported sharing value \"some\""),
        ("type=secret,from=scratch,id=x", "secret mount should not have a from"),
        ("type=secret,sharing=shared,id=x", "secret mount should not define sharing"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=ssh,source=x", "ssh does not support source"),
        ("target=/", "invalid mount target \"/\""),
        ("target=..", "invalid mount target \"/\""),
        ("", "invalid field '' must be a key=value pair"),
        ("target=a\"b", "failed to parse csv mounts: bare \" in non-quoted field"),
    ] {
        let file = format!("FROM alpine\nRUN --mount='{flag}' true\n");
        assert_eq!(errors(&file, ""), [format!("2: {message}")], "{flag}");
    }
    // In a stage that is not needed only `from` counts.
    planned("FROM alpine\nRUN --mount=typ=x true\nFROM alpine\n", "");
    assert_eq!(errors("FROM alpine\nRUN --mount=FROM=$X true\nFROM alpine\n", "").len(), 1);
}

#[test]
fn mounts_have_their_defaults() {
    let mount = |flag: &str| {
        let file = format!("FROM alpine\nWORKDIR /w\nENV N=name\nRUN --mount={flag} true\n");
        runs(&planned(&file, "--build-arg BUILDKIT_CACHE_MOUNT_NS=ns"))[0].mounts[0].clone()
    };
    let bind = mount("\\\"target=a,b\\\",source=x/../y");
    assert_eq!((bind.kind, bind.target.as_str(), bind.source.as_str()), (MountKind::Bind, "/w/a,b", "/y"));
    assert_eq!((bind.from, bind.read_only), (Some(FileSource::Context), true));
    let bind = mount("rw");
    assert_eq!((bind.target.as_str(), bind.read_only), ("/w", false));
    assert_eq!(mount("from=scratch,dst=$N").from, Some(FileSource::Empty));
    assert_eq!(mount("from=tools,dst=/$N").from, Some(FileSource::Image(1)));

    let cache = mount("type=cache,target=c/../d");
    assert_eq!((cache.id.as_str(), cache.target.as_str(), cache.read_only), ("ns/d", "/w/d", false));
    assert!(cache.starts_empty && cache.from.is_none());
    let cache = mount("type=Cache,id=i,target=/c,from=tools,sharing=LOCKED,ro=1");
    assert_eq!((cache.id.as_str(), cache.sharing, cache.read_only), ("ns/i", CacheSharing::Locked, true));
    assert!(!cache.starts_empty);
    assert!(mount("type=cache,target=/c,from=tools,uid=5").starts_empty);
    let cache = mount("type=cache,target=/c,from=tools,source=/s,uid=5,mode=700");
    assert_eq!((cache.starts_empty, cache.uid, cache.mode), (false, None, None));

    assert_eq!(mount("type=tmpfs,target=/t,size=1.5k").size, Some(1536));
    let secret = mount("type=secret,id=dir/tok,mode=0440");
    assert_eq!(
        (secret.id.as_str(), secret.target.as_str(), secret.as_file),
        ("dir/tok", "/run/secrets/tok", true)
    );
    assert_eq!((secret.mode, secret.required), (Some(0o440), false));
    let secret = mount("type=secret,target=rel/key,env=E,required");
    assert_eq!((secret.id.as_str(), secret.target.as_str(), secret.required), ("key", "/w/rel/key", true));
    let secret = mount("type=secret,id=x,env=E");
    assert_eq!((secret.target.as_str(), secret.as_file, secret.env.as_deref()), ("", false, Some("E")));

    let plan = planned("FROM alpine\nRUN --mount=type=ssh --mount=type=ssh,id=k,required true\n", "");
    let run = runs(&plan)[0];
    let targets: Vec<&str> = run.mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/run/buildkit/ssh_agent.0", "/run/buildkit/ssh_agent.1"]);
    assert_eq!(run.env.last().unwrap().1, "/run/buildkit/ssh_agent.0");
    let plan = planned("FROM alpine\nENV SSH_AUTH_SOCK=/own\nRUN --mount=type=ssh true\n", "");
    assert_eq!(runs(&plan)[0].env.last().unwrap().1, "/own");
}

#[test]
fn the_later_of_arg_and_env_wins() {
    let file = "ARG G=global\nFROM alpine AS p\nARG V=1\nENV V=2\nRUN a\nARG V=3\nRUN b\nARG G\nARG U\nARG H=$G-x I=$H\nRUN c\n\
                FROM p\nRUN d\nONBUILD RUN e\n";
    let plan = planned(file, "--build-arg X=1\n--build-arg U=\n--build-arg http_proxy=p\n--build-arg X=2");
    assert_eq!(plan.unused_build_args, ["X"]);
    let parent: Vec<&str> = plan.stages[0].history.iter().map(|entry| entry.created_by.as_str()).collect();
    assert_eq!(
        parent,
        [
            "ARG V=1",
            "ENV V=2",
            "RUN |1 V=2 /bin/sh -c a # buildkit",
            "ARG V=3",
            "RUN |1 V=3 /bin/sh -c b # buildkit",
            "ARG G=global",
            "ARG U=",
            "ARG H=global-x I=global-x",
            "RUN |5 V=3 G=global U= H=global-x I=global-x /bin/sh -c c # buildkit",
        ]
    );
    assert_eq!(history(&plan), ["RUN |5 V=2 G=global U= H=global-x I=global-x /bin/sh -c d # buildkit"]);
    let run = runs(&plan)[0];
    let names: Vec<&str> = run.env.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["G", "U", "H", "I", "PATH", "V"], "a child applies its parent's ENV once more");
    assert_eq!(run.proxy_env, [("HTTP_PROXY".into(), "p".into()), ("http_proxy".into(), "p".into())]);
    let config = &plan.stages[plan.target].config.config;
    assert_eq!(config.env, ["PATH=/bin", "V=2"]);
    assert_eq!(config.on_build, ["RUN e"]);
}

#[test]
fn automatic_arguments_describe_the_platforms() {
    let file = "FROM alpine AS last\nARG TARGETPLATFORM TARGETVARIANT BUILDARCH TARGETSTAGE TARGETOS TARGETARCH=own\nLABEL \
                p=$TARGETPLATFORM/$TARGETVARIANT/$BUILDARCH/$TARGETSTAGE/$TARGETOS/$TARGETARCH/$BUILDOS\n";
    for (args, label) in [
        ("", "linux/amd64//amd64/last/linux/own/"),
        ("--platform linux/arm", "linux/arm/v7/v7/amd64/last/linux/own/"),
        (
            "--platform linux/arm64/v8\n--target LAST\n--build-arg TARGETOS=x",
            "linux/arm64//amd64/LAST/x/own/",
        ),
    ] {
        let plan = planned(file, args);
        assert_eq!(plan.stages[0].config.config.labels["p"], label);
    }
}

#[test]
fn the_platform_of_the_config_is_the_one_asked_for() {
    let config = |file: &str, args: &str| {
        let plan = planned(file, args);
        let config = plan.stages[plan.target].config.clone();
        format!("{}/{}/{}", config.os, config.architecture, config.variant)
    };
    assert_eq!(config("FROM armed\n", ""), "linux/arm64/");
    assert_eq!(config("FROM armed\n", "--platform linux/amd64"), "linux/amd64/");
    assert_eq!(config("FROM scratch\n", "--platform linux/arm"), "linux/arm/v7");
    assert_eq!(config("FROM --platform=linux/arm scratch\n", ""), "linux/amd64/");
}

#[test]
fn working_directories_follow_each_other() {
    let file = "FROM alpine\nWORKDIR a\nWORKDIR /x/./y//\nRUN true\nCOPY f .\nWORKDIR ..\nWORKDIR /\nWORKDIR $NONE\nADD f g/\n";
    let plan = planned(file, "");
    let created: Vec<&str> = history(&plan);
    assert_eq!(
        created,
        [
            "WORKDIR /a",
            "WORKDIR /x/./y//",
            "RUN /bin/sh -c true # buildkit",
            "COPY f . # buildkit",
            "WORKDIR /x",
            "WORKDIR /",
            "WORKDIR /",
            "ADD f g/ # buildkit",
        ]
    );
    let stage = &plan.stages[0];
    let layers: Vec<Option<usize>> = stage.history.iter().map(|entry| entry.step).collect();
    assert_eq!(layers, [Some(0), Some(1), Some(2), Some(3), Some(4), None, None, Some(5)]);
    assert_eq!(runs(&plan)[0].cwd, "/x/./y//");
    let targets: Vec<&str> = copies(&plan).iter().map(|copy| copy.destination.as_str()).collect();
    assert_eq!(targets, ["/x/y/", "/g/"]);
    assert_eq!(stage.progress_total, 9);
}

#[test]
fn named_contexts_stand_in_for_stages_and_images() {
    // The first context that fits: platform and name, then name.
    let file = "FROM alpine AS deps\nRUN false\nCOPY --from=nowhere /x /\nFROM alpine:3 AS late\nFROM alpine\nCOPY --from=DEPS a /\n\
                COPY --from=after a /\nRUN --mount=from=empty,target=/e true\nCOPY --from=alpine:3 a /\n";
    let args = "--build-context deps=local\n--build-context after=image\n--build-context docker.io/library/empty:latest=scratch\n\
                --build-context alpine::linux/amd64=image\n--build-context alpine::linux/arm64=local\n\
                --build-context scratch=local";
    let plan = planned(file, args);
    let copies = copies(&plan);
    assert_eq!(copies[0].from, FileSource::LocalContext("deps".to_owned()));
    assert_eq!(copies[1].from, FileSource::Image(1));
    assert_eq!(copies[2].from, FileSource::Image(2), "another tag is another image");
    assert_eq!(runs(&plan)[0].mounts[0].from, Some(FileSource::Empty));
    assert_eq!(plan.images[0].origin, ImageOrigin::NamedContext("alpine::linux/amd64".to_owned()));
    assert_eq!(plan.stages.len(), 1);

    // A replaced stage that is built on has no config at all but what its context brings.
    let plan = planned("FROM alpine AS deps\nENV A=1\nFROM deps\nENV B=1\n", "--build-context deps=local");
    assert_eq!(plan.stages[0].base, StageBase::LocalContext("deps".to_owned()));
    assert_eq!(plan.stages[0].location, None);
    assert!(plan.stages[1].config.config.working_dir.is_empty());
    assert_eq!(plan.stages[1].config.config.env.last().unwrap(), "B=1");
    assert_eq!(plan.stages[1].config.config.env.len(), 2);
    let plan = planned("FROM alpine AS deps\nENV A=1\n", "--build-context deps=image");
    assert!(plan.stages[0].steps.is_empty() && plan.stages[0].history.is_empty());
    // A stage that is replaced may stand behind the one that copies from it.
    let plan = planned(
        "FROM alpine AS a\nCOPY --from=b /x /\nFROM alpine AS b\n",
        "--target a\n--build-context b=local",
    );
    assert_eq!(super::tests::copies(&plan)[0].from, FileSource::LocalContext("b".to_owned()));
}

#[test]
fn triggers_fire_once_and_bring_what_they_need() {
    let plan = planned("FROM alpine AS one\nFROM triggers\nRUN last\n", "");
    assert_eq!(plan.stages.len(), 2);
    let texts: Vec<&str> = plan.stages[1].steps.iter().map(|step| step.text.as_str()).collect();
    assert_eq!(texts, ["ONBUILD COPY --from=one /x /y", "ONBUILD RUN echo plain", "RUN last"]);
    assert_eq!(plan.stages[1].steps[0].location.start_line, 2);
    assert!(plan.stages[1].config.config.on_build.is_empty());
    let plan = planned("FROM alpine AS p\nONBUILD ENV A=1\nFROM p AS c\nFROM c\nRUN true\n", "");
    assert_eq!(history(&plan), ["RUN /bin/sh -c true # buildkit"]);
    assert_eq!(plan.stages[1].history.len(), 1);
    let plan = planned("FROM alpine\nCOPY --from=triggers /x /\n", "");
    assert_eq!(plan.stages[0].steps.len(), 1);
}

#[test]
fn the_time_of_the_build_is_a_number() {
    for (file, args, epoch, label) in [
        (
            "FROM alpine\nARG SOURCE_DATE_EPOCH\nLABEL t=$SOURCE_DATE_EPOCH\n",
            "--build-arg SOURCE_DATE_EPOCH=007",
            Some(7),
            "7",
        ),
        (
            "FROM alpine\nARG SOURCE_DATE_EPOCH\nLABEL t=$SOURCE_DATE_EPOCH\n",
            "--build-arg SOURCE_DATE_EPOCH=",
            None,
            "",
        ),
        (
            "ARG SOURCE_DATE_EPOCH=-5\nFROM alpine\nARG SOURCE_DATE_EPOCH\nLABEL t=$SOURCE_DATE_EPOCH\n",
            "",
            Some(-5),
            "-5",
        ),
        ("ARG SOURCE_DATE_EPOCH=context\nFROM alpine\nLABEL t=x\n", "", None, "x"),
    ] {
        let plan = planned(file, args);
        assert_eq!(plan.source_date_epoch, epoch);
        assert_eq!(plan.stages[0].config.config.labels["t"], label);
    }
}

#[test]
fn copies_keep_what_was_written() {
    let file = "FROM alpine\nENV D=/d/ E=\nCOPY --parents --chown=$E --chmod=u+x ./a b $D\nADD --link --chown=1:2 x <<EOF <<'R' ./\n$D\nEOF\n$D\nR\n\
                COPY --link --chmod=755 a /\n";
    let plan = planned(file, "");
    assert_eq!(
        history(&plan)[1..],
        [
            "COPY --parents --chmod=u+x ./a b /d/ # buildkit",
            "ADD --chown=1:2 x <<EOF <<R ./ # buildkit",
            "COPY --chmod=755 a / # buildkit",
        ]
    );
    let copies = copies(&plan);
    assert_eq!(copies[0].chown, None);
    assert_eq!(copies[1].heredocs, [("EOF".into(), "/d/\n".into()), ("R".into(), "$D\n".into())]);
    assert_eq!(copies.iter().map(|copy| copy.link).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn plans_are_json_with_a_version() {
    let plan = planned("FROM alpine AS a\nWORKDIR /w\nFROM a\nCOPY --from=a x /\n", "");
    let json = to_json(&plan);
    assert_eq!(json["v"], 1);
    assert_eq!(json["stages"][1]["base"], json!({ "stage": 0 }));
    assert_eq!(json["stages"][1]["steps"][0]["kind"], "copy");
    assert_eq!(json["stages"][1]["steps"][0]["step"]["from"], json!({ "stage": 0 }));
    assert_eq!(json["stages"][0]["steps"][0]["line"], 2);
}

#[test]
fn many_stages_in_a_row_are_no_trouble() {
    let stages = (1..3000).map(|stage| {
        let parent = stage - 1;
        format!("FROM s{parent} AS s{stage}\nCOPY --from=s{parent} /x /\n")
    });
    let file: String = std::iter::once("FROM alpine AS s0\n".to_owned()).chain(stages).collect();
    assert_eq!(planned(&file, "").stages.len(), 3000);
}
