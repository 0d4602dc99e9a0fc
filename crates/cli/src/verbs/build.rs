use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ocibuild::dockerfile::lint::{RULES, RuleKind};
use ocibuild::dockerfile::{Rule, suggest};
use ocibuild::executor::{Capabilities, Executor, Resources, Rlimit};
use ocibuild::spec::{Descriptor, Reference};
use ocibuild::{
    Annotation, Backends, Build, Built, Error, Fetcher, Output, OutputKind, PlannedBuild, Remotes, Secret,
    SshAgent, StateDirectory,
};

use super::call::Call;
use super::engine::Load;
use super::images::nameable;
use super::results::{ResultFiles, outputs};
use super::shell;
use crate::args::{BuildArgs, OnErrorArg, ProgressArg, SandboxArg, SnapshotterArg};
use crate::backends::{Images, Notices, executor, open_state, resolv_conf};
use crate::failure::{Failure, Outcome, SourceText, about, usage};
use crate::input::{PlanInput, process_env};
use crate::progress::{Progress, progress, warn};
use crate::remote::remotes;
use crate::signals::Signals;
use crate::state_dir::state_dir;
use crate::table::now;
use crate::terminal::{Screen, to_stdout};
use crate::values::{self, BuildOutputs, Lookup};

/// What was asked for, checked before anything is touched.
pub(super) struct Request {
    input: PlanInput,
    tags: Vec<Reference>,
    annotations: Vec<Annotation>,
    outputs: BuildOutputs,
    load: Option<Load>,
    hosts: Vec<(String, std::net::IpAddr)>,
    limits: Vec<Rlimit>,
    resources: Resources,
    dropped_capabilities: Capabilities,
    shm_size: Option<u64>,
    archive_limit: Option<u64>,
    agents: Vec<(String, SshAgent)>,
    secrets: Vec<(String, Secret)>,
    progress: ProgressArg,
    iidfile: Option<PathBuf>,
    metadata_file: Option<PathBuf>,
    call: Option<Call>,
    enabled_checks: Vec<&'static Rule>,
}

impl Request {
    pub(super) fn new(args: &BuildArgs, env: Lookup<'_>) -> Result<Self, Error> {
        refuse_later(args)?;
        let progress = about("--progress", &args.progress)(values::progress(&args.progress, args.quiet))?;
        let outputs = all_outputs(args)?;
        let load = args.load.as_deref().map(Load::new).transpose()?.flatten();
        refuse_sending(args, &outputs, load.is_some(), env)?;
        if load.is_some() && outputs.cache_only {
            return Err(usage("--load: --output type=cacheonly cannot be combined with another output"));
        }
        let input = PlanInput::new(&args.plan, env)?;
        input.network().check_hosts(&args.add_host)?;
        Ok(Self {
            tags: each("--tag", &args.tag, nameable)?,
            annotations: each("--annotation", &args.annotation, values::annotations)?.concat(),
            outputs,
            load,
            hosts: each("--add-host", &args.add_host, values::host_entry)?,
            limits: each("--ulimit", &args.limits.ulimit, values::ulimit)?,
            resources: values::resources(&args.limits)?,
            dropped_capabilities: values::capabilities(&args.cap_drop)?,
            agents: each("--ssh", &args.ssh, |text| values::ssh(text, env))?,
            archive_limit: args
                .archive_limit
                .as_deref()
                .map(|text| values::size("--archive-limit", text))
                .transpose()?,
            shm_size: values::shm_size(&args.limits)?,
            secrets: secrets(&args.secret, env)?,
            progress,
            iidfile: args.iidfile.clone(),
            metadata_file: args.metadata_file.clone(),
            call: Call::new(args)?,
            enabled_checks: args.enable_check.iter().map(|name| rule(name)).collect::<Result<_, _>>()?,
            input,
        })
    }

