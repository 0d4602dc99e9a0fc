//! What programs say when they fail, and what can be done about it.

use crate::advice::{Hint, Setting};

/// What can be done about something that a program said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The command is written for bash.
    Bash,
    /// The command is not one that a shell can read.
    Readable,
    /// It takes a user that may do more.
    Root,
    /// It takes a network.
    Network,
    /// It takes room on the disk.
    Space,
    /// What stands here.
    Text(&'static str),
}

impl Remedy {
    pub(super) fn hint(self) -> Hint {
        match self {
            Self::Bash => "the command needs bash: SHELL [\"/bin/bash\", \"-c\"], if the image has it".into(),
            Self::Readable => {
                "the shell cannot read the command: check quotes, `&&` at line ends, and the backslashes that continue \
                 lines"
                    .into()
            }
            Self::Root => "run it as root: put USER root in front of the RUN".into(),
            Self::Network => Hint::from(
                "there is no network, or no name server: check the host's network and /etc/resolv.conf, or give ",
            )
            .setting(Setting::Network, "host"),
            Self::Space => Hint::from("the disk is full: free space with ")
                .setting(Setting::Prune, "")
                .text(", or give another ")
                .setting(Setting::StateDirectory, ""),
            Self::Text(text) => text.into(),
        }
    }
}

