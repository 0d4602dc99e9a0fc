use ocibuild_spec::{CancelToken, SourceError, SourceErrorKind};

use crate::auth::Need;
use crate::credentials::RegistryKey;
use crate::failure;
use crate::http::{HttpError, HttpResponse, Method};
use crate::registry::Registry;
use crate::retry::Retry;

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
        let mut attempt = 0;
        loop {
            let mut request = endpoint.request(Method::Get, url.clone());
            request.headers.extend(self.auth().header(&need, via)?.map(|value| ("authorization", value)));
            let is_last = attempt + 1 >= self.retry().attempts;
            let retry_after = match self.client().follow(&request, cancel) {
                Ok(response) if response.status == 200 => return Ok(outcome),
                Ok(response)
                    if response.status == 401
                        && outcome == LoginCheck::NotAsked
                        && response.url.is_same_origin(&endpoint.base) =>
                {
                    self.auth().answer(&need, via, response)?;
                    outcome = LoginCheck::Accepted;
                    continue;
                }
                Ok(response) if Retry::helps(response.status) && !is_last => {
                    response.header("retry-after").map(str::to_owned)
                }
                Ok(response) => return Err(refused(self.auth().advice(&need), &subject, response)),
                Err(error) if error.is_transient() && !is_last => None,
                Err(error) => return Err(unanswered(&subject, &error)),
            };
            attempt += 1;
            self.retry().pause(attempt, retry_after.as_deref(), &subject, cancel)?;
        }
    }
}

fn unanswered(subject: &str, error: &HttpError) -> SourceError {
    let failed = failure::of_http_about(subject, error);
    if failed.hint_text().is_some() {
        return failed;
    }
    failed.hint("check the name of the registry and the network")
}

fn refused(advice: String, subject: &str, response: HttpResponse) -> SourceError {
    let status = response.status;
    let error = failure::of_status_about(subject, response);
    if matches!(status, 401 | 403) { error.hint(advice) } else { error }
}
