//! Names that begin in some way, and where they are looked for instead.

use std::str::FromStr;

use ocibuild_spec::{Reference, SourceError, SourceErrorKind};

use super::Origin;

/// The start of names: `host[:port][/path]`, where `*.` in front stands for any labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix(String);

/// Where names that begin with the prefix lead.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) prefix: Prefix,
    /// Tried one after the other.
    pub(super) mirrors: Vec<Mirror>,
    /// Tried after them.
    pub(super) rest: Rest,
    /// Nothing may be had from there.
    pub(super) is_blocked: bool,
    /// What the prefix and the location stand for need not speak TLS, or have a certificate that means something.
    pub(super) is_insecure: bool,
    pub(super) origin: Origin,
}

/// Who is asked after the mirrors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rest {
    /// Whom the name names.
    Itself,
    /// Another place.
    Location(Location),
    /// Nobody.
    Nobody,
}

#[derive(Debug, Clone)]
pub(super) struct Mirror {
    pub(super) location: Location,
    pub(super) is_insecure: bool,
    /// It may say what tags stand for, and give what is asked for by digest.
    pub(super) for_tags: bool,
    pub(super) for_digests: bool,
    pub(super) origin: Origin,
}

/// `host[:port][/path]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location(String);

impl Prefix {
    /// How much of a name (`registry/repository`) the prefix is, if the name begins with it.
    pub(super) fn matched(&self, name: &str) -> Option<usize> {
        let Some(domain) = self.0.strip_prefix('*') else {
            let rest = name.strip_prefix(&self.0)?;
            return (rest.is_empty() || rest.starts_with('/')).then_some(self.0.len());
        };
        let (host, path) = name.split_once('/').unwrap_or((name, ""));
        let (domain, wanted) = domain.split_once('/').unwrap_or((domain, ""));
        let is_below = host.len() > domain.len() && host.ends_with(domain);
        if !is_below {
            return None;
        }
        if wanted.is_empty() {
            return Some(host.len());
        }
        let rest = path.strip_prefix(wanted)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(host.len() + 1 + wanted.len())
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim_end_matches('/');
        place(text.strip_prefix("*.").unwrap_or(text))?;
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim_end_matches('/');
        place(text)?;
        Ok(Self(text.to_owned()))
    }
}

/// Checks `host[:port][/path]`.
fn place(text: &str) -> Result<(), String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let instead = if scheme == "http" {
            "; a registry that does not speak TLS has to be named insecure"
        } else {
            ""
        };
        return Err(format!("{text:?} has a scheme; write {rest}{instead}"));
    }
    let (host, path) = text.split_once('/').unwrap_or((text, "x"));
    if path.contains([':', '@']) {
        return Err(format!(
            "{text:?} has a tag or a digest; names of repositories and what begins them count"
        ));
    }
    // The rules about names are those of references.
    let sample: Reference = "localhost/x".parse().expect("a name that is well-formed");
    sample.at(host, path).map(drop).map_err(|_| format!("{text:?} is not host[:port][/path]"))
}

impl Location {
    /// The image there whose name goes on with `rest`, which is empty or begins with a slash.
    fn image(&self, reference: &Reference, rest: &str) -> Result<Reference, SourceError> {
        let name = format!("{}{rest}", self.0);
        let unusable = |reason: &str| {
            let text = format!("{} would be looked for as {name:?}: {reason}", reference.familiar());
            SourceError::new(SourceErrorKind::Configuration, text)
        };
        let (host, repository) =
            name.split_once('/').ok_or_else(|| unusable("a host without a repository"))?;
        reference.at(host, repository).map_err(|_| unusable("that is not the name of an image"))
    }

    /// The place as prefixes see it.
    pub(super) fn name(&self) -> &str {
        &self.0
    }
}

impl Rule {
    /// Whether it says where to look, and not only how.
    pub(super) fn leads_elsewhere(&self) -> bool {
        !self.mirrors.is_empty() || self.rest != Rest::Itself
    }

    /// Where a name leads, in order.
    pub(super) fn places(&self, reference: &Reference) -> Result<Vec<Place>, SourceError> {
        let name = name_of(reference);
        let matched = self.prefix.matched(&name).expect("a rule is asked about names that it is for");
        let rest = &name[matched..];
        let mut places = Vec::new();
        for mirror in &self.mirrors {
            places.push(Place {
                image: Some(mirror.location.image(reference, rest)?),
                is_insecure: mirror.is_insecure,
                for_tags: mirror.for_tags,
                for_digests: mirror.for_digests,
                origin: mirror.origin.clone(),
            });
        }
        let (image, origin) = match &self.rest {
            Rest::Nobody => return Ok(places),
            Rest::Itself => (None, Origin::Itself),
            Rest::Location(location) => (Some(location.image(reference, rest)?), self.origin.clone()),
        };
        places.push(Place {
            image,
            is_insecure: self.is_insecure,
            for_tags: true,
            for_digests: true,
            origin,
        });
        Ok(places)
    }
}

/// Where a name leads.
#[derive(Debug)]
pub(super) struct Place {
    /// The image there; `None` for the one that the name names.
    pub(super) image: Option<Reference>,
    pub(super) is_insecure: bool,
    pub(super) for_tags: bool,
    pub(super) for_digests: bool,
    pub(super) origin: Origin,
}

/// `registry/repository`
pub(super) fn name_of(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

/// The rule about a name: the one with the longest prefix.
pub(super) fn longest<'r>(rules: &'r [Rule], name: &str) -> Option<&'r Rule> {
    let about = rules.iter().filter(|rule| rule.prefix.matched(name).is_some());
    // The first of equally long ones.
    about.rev().max_by_key(|rule| rule.prefix.0.len())
}