    /// Names in the order given, those of the outputs included.
    fn names(&self) -> Vec<Reference> {
        let of_outputs = self.outputs.outputs.iter().flat_map(|output| &output.names);
        let mut names: Vec<Reference> = Vec::new();
        for name in self.tags.iter().chain(of_outputs) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}

/// Refuses what would send the result to a network, where nothing may go to one.
fn refuse_sending(args: &BuildArgs, all: &BuildOutputs, loads: bool, env: Lookup<'_>) -> Result<(), Error> {
    if !args.plan.offline {
        return Ok(());
    }
    let refused = |what: &str| {
        Err(usage(format!("--offline and {what} cannot be used together"))
            .hint("write the image to a file, and push it later: --output type=oci,dest=FILE"))
    };
    if args.push {
        return refused("--push");
    }
    if all.outputs.iter().any(|output| output.kind == OutputKind::Registry) {
        return refused("--output type=registry");
    }
    let is_far = |name: &&str| {
        env(name)
            .is_some_and(|value| ["tcp://", "ssh://", "http"].iter().any(|scheme| value.starts_with(scheme)))
    };
    match ["DOCKER_HOST", "CONTAINER_HOST"].iter().find(|name| loads && is_far(name)) {
        Some(name) => refused(&format!("--load into the engine that {name} names")),
        None => Ok(()),
    }
}

/// What `--output` and `--push` ask for.
fn all_outputs(args: &BuildArgs) -> Result<BuildOutputs, Error> {
    let mut all = about("--output", &args.output.join(" "))(values::outputs(&args.output))?;
    let pushes = |output: &values::OutputSpec| output.kind == OutputKind::Registry;
    if args.push && !all.outputs.iter().any(pushes) {
        if all.cache_only {
            return Err(usage("--push: an output of type=cacheonly cannot be combined with another"));
        }
        all.outputs.push(values::push_output());
    }
    if args.tag.is_empty() && all.outputs.iter().any(|output| pushes(output) && output.names.is_empty()) {
        let flag = if args.push { "--push" } else { "--output type=registry" };
        return Err(usage(format!("{flag}: tag is needed when pushing to registry"))
            .hint("name the image with its registry: -t registry.example.com/team/app:1.0"));
    }
    Ok(all)
}

/// The rule of a name, which is one that is not on anyway.
fn rule(name: &str) -> Result<&'static Rule, Error> {
    let names = || RULES.into_iter().filter(|rule| rule.kind != RuleKind::Ordinary).map(|rule| rule.name);
    match Rule::named(name) {
        Some(rule) if rule.kind != RuleKind::Ordinary => Ok(rule),
        Some(_) => Err(usage(format!("--enable-check {name}: this check always runs"))
            .hint("`# check=skip=RULE` turns checks off")),
        None => {
            let error = usage(format!("--enable-check {name}: there is no such check"));
            Err(match suggest(name, names()) {
                Some(nearest) => error.hint(format!("did you mean {nearest}?")),
                None => error.hint(format!("there are {}", names().collect::<Vec<_>>().join(", "))),
            })
        }
    }
}

/// The values of a flag that may be repeated.
fn each<T>(flag: &str, texts: &[String], read: impl Fn(&str) -> Result<T, Error>) -> Result<Vec<T>, Error> {
    texts.iter().map(|text| about(flag, text)(read(text))).collect()
}

/// What is typed wrong may be the secret itself: the flag alone is shown.
fn secrets(texts: &[String], env: Lookup<'_>) -> Result<Vec<(String, Secret)>, Error> {
    texts.iter().map(|text| about("--secret", "…")(values::secret(text, env))).collect()
}

