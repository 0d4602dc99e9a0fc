//! `doctor`: what steps can run in here, and what is in the way.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::ExitCode;

use ocibuild::executor::Limit;
use ocibuild::failure::SandboxRefusal;
use ocibuild::sandboxes::{
    DeviceSupport, Outcome as Found, Rung, RungReport, SandboxReport, SnapshotSupport, StepSupport,
};
use ocibuild::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::args::{DoctorArgs, ReportFormat};
use crate::diagnostics::hint_text;
use crate::failure::{Outcome, exit_code};
use crate::state_dir::state_dir;
use crate::table::table;
use crate::terminal::{to_stderr, to_stdout};
use crate::text::printable;

/// What a state directory would be, or why there is none.
type Root = Result<std::path::PathBuf, Error>;

/// Prints what this place can do.
pub(crate) fn doctor(root: Option<&Path>, args: &DoctorArgs) -> Outcome {
    let is_named = root.is_some();
    let root = state_dir(root);
    let root: Root = if is_named { Ok(root?) } else { root };
    let report = SandboxReport::find(root.as_deref().ok());
    let text = match args.format {
        ReportFormat::Text => text(&report, &root),
        ReportFormat::Json => format!("{:#}\n", json(&report, &root)),
    };
    to_stdout(text.as_bytes())?;
    if report.taken().is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    to_stderr("error: no RUN can be executed here\n");
    Ok(ExitCode::from(exit_code(ErrorKind::Host, None)))
}

fn text(report: &SandboxReport, root: &Root) -> String {
    let mut rows = vec![["SANDBOX", "HERE"].map(str::to_owned).to_vec()];
    for rung in &report.rungs {
        let mark = if report.taken() == Some(rung.rung) { "; a build takes it" } else { "" };
        rows.push(vec![rung.rung.to_string(), format!("{}{mark}", printable(&outcome(rung)))]);
    }
    let mut out = table(&rows);
    let mut section = |title: &str, lines: &[String]| {
        // Writing to a string cannot fail.
        let _ = write!(out, "\n{title}:\n");
        for line in lines {
            let _ = writeln!(out, "  {}", printable(line));
        }
    };
    let hints = hints(report);
    if !hints.is_empty() {
        section("What would allow more", &hints);
    }
    if let Some(step) = &report.step {
        section("A step gets", &gets(step));
    }
    section("Root file systems", &file_systems(report, root));
    section("Runtimes", &runtimes(report));
    section("Host", &[format!("Linux {}, user {}", report.kernel, report.user)]);
    out
}

fn outcome(rung: &RungReport) -> String {
    match &rung.outcome {
        Found::Works { users } => format!("works, with {}", ids(users)),
        Found::Refused(refusal) => format!("no: {refusal}"),
        _ => "not supported yet".to_owned(),
    }
}

fn ids(users: &[RangeInclusive<u32>]) -> String {
    let range = |range: &RangeInclusive<u32>| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    match users {
        [one] if one.start() == one.end() => format!("id {}", range(one)),
        ranges => format!("ids {}", ranges.iter().map(range).collect::<Vec<_>>().join(", ")),
    }
}

