//! Looking for an image at its places, one after the other.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use ocibuild_spec::{Reference, SourceError, SourceErrorKind};

use crate::registry::Registry;
use crate::routes::Route;

/// Tries of a request where there is another place to ask.
pub(crate) const ATTEMPTS: u32 = 2;

/// A place, and how often it is asked when it does not answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visit<'a> {
    pub(crate) route: &'a Route,
    pub(crate) attempts: u32,
}

/// Places that did not have what was wanted, which are asked last from then on: a server that does not answer for all,
/// one that answers with something else for one repository.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    places: Mutex<BTreeSet<(String, Option<String>)>>,
}

impl Failures {
    pub(crate) fn note(&self, route: &Route, kind: SourceErrorKind) {
        let repository = (kind != SourceErrorKind::Network).then(|| route.reference.repository().to_owned());
        let place = (route.reference.registry().to_owned(), repository);
        self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(place);
    }

    /// The others first, and each group in its order.
    fn sort(&self, routes: &mut [Route]) {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        routes.sort_by_cached_key(|route| {
            let registry = route.reference.registry().to_owned();
            let repository = Some(route.reference.repository().to_owned());
            places.contains(&(registry.clone(), None)) || places.contains(&(registry, repository))
        });
    }
}

/// Whether another place may have what this one did not give.
fn goes_on(kind: SourceErrorKind) -> bool {
    matches!(
        kind,
        SourceErrorKind::NotFound
            | SourceErrorKind::Denied
            | SourceErrorKind::Network
            | SourceErrorKind::Corrupt
            | SourceErrorKind::Unsupported
    )
}

impl Registry {
    /// Where an image is looked for, in order. Nothing is asked for that.
    pub fn routes(&self, reference: &Reference) -> Result<Vec<Route>, SourceError> {
        self.places().of(reference)
    }

    /// Looks for something of an image at its places until one has it.
    pub(crate) fn look_up<T>(
        &self,
        reference: &Reference,
        may: impl Fn(&Route) -> bool,
        mut look: impl FnMut(Visit<'_>) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let mut routes = self.routes(reference)?;
        routes.retain(may);
        self.failures().sort(&mut routes);
        let mut failed: Vec<(&Route, SourceError)> = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            let is_last = at + 1 == routes.len();
            let all = self.retry().attempts;
            let attempts = if is_last { all } else { ATTEMPTS.min(all) };
            match look(Visit { route, attempts }) {
                Ok(found) => return Ok(found),
                Err(error) => {
                    let kind = error.kind();
                    failed.push((route, error));
                    if !goes_on(kind) {
                        break;
                    }
                    self.failures().note(route, kind);
                }
            }
        }
        Err(all_failed(reference, failed))
    }
}

/// What every place said, as the last one did.
fn all_failed(reference: &Reference, mut failed: Vec<(&Route, SourceError)>) -> SourceError {
    let Some((last, error)) = failed.pop() else {
        let text = format!(
            "{}: no place may be asked for it: what registries.conf or hosts.toml allows them leaves it out",
            reference.familiar()
        );
        return SourceError::new(SourceErrorKind::Configuration, text);
    };
    if failed.is_empty() {
        return error;
    }
    let places = failed.len() + 1;
    let said = |route: &Route, error: &SourceError| format!("{error} ({})", route.origin);
    let mut all: Vec<String> = failed.iter().map(|(route, error)| said(route, error)).collect();
    all.push(said(last, &error));
    let text = format!("{}: {places} places were asked; {}", reference.familiar(), all.join("; "));
    error.reworded(text)
}