fn refuse_later(args: &BuildArgs) -> Result<(), Error> {
    if let Some(flag) = args.later.given().first() {
        let error = usage(format!("{flag} is not supported yet"));
        return Err(match *flag {
            "--attest" | "--provenance" | "--sbom" => {
                error.hint("images have no attestations here, as with --provenance=false and --sbom=false")
            }
            _ => error.hint(format!("omit {flag}; `ocibuild build --help` shows what there is")),
        });
    }
    shell::refuse_without_terminal(args)?;
    if args.sandbox != SandboxArg::Auto && args.runtime.is_some() {
        return Err(usage("--sandbox and --runtime cannot be used together")
            .hint("omit --sandbox: a runtime makes namespaces itself"));
    }
    if args.sandbox == SandboxArg::Chroot && args.snapshotter == SnapshotterArg::Overlay {
        return Err(usage("--sandbox chroot and --snapshotter overlay cannot be used together")
            .hint("omit --snapshotter: without mounts, root file systems are copies"));
    }
    Ok(())
}

/// Builds.
pub(crate) fn build(root: Option<&Path>, args: &BuildArgs) -> Outcome {
    let screen = Screen::of_stderr();
    let as_json = args.progress == "json" && !args.quiet;
    built(root, args, screen).map_err(|mut failure| {
        failure.as_json = as_json;
        failure
    })
}

fn built(root: Option<&Path>, args: &BuildArgs, screen: Screen) -> Outcome {
    let mut request = Request::new(args, &process_env)?;
    let executor = match &args.runtime {
        Some(runtime) => {
            about("--runtime", &runtime.display().to_string())(executor(Some(runtime), args.sandbox))?
        }
        None => executor(None, args.sandbox)?,
    };
    let root = state_dir(root)?;
    let wanted = request.load.take().filter(|_| request.call.is_none());
    // Clients of engines belong to the user, not to root of a namespace.
    let mut loader = wanted.map(|load| load.start(&request.tags)).transpose()?;
    let (notices, call) = (notices(request.progress, screen), request.call);
    let ending = Ending::of(&request, loader.is_some(), screen);
    ending.files.check()?;
    if call.is_none() {
        ending.files.forget()?;
    }
    let open = || -> Result<_, Failure> { Ok((open_state(&root, args.snapshotter())?, Signals::install()?)) };
    // What is wrong with the Dockerfile of a directory is said before there is a state directory.
    let early = if request.input.needs_fetching() { Some(open()?) } else { None };
    let named = secrets_of(&request, remotes(&args.plan, true)?);
    let fetcher =
        early.as_ref().map(|(shop, signals)| Fetcher::new(&named, shop.layout(), &signals.cancel, now()));
    let loaded = loader.as_mut().and_then(|loader| loader.output.take());
    let opened = configured(request, loaded, (args, notices), fetcher.as_ref()).map_err(|mut failure| {
        failure.signal = early.as_ref().and_then(|(_, signals)| signals.received());
        failure
    });
    let (mut build, source) = opened?;
    if let Some(call) = call {
        return call.answer(&root, args, build, &source);
    }
    let (shop, signals) = match early {
        Some(open) => open,
        None => open()?,
    };
    let images = Images::new(&shop, &args.plan, notices)?;
    let backends = Backends::new(&shop, &images.source, executor.as_ref());

    let mut display = progress(ending.kind, screen);
    let failed = |error: Error, display: &mut dyn Progress| {
        display.finish();
        explained(error, &source, display.shows_output(), &shop, &signals)
    };
    if let Err(error) = build.check_sandbox(&backends) {
        return Err(failed(error, display.as_mut()));
    }
    let planned = match build.plan_cancellable(&backends, &signals.cancel) {
        Ok(planned) => planned,
        Err(error) => return Err(failed(error, display.as_mut())),
    };
    let unused = unused_build_args(&planned);
    let events = |event| display.event(&event);
    let result = if args.on_error == Some(OnErrorArg::Shell) {
        planned.run_attended(&backends, &signals.cancel, events, |step| shell::enter(step, screen))
    } else {
        planned.run(&backends, &signals.cancel, events)
    };
    let image = match result {
        Ok(image) => image,
        Err(error) => {
            let error = match loader {
                Some(loader) => loader.explain(error, &signals.cancel),
                None => error,
            };
            return Err(failed(error, display.as_mut()));
        }
    };
    if let Some(loader) = loader {
        display.finish();
        let shows = ending.kind != ProgressArg::Quiet && !display.is_json();
        loader.finish(&signals.cancel, shows).map_err(|error| failed(error, display.as_mut()))?;
    }
    display.finish();
    ending.tell(&image, &with_suggestions(&unused, &source.text), display.is_json())?;
    Ok(ExitCode::SUCCESS)
}

