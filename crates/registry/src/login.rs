use ocibuild_spec::{CancelToken, SourceError, SourceErrorKind};

use crate::auth::Need;
use crate::credentials::RegistryKey;
use crate::failure;
use crate::fault::Fault;
use crate::http::{HttpError, HttpResponse, Method};
use crate::registry::Registry;

/// What a registry says to the credentials that this client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginCheck {
    /// It takes them.
    Accepted,
    /// It asks nobody for credentials, so that nobody knows whether they are right.
    NotAsked,
}

impl Registry {
    /// Asks a registry whether it takes the credentials that there are for it, without asking it for anything else.
    pub fn check_login(&self, key: &RegistryKey, cancel: &CancelToken) -> Result<LoginCheck, SourceError> {
        let subject = key.to_string();
        let endpoint = self.endpoint_of(key.host(), &subject)?;
        let need = Need::login(key.host(), key.path());
        let via = self.via(&endpoint, &subject, cancel);
        let url = endpoint
            .base
            .join("/v2/")
            .map_err(|error| SourceError::new(SourceErrorKind::Unsupported, format!("{subject}: {error}")))?;
        let mut outcome = LoginCheck::NotAsked;
        loop {
            let mut request = endpoint.request(Method::Get, url.clone());
            request.headers.extend(self.auth().header(&need, via)?.map(|value| ("authorization", value)));
            let answer = self
                .retry()
                .send(&subject, self.watcher(), cancel, || self.client().follow(&request, cancel))?;
            let response = answer.map_err(|error| unanswered(&subject, &error))?;
            let is_own = response.url.is_same_origin(&endpoint.base);
            match response.status {
                200 => return Ok(outcome),
                401 if outcome == LoginCheck::NotAsked && is_own => {
                    self.auth().answer(&need, via, response)?;
                    outcome = LoginCheck::Accepted;
                }
                _ => return Err(refused(self.auth().fault(&need), &subject, response)),
            }
        }
    }
}

fn unanswered(subject: &str, error: &HttpError) -> SourceError {
    let failed = failure::of_http_about(subject, error);
    if failed.hint_text().is_some() || error.fault().is_some() {
        return failed;
    }
    failed.hint("check the name of the registry and the network")
}

fn refused(fault: Fault, subject: &str, response: HttpResponse) -> SourceError {
    let status = response.status;
    let error = failure::of_status_about(subject, response);
    if matches!(status, 401 | 403) { error.caused_by(fault) } else { error }
}
