use std::fmt;

/// Bytes that nothing which is printed shows: a secret, or what holds one.
///
/// ```
/// let token = ocibuild_sys::Private::from("s3cret".as_bytes().to_vec());
/// assert_eq!(token.bytes(), b"s3cret");
/// assert_eq!(format!("{token:?}"), "Private(…)");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Private(Vec<u8>);

impl Private {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Private {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Private(…)")
    }
}