/// What would make a better kind of sandbox work than the one that is taken, each once. What root would need for namespaces
/// of its own is more than a step needs: it is told only where nothing else is.
fn hints(report: &SandboxReport) -> Vec<String> {
    let better = |rung: &&RungReport| report.taken().is_none_or(|taken| rung.rung < taken);
    let (root, others): (Vec<_>, Vec<_>) =
        report.rungs.iter().filter(better).partition(|rung| rung.rung == Rung::Root);
    let texts = |rungs: &[&RungReport]| {
        let mut texts = Vec::new();
        for hint in rungs.iter().flat_map(|rung| rung.hints()) {
            let text = hint_text(&hint);
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        texts
    };
    match texts(&others) {
        none if none.is_empty() && report.taken().is_none() => texts(&root),
        hints => hints,
    }
}

fn gets(step: &StepSupport) -> Vec<String> {
    let because = |refusal: &SandboxRefusal| format!(" ({refusal})");
    let proc = match &step.no_own_proc {
        None => "a /proc of its own".to_owned(),
        Some(refusal) => format!("the /proc of this process{}", because(refusal)),
    };
    let sys = if step.own_sys {
        "with --network=none, a /sys of its own"
    } else {
        "the /sys of this process, also with --network=none"
    };
    let hostname = if step.own_hostname { "a host name of its own" } else { "the host name of this process" };
    let network = match &step.no_own_network {
        None => "with --network=none, a network of its own".to_owned(),
        Some(refusal) => format!("no network of its own: --network=none fails{}", because(refusal)),
    };
    let private = match (&step.private_network, &step.no_private_network) {
        (Some(program), _) => format!("with --network=private, a way out through {}", program.display()),
        (None, refusal) => {
            let refusal = refusal.as_ref().map(because).unwrap_or_default();
            format!("no private network: --network=private fails{refusal}")
        }
    };
    let devices = match &step.devices {
        DeviceSupport::Inherited => "the devices that this process can open".to_owned(),
        DeviceSupport::Mounts { reason: Some(reason) } => {
            format!("no devices of the host: its mounts have none (no cgroup: {reason})")
        }
        DeviceSupport::Mounts { reason: None } => "no devices of the host: its mounts have none".to_owned(),
        _ => "no devices of the host: a cgroup denies them".to_owned(),
    };
    let mut all = vec![proc, sys.to_owned(), hostname.to_owned(), network, private, devices];
    all.extend(limits(step));
    all
}

/// What can be limited, and for each reason what cannot.
fn limits(step: &StepSupport) -> Vec<String> {
    let names =
        |limits: &[Limit]| limits.iter().map(|limit| limit_name(*limit)).collect::<Vec<_>>().join(", ");
    let had: Vec<Limit> =
        step.limits.iter().filter(|(_, result)| result.is_ok()).map(|(limit, _)| *limit).collect();
    let mut refused: Vec<(String, Vec<Limit>)> = Vec::new();
    for (limit, result) in &step.limits {
        let Err(reason) = result else { continue };
        let reason = reason.to_string();
        match refused.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, limits)) => limits.push(*limit),
            None => refused.push((reason, vec![*limit])),
        }
    }
    let had = (!had.is_empty()).then(|| format!("limits of {}", names(&had)));
    let refused = refused.iter().map(|(reason, limits)| format!("no limits of {} ({reason})", names(limits)));
    had.into_iter().chain(refused).collect()
}

fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Memory => "memory",
        Limit::Processes => "processes",
        Limit::CpuTime => "CPU time",
        Limit::Cpus => "CPUs",
        _ => "more",
    }
}

fn file_systems(report: &SandboxReport, root: &Root) -> Vec<String> {
    match (&report.snapshots, root) {
        (Some(SnapshotSupport::Overlay { path }), _) => {
            vec![format!("overlays (tried in {})", path.display())]
        }
        (Some(SnapshotSupport::OverlayUser { path }), _) => {
            vec![format!("overlays with attributes of users (tried in {})", path.display())]
        }
        (Some(SnapshotSupport::Copy { path, reason }), _) => {
            vec![format!(
                "copies, which take more time and space; no overlays in {}: {reason}",
                path.display()
            )]
        }
        (Some(SnapshotSupport::Unusable { path, reason }), _) => {
            vec![format!("unknown: {} cannot be written: {reason}", path.display()), ROOT_HINT.to_owned()]
        }
        (_, Err(error)) => vec![format!("unknown: {error}"), ROOT_HINT.to_owned()],
        (_, Ok(_)) => vec!["unknown".to_owned()],
    }
}

const ROOT_HINT: &str = "name a state directory that this user can make and write with --root DIR";

