//! One file for each verb, or for those that belong together.

mod auth;
mod build;
mod call;
mod check;
mod context;
mod deploy;
mod engine;
mod history;
mod images;
mod inspect;
mod login;
mod outline;
mod plan;
mod protocols;
mod resolve;
mod results;
mod run;
mod save;
mod space;
mod transfer;

pub(crate) use auth::explain;
pub(crate) use build::build;
pub(crate) use check::{finding_object, summary};
pub(crate) use context::context_ls;
pub(crate) use deploy::deploy_manifest;
pub(crate) use history::history;
pub(crate) use images::{images, rmi, tag};
pub(crate) use inspect::inspect;
pub(crate) use login::{login, logout};
pub(crate) use plan::plan;
pub(crate) use protocols::{ast, expand, ignore};
pub(crate) use resolve::registry_resolve;
pub(crate) use run::run;
pub(crate) use save::{load, save};
pub(crate) use space::{du, prune};
pub(crate) use transfer::{pull, push};