/// Builds up to a step of the target, and gives the image of what there is then. It has no name.
pub(super) fn up_to(
    (request, args): (Request, &BuildArgs),
    shop: &StateDirectory,
    executor: &dyn Executor,
    signals: &Signals,
    step: usize,
) -> Result<Descriptor, Failure> {
    let screen = Screen::of_stderr();
    let (kind, notices) = (request.progress, notices(request.progress, screen));
    let named = secrets_of(&request, remotes(&args.plan, true)?);
    let fetcher = Fetcher::new(&named, shop.layout(), &signals.cancel, now());
    let fetcher = request.input.needs_fetching().then_some(&fetcher);
    let (build, source) = configured(request, None, (args, notices), fetcher)?;
    let images = Images::new(shop, &args.plan, notices)?;
    let backends = Backends::new(shop, &images.source, executor);
    let mut display = progress(kind, screen);
    let build = build.until_step(step).keep_incomplete(false);
    let built = build
        .plan_cancellable(&backends, &signals.cancel)
        .and_then(|planned| planned.run(&backends, &signals.cancel, |event| display.event(&event)));
    display.finish();
    match built {
        Ok(image) => Ok(image.descriptor),
        Err(error) => Err(explained(error, &source, display.shows_output(), shop, signals)),
    }
}

/// What is told of a build that has succeeded.
struct Ending {
    kind: ProgressArg,
    screen: Screen,
    files: ResultFiles,
    /// The names of the image.
    names: Vec<Reference>,
    /// Whether the image goes anywhere.
    has_result: bool,
}

impl Ending {
    fn of(request: &Request, is_loaded: bool, screen: Screen) -> Self {
        let outputs = &request.outputs;
        let has_result =
            !request.tags.is_empty() || !outputs.outputs.is_empty() || outputs.cache_only || is_loaded;
        let files =
            ResultFiles { iidfile: request.iidfile.clone(), metadata_file: request.metadata_file.clone() };
        Self { kind: request.progress, screen, files, names: request.names(), has_result }
    }

    fn tell(&self, image: &Built, unused: &[String], json: bool) -> Result<(), Error> {
        self.files.write(image, &self.names)?;
        if self.kind == ProgressArg::Quiet {
            return to_stdout(format!("{}\n", image.descriptor.digest).as_bytes());
        }
        if !unused.is_empty() {
            let names = unused.join(", ");
            warn(&format!("no ARG takes these build arguments: {names}"), json, self.screen);
        }
        if !self.has_result {
            // 12.04
            let digest = &image.descriptor.digest;
            let message =
                format!("the result {digest} stays in the cache: name it with -t, or write it with -o");
            warn(&message, json, self.screen);
        }
        Ok(())
    }
}

/// A live display would be torn by lines in between, and shows that it waits.
fn notices(kind: ProgressArg, screen: Screen) -> Notices {
    match kind {
        ProgressArg::Quiet => Notices::Nothing,
        ProgressArg::Json => Notices::Json,
        ProgressArg::Auto | ProgressArg::Tty if screen.moves => Notices::Nothing,
        _ => Notices::Lines,
    }
}

/// An error with what this process knows about it.
fn explained(
    error: Error,
    source: &SourceText,
    output_shown: bool,
    state: &StateDirectory,
    signals: &Signals,
) -> Failure {
    let mut failure = Failure::from(error).with_source(source.clone());
    failure.output_shown = output_shown;
    failure.signal = signals.received();
    failure.note(state);
    failure
}

