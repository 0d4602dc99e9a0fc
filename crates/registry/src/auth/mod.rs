//! What is sent to a registry so that it answers: tokens and passwords, and who may have them.

mod challenge;
mod clock;
mod need;
mod realm;
mod service;
mod token;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use ocibuild_spec::{CancelToken, SourceError, SourceErrorKind};

use crate::credentials::{Credential, Credentials, FoundCredential, Secret, encode};
use crate::endpoint::Endpoint;
use crate::failure;
use crate::fault::Fault;
use crate::http::{HttpClient, HttpResponse};
use crate::retry::{Retry, RetryWatcher};

use challenge::Challenge;
pub(crate) use clock::Clock;
pub(crate) use need::Need;
pub(crate) use realm::Realms;
use service::Service;

/// What the fuzz targets read.
#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    use std::collections::BTreeMap;
    use std::time::Duration;

    /// Schemes and parameters of the challenges in a `WWW-Authenticate` header.
    pub fn challenges(header: &str) -> Vec<(String, BTreeMap<String, String>)> {
        let found = super::challenge::parse_challenges(header);
        found.into_iter().map(|challenge| (challenge.scheme, challenge.parameters)).collect()
    }

    /// The token in a service's answer, and how long it is good for.
    pub fn token(answer: &[u8]) -> Option<(String, Duration)> {
        let token = super::token::Token::parse(answer)?;
        Some((token.text.expose().to_owned(), token.life))
    }
}

/// Longest wait between two looks at the cancel token.
const SLICE: Duration = Duration::from_millis(10);

/// Credentials and tokens by what they are needed for. Each is looked up when a registry first asks for it, by one
/// thread while others wait, and again when four fifths of its life are over.
#[derive(Debug)]
pub(crate) struct Auth {
    credentials: Credentials,
    realms: Realms,
    clock: Clock,
    slots: Mutex<BTreeMap<Need, Arc<Mutex<Slot>>>>,
}

/// What is known for one need.
#[derive(Debug, Default)]
struct Slot {
    held: Option<Held>,
    grant: Option<Grant>,
}

/// Credentials that were looked up, be there some or none.
#[derive(Debug, Clone)]
struct Held {
    found: Option<FoundCredential>,
    renew_at: Option<Instant>,
}

/// What the registry takes.
#[derive(Debug, Clone)]
struct Grant {
    header: Secret,
    /// What it was asked for with, and is again.
    challenge: Challenge,
    obtained: Instant,
    renew_at: Option<Instant>,
}

/// The registry that asks, and how it and its token service are spoken to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Via<'a> {
    pub(crate) client: &'a HttpClient,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) retry: Retry,
    pub(crate) watcher: &'a RetryWatcher,
    /// What it is about, for errors: the image.
    pub(crate) subject: &'a str,
    pub(crate) cancel: &'a CancelToken,
}

