//! The build checks there are.

/// A build check.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, which is BuildKit's for all but [`RuleKind::Additional`] ones.
    pub name: &'static str,
    /// One line that says what it asks for.
    pub description: &'static str,
    /// When it is on.
    pub kind: RuleKind,
}

/// When a build check is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleKind {
    /// Unless it is skipped.
    Ordinary,
    /// When `experimental` names it or is `all`; skipping has no effect on it (10.04).
    Experimental,
    /// When `experimental` names it and `skip` does not. BuildKit has no such check, so `all` does not mean it: what
    /// is reported for a file that does not ask for more is what BuildKit reports.
    Additional,
}

impl Rule {
    const fn new(kind: RuleKind, name: &'static str, description: &'static str) -> Self {
        Self { name, description, kind }
    }

    /// The page about it in BuildKit's documentation, if there is one.
    pub fn url(&self) -> Option<String> {
        let has_page = self.kind != RuleKind::Additional && self.name != INVALID_BASE_IMAGE_PLATFORM.name;
        has_page.then(|| format!("https://docs.docker.com/go/dockerfile/rule/{}/", kebab_case(self.name)))
    }

    /// The page about it in this project's repository.
    pub fn doc(&self) -> String {
        format!("docs/diagnostics/{}.md", self.name)
    }

    /// The rule of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        RULES.into_iter().find(|rule| rule.name == name)
    }
}

/// `JSONArgsRecommended` as `json-args-recommended`.
fn kebab_case(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = String::with_capacity(name.len() + 4);
    for (at, c) in name.char_indices() {
        let is_upper = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_uppercase);
        let is_lower = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_lowercase);
        if at > 0 && is_upper(at) && (!is_upper(at - 1) || is_lower(at + 1)) {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Makes a constant of each rule, and the list of them.
macro_rules! rules {
    ($($constant:ident, $kind:ident, $name:literal, $description:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $description)]
            pub static $constant: Rule = Rule::new(RuleKind::$kind, $name, $description);
        )*
        /// All rules.
        pub static RULES: [&Rule; [$($name),*].len()] = [$(&$constant),*];
    };
}

rules! {
    CONSISTENT_INSTRUCTION_CASING, Ordinary, "ConsistentInstructionCasing",
        "all keywords of a file are written in the same case";
    COPY_IGNORED_FILE, Ordinary, "CopyIgnoredFile",
        "COPY and ADD name no file that the ignore file excludes from the build context";
    DUPLICATE_STAGE_NAME, Ordinary, "DuplicateStageName", "each stage has a name of its own";
    EXPOSE_INVALID_FORMAT, Ordinary, "ExposeInvalidFormat",
        "EXPOSE names ports of the container alone, no addresses and no ports of the host";
    EXPOSE_PROTO_CASING, Ordinary, "ExposeProtoCasing", "protocols in EXPOSE are in lower case";
    FROM_AS_CASING, Ordinary, "FromAsCasing", "AS is written in the case of its FROM";
    FROM_PLATFORM_FLAG_CONST_DISALLOWED, Ordinary, "FromPlatformFlagConstDisallowed",
        "FROM --platform does not tie a stage to one platform";
    INVALID_BASE_IMAGE_PLATFORM, Ordinary, "InvalidBaseImagePlatform",
        "the base image is of the platform that is built for";
    INVALID_DEFAULT_ARG_IN_FROM, Ordinary, "InvalidDefaultArgInFrom",
        "FROM names an image even when no build argument is given";
    INVALID_DEFINITION_DESCRIPTION, Experimental, "InvalidDefinitionDescription",
        "the comment above an ARG or a named stage begins with the name that it describes";
    JSON_ARGS_RECOMMENDED, Ordinary, "JSONArgsRecommended",
        "CMD and ENTRYPOINT are JSON lists, so that signals reach the program";
    LEGACY_KEY_VALUE_FORMAT, Ordinary, "LegacyKeyValueFormat",
        "ENV and LABEL have an equals sign between key and value";
    MAINTAINER_DEPRECATED, Ordinary, "MaintainerDeprecated", "authors are named by a LABEL";
    MULTIPLE_INSTRUCTIONS_DISALLOWED, Ordinary, "MultipleInstructionsDisallowed",
        "a stage has one CMD, one ENTRYPOINT and one HEALTHCHECK at most";
    NO_EMPTY_CONTINUATION, Ordinary, "NoEmptyContinuation", "continued lines have no blank lines among them";
    REDUNDANT_TARGET_PLATFORM, Ordinary, "RedundantTargetPlatform",
        "FROM --platform does not say what is the default anyway";
    RESERVED_STAGE_NAME, Ordinary, "ReservedStageName", "no stage is called scratch or context";
    SECRETS_USED_IN_ARG_OR_ENV, Ordinary, "SecretsUsedInArgOrEnv",
        "no ARG or ENV has a name that sounds like a secret";
    STAGE_NAME_CASING, Ordinary, "StageNameCasing", "names of stages are in lower case";
    UNDEFINED_ARG_IN_FROM, Ordinary, "UndefinedArgInFrom", "FROM uses global arguments that are declared";
    UNDEFINED_VAR, Ordinary, "UndefinedVar", "variables are defined before they are used";
    WORKDIR_RELATIVE_PATH, Ordinary, "WorkdirRelativePath",
        "the first WORKDIR does not build on the directory of the base image";
    LATEST_TAG, Additional, "LatestTag", "images are named by a tag that stays, or by digest";
    SECRET_VALUE_IN_ARG_OR_ENV, Additional, "SecretValueInArgOrEnv",
        "no ARG or ENV has a value that looks like a key, a token or a password";
    UNUSED_IGNORE_PATTERN, Additional, "UnusedIgnorePattern",
        "each pattern of the ignore file matches something in the build context";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_their_names_in_lower_case() {
        for (name, expected) in [
            ("JSONArgsRecommended", "json-args-recommended"),
            ("FromAsCasing", "from-as-casing"),
            ("SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env"),
            ("UndefinedVar", "undefined-var"),
        ] {
            assert_eq!(kebab_case(name), expected);
        }
        assert_eq!(INVALID_BASE_IMAGE_PLATFORM.url(), None);
        assert_eq!(LATEST_TAG.url(), None);
        assert!(UNDEFINED_VAR.url().unwrap().ends_with("/rule/undefined-var/"));
    }

    #[test]
    fn names_are_found_again() {
        for rule in RULES {
            assert_eq!(Rule::named(rule.name), Some(rule));
        }
        assert_eq!(Rule::named("undefinedvar"), None);
    }
}
