use ocibuild::Error;
use ocibuild::dockerfile::glob_match;
use ocibuild::spec::{Reference, Timestamp};
use ocibuild::state::{ImageSummary, State};

use super::simple::one_of;
use crate::failure::usage;

/// Which images `images` lists.
#[derive(Debug, Default)]
pub(crate) struct ImageFilter {
    /// Patterns, one of which has to fit if there is any.
    references: Vec<String>,
    /// Labels, all of which have to be there.
    labels: Vec<(String, Option<String>)>,
    before: Vec<String>,
    since: Vec<String>,
    /// Whether they have no name.
    dangling: Option<bool>,
}

impl ImageFilter {
    /// What `--filter` says, and the argument that is a name.
    pub(crate) fn read(filters: &[String], name: Option<&str>) -> Result<Self, Error> {
        let mut read = Self::default();
        for text in filters {
            let (key, value) = text.split_once('=').ok_or_else(|| {
                usage(format!("--filter {text}: not of the form NAME=VALUE"))
                    .hint("write --filter reference='app:*'")
            })?;
            match key.trim() {
                "reference" => read.references.push(pattern(value, "--filter reference")?),
                "label" => read.labels.push(match value.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (value.to_owned(), None),
                }),
                "before" => read.before.push(value.to_owned()),
                "since" => read.since.push(value.to_owned()),
                "dangling" => {
                    read.dangling = Some(match value {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => {
                            return Err(usage(format!("--filter {text}: neither true nor false"))
                                .hint("write --filter dangling=false"));
                        }
                    });
                }
                other => {
                    let error = usage(format!("--filter {text}: there is no filter {other:?}"));
                    return Err(one_of(error, other, &["reference", "label", "before", "since", "dangling"]));
                }
            }
        }
        if let Some(name) = name {
            read.references.push(pattern(name, "REPOSITORY")?);
        }
        Ok(read)
    }

    /// The images that fit.
    pub(crate) fn choose(&self, state: &State<'_>) -> Result<Vec<ImageSummary>, Error> {
        let created = |text: &String| -> Result<Option<Timestamp>, Error> {
            let image = state.find(text)?;
            Ok(state.details(&image.descriptor)?.config.created)
        };
        let before = self.before.iter().map(created).collect::<Result<Vec<_>, _>>()?;
        let since = self.since.iter().map(created).collect::<Result<Vec<_>, _>>()?;
        let mut images = state.images()?;
        images.retain(|image| {
            let is_named = self.references.is_empty()
                || image
                    .reference
                    .as_ref()
                    .is_some_and(|name| self.references.iter().any(|pattern| fits(pattern, name)));
            is_named
                && self.labels.iter().all(|(name, value)| {
                    image
                        .labels
                        .get(name)
                        .is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
                })
                && before.iter().all(|limit| image.created < *limit)
                && since.iter().all(|limit| image.created > *limit)
                && self.dangling.is_none_or(|dangling| image.reference.is_none() == dangling)
        });
        Ok(images)
    }
}

fn pattern(text: &str, flag: &str) -> Result<String, Error> {
    match glob_match(text.as_bytes(), b"") {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(usage(format!("{flag}={text}: {error}"))
            .hint("* and ? match anything but a slash, [a-z] one of these characters")),
    }
}

/// Whether a name, or the repository alone, is of this pattern.
fn fits(pattern: &str, name: &Reference) -> bool {
    let is_match = |text: String| glob_match(pattern.as_bytes(), text.as_bytes()).unwrap_or(false);
    let bare = pattern.strip_prefix("docker.io/library/").or_else(|| pattern.strip_prefix("docker.io/"));
    is_match(name.familiar()) || is_match(name.familiar_name()) || bare.is_some_and(|bare| fits(bare, name))
}
