use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use ocibuild_spec::{Descriptor, Digest, Reference};

use super::{State, no_such_image};
use crate::error::{Error, ErrorKind};

/// An image that was asked for by name or by ID.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The name it was asked for by; `None` when that was an ID.
    pub reference: Option<Reference>,
    /// Its manifest, or the index of several platforms.
    pub descriptor: Descriptor,
}

/// Digits of a whole ID.
const WHOLE: usize = 64;

/// The images of a state directory, as its index had them when it was read: for whoever asks for many.
#[derive(Debug)]
pub struct Catalog<'s> {
    state: State<'s>,
    /// Those with names first, sorted by these.
    images: Vec<(Option<Reference>, Descriptor)>,
    by_name: BTreeMap<Reference, usize>,
    by_digest: BTreeMap<Digest, Vec<usize>>,
    ids: OnceCell<Ids>,
}

/// The IDs of all images, read when the first one is asked for.
#[derive(Debug)]
struct Ids {
    /// Of each image.
    of_image: Vec<Digest>,
    /// Images by the digits of their ID, and by those of their own digest.
    by_digits: BTreeMap<String, Vec<usize>>,
}

impl<'s> State<'s> {
    /// All images, to ask for many of them.
    pub fn catalog(&self) -> Result<Catalog<'s>, Error> {
        let images = self.all()?;
        let (mut by_name, mut by_digest) = (BTreeMap::new(), BTreeMap::<Digest, Vec<usize>>::new());
        for (at, (name, descriptor)) in images.iter().enumerate() {
            if let Some(name) = name {
                by_name.insert(name.clone(), at);
            }
            by_digest.entry(descriptor.digest.clone()).or_default().push(at);
        }
        Ok(Catalog { state: *self, images, by_name, by_digest, ids: OnceCell::new() })
    }

    /// The image that `text` means: a name, an ID (the digest of the config, or of the manifest or index), or the
    /// beginning of one that no other image has, with or without `sha256:`. Names come first, except before a whole ID.
    pub fn find(&self, text: &str) -> Result<Found, Error> {
        self.catalog()?.find(text)
    }

    /// The names of the image with this ID, sorted.
    pub fn names(&self, id: &Digest) -> Result<Vec<Reference>, Error> {
        self.catalog()?.names(id)
    }
}

impl Catalog<'_> {
    /// What [`State::find`] finds.
    pub fn find(&self, text: &str) -> Result<Found, Error> {
        let parsed = text.parse::<Reference>();
        let digits = id_digits(text);
        if digits.is_none_or(|digits| digits.len() < WHOLE)
            && let Ok(reference) = &parsed
            && let Some(descriptor) = self.resolve(reference)
        {
            return Ok(Found { reference: Some(reference.clone()), descriptor: descriptor.clone() });
        }
        if let Some(digits) = digits
            && let Some(descriptor) = self.by_id(digits)?
        {
            return Ok(Found { reference: None, descriptor });
        }
        match parsed {
            Ok(reference) => Err(no_such_image(&reference)),
            Err(error) => Err(Error::new(ErrorKind::Usage, error.to_string()).hint(error.advice())),
        }
    }

    /// What a name stands for, as [`ImageLayout::resolve`](ocibuild_store::ImageLayout::resolve) has it.
    pub fn resolve(&self, reference: &Reference) -> Option<&Descriptor> {
        let by_digest = reference.digest().and_then(|digest| self.by_digest.get(digest));
        let is_repository = |at: &&usize| {
            self.images[**at].0.as_ref().is_some_and(|other| {
                other.registry() == reference.registry() && other.repository() == reference.repository()
            })
        };
        let at = by_digest.and_then(|all| all.iter().find(is_repository));
        let at = at.or_else(|| self.by_name.get(reference))?;
        Some(&self.images[*at].1)
    }

    /// The named images of the repository of this name, sorted by name.
    pub fn of_repository<'c>(
        &'c self,
        name: &'c Reference,
    ) -> impl Iterator<Item = (&'c Reference, &'c Descriptor)> {
        let first = self.by_name.range(first_of_repository(name)..);
        first
            .take_while(move |(other, _)| {
                other.registry() == name.registry() && other.repository() == name.repository()
            })
            .map(|(other, at)| (other, &self.images[*at].1))
    }

    fn by_id(&self, digits: &str) -> Result<Option<Descriptor>, Error> {
        let ids = self.ids()?;
        let mut found: Vec<usize> = Vec::new();
        for (_, images) in
            ids.by_digits.range(digits.to_owned()..).take_while(|(known, _)| known.starts_with(digits))
        {
            found.extend(images);
        }
        // The first one by name.
        found.sort_unstable();
        let mut known: Vec<&str> = found.iter().map(|at| ids.of_image[*at].hex()).collect();
        known.sort_unstable();
        known.dedup();
        if known.len() < 2 {
            return Ok(found.first().map(|at| self.images[*at].1.clone()));
        }
        let shown: Vec<&str> = known.iter().take(10).map(|id| &id[..id.len().min(16)]).collect();
        let message = format!("multiple images have an ID that begins with {digits}");
        Err(Error::new(ErrorKind::Usage, message).hint(format!("give more of it: {}", shown.join(", "))))
    }

    /// The names of the image with this ID, sorted.
    pub fn names(&self, id: &Digest) -> Result<Vec<Reference>, Error> {
        let ids = self.ids()?;
        let of_digits = ids.by_digits.get(id.hex()).into_iter().flatten();
        let of_id: BTreeSet<usize> = of_digits.copied().filter(|at| ids.of_image[*at] == *id).collect();
        Ok(of_id.into_iter().filter_map(|at| self.images[at].0.clone()).collect())
    }

    fn ids(&self) -> Result<&Ids, Error> {
        if let Some(ids) = self.ids.get() {
            return Ok(ids);
        }
        let mut of_digest: BTreeMap<&Digest, Digest> = BTreeMap::new();
        let (mut of_image, mut by_digits) = (Vec::new(), BTreeMap::<String, Vec<usize>>::new());
        for (at, (_, descriptor)) in self.images.iter().enumerate() {
            let id = match of_digest.get(&descriptor.digest) {
                Some(id) => id.clone(),
                None => self.state.id(descriptor)?,
            };
            by_digits.entry(id.hex().to_owned()).or_default().push(at);
            if id != descriptor.digest {
                by_digits.entry(descriptor.digest.hex().to_owned()).or_default().push(at);
            }
            of_digest.insert(&descriptor.digest, id.clone());
            of_image.push(id);
        }
        Ok(self.ids.get_or_init(|| Ids { of_image, by_digits }))
    }
}

/// What stands before every name of a repository.
fn first_of_repository(name: &Reference) -> Reference {
    name.with_digest(format!("sha256:{}", "0".repeat(WHOLE)).parse().expect("64 digits are a digest"))
}

/// The digits of what could be an ID.
fn id_digits(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    (!digits.is_empty() && digits.len() <= WHOLE && digits.bytes().all(is_digit)).then_some(digits)
}
