//! Environments: the one of a stage, and the one an image's config records.

use std::{borrow::Cow, collections::HashMap};

use ocibuild_dockerfile::{ExpandError, Expanded, expand};

/// The environment of a stage: arguments and variables in one map where the later instruction wins (3.10), in the
/// order of each name's latest assignment (8.02).
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    values: HashMap<String, (u64, String)>,
    next: u64,
}

impl Environment {
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.next += 1;
        self.values.insert(name.to_owned(), (self.next, value.to_owned()));
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(_, value)| value.as_str())
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// All pairs, the one assigned last at the end.
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        let mut all: Vec<_> = self.values.iter().collect();
        all.sort_unstable_by_key(|(_, (order, _))| *order);
        all.into_iter().map(|(name, (_, value))| (name.clone(), value.clone())).collect()
    }

    /// What it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.values.iter().map(|(name, (_, value))| pair_bytes(name, value)).sum()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// `text` with variables, quotes and escapes resolved.
    pub(super) fn expand(&self, text: &str, escape: char) -> Result<String, ExpandError> {
        self.expand_watched(text, escape).map(|expanded| expanded.value)
    }

    /// The same with the names that were looked up.
    pub(super) fn expand_watched(&self, text: &str, escape: char) -> Result<Expanded, ExpandError> {
        // Most words have nothing to expand, and instructions have many.
        if !text.contains(['$', '\'', '"', escape]) {
            return Ok(Expanded { value: text.to_owned(), ..Expanded::default() });
        }
        expand::expand_word(text, escape, self)
    }
}

impl ocibuild_dockerfile::Environment for Environment {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        Environment::get(self, name).map(Cow::Borrowed)
    }
}

/// What a variable takes in memory, about.
pub(super) fn pair_bytes(name: &str, value: &str) -> usize {
    const BESIDES: usize = 96;
    name.len() + value.len() + BESIDES
}

/// `Env` of a config: a name keeps the place of its first assignment (5.309).
#[derive(Debug, Clone, Default)]
pub(super) struct ConfigEnv {
    entries: Vec<String>,
    positions: HashMap<String, usize>,
}

impl ConfigEnv {
    /// The variables of a base image. What has no `=` is a name with an empty value.
    pub(super) fn new(entries: Vec<String>) -> Self {
        let mut positions = HashMap::new();
        for (position, entry) in entries.iter().enumerate() {
            positions.entry(split(entry).0.to_owned()).or_insert(position);
        }
        Self { entries, positions }
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        if let Some(position) = self.positions.get(name) {
            self.entries[*position] = entry;
        } else {
            // A name that expanded to something with `=` in it ends there for whoever reads the entry.
            self.positions.entry(split(&entry).0.to_owned()).or_insert(self.entries.len());
            self.entries.push(entry);
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.positions.contains_key(name)
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|entry| split(entry))
    }

    pub(super) fn into_entries(self) -> Vec<String> {
        self.entries
    }
}

fn split(entry: &str) -> (&str, &str) {
    entry.split_once('=').unwrap_or((entry, ""))
}

/// Arguments that a stage declares, each name where it came first (5.002).
#[derive(Debug, Clone, Default)]
pub(super) struct DeclaredArgs {
    order: Vec<String>,
    values: HashMap<String, Option<String>>,
}

impl DeclaredArgs {
    pub(super) fn declare(&mut self, name: &str, value: Option<&str>) {
        if self.values.insert(name.to_owned(), value.map(str::to_owned)).is_none() {
            self.order.push(name.to_owned());
        }
    }

    /// The value that the latest declaration gave.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.as_deref()
    }

    pub(super) fn is_declared(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// What the history of a `RUN` begins with: `|2 A=1 B=`, nothing without arguments.
    pub(super) fn history_prefix(&self, environment: &Environment) -> Vec<String> {
        let mut words = Vec::with_capacity(self.order.len() + 1);
        if !self.order.is_empty() {
            words.push(format!("|{}", self.order.len()));
        }
        words.extend(self.order.iter().map(|name| {
            let declared = || self.values.get(name).and_then(Option::as_deref);
            format!("{name}={}", environment.get(name).or_else(declared).unwrap_or_default())
        }));
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_orders_by_latest_assignment_and_a_config_by_first() {
        let mut environment = Environment::default();
        let mut config = ConfigEnv::new(vec!["PATH=/bin".to_owned(), "ODD".to_owned(), "A=0".to_owned()]);
        for (name, value) in [("A", "1"), ("B", "2"), ("A", "3"), ("ODD", "x")] {
            environment.set(name, value);
            config.set(name, value);
        }
        let names: Vec<String> = environment.pairs().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["B", "A", "ODD"]);
        assert_eq!(config.into_entries(), ["PATH=/bin", "ODD=x", "A=3", "B=2"]);
    }

    #[test]
    fn the_history_shows_what_is_in_effect() {
        let mut args = DeclaredArgs::default();
        let mut environment = Environment::default();
        assert!(args.history_prefix(&environment).is_empty());
        args.declare("A", Some("1"));
        args.declare("B", None);
        args.declare("A", Some("2"));
        assert_eq!(args.history_prefix(&environment), ["|2", "A=2", "B="]);
        environment.set("A", "env");
        assert_eq!(args.history_prefix(&environment), ["|2", "A=env", "B="]);
    }
}
