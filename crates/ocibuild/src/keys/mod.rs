//! Keys of steps: digests over framed fields, so that no two lists of inputs look alike. What is in a key is written field
//! by field from what the plan says, nothing here does any input or output.

mod steps;

use ocibuild_spec::{Digest, Hasher};
use serde::Serialize;

pub(crate) use steps::{Limits, copy, of_image, of_local_context, of_scratch, run, workdir};

/// Version of the keys of steps: it changes whenever a step gets another key than before. Records under keys of another
/// version are not found.
pub(crate) const VERSION: u32 = 2;

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

    /// Adds a list, written as a JSON array of strings.
    pub(crate) fn add_list(&mut self, name: &str, items: impl IntoIterator<Item = impl AsRef<str>>) {
        let items = items.into_iter().map(|item| serde_json::Value::from(item.as_ref()));
        self.add(name, items.collect::<serde_json::Value>().to_string());
    }

    pub(crate) fn add_flag(&mut self, name: &str, flag: bool) {
        self.add(name, flag.to_string());
    }

    /// Adds a value if there is one. That there is none is another key than that it is empty.
    pub(crate) fn add_optional(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value.to_string());
        }
    }

    /// The key: `kind` names the operation.
    pub(crate) fn key(&self, kind: &str) -> Digest {
        let mut framed = Framed::new(&format!("ocibuild step v{VERSION}"));
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
