//! Keys of steps: digests over framed fields, so that no two lists of inputs look alike.

use ocibuild_spec::{Digest, Hasher};
use serde::Serialize;

/// Hashes fields, each preceded by its length, below a name that no other use has.
#[derive(Debug)]
pub(crate) struct Framed {
    hasher: Hasher,
}

impl Framed {
    pub(crate) fn new(domain: &str) -> Self {
        let mut framed = Self { hasher: Hasher::new() };
        framed.field(domain.as_bytes());
        framed
    }

    pub(crate) fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_be_bytes());
    }

    pub(crate) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

/// One thing a key is made of, by a name that an explanation can use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// The inputs of a step's key, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inputs(pub(crate) Vec<Input>);

impl Inputs {
    pub(crate) fn add(&mut self, name: &str, value: impl Into<String>) {
        self.0.push(Input { name: name.to_owned(), value: value.into() });
    }

    /// Adds a value as canonical JSON.
    pub(crate) fn add_json(&mut self, name: &str, value: &impl Serialize) {
        let text = ocibuild_spec::json::to_vec(value).expect("plain data serialises");
        self.add(name, String::from_utf8_lossy(&text));
    }

    /// The key: `kind` names the operation and its version.
    pub(crate) fn key(&self, kind: &str) -> Digest {
        let mut framed = Framed::new("ocibuild step v1");
        framed.field(kind.as_bytes());
        for input in &self.0 {
            framed.field(input.name.as_bytes());
            framed.field(input.value.as_bytes());
        }
        framed.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(inputs: &[(String, String)]) -> Digest {
        let mut list = Inputs::default();
        for (name, value) in inputs {
            list.add(name, value.as_str());
        }
        list.key("test")
    }

    proptest! {
        #[test]
        fn keys_are_equal_exactly_when_inputs_are(
            a in proptest::collection::vec(("[ab]{0,2}", "[ab]{0,3}"), 0..4),
            b in proptest::collection::vec(("[ab]{0,2}", "[ab]{0,3}"), 0..4),
        ) {
            prop_assert_eq!(key(&a) == key(&b), a == b);
        }
    }
}
