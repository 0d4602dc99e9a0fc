use std::fmt;

/// One thing that can be done about a failure.
///
/// It is text with [`Setting`]s in it: whoever shows it knows what those are called there. [`Display`](fmt::Display)
/// writes them as an embedder knows them; a program with a command line writes its flags with
/// [`with_settings`](Self::with_settings).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Setting(Setting, String),
}

/// What a caller chooses for a build, or else does with images: a hint names it, and whoever shows the hint knows what it is
/// called there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting {
    /// A build argument ([`Build::build_arg`](crate::build::Build::build_arg)).
    BuildArg,
    /// A named context.
    BuildContext,
    /// The target stage ([`Build::target`](crate::build::Build::target)).
    Target,
    /// The platform of the image.
    Platform,
    /// A privilege that steps may have.
    Allow,
    /// The network of steps.
    Network,
    /// A secret that steps may read.
    Secret,
    /// An agent, or keys, that steps may use.
    Ssh,
    /// The path of the Dockerfile.
    Dockerfile,
    /// The state directory.
    StateDirectory,
    /// What frees room in the state directory ([`state::prune`](crate::state)).
    Prune,
    /// A build without what is in the cache.
    NoCache,
    /// The requirement that steps are cached ([`Build::require_cache`](crate::build::Build::require_cache)).
    RequireCache,
    /// Where the result goes ([`Output`](crate::request::Output)).
    Output,
    /// A container engine that takes the image.
    Load,
    /// The name of the image.
    Tag,
    /// The runtime that carries out steps.
    Runtime,
    /// The memory of a step ([`Build::resources`](crate::build::Build::resources)).
    Memory,
    /// The number of processes of a step, likewise.
    Processes,
    /// The list of images that are here.
    Images,
    /// A step that failed and was kept ([`State::enter`](crate::state::State::enter)).
    KeptStep,
    /// Keeping steps that fail ([`Build::keep_failed`](crate::build::Build::keep_failed)).
    KeepFailed,
    /// The format of an archive of images.
    SaveFormat,
    /// An addition to a draft of an index that is there.
    Append,
    /// The later of two images for a platform counts.
    Replace,
    /// The platforms that an index waits for.
    Expect,
    /// The certificate of an authority that is trusted
    /// ([`RegistryBuilder::ca_pem`](ocibuild_registry::RegistryBuilder::ca_pem)).
    CaCertificate,
    /// A registry that may be spoken to in the clear.
    InsecureRegistry,
    /// A host that a registry may have its credentials sent to.
    TokenRealm,
    /// A server that is asked instead of a registry.
    Mirror,
    /// What stores credentials for a registry.
    Login,
    /// What removes a name from the state directory.
    RemoveImage,
    /// What sets the jobs of one run apart from others.
    RunName,
    /// The operating system of an image in an index.
    Os,
    /// The architecture of an image in an index.
    Architecture,
    /// The variant of an image in an index.
    Variant,
    /// All platforms of an index at once.
    AllPlatforms,
    /// The transfer of one platform of an image.
    PullPlatform,
    /// The transfer of all platforms of an image.
    PullAllPlatforms,
    /// A new draft of an index.
    IndexCreate,
    /// The addition of images to a draft of an index.
    IndexAdd,
    /// The removal of a draft of an index.
    IndexRemove,
    /// The list of what is in a draft of an index.
    IndexInspect,
    /// The index that several jobs put together ([`JoinOutcome`](crate::index::JoinOutcome)).
    IndexJoin,
}

impl Setting {
    /// What it is called in the documents of the library.
    pub fn name(self) -> &'static str {
        match self {
            Self::BuildArg => "the build argument",
            Self::BuildContext => "the named context",
            Self::Target => "the target",
            Self::Platform => "the platform",
            Self::Allow => "the entitlement",
            Self::Network => "the network",
            Self::Secret => "the secret",
            Self::Ssh => "the agent",
            Self::Dockerfile => "the path of the Dockerfile",
            Self::StateDirectory => "the state directory",
            Self::Prune => "state::prune",
            Self::NoCache => "a build without cache",
            Self::RequireCache => "Build::require_cache",
            Self::Output => "the output",
            Self::Load => "an engine, such as",
            Self::Tag => "the tag",
            Self::Runtime => "the runtime",
            Self::Memory => "the limit of memory",
            Self::Processes => "the limit of processes",
            Self::Images => "State::images",
            Self::KeepFailed => "Build::keep_failed",
            Self::KeptStep => "State::enter",
            Self::SaveFormat => "the archive format",
            Self::Append => "append",
            Self::Replace => "replace",
            Self::Expect => "the expected platforms",
            Self::CaCertificate => "RegistryBuilder::ca_pem",
            Self::InsecureRegistry => "RegistryBuilder::insecure",
            Self::TokenRealm => "RegistryBuilder::allow_realm",
            Self::Mirror => "RegistryBuilder::mirror",
            Self::Login => "credentials",
            Self::RemoveImage => "State::remove",
            Self::RunName => "the name of the run",
            Self::Os => "the system",
            Self::Architecture => "the architecture",
            Self::Variant => "the variant",
            Self::AllPlatforms => "all platforms",
            Self::PullPlatform => "a pull of one platform",
            Self::PullAllPlatforms => "a pull of all platforms",
            Self::IndexCreate => "State::create_index with",
            Self::IndexAdd => "State::create_index",
            Self::IndexRemove => "the removal of the draft",
            Self::IndexInspect => "the list of its entries",
            Self::IndexJoin => "JoinOutcome",
        }
    }
}

impl Hint {
    /// A hint that begins with a setting.
    pub fn of(setting: Setting, value: impl Into<String>) -> Self {
        Self(Vec::new()).setting(setting, value)
    }

    /// The same with a setting behind what it says so far; `value` is what is chosen, if that is known.
    #[must_use]
    pub fn setting(mut self, setting: Setting, value: impl Into<String>) -> Self {
        self.0.push(Part::Setting(setting, value.into()));
        self
    }

    /// The same with more text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part::Text(text.into()));
        self
    }

    /// The hint with its settings as `write` writes them: the setting, and the value or nothing.
    pub fn with_settings(&self, write: impl Fn(Setting, &str) -> String) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Setting(setting, value) => write(*setting, value),
        };
        self.0.iter().map(part).collect()
    }
}

impl<T: Into<String>> From<T> for Hint {
    fn from(text: T) -> Self {
        Self(vec![Part::Text(text.into())])
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_settings(|setting, value| {
            let separator = if value.is_empty() { "" } else { " " };
            format!("{}{separator}{value}", setting.name())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_by_whoever_shows_them() {
        let hint = Hint::from("build with ").setting(Setting::Target, "release").text(", or without");
        assert_eq!(hint.to_string(), "build with the target release, or without");
        let flags = hint.with_settings(|setting, value| format!("{setting:?}={value}"));
        assert_eq!(flags, "build with Target=release, or without");
        assert_eq!(Hint::from("a ").setting(Setting::Secret, "").to_string(), "a the secret");
    }
}