/// The build with all that the flags say.
fn configured(
    request: Request,
    loaded: Option<Output>,
    (args, notices): (&BuildArgs, Notices),
    fetcher: Option<&Fetcher<'_>>,
) -> Result<(Build, SourceText), Failure> {
    let mut outputs = outputs(request.outputs.outputs, &args.plan.registry, notices)?;
    outputs.extend(loaded);
    let (mut build, source) = request.input.open(fetcher)?;
    build = build
        .now(now())
        .remotes(remotes(&args.plan, false)?)
        .no_cache(args.no_cache)
        .keep_failed(args.on_error == Some(OnErrorArg::Keep))
        .resolv_conf(resolv_conf())
        .rewrite_timestamps(request.outputs.rewrite_timestamps)
        .keep_incomplete(request.outputs.cache_only || (request.tags.is_empty() && outputs.is_empty()));
    if request.outputs.compression.is_some() || request.outputs.force_compression {
        let compression = request.outputs.compression.unwrap_or_default();
        build = build.compression(compression, request.outputs.force_compression);
    }
    if let Some(jobs) = args.jobs.filter(|jobs| *jobs > 0) {
        build = build.parallelism(jobs);
    }
    if let Some(bytes) = request.shm_size {
        build = build.shm_size(bytes);
    }
    if let Some(bytes) = request.archive_limit {
        build = build.archive_limit(bytes);
    }
    for stage in args.no_cache_filter.iter().filter(|stage| !stage.is_empty()) {
        build = build.no_cache_stage(stage);
    }
    for stage in args.require_cache.iter().flatten() {
        // Without a name it is all of them.
        build = if stage.is_empty() { build.require_cache(true) } else { build.require_cached_stage(stage) };
    }
    for name in request.tags {
        build = build.tag(name);
    }
    for annotation in request.annotations {
        build = build.annotation(annotation);
    }
    for (name, address) in request.hosts {
        build = build.add_host(name, address);
    }
    for limit in request.limits {
        build = build.rlimit(limit);
    }
    build = build.resources(request.resources).drop_capabilities(request.dropped_capabilities);
    for (id, agent) in request.agents {
        build = build.ssh(id, agent);
    }
    for (id, secret) in request.secrets {
        build = build.secret(id, secret);
    }
    for rule in request.enabled_checks {
        build = build.enable_check(rule.name);
    }
    for output in outputs {
        build = build.output(output);
    }
    for file in [request.iidfile, request.metadata_file].into_iter().flatten() {
        build = build.own_file(file);
    }
    Ok((build, source))
}

/// The user's own fetching has the secrets of the build.
fn secrets_of(request: &Request, remotes: Remotes) -> Remotes {
    request.secrets.iter().fold(remotes, |remotes, (id, secret)| remotes.secret(id, secret.clone()))
}

/// Names that no `ARG` took, without those that mean something by themselves.
fn unused_build_args(planned: &PlannedBuild) -> Vec<String> {
    let speaks_for_itself = |name: &str| name == "SOURCE_DATE_EPOCH" || name.starts_with("BUILDKIT_");
    planned.unused_build_args().filter(|name| !speaks_for_itself(name)).map(str::to_owned).collect()
}

/// Adds to each name the `ARG` that was probably meant.
fn with_suggestions(unused: &[String], dockerfile: &str) -> Vec<String> {
    use ocibuild::dockerfile::{Dockerfile, Instruction, nearest};
    let Ok(file) = Dockerfile::parse(dockerfile) else { return unused.to_vec() };
    let instructions =
        file.global_args.iter().chain(file.stages.iter().flat_map(|stage| &stage.instructions));
    let declared: Vec<&str> =
        instructions.flat_map(Instruction::declared).map(|definition| &definition.name[..]).collect();
    let with_suggestion = |name: &String| match nearest(name, declared.iter().copied()) {
        Some(meant) => format!("{name} (did you mean {meant}?)"),
        None => name.clone(),
    };
    unused.iter().map(with_suggestion).collect()
}