impl Via<'_> {
    fn denied(&self, why: impl std::fmt::Display) -> SourceError {
        SourceError::new(SourceErrorKind::Denied, format!("{}: {}: {why}", self.subject, self.endpoint.base))
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

impl Auth {
    pub(crate) fn new(credentials: Credentials, realms: Realms, clock: Clock) -> Self {
        Self { credentials, realms, clock, slots: Mutex::default() }
    }

    /// The `authorization` header for a request, if the registry was found to want one.
    pub(crate) fn header(&self, need: &Need, via: Via<'_>) -> Result<Option<String>, SourceError> {
        let slot = self.slot(need);
        let mut slot = lock(&slot, via)?;
        if let Some(challenge) = slot
            .grant
            .as_ref()
            .filter(|grant| self.clock.is_over(grant.renew_at))
            .map(|grant| &grant.challenge)
        {
            let challenge = challenge.clone();
            slot.grant = Some(self.obtain(need, via, &mut slot, &challenge)?);
        }
        Ok(slot.grant.as_ref().map(|grant| grant.header.expose().to_owned()))
    }

    /// Gets what a refusal asks for. When another thread got it since the refused request was sent, that has to do.
    pub(crate) fn answer(&self, need: &Need, via: Via<'_>, refusal: HttpResponse) -> Result<(), SourceError> {
        let slot = self.slot(need);
        let mut slot = lock(&slot, via)?;
        let is_refused = slot.grant.as_ref().is_none_or(|grant| grant.obtained <= refusal.asked());
        if !is_refused {
            return Ok(());
        }
        if slot.grant.take().is_some_and(|grant| grant.challenge.scheme == "basic") {
            // What was a password may have been replaced by another one meanwhile.
            slot.held = None;
        }
        let challenge = choose(via, Challenge::all(&refusal))?;
        let obtained = self.obtain(need, via, &mut slot, &challenge);
        // Nobody but the registry said anything yet.
        let is_alone = challenge.scheme == "basic";
        slot.grant =
            Some(obtained.map_err(|error| if is_alone { failure::in_words(error, refusal) } else { error })?);
        Ok(())
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.credentials.warnings()
    }

    /// What a user should know about a request that was refused for good.
    pub(crate) fn fault(&self, need: &Need) -> Fault {
        let slot = self.slot(need);
        let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        fault(need, slot.held.as_ref().and_then(|held| held.found.as_ref()))
    }

    fn slot(&self, need: &Need) -> Arc<Mutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(need.clone()).or_default())
    }

    /// The credentials for a need, looked up unless they are still good.
    fn held(&self, need: &Need, via: Via<'_>, slot: &mut Slot) -> Result<Held, SourceError> {
        if let Some(held) = slot.held.as_ref().filter(|held| !self.clock.is_over(held.renew_at)) {
            return Ok(held.clone());
        }
        let found = self.credentials.find(need.wanted(), via.cancel)?;
        let held = Held { renew_at: self.clock.renewal(found.as_ref().and_then(|found| found.life)), found };
        slot.held = Some(held.clone());
        Ok(held)
    }

    fn obtain(
        &self,
        need: &Need,
        via: Via<'_>,
        slot: &mut Slot,
        challenge: &Challenge,
    ) -> Result<Grant, SourceError> {
        let was_held = slot.held.is_some();
        match self.obtain_with(need, via, &self.held(need, via, slot)?, challenge) {
            // Somebody may have logged in again since it was looked up.
            Err(error) if was_held && error.kind() == SourceErrorKind::Denied => {
                slot.held = None;
                self.obtain_with(need, via, &self.held(need, via, slot)?, challenge)
            }
            other => other,
        }
    }

    fn obtain_with(
        &self,
        need: &Need,
        via: Via<'_>,
        held: &Held,
        challenge: &Challenge,
    ) -> Result<Grant, SourceError> {
        let found = held.found.as_ref();
        let grant = |header: String, renew_at| Grant {
            header: Secret::new(header),
            challenge: challenge.clone(),
            obtained: Instant::now(),
            renew_at: earlier(renew_at, held.renew_at),
        };
        let is_basic = challenge.scheme == "basic";
        match found.map(|found| (&found.credential, &found.origin)) {
            // The header goes to the registry's own origin, which is spoken to in the clear only when it is on this
            // machine or the user named it insecure (`Endpoints`).
            Some((Credential::Password { username, password }, _)) if is_basic => {
                Ok(grant(format!("Basic {}", encode(username, password.expose())), None))
            }
            Some((credential, origin)) if is_basic => Err(via
                .denied(format_args!(
                    "the registry wants a password, and there is an {credential} ({origin})"
                ))
                .caused_by(fault(need, found))),
            None if is_basic => Err(via.denied("the registry asks for a login").caused_by(fault(need, None))),
            Some((Credential::RegistryToken(token), _)) => {
                Ok(grant(format!("Bearer {}", token.expose()), None))
            }
            _ => {
                let service = Service::new(&self.realms, need, via, challenge, found)?;
                let token = service.token()?;
                Ok(grant(format!("Bearer {}", token.text.expose()), self.clock.renewal(Some(token.life))))
            }
        }
    }
}

/// The challenge to answer: that which needs no password at the registry itself, when there is a choice.
fn choose(via: Via<'_>, challenges: Vec<Challenge>) -> Result<Challenge, SourceError> {
    let names: Vec<String> = challenges.iter().map(|challenge| format!("{:?}", challenge.scheme)).collect();
    let mut known: Vec<Challenge> = challenges
        .into_iter()
        .filter(|challenge| matches!(&challenge.scheme[..], "bearer" | "basic"))
        .collect();
    known.sort_by_key(|challenge| challenge.scheme != "bearer");
    known.into_iter().next().ok_or_else(|| {
        if names.is_empty() {
            return via.denied("the registry refuses without saying how to log in");
        }
        via.denied(format_args!(
            "the registry wants a login of the kind {}, and known are basic and bearer",
            names.join(", ")
        ))
    })
}

/// Which credentials were sent, or that there are none.
fn fault(need: &Need, found: Option<&FoundCredential>) -> Fault {
    let registry = need.registry.clone();
    match found {
        Some(FoundCredential { credential, origin, .. }) => Fault::CredentialsRejected {
            registry,
            credential: credential.to_string(),
            origin: origin.clone(),
            is_login: need.is_login(),
        },
        None => Fault::NoCredentials { registry },
    }
}

/// Waits for whoever is getting the same.
fn lock<'a>(slot: &'a Mutex<Slot>, via: Via<'_>) -> Result<MutexGuard<'a, Slot>, SourceError> {
    loop {
        match slot.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(error)) => return Ok(error.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
        if via.cancel.wait_timeout(SLICE) {
            let text = format!("{}: cancelled", via.subject);
            return Err(SourceError::new(SourceErrorKind::Cancelled, text));
        }
    }
}
