use ocibuild_spec::{Descriptor, Digest, Reference};

use super::{State, no_such_image};
use crate::{Error, ErrorKind};

/// An image that was asked for by name or by ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name it was asked for by; `None` when that was an ID.
    pub reference: Option<Reference>,
    /// Its manifest, or the index of several platforms.
    pub descriptor: Descriptor,
}

/// Digits of a whole ID.
const WHOLE: usize = 64;

impl State<'_> {
    /// The image that `text` means: a name, an ID (the digest of the config, or of the manifest or index), or the
    /// beginning of one that no other image has, with or without `sha256:`. Names come first, except before a whole ID.
    pub fn find(&self, text: &str) -> Result<Found, Error> {
        let parsed = text.parse::<Reference>();
        let digits = id_digits(text);
        if digits.is_none_or(|digits| digits.len() < WHOLE)
            && let Ok(reference) = &parsed
            && let Some(descriptor) = self.layout.resolve(reference)?
        {
            return Ok(Found { reference: Some(reference.clone()), descriptor });
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

    fn by_id(&self, digits: &str) -> Result<Option<Descriptor>, Error> {
        let mut found: Vec<(Digest, Descriptor)> = Vec::new();
        for (_, descriptor) in self.all()? {
            if found.iter().any(|(_, known)| known.digest == descriptor.digest) {
                continue;
            }
            let id = self.id(&descriptor)?;
            if id.hex().starts_with(digits) || descriptor.digest.hex().starts_with(digits) {
                found.push((id, descriptor));
            }
        }
        if found.iter().all(|(id, _)| *id == found[0].0) {
            return Ok(found.into_iter().next().map(|(_, descriptor)| descriptor));
        }
        let mut ids: Vec<&str> = found.iter().map(|(id, _)| id.hex()).collect();
        ids.sort_unstable();
        ids.dedup();
        let shown: Vec<&str> = ids.iter().take(10).map(|id| &id[..id.len().min(16)]).collect();
        let message = format!("multiple images have an ID that begins with {digits}");
        Err(Error::new(ErrorKind::Usage, message).hint(format!("give more of it: {}", shown.join(", "))))
    }

    /// The names of the image with this ID, sorted.
    pub fn names(&self, id: &Digest) -> Result<Vec<Reference>, Error> {
        let mut names = Vec::new();
        for (name, descriptor) in self.layout.list()? {
            if self.id(&descriptor)? == *id {
                names.push(name);
            }
        }
        Ok(names)
    }
}

/// The digits of what could be an ID.
fn id_digits(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    (!digits.is_empty() && digits.len() <= WHOLE && digits.bytes().all(is_digit)).then_some(digits)
}