/// Texts of an output and what can be done about them; of several that fit, the first three are told.
pub(super) const TEXTS: [(&[&str], Remedy); 43] = [
    (
        &["exec format error"],
        Remedy::Text(
            "the program is for another architecture, or a script without a first line like #!/bin/sh: \
         look at the platform (FROM --platform=) and at the script",
        ),
    ),
    (
        &["unable to locate package", "has no installation candidate", "no packages found matching"],
        Remedy::Text(
            "put `apt-get update &&` in front of `apt-get install` in the same RUN, and check the package's name",
        ),
    ),
    (
        &["unable to select packages", "no such package"],
        Remedy::Text("check the package's name; apk add --no-cache fetches a new list"),
    ),
    (&["do you want to continue", "[y/n]"], Remedy::Text("nobody can answer: add -y to the install command")),
    (
        &["debconf: unable to initialize", "configuring tzdata"],
        Remedy::Text("set DEBIAN_FRONTEND=noninteractive in the RUN, and add -y"),
    ),
    (
        &[
            "temporary failure resolving",
            "temporary failure in name resolution",
            "could not resolve",
            "bad address",
            "name or service not known",
            "getaddrinfo",
            "network is unreachable",
            "network unreachable",
            "no such host",
        ],
        Remedy::Network,
    ),
    (
        &["read-only file system"],
        Remedy::Text("the path is on a mount that is read-only: add rw to the --mount, or write elsewhere"),
    ),
    (&["no space left on device"], Remedy::Space),
    (
        &["externally-managed-environment"],
        Remedy::Text("make a virtual environment first: python3 -m venv /venv, and use /venv/bin/pip"),
    ),
    (
        &["certificate verify failed", "ssl certificate problem", "x509:", "unable to get local issuer"],
        Remedy::Text("install ca-certificates in an earlier RUN"),
    ),
    (
        &["host key verification failed", "permission denied (publickey"],
        Remedy::Text("give the step a key: RUN --mount=type=ssh, or use https"),
    ),
    (
        &["no makefile found", "no targets specified"],
        Remedy::Text("COPY the Makefile first, and choose its directory with WORKDIR"),
    ),
    (
        &["package-lock.json", "npm-shrinkwrap"],
        Remedy::Text(
            "COPY package-lock.json too, as with `COPY package*.json ./`: npm ci needs it, npm install does not",
        ),
    ),
    (
        &["missing script"],
        Remedy::Text("check the script's name: those there are stand under \"scripts\" in package.json"),
    ),
    (
        &["missing ]", ": [: not found"],
        Remedy::Text("put blanks behind \"[\" and in front of \"]\": [ \"$A\" = \"x\" ]"),
    ),
    (
        &["unexpected operator", "unary operator expected", "unknown operand"],
        Remedy::Text(
            "put variables in double quotes: [ \"$A\" = \"x\" ]; what is empty leaves no word otherwise",
        ),
    ),
    (
        &["no matching distribution", "could not find a version that satisfies"],
        Remedy::Text("check the name and the version of the package"),
    ),
    (
        &["no module named"],
        Remedy::Text(
            "install the module in an earlier RUN (pip install), or COPY it first if it is your own",
        ),
    ),
    (
        &["cannot find module"],
        Remedy::Text("COPY the module first, or install the packages in an earlier RUN (npm ci)"),
    ),
    (
        &[
            "command 'gcc'",
            "command 'cc'",
            "unable to execute 'gcc'",
            "gcc: not found",
            "no acceptable c compiler",
            "linker `cc` not found",
        ],
        Remedy::Text("install a compiler in an earlier RUN: build-essential on Debian, build-base on Alpine"),
    ),
    (
        &["file exists", "already exists"],
        Remedy::Text("it is there already: leave the command out, or let it be as it is (mkdir -p, ln -sf)"),
    ),
    (
        &["http/1.0 404", "http/1.1 404", "http/2 404", "error: 404", "error 404", "404 file not found"],
        Remedy::Text("the server has nothing at this address: check it"),
    ),
    (
        &["401 unauthorized", "403 forbidden", "authentication failed", "authentication required"],
        Remedy::Text("the server wants credentials: give them with RUN --mount=type=secret,id=NAME"),
    ),
    (
        &["no_pubkey", "is not signed"],
        Remedy::Text("install the key of the package repository in an earlier RUN"),
    ),
    (
        &["not been booted with systemd", "failed to connect to bus"],
        Remedy::Text("a build starts no services: name what the container is to run with CMD"),
    ),
    (
        &["cannot connect to the docker daemon"],
        Remedy::Text("a step has no docker: give each image a stage of its own"),
    ),
    (&["connection refused"], Remedy::Text("nothing listens at this address: check host and port")),
    (
        &["connection reset", "timed out", "timeout"],
        Remedy::Text("the server did not answer: check the address and the network, and try again"),
    ),
    (
        &[
            "short read",
            "not in gzip format",
            "invalid tar magic",
            "does not look like a tar",
            "end-of-central-directory",
            "bad zipfile",
        ],
        Remedy::Text(
            "the archive is damaged, or of another kind than its name says: look at the file that is copied in",
        ),
    ),
    (
        &["unknown user", "invalid user", "unknown group", "invalid group"],
        Remedy::Text("add the user or group in an earlier RUN (adduser, useradd), or give numeric ids"),
    ),
    (&["is a directory"], Remedy::Text("a directory is named where a file is needed: name a file in it")),
    (&["package.json"], Remedy::Text("COPY package.json first, and choose its directory with WORKDIR")),
    (
        &["could not open requirements file"],
        Remedy::Text("COPY requirements.txt first, and choose its directory with WORKDIR"),
    ),
    (&["go.mod file not found"], Remedy::Text("COPY go.mod first, and choose its directory with WORKDIR")),
    (
        &["could not find `cargo.toml`"],
        Remedy::Text("COPY Cargo.toml first, and choose its directory with WORKDIR"),
    ),
    (
        &[
            "bad substitution",
            "[[: not found",
            "source: not found",
            "pipefail",
            "unexpected \"(\"",
            "\"(\" unexpected",
            "redirection",
        ],
        Remedy::Bash,
    ),
    (
        &[
            "unterminated quoted string",
            "unexpected end of file",
            "unexpected eof",
            "unexpected newline",
            "syntax error",
        ],
        Remedy::Readable,
    ),
    (
        &["can't cd to", "cd: "],
        Remedy::Text("the directory is not there: make it or COPY it first, and choose it with WORKDIR"),
    ),
    (
        &["are you root", "must be root", "requires root", "superuser privilege", "operation not permitted"],
        Remedy::Root,
    ),
    (
        &["permission denied"],
        Remedy::Text(
            "check the mode and owner of the file (COPY --chmod=755, --chown=) and the USER in effect",
        ),
    ),
    (
        &["out of memory", "cannot allocate memory", "heap out of memory"],
        Remedy::Text("it takes more memory than there is: give the host more, or run fewer jobs at once"),
    ),
    (
        &["no such file or directory", "cannot find the file", "not found: "],
        Remedy::Text("check the path: COPY brings files in, and WORKDIR is where the command starts"),
    ),
    (
        &["404  not found", "404 not found"],
        Remedy::Text("the address is gone: check it, or put `apt-get update &&` in front in the same RUN"),
    ),
];
