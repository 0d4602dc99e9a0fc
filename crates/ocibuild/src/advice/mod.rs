//! What can be done about a failure: pure functions from what failed to hints. Nothing here reads a file or decides what
//! a build does, and nothing elsewhere looks into the words of a hint.

mod cache;
mod context;
mod copy;
mod git;
mod hint;
mod index;
mod layer;
mod output;
mod plan;
mod run;
mod sandbox;
mod sources;
mod state;
mod step;
mod transfer;

use crate::failure::Failure;

pub use hint::{Hint, Setting};
pub(crate) use plan::{causes as plan_causes, hints as plan_hints};
pub(crate) use sandbox::{limits as limit_hints, sandbox as sandbox_hints, way_around};
pub(crate) use sources::{source as source_hints, store as store_hint};
pub(crate) use step::fact as of_step_fact;

/// Why it failed, beyond what the failure itself says, and what can be done; of what this library finds out itself.
pub(crate) fn of(failure: &Failure) -> (Vec<String>, Vec<Hint>) {
    match failure {
        Failure::Step(failure) => step::step(failure),
        Failure::Copy(failure) => copy::copy(failure),
        Failure::Run(failure) => run::run(failure),
        Failure::Context(failure) => context::context(failure),
        Failure::Git(failure) => {
            (git::cause(failure).into_iter().collect(), git::hint(failure).into_iter().collect())
        }
        Failure::Output(failure) => (Vec::new(), output::output(failure).into_iter().collect()),
        Failure::State(failure) => (Vec::new(), state::state(failure).into_iter().collect()),
        Failure::Index(failure) => (Vec::new(), index::index(failure)),
        Failure::Transfer(failure) => (Vec::new(), transfer::transfer(failure).into_iter().collect()),
        Failure::ImageLayer(failure) => (Vec::new(), layer::layer(failure).into_iter().collect()),
        Failure::Cache(failure) => (Vec::new(), vec![cache::cache(failure)]),
        Failure::Http(error) => (Vec::new(), sources::http(error)),
        Failure::Check(_) => (
            Vec::new(),
            vec![
                "`error=true` makes findings of build checks errors: change what they name, or skip the rules"
                    .into(),
            ],
        ),
        _ => (Vec::new(), Vec::new()),
    }
}
