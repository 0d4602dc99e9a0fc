//! A plan as text for people and as JSON for programs.

use std::fmt::{self, Write};

use serde_json::{Value, json};

use super::golang::printable;
use super::{ImageOrigin, Plan, PlannedImage, PlannedStage, PlannedStep, StageBase, StepKind};

/// The plan as lines of text, with places in `file_name`. Control characters are shown as escapes.
pub fn render_text(plan: &Plan, file_name: &str) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_plan(&mut text, plan, &printable(file_name));
    text
}

fn write_plan(out: &mut String, plan: &Plan, file: &str) -> fmt::Result {
    writeln!(out, "platform {}", plan.platform)?;
    if let Some(seconds) = plan.source_date_epoch {
        writeln!(out, "epoch {seconds}")?;
    }
    if !plan.unused_build_args.is_empty() {
        writeln!(out, "unused build args {}", printable(&plan.unused_build_args.join(" ")))?;
    }
    for (index, image) in plan.images.iter().enumerate() {
        write_image(out, index, image)?;
    }
    for (index, stage) in plan.stages.iter().enumerate() {
        let target = if index == plan.target { ", the target" } else { "" };
        let platform =
            if stage.platform == plan.platform { String::new() } else { format!(", for {}", stage.platform) };
        let base = base_text(&stage.base);
        writeln!(out, "\nstage {index} {:?} on {base}{platform}{target}", stage.display_name())?;
        write_stage(out, stage, file)?;
    }
    Ok(())
}

fn write_image(out: &mut String, index: usize, image: &PlannedImage) -> fmt::Result {
    let digest = &image.image.descriptor.digest;
    write!(out, "image {index}: {} {} {digest}", image.reference, image.platform)?;
    if let ImageOrigin::NamedContext(name) = &image.origin {
        write!(out, " from context {}", printable(name))?;
    }
    writeln!(out)
}

fn base_text(base: &StageBase) -> String {
    match base {
        StageBase::Scratch => "scratch".to_owned(),
        StageBase::Stage(index) => format!("stage {index}"),
        StageBase::Image(index) => format!("image {index}"),
        StageBase::LocalContext(name) => format!("context {}", printable(name)),
    }
}

fn write_stage(out: &mut String, stage: &PlannedStage, file: &str) -> fmt::Result {
    if let Some(location) = stage.location {
        writeln!(out, "  {file}:{} {}", location.start_line, printable(stage.text.trim()))?;
    }
    for (number, step) in stage.steps.iter().enumerate() {
        writeln!(out, "  step {number} {file}:{} {}", step.location.start_line, printable(&step.text))?;
        write_details(out, step)?;
    }
    for entry in &stage.history {
        let layer = entry.step.map_or_else(|| "-".to_owned(), |step| step.to_string());
        writeln!(out, "  history {layer} {}", printable(&entry.created_by))?;
    }
    let config = json_or_null(&stage.config.config);
    for (name, value) in config.as_object().into_iter().flatten() {
        writeln!(out, "  config {name} {}", printable(&value.to_string()))?;
    }
    Ok(())
}

/// Everything about a step that is not at its default.
fn write_details(out: &mut String, step: &PlannedStep) -> fmt::Result {
    for (name, value) in step_json(&step.kind).as_object().into_iter().flatten() {
        let values = match (name.as_str(), value) {
            ("network", Value::String(mode)) if mode == "default" => continue,
            ("mounts" | "env" | "proxy_env", Value::Array(list)) => list.as_slice(),
            _ => std::slice::from_ref(value),
        };
        for value in values.iter().map(without_defaults).filter(|value| !is_default(value)) {
            writeln!(out, "    {name} {}", printable(&detail(&value)))?;
        }
    }
    Ok(())
}

/// A variable as `NAME=value`, anything else as JSON.
fn detail(value: &Value) -> String {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(name), Value::String(value)]) => format!("{name}={value}"),
        _ => value.to_string(),
    }
}

fn without_defaults(value: &Value) -> Value {
    let Value::Object(members) = value else { return value.clone() };
    members
        .iter()
        .filter(|(_, value)| !is_default(value))
        .map(|(name, value)| (name, value.clone()))
        .collect()
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// The plan as JSON.
///
/// `{"v": 1, "platform", "epoch", "unused_build_args", "target", "images": [{"name", "reference", "platform",
/// "context", "digest"}], "stages": [{"index", "name", "platform", "base", "line", "text", "steps": [{"kind", "line",
/// "text", "step"}], "history": [{"created_by", "step"}], "config"}]}`. `target` and the numbers in `base` and in a step's
/// sources are places in the lists; `base` and sources are a word (`"scratch"`, `"context"`, `"empty"`) or an object with
/// one member (`{"image": 0}`, `{"stage": 1}`, `{"local-context": "name"}`). `kind` is `run`, `copy`, `add` or `workdir`.
/// `v` changes when a member changes its meaning or goes; new ones may come at any time.
pub fn to_json(plan: &Plan) -> Value {
    json!({
        "v": 1,
        "platform": plan.platform.to_string(),
        "epoch": plan.source_date_epoch,
        "unused_build_args": plan.unused_build_args,
        "target": plan.target,
        "images": plan.images.iter().map(image_json).collect::<Vec<_>>(),
        "stages": plan.stages.iter().map(stage_json).collect::<Vec<_>>(),
    })
}

/// The plans of several platforms as JSON: `{"v": 1, "platforms": [PLAN, …]}`, each as [`to_json`] has it.
pub fn all_to_json(plans: &[Plan]) -> Value {
    json!({ "v": 1, "platforms": plans.iter().map(to_json).collect::<Vec<_>>() })
}

fn image_json(image: &PlannedImage) -> Value {
    let context = match &image.origin {
        ImageOrigin::Default => None,
        ImageOrigin::NamedContext(name) => Some(name),
    };
    json!({
        "name": image.name,
        "reference": image.reference.to_string(),
        "platform": image.platform.to_string(),
        "context": context,
        "digest": image.image.descriptor.digest.to_string(),
    })
}

fn stage_json(stage: &PlannedStage) -> Value {
    let base = match &stage.base {
        StageBase::Scratch => json!("scratch"),
        StageBase::Stage(index) => json!({ "stage": index }),
        StageBase::Image(index) => json!({ "image": index }),
        StageBase::LocalContext(name) => json!({ "local-context": name }),
    };
    let history: Vec<Value> = stage
        .history
        .iter()
        .map(|entry| json!({ "created_by": entry.created_by, "step": entry.step }))
        .collect();
    json!({
        "index": stage.index,
        "name": stage.name,
        "platform": stage.platform.to_string(),
        "base": base,
        "line": stage.location.map(|location| location.start_line),
        "text": stage.text,
        "steps": stage.steps.iter().map(planned_step_json).collect::<Vec<_>>(),
        "history": history,
        "config": json_or_null(&stage.config),
    })
}

fn planned_step_json(step: &PlannedStep) -> Value {
    let kind = match &step.kind {
        StepKind::Run(_) => "run",
        StepKind::Copy(copy) if copy.add => "add",
        StepKind::Copy(_) => "copy",
        StepKind::Workdir(_) => "workdir",
    };
    json!({
        "kind": kind,
        "line": step.location.start_line,
        "text": step.text,
        "step": step_json(&step.kind),
    })
}

fn step_json(kind: &StepKind) -> Value {
    match kind {
        StepKind::Run(step) => json_or_null(step),
        StepKind::Copy(step) => json_or_null(step),
        StepKind::Workdir(step) => json_or_null(step),
    }
}

/// None of the plan's types can fail to be written: their maps have strings as keys.
fn json_or_null(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
