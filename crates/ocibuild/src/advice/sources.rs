//! About images that cannot be had: what registries, archives and state directories say.

use std::error::Error as StdError;

use ocibuild_registry::{CertificateProblem, Fault as RegistryFault, HttpError};
use ocibuild_spec::SourceError;
use ocibuild_store::{ErrorKind as StoreErrorKind, Fault as StoreFault};

use super::{Hint, Setting};

/// What can be done about an image that cannot be had, where its source knows.
pub(crate) fn source(error: &SourceError) -> Vec<Hint> {
    let own = error.hint_text().map(Hint::from);
    own.into_iter().chain(below(error)).collect()
}

/// The same for a request that had no answer.
pub(crate) fn http(error: &HttpError) -> Vec<Hint> {
    error.hint().map(Hint::from).into_iter().chain(error.fault().map(registry)).collect()
}

/// The same for a state directory or an archive.
pub(crate) fn store(error: &ocibuild_store::Error) -> Option<Hint> {
    match (error.fault(), error.hint()) {
        (Some(fault), _) => Some(store_fault(fault)),
        (None, Some(hint)) => Some(hint.into()),
        (None, None) if error.kind() == StoreErrorKind::NoSpace => {
            Some(Hint::from("free space there, for instance with ").setting(Setting::Prune, ""))
        }
        (None, None) => None,
    }
}

/// What the first typed fault below an error calls for.
fn below(error: &SourceError) -> Option<Hint> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(fault) = error.downcast_ref::<RegistryFault>() {
            return Some(registry(fault));
        }
        if let Some(error) = error.downcast_ref::<ocibuild_store::Error>() {
            // A hint of its own is the source's as well.
            return store(error).filter(|_| error.hint().is_none() || error.fault().is_some());
        }
        next = error.source();
    }
    None
}

fn registry(fault: &RegistryFault) -> Hint {
    match fault {
        RegistryFault::Certificate { host, problem: CertificateProblem::SelfSigned } => {
            authority("if this certificate is the server's own, trust it with ", host)
        }
        RegistryFault::Certificate { host, .. } => {
            authority("if this server has a certificate authority of its own, trust that with ", host)
        }
        RegistryFault::ClientCertificate { host } => format!(
            "put the client's certificate as client.cert and client.key into the folder certs.d/{host}"
        )
        .into(),
        RegistryFault::NotTls { host } => Hint::from("if this registry speaks plain HTTP, allow that with ")
            .setting(Setting::InsecureRegistry, host),
        RegistryFault::PlainHttp { registry, .. } => {
            Hint::from("write https://, or allow plain HTTP for this host with ")
                .setting(Setting::InsecureRegistry, registry)
        }
        RegistryFault::HostsMember { member, .. } => {
            Hint::from(format!("remove {member}, or name the host with "))
                .setting(Setting::Mirror, "")
                .text(", for which this file does not count")
        }
        RegistryFault::NoCredentials { registry } => {
            Hint::from("check the image's name; if the image is private, log in with ")
                .setting(Setting::Login, registry)
        }
        RegistryFault::CredentialsRejected { is_login: true, .. } => {
            "check the name of the user and the secret".into()
        }
        RegistryFault::CredentialsRejected { registry, .. } => {
            Hint::from("check the image's name and what this login may do, or log in again with ")
                .setting(Setting::Login, registry)
        }
        RegistryFault::Denied { host, .. } => {
            Hint::from("check the image's name; a private image needs a login: ")
                .setting(Setting::Login, host)
        }
        RegistryFault::TokenRealm { host, credential, origin, .. } => {
            Hint::from(format!("if {host} is the login service of this registry, allow it with "))
                .setting(Setting::TokenRealm, host)
                .text(format!("; the {credential} would go there ({origin})"))
        }
        RegistryFault::CredentialsFile { key: Some(key) } => {
            Hint::from("log in again: ").setting(Setting::Login, key)
        }
        RegistryFault::CredentialsFile { key: None } => {
            Hint::from("correct it, or move it away and log in again with ").setting(Setting::Login, "")
        }
        RegistryFault::CloudIdentity { .. } => {
            Hint::from("check the identity that this machine or job has, or log in with ")
                .setting(Setting::Login, "")
        }
        _ => "check the name of the registry and the network".into(),
    }
}

fn authority(text: &str, host: &str) -> Hint {
    Hint::from(text)
        .setting(Setting::CaCertificate, "FILE")
        .text(format!(", or for a registry as certs.d/{host}/ca.crt"))
}

fn store_fault(fault: &StoreFault) -> Hint {
    match fault {
        StoreFault::OtherOwner { .. } => Hint::from("choose another directory with ")
            .setting(Setting::StateDirectory, "")
            .text(", or `chown` this one"),
        StoreFault::NotAStateDirectory { .. } => Hint::from("choose an empty or a new directory with ")
            .setting(Setting::StateDirectory, "")
            .text("; nothing was changed in this one"),
        StoreFault::NotADirectory { .. } => Hint::from("name a directory with ")
            .setting(Setting::StateDirectory, "")
            .text(" that is empty or does not exist yet"),
        StoreFault::NotEmpty { .. } => "choose another directory for the output".into(),
        StoreFault::DamagedDocument { .. } => Hint::from("remove the tag of this image (")
            .setting(Setting::RemoveImage, "")
            .text("), then try again"),
        StoreFault::NotAnArchive { .. } => Hint::from("an image archive is what ")
            .setting(Setting::Output, "type=oci")
            .text(", `docker save` or `skopeo copy` writes"),
        StoreFault::NotALayout { .. } => Hint::from("an OCI layout is what ")
            .setting(Setting::Output, "type=oci,tar=false")
            .text(" or `skopeo copy … oci:DIR` writes"),
        StoreFault::SeveralPlatforms { .. } => {
            Hint::from("use ").setting(Setting::Output, "type=oci").text(" for several platforms")
        }
        _ => "choose another path".into(),
    }
}

#[cfg(test)]
mod tests {
    use ocibuild_spec::SourceErrorKind;

    use super::*;

    #[test]
    fn what_a_source_found_out_is_told_with_what_the_caller_can_choose() {
        let fault = RegistryFault::NotTls { host: "r.test:5000".to_owned() };
        let error = SourceError::new(SourceErrorKind::Network, "r.test:5000/a: no answer").caused_by(fault);
        let hints = source(&error);
        let written = hints[0].with_settings(|setting, value| format!("<{setting:?} {value}>"));
        assert_eq!(hints.len(), 1);
        assert!(written.ends_with("<InsecureRegistry r.test:5000>"), "{written}");
        // A store's own hint is told once.
        let path = std::path::PathBuf::from("/x");
        let error = SourceError::from(ocibuild_store::Error::from(StoreFault::NotALayout { path }));
        assert_eq!(source(&error).len(), 1);
        assert_eq!(source(&SourceError::new(SourceErrorKind::NotFound, "x")), []);
    }
}
