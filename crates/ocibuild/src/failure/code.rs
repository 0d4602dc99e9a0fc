//! Stable names of what may be wrong with a build.

ocibuild_dockerfile::codes! {
    /// A stable name of what is wrong with a build, for programs. Those of files that cannot be read are
    /// [`dockerfile::Code`](ocibuild_dockerfile::Code); `docs/diagnostics/errors.md` lists them all.
    {
        /// An agent, or a key, that a step is to have cannot be used.
        AgentUnusable = "agent-unusable",
        /// An archive of `ADD` unpacks to more than it may.
        ArchiveTooLarge = "archive-too-large",
        /// An image cannot be had, for a reason that has no code of its own.
        BaseImage = "base-image",
        /// An archive of `ADD` cannot be unpacked.
        BrokenArchive = "broken-archive",
        /// Build checks found something, and the file makes findings errors.
        BuildChecks = "build-checks",
        /// A file from elsewhere does not have its checksum.
        ChecksumMismatch = "checksum-mismatch",
        /// A container cannot be run with these options.
        ContainerOptions = "container-options",
        /// A build context is not what one can be.
        ContextUnusable = "context-unusable",
        /// A file of the build context changed while it was read.
        ChangedWhileRead = "changed-while-read",
        /// The destination of a copy is something that it cannot replace.
        Destination = "destination",
        /// A directory cannot hold the devices of an image.
        DeviceNode = "device-node",
        /// A server does not give a file.
        DownloadFailed = "download-failed",
        /// A container engine does not take an image.
        EngineUnusable = "engine-unusable",
        /// A file, directory or process of this host cannot be used.
        FileUnusable = "file-unusable",
        /// The programs of an image are for another platform than this host.
        ForeignPlatform = "foreign-platform",
        /// A repository does not have a branch, a tag or a commit.
        GitReference = "git-reference",
        /// An image is not what its digest or its format says.
        ImageCorrupt = "image-corrupt",
        /// A registry gives an image to nobody, or not to this user.
        ImageDenied = "image-denied",
        /// No image has the name.
        ImageNotFound = "image-not-found",
        /// An image is in a form that is not known.
        ImageUnsupported = "image-unsupported",
        /// Images, or jobs, conflict in an index.
        IndexConflict = "index-conflict",
        /// A draft of an index does not exist, or cannot be used.
        IndexDraft = "index-draft",
        /// An annotation names what the build does not make.
        InvalidAnnotation = "invalid-annotation",
        /// An argument of the build makes no sense for this file.
        InvalidArgument = "invalid-argument",
        /// An instruction says something that cannot be done.
        InvalidInstruction = "invalid-instruction",
        /// An output cannot be what is asked of it.
        InvalidOutput = "invalid-output",
        /// A pattern cannot be read.
        InvalidPattern = "invalid-pattern",
        /// A host is at a link-local address that was not allowed.
        LinkLocalAddress = "link-local-address",
        /// A link leads out of the build context.
        LinkOutOfContext = "link-out-of-context",
        /// A blob is at none of the places that may have it.
        MissingBlob = "missing-blob",
        /// There is no Dockerfile.
        NoDockerfile = "no-dockerfile",
        /// There is no step that is kept at a path, or not the whole of it.
        NoKeptStep = "no-kept-step",
        /// The limits that steps are to have cannot be set here.
        NoLimits = "no-limits",
        /// An image exists, but not for the platform.
        NoPlatform = "no-platform",
        /// A file to read is a directory or a device.
        NoRegularFile = "no-regular-file",
        /// This host lets no step run.
        NoSandbox = "no-sandbox",
        /// The state directory has no image of the name.
        NoSuchImage = "no-such-image",
        /// A step that was to be cached is not.
        NotCached = "not-cached",
        /// A step wants a privilege that the build does not grant.
        NotAllowed = "not-allowed",
        /// Something is not here, where nothing is fetched.
        Offline = "offline",
        /// A path is longer than any system takes.
        PathTooLong = "path-too-long",
        /// A private network cannot be had, or not for this step.
        PrivateNetwork = "private-network",
        /// A program that a build needs is not installed.
        ProgramMissing = "program-missing",
        /// A registry misses parts of an image that it took.
        PushIncomplete = "push-incomplete",
        /// A rule of this host blocks a registry.
        RegistryBlocked = "registry-blocked",
        /// A file that configures registries or logins cannot be used.
        RegistryConfiguration = "registry-configuration",
        /// A registry did not answer.
        RegistryUnreachable = "registry-unreachable",
        /// A step requires a secret that the build was not given.
        SecretNotFound = "secret-not-found",
        /// A secret is too large, or not what it is used as.
        SecretUnusable = "secret-unusable",
        /// A source of a copy does not exist.
        SourceNotFound = "source-not-found",
        /// A step requires an agent that the build was not given.
        SshNotFound = "ssh-not-found",
        /// Somebody else uses, or changes, what is in the state directory.
        StateInUse = "state-in-use",
        /// The command of a `RUN` failed.
        StepFailed = "step-failed",
        /// A build context or a download is larger than it may be.
        TooLarge = "too-large",
        /// A sparse file has more holes than are ever read.
        TooManyHoles = "too-many-holes",
        /// Links lead to links without end.
        TooManyLinks = "too-many-links",
        /// The image has no user or group of the name.
        UnknownUser = "unknown-user",
        /// A file exists, but cannot be read.
        Unreadable = "unreadable",
        /// This version does not support what the file says.
        Unsupported = "unsupported",
    }
}