/// A mirror named on the command line: `[HOST[/PATH]=]MIRROR[/PATH][,exclusive]`, for `docker.io` where no host is
/// named.
///
/// ```
/// use ocibuild_registry::MirrorRule;
///
/// for text in ["docker.io=mirror.example.com/proxy", "mirror.gcr.io", "ghcr.io/team=10.0.0.5:5000,exclusive"] {
///     text.parse::<MirrorRule>()?;
/// }
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone)]
pub struct MirrorRule {
    text: String,
    prefix: Prefix,
    location: Location,
    is_exclusive: bool,
}

impl FromStr for MirrorRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (value, is_exclusive) = match text.split_once(',') {
            None => (text, false),
            Some((value, "exclusive")) => (value, true),
            Some((_, other)) => {
                return Err(format!("{other:?} is not an attribute of a mirror; exclusive is one"));
            }
        };
        let (prefix, location) = value.split_once('=').unwrap_or(("docker.io", value));
        let location = location.strip_prefix("https://").unwrap_or(location);
        let text = text.to_owned();
        Ok(Self { text, prefix: prefix.parse()?, location: location.parse()?, is_exclusive })
    }
}

/// The rules that mirrors make, in the order in which they were named. One exclusive mirror is enough for the registry
/// itself not to be asked.
pub(super) fn rules_of(flags: &[MirrorRule]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for flag in flags {
        let origin = Origin::Mirror(flag.text.clone());
        let mirror = Mirror {
            location: flag.location.clone(),
            is_insecure: false,
            for_tags: true,
            for_digests: true,
            origin: origin.clone(),
        };
        let known = rules.iter().position(|rule| rule.prefix == flag.prefix);
        let at = known.unwrap_or_else(|| {
            rules.push(Rule {
                prefix: flag.prefix.clone(),
                mirrors: Vec::new(),
                rest: Rest::Itself,
                is_blocked: false,
                is_insecure: false,
                origin,
            });
            rules.len() - 1
        });
        rules[at].mirrors.push(mirror);
        if flag.is_exclusive {
            rules[at].rest = Rest::Nobody;
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_where_names_do() {
        for (prefix, name, matched) in [
            ("docker.io", "docker.io/library/alpine", Some("docker.io")),
            ("docker.io/", "docker.io/library/alpine", Some("docker.io")),
            ("docker.io/library", "docker.io/library/alpine", Some("docker.io/library")),
            ("docker.io/library/alpine", "docker.io/library/alpine", Some("docker.io/library/alpine")),
            ("docker.io/lib", "docker.io/library/alpine", None),
            ("docker.io/library/alpine/x", "docker.io/library/alpine", None),
            ("docker.io", "docker.io.evil.com/x", None),
            ("example.com", "example.com:5000/x", None),
            ("example.com:5000", "example.com:5000/x", Some("example.com:5000")),
            ("*.example.com", "a.b.example.com/x/y", Some("a.b.example.com")),
            ("*.example.com", "example.com/x", None),
            ("*.example.com", "evilexample.com/x", None),
            ("*.example.com", "a.example.com.evil.com/x", None),
            ("*.example.com", "docker.io/a.example.com/x", None),
            ("*.example.com/team", "a.example.com/team/x", Some("a.example.com/team")),
            ("*.example.com/team", "a.example.com/teams/x", None),
        ] {
            let found = prefix.parse::<Prefix>().unwrap().matched(name);
            assert_eq!(found, matched.map(str::len), "{prefix} {name}");
        }
        for bad in ["", "*", "*.", "https://x.io", "x.io/a:1", "x.io/a@b", "a b", "x.io//y", "x:y", "*.*.io"]
        {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_name_a_mirror_and_what_it_mirrors() {
        let digest = format!("docker.io/library/x@sha256:{}", "0".repeat(64));
        for (flags, image, expected) in [
            (vec!["mirror.io"], "x:1", vec!["mirror.io/library/x:1", "itself"]),
            (vec!["docker.io=m.io/p"], "x:1", vec!["m.io/p/library/x:1", "itself"]),
            (vec!["docker.io=https://m.io/"], "x:1", vec!["m.io/library/x:1", "itself"]),
            (vec!["m.io,exclusive"], "x:1", vec!["m.io/library/x:1"]),
            (vec!["m.io", "n.io:5000,exclusive"], "a/x", vec!["m.io/a/x:latest", "n.io:5000/a/x:latest"]),
            (vec!["m.io", "docker.io/library=n.io/l"], "x:1", vec!["n.io/l/x:1", "itself"]),
            (vec!["m.io"], digest.as_str(), vec!["m.io/library/x@", "itself"]),
        ] {
            let flags: Vec<MirrorRule> = flags.iter().map(|flag| flag.parse().unwrap()).collect();
            let reference: Reference = image.parse().unwrap();
            let rules = rules_of(&flags);
            let places = longest(&rules, &name_of(&reference)).unwrap().places(&reference).unwrap();
            let shown: Vec<String> = places
                .into_iter()
                .map(|place| place.image.map_or("itself".to_owned(), |image| image.to_string()))
                .collect();
            let fits = shown.len() == expected.len()
                && shown.iter().zip(&expected).all(|(shown, expected)| shown.starts_with(expected));
            assert!(fits, "{shown:?} {expected:?}");
        }
        for (bad, words) in [
            ("http://m.io", "insecure"),
            ("m.io,first", "exclusive is one"),
            ("=m.io", "is not host"),
            ("docker.io=", "is not host"),
            ("docker.io=m.io:99999", "is not host"),
        ] {
            let error = bad.parse::<MirrorRule>().unwrap_err();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }
}
