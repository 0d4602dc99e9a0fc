//! Stable names of what may be wrong with a file.

/// An enum of stable names: a variant for each, with its text. Every crate that has codes makes them with it.
#[doc(hidden)]
#[macro_export]
macro_rules! codes {
    ($(#[$outer:meta])* { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl ::std::fmt::Display for Code {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

codes! {
    /// A stable name of what is wrong with a Dockerfile, for programs; `docs/diagnostics/errors.md` lists them.
    {
        /// An instruction has too few or too many arguments.
        ArgumentCount = "argument-count",
        /// A pair has no name.
        BlankName = "blank-name",
        /// A directive is given twice.
        DuplicateDirective = "duplicate-directive",
        /// A flag is given twice.
        DuplicateFlag = "duplicate-flag",
        /// A duration is shorter than a millisecond.
        DurationTooShort = "duration-too-short",
        /// The file is empty.
        EmptyFile = "empty-file",
        /// `VOLUME` has an empty path.
        EmptyVolume = "empty-volume",
        /// The file is larger than it may be.
        FileTooLarge = "file-too-large",
        /// An instruction cannot be a trigger.
        ForbiddenTrigger = "forbidden-trigger",
        /// `FROM` is not of the form `FROM IMAGE [AS NAME]`.
        FromArguments = "from-arguments",
        /// The destination of a copy is a heredoc.
        HeredocDestination = "heredoc-destination",
        /// The heredocs of an instruction are larger than they may be.
        HeredocsTooLarge = "heredocs-too-large",
        /// `# check=` cannot be read.
        InvalidCheckOption = "invalid-check-option",
        /// A duration cannot be read.
        InvalidDuration = "invalid-duration",
        /// `# escape=` is neither a backslash nor a backtick.
        InvalidEscapeDirective = "invalid-escape-directive",
        /// `RUN --network` has an unknown value.
        InvalidNetwork = "invalid-network",
        /// `HEALTHCHECK --retries` is not a number.
        InvalidRetries = "invalid-retries",
        /// `RUN --security` has an unknown value.
        InvalidSecurity = "invalid-security",
        /// The name of a stage has characters that it cannot have.
        InvalidStageName = "invalid-stage-name",
        /// The file is not text.
        InvalidUtf8 = "invalid-utf8",
        /// A JSON list holds something other than strings.
        JsonNotStrings = "json-not-strings",
        /// A line is longer than it may be.
        LineTooLong = "line-too-long",
        /// An instruction has no argument.
        MissingArgument = "missing-argument",
        /// `HEALTHCHECK CMD` has no command.
        MissingCommand = "missing-command",
        /// A copy has sources and no destination.
        MissingDestination = "missing-destination",
        /// A flag has no value.
        MissingFlagValue = "missing-flag-value",
        /// The file contains only comments.
        NoInstructions = "no-instructions",
        /// An instruction comes before the first `FROM`.
        NoStage = "no-stage",
        /// The file has no `FROM`.
        NoStages = "no-stages",
        /// A flag has a value other than true and false.
        NotBoolean = "not-boolean",
        /// The file holds a NUL byte.
        NulByte = "nul-byte",
        /// A pair has no `=`.
        PairWithoutEquals = "pair-without-equals",
        /// A pair has no value.
        PairWithoutValue = "pair-without-value",
        /// `SHELL` is not a JSON list.
        ShellNotJson = "shell-not-json",
        /// An instruction has more arguments than it takes.
        TooManyArguments = "too-many-arguments",
        /// An instruction has more words than are ever read.
        TooManyWords = "too-many-words",
        /// A trigger holds several instructions, or none.
        TriggerCount = "trigger-count",
        /// An instruction has no such flag.
        UnknownFlag = "unknown-flag",
        /// `HEALTHCHECK` is neither `NONE` nor `CMD`.
        UnknownHealthcheck = "unknown-healthcheck",
        /// A word is not an instruction.
        UnknownInstruction = "unknown-instruction",
        /// A heredoc has no end line.
        UnterminatedHeredoc = "unterminated-heredoc",
        /// A word takes more than is ever spent on one.
        WordTooComplex = "word-too-complex",
    }
}
