use ocibuild_spec::{CancelToken, Reference, SourceError, SourceErrorKind, json};
use serde::Deserialize;

use crate::exchange::{Access, Ask, Place, own_location};
use crate::failure;
use crate::http::{HttpResponse, Method, Url};
use crate::registry::Registry;

/// Most bytes of one page, and most pages of a list.
const MAX_PAGE: u64 = 4 << 20;
const MAX_PAGES: usize = 1000;

#[derive(Deserialize)]
struct TagList {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Catalogue {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

impl Registry {
    /// The tags of a repository, in the registry's order ("Content Discovery").
    pub fn tags(&self, repository: &Reference, cancel: &CancelToken) -> Result<Vec<String>, SourceError> {
        let ask = Ask::new(Method::Get, Place::Below("tags/list?n=1000"), &Access::Pull, &[200]);
        let first = self.ask(repository, &ask, cancel)?;
        self.pages(repository, first, &Access::Pull, cancel, |page: TagList| page.tags.unwrap_or_default())
    }

    /// The repositories of the registry that `reference` names, where it lists them. No part of the specification;
    /// many registries know it.
    pub fn catalogue(&self, reference: &Reference, cancel: &CancelToken) -> Result<Vec<String>, SourceError> {
        let endpoint = self.endpoint(reference)?;
        let first = endpoint
            .base
            .join("/v2/_catalog?n=1000")
            .map_err(|error| SourceError::new(SourceErrorKind::Unsupported, error.to_string()))?;
        let ask = Ask::new(Method::Get, Place::At(&first), &Access::Catalogue, &[200]);
        let first = self.ask(reference, &ask, cancel)?;
        let of_page = |page: Catalogue| page.repositories.unwrap_or_default();
        self.pages(reference, first, &Access::Catalogue, cancel, of_page)
    }

    /// What all pages of a list hold, of which the first is here; every other one is on the same server.
    pub(crate) fn pages<P: for<'a> Deserialize<'a>, T>(
        &self,
        reference: &Reference,
        first: HttpResponse,
        access: &Access,
        cancel: &CancelToken,
        items: impl Fn(P) -> Vec<T>,
    ) -> Result<Vec<T>, SourceError> {
        let (mut found, mut response) = (Vec::new(), first);
        for _ in 0..MAX_PAGES {
            let next = self.next_page(reference, &response)?;
            let url = response.url.clone();
            let bytes =
                response.read_capped(MAX_PAGE).map_err(|error| failure::of_http(reference, &error))?;
            let page = json::from_slice(&bytes).map_err(|error| {
                let text = format!("{}: {url} answered with no list: {error}", reference.familiar());
                SourceError::new(SourceErrorKind::Network, text)
            })?;
            found.extend(items(page));
            let Some(next) = next else { return Ok(found) };
            response =
                self.ask(reference, &Ask::new(Method::Get, Place::At(&next), access, &[200]), cancel)?;
        }
        let text = format!("{}: the list has more than {MAX_PAGES} pages", reference.familiar());
        Err(SourceError::new(SourceErrorKind::Network, text))
    }

    fn next_page(&self, reference: &Reference, response: &HttpResponse) -> Result<Option<Url>, SourceError> {
        let Some(target) = response.headers("link").find_map(next_link) else { return Ok(None) };
        let endpoint = self.endpoint(reference)?;
        own_location(reference, &endpoint, &response.url, target).map(Some)
    }
}

/// The target of `<target>; rel="next"` (RFC 8288).
pub(crate) fn next_link(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').map(str::trim).any(|parameter| {
            parameter.split_once('=').is_some_and(|(key, value)| {
                key.eq_ignore_ascii_case("rel") && value.trim_matches('"') == "next"
            })
        });
        is_next.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_next_pages() {
        assert_eq!(
            next_link("</v2/a/tags/list?last=x&n=2>; rel=\"next\""),
            Some("/v2/a/tags/list?last=x&n=2")
        );
        assert_eq!(next_link("<a>; rel=prev, <b>; title=x; rel=next"), Some("b"));
        for none in ["", "<a>", "<a; rel=next", "a; rel=next", "<a>; rel=\"prev\""] {
            assert_eq!(next_link(none), None, "{none}");
        }
    }
}
