//! What embedding programs need of the crates below, by name. The rest of them is not part of this interface.

/// Dockerfiles: text to syntax, checks, word expansion, ignore files.
pub mod dockerfile {
    #[doc(inline)]
    pub use ocibuild_dockerfile::{
        Add, ArgDefinition, CheckOptionError, CheckOptions, Code, Command, Copy, Diagnostic, Directives,
        Dockerfile, Environment, ExpandError, ExpandFault, Expanded, ExpandedWords, Finding, Healthcheck,
        Heredoc, IgnoreError, IgnoreFile, IgnorePatterns, Instruction, InstructionKind, KeyValues, Location,
        Node, ParseErrors, Place, Rule, Run, RunCommand, RunNetwork, RunSecurity, Severity, Span, Stage,
        SyntaxTree, Text, Transfer, Verdict, Word, expand, glob_match, ignore_protocol, line_column, lint,
        nearest, nodes_json, parse_nodes, suggest,
    };
}

/// What a build will do: plain data.
pub mod plan {
    #[doc(inline)]
    pub use ocibuild_plan::{
        Argument, CacheSharing, ChecksumFault, CopyStep, Entitlement, EpochStageFault, FieldFault,
        FileSource, ImageOrigin, MountFault, MountKind, Outline, OutlineArg, OutlineCache, OutlineMount,
        Plan, PlanError, PlanErrorKind, PlanErrors, PlanFault, PlannedHistory, PlannedImage, PlannedStage,
        PlannedStep, PortFault, RunStep, StageBase, StepKind, StepMount, StepNetwork, Target, Targets,
        TriggerOrigin, UnsetArg, WorkdirStep, all_to_json, render_text, to_json,
    };
}

/// The nouns of the image specification, and what sources of images give.
pub mod spec {
    #[doc(inline)]
    pub use ocibuild_spec::{
        CancelToken, ChainId, Changeset, ContainerConfig, Content, ContentDigest, Descriptor, DiffId, Digest,
        DigestError, Document, DocumentError, Empty, Entry, EntryKind, Hasher, HealthConfig, History,
        ImageConfig, ImageSource, Index, Manifest, MediaType, Metadata, Owned, OwnershipRecord, Platform,
        PlatformError, Reference, ReferenceError, ResolvedImage, RootFs, SharedFile, SourceError,
        SourceErrorKind, TimeError, Timestamp, VerifyError, VerifyingReader, json, media_types, parse_config,
        parse_manifest_or_index, resolve_image,
    };
}

/// What carries out a `RUN`: namespaces of our own, an OCI runtime, or an [`Executor`](executor::Executor) of the caller's.
pub mod executor {
    #[doc(inline)]
    pub use ocibuild_executor::{
        Attached, Bundle, Capabilities, Carrier, CgroupError, Control, Emulation, Ending, Error, ErrorKind,
        Exceeded, Executor, ExitStatus, Limit, Mount, NamespaceExecutor, Need, Network, NetworkProgram,
        Obstacle, Offers, Output, OwnSandbox, PosixRlimitType, Private, Resources, Rlimit, RuntimeExecutor,
        Spec, StateFile, Stream, UnknownCapability, User, WindowSize,
    };
    #[doc(inline)]
    pub use ocibuild_sys::CAPABILITIES;
}

/// How layers are compressed.
pub mod layer {
    #[doc(inline)]
    pub use ocibuild_layer::{Compression, Format};
}

/// Root file systems of steps: the drivers, and what a [`Snapshotter`](snapshot::Snapshotter) of the caller's deals with.
pub mod snapshot {
    #[doc(inline)]
    pub use ocibuild_snapshot::{
        ActiveSnapshot, CopySnapshots, Error, ErrorKind, Hold, LayerNotes, LayerTarget, MountPointKind, Node,
        NodeId, NodeKind, Origin, Overlay, ResolveError, Resolved, Snapshotter, Tree, Usage, Whiteouts, auto,
    };
}

/// Images on disk: layouts and archives.
pub mod store {
    #[doc(inline)]
    pub use ocibuild_store::{
        ArchiveFormat, ArchiveSource, BlobSink, BlobWriter, Error, ErrorKind, Fault, HashedBlobWriter,
        ImageLayout, LayoutSource, StoredImage, StoredImages, check_way, detect, reachable, read_document,
    };
}

/// Registries: the client, its credentials, mirrors and certificates.
pub mod registry {
    #[doc(inline)]
    pub use ocibuild_registry::{
        AwsEndpoints, AwsIdentity, AzureEndpoints, AzureIdentity, BlobPush, BlobUpload, CertificateProblem,
        ClientCertificate, CloudServices, ConfigSource, Credential, CredentialSource, CredentialStore,
        Credentials, Explained, Fault, FoundCredential, GoogleEndpoints, GoogleIdentity, Helpers, HttpClient,
        HttpClientBuilder, HttpError, HttpErrorKind, KnownCredential, LoginCheck, Lookup, ManifestPush,
        Match, MirrorRule, OpenBlob, Origin, Proxies, Registry, RegistryBuilder, RegistryKey, Retrying,
        Route, Secret, Stored, TaggedManifest, Transport, Trust, Variables, Wanted, read_ca_bundle,
        system_ca_bundle,
    };
}

/// Files that results are written to, as the library writes its own.
pub mod files {
    #[doc(inline)]
    pub use ocibuild_sys::{FileTarget, own_descriptor};
}