fn runtimes(report: &SandboxReport) -> Vec<String> {
    let line = |runtime: &ocibuild::sandboxes::InstalledRuntime| {
        let version = runtime.version.as_deref().unwrap_or("of an unknown version");
        format!("{} {version}", runtime.path.display())
    };
    if report.runtimes.is_empty() {
        return vec!["none".to_owned()];
    }
    report.runtimes.iter().map(line).collect()
}

/// `docs/formats/doctor.md` is the contract.
fn json(report: &SandboxReport, root: &Root) -> Value {
    let (driver, tried_in, reason) = match &report.snapshots {
        Some(SnapshotSupport::Overlay { path }) => (Some("overlay"), Some(path), None),
        Some(SnapshotSupport::OverlayUser { path }) => (Some("overlay-user"), Some(path), None),
        Some(SnapshotSupport::Copy { path, reason }) => (Some("copy"), Some(path), Some(reason.clone())),
        Some(SnapshotSupport::Unusable { path, reason }) => (None, Some(path), Some(reason.clone())),
        _ => (None, None, root.as_ref().err().map(ToString::to_string)),
    };
    json!({
        "kernel": report.kernel,
        "user": report.user,
        "sandbox": report.taken().map(Rung::name),
        "sandboxes": report.rungs.iter().map(rung_object).collect::<Vec<_>>(),
        "snapshots": {
            "driver": driver,
            "tried_in": tried_in.map(|path| path.to_string_lossy()),
            "reason": reason,
        },
        "step": report.step.as_ref().map(step_object),
        "runtimes": report.runtimes.iter().map(|runtime| json!({
            "path": runtime.path.to_string_lossy(), "version": runtime.version,
        })).collect::<Vec<_>>(),
    })
}

fn rung_object(rung: &RungReport) -> Value {
    let (state, users, reason) = match &rung.outcome {
        Found::Works { users } => {
            let users: Vec<_> = users.iter().map(|range| [range.start(), range.end()]).collect();
            ("works", Some(users), None)
        }
        Found::Refused(refusal) => ("refused", None, Some(reason_object(refusal))),
        _ => ("unsupported", None, None),
    };
    let hints: Vec<String> = rung.hints().iter().map(hint_text).collect();
    json!({ "name": rung.rung.name(), "state": state, "users": users, "reason": reason, "hints": hints })
}

fn reason_object(refusal: &SandboxRefusal) -> Value {
    let mut object = json!({
        "code": refusal.code(), "message": refusal.to_string(), "operation": null, "errno": null, "obstacles": [],
    });
    if let SandboxRefusal::Kernel { operation, errno, obstacles } = refusal {
        object["operation"] = operation.as_str().into();
        object["errno"] = (*errno).into();
        object["obstacles"] = obstacles.iter().map(|obstacle| Value::from(obstacle.to_string())).collect();
    }
    object
}

fn step_object(step: &StepSupport) -> Value {
    let (devices, reason) = match &step.devices {
        DeviceSupport::Mounts { reason } => ("mounts", reason.as_deref()),
        DeviceSupport::Inherited => ("inherited", None),
        _ => ("cgroup", None),
    };
    json!({
        "own_proc": step.no_own_proc.is_none(),
        "no_own_proc": step.no_own_proc.as_ref().map(reason_object),
        "own_sys": step.own_sys,
        "own_hostname": step.own_hostname,
        "own_network": step.no_own_network.is_none(),
        "no_own_network": step.no_own_network.as_ref().map(reason_object),
        "private_network": step.private_network.as_ref().map(|program| program.to_string_lossy()),
        "no_private_network": step.no_private_network.as_ref().map(reason_object),
        "devices": devices,
        "no_cgroup": reason,
        "limits": step.limits.iter().map(|(limit, result)| json!({
            "of": limit_name(*limit),
            "reason": result.as_ref().err().map(ToString::to_string),
        })).collect::<Vec<_>>(),
    })
}
