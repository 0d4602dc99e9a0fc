//! Identities that clouds give to the machines and jobs they run, as credentials for their registries.
//!
//! Each provider is asked only about registries of its own, found by whole labels of the host's name. Where there is
//! no identity there are no credentials; one that is configured and does not work is an error.

mod aws;
mod azure;
mod google;
mod services;

pub use aws::{AwsEndpoints, AwsIdentity};
pub use azure::{AzureEndpoints, AzureIdentity};
pub use google::{GoogleEndpoints, GoogleIdentity};
pub use services::CloudServices;

/// Variables of the environment, which whoever embeds this hands over.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;
