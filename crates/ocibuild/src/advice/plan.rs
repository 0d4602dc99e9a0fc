//! About Dockerfiles that have no plan.

use ocibuild_dockerfile::{ExpandError, ExpandFault, json_fault, nearest};
use ocibuild_plan::{
    Entitlement, MOUNT_KEYS, MountFault, PlanError, PlanFault, SIGNALS, SourceKind, TriggerOrigin, UnsetArg,
    printable, quote,
};
use ocibuild_spec::{SourceError, SourceErrorKind};

use super::{Hint, Setting};

/// Longer ways round are not told.
const MAX_WAY: usize = 12;

/// Why it is so, beyond what the error itself says.
pub(crate) fn causes(error: &PlanError) -> Vec<String> {
    let mut causes = match error.fault() {
        PlanFault::ConfigTooLarge { .. } => vec![
            "the config of the image has each of them twice, and others read no config of more than 4 MiB"
                .to_owned(),
        ],
        PlanFault::PlanTooLarge { .. } => vec![
            "each RUN repeats all arguments and variables of its stage, and each stage those of its base"
                .to_owned(),
        ],
        PlanFault::Circular { way, .. } if way.len() <= MAX_WAY => {
            vec![format!("it reads from: {}", way.join(" <- "))]
        }
        PlanFault::BlankBase { unset, .. } | PlanFault::BaseName { unset, .. } => {
            unset.iter().map(why_unset).collect()
        }
        PlanFault::BaseImage { name, .. } if leads_nowhere(error) && near_stage(error.fault()).is_some() => {
            vec![format!("no stage is called {name}, so that it is taken for an image")]
        }
        PlanFault::Mount(MountFault::NoValue { field }) if field.is_empty() => {
            vec!["there is a comma with nothing behind it".to_owned()]
        }
        PlanFault::TransferWord { words, .. } => {
            json_fault(words).map(|fault| format!("this is not a JSON list: {fault}")).into_iter().collect()
        }
        _ => Vec::new(),
    };
    if let Some(TriggerOrigin { text, base }) = error.trigger() {
        causes.push(format!("the trigger is: ONBUILD {}", printable(text)));
        causes.push(format!("it belongs to {base}, which this stage is built on"));
    }
    causes
}

fn why_unset(arg: &UnsetArg) -> String {
    let name = &arg.name;
    if arg.is_declared {
        format!("ARG {name} comes before the first FROM, but has no value")
    } else {
        format!("{name} has no value: no ARG {name} comes before the first FROM")
    }
}

/// What could be done about it.
pub(crate) fn hints(error: &PlanError) -> Vec<Hint> {
    let mut hints = own_hints(error);
    if error.trigger().is_some() {
        hints.push(
            "the trigger comes from the base image: use another base, or rebuild it with a corrected ONBUILD"
                .into(),
        );
    }
    hints
}

fn own_hints(error: &PlanError) -> Vec<Hint> {
    let text = match error.fault() {
        PlanFault::Expansion(error) => return vec![expansion(error)],
        PlanFault::TransferWord { error, words } => return vec![transfer_word(error, words)],
        PlanFault::UnknownTarget { target, stages } => return unknown_target(target, stages),
        PlanFault::NoSuchStep { steps, .. } if steps.is_empty() => {
            return vec!["the stage has no steps: nothing is done in it".into()];
        }
        PlanFault::NoSuchStep { steps, .. } => {
            let numbered = steps.iter().enumerate().map(|(index, text)| format!("\n{}: {text}", index + 1));
            return vec![format!("the steps of the stage are{}", numbered.collect::<String>()).into()];
        }
        PlanFault::Circular { stage, way, namesakes } => return circular(stage, way, namesakes),
        PlanFault::StageIndex { stages, .. } => {
            return vec![
                format!("the file has {stages} stages, counted from 0").into(),
                "name a stage with FROM IMAGE AS NAME, and copy with --from=NAME".into(),
            ];
        }
        PlanFault::BlankBase { unset, .. } | PlanFault::BaseName { unset, .. } if !unset.is_empty() => {
            return unset.iter().flat_map(unset_arg).collect();
        }
        PlanFault::BlankBase { .. } => "name a base image: FROM alpine:3.20".to_owned(),
        PlanFault::BaseName { error, .. } => error.advice(),
        PlanFault::BaseImage { context: Some(context), .. } => {
            return vec![
                Hint::from("the image is the one of ")
                    .setting(Setting::BuildContext, format!("{context}=…"))
                    .text(": check what stands there"),
            ];
        }
        PlanFault::BaseImage { .. } if leads_nowhere(error) => return base_image(error.fault()),
        PlanFault::Platform { value, .. } => {
            let near = nearest(value, COMMON_PLATFORMS).map(|platform| format!("did you mean {platform}?"));
            return near.into_iter().chain([PLATFORM.to_owned()]).map(Hint::from).collect();
        }
        PlanFault::EmptyPlatform { .. } => PLATFORM.to_owned(),
        PlanFault::NotAllowed(entitlement) => return vec![not_allowed(*entitlement)],
        PlanFault::Mount(fault) => return mount(fault),
        PlanFault::Port { word, .. } => port(word),
        PlanFault::Signal { signal } => return stop_signal(signal),
        PlanFault::Trigger(diagnostic) => {
            return diagnostic.hints.iter().cloned().map(Hint::from).collect();
        }
        fault => return plain(fault).map(Hint::from).into_iter().collect(),
    };
    vec![text.into()]
}

/// Hints that need no more than the error itself.
fn plain(fault: &PlanFault) -> Option<String> {
    Some(match fault {
        PlanFault::CheckOptions(_) => {
            "a value is `skip=RULE,…`, `experimental=RULE,…` and `error=true`, with `;` between".to_owned()
        }
        PlanFault::Instruction { .. } => "remove the instruction: this version has no meaning for it".to_owned(),
        PlanFault::StageName { .. } => {
            "end the stage's name with a letter or a digit, and do not put '-', '_' and '.' side by side".to_owned()
        }
        PlanFault::FromVariable { from } => format!(
            "add a stage `FROM {from} AS source` with ARG above the first FROM, and write --from=source"
        ),
        PlanFault::LaterCopy { from, .. } => {
            format!("move the stage {from} above this one, or copy from a stage that stands above")
        }
        PlanFault::LaterMount { from, .. } => format!("move the stage {from} above this one"),
        PlanFault::CopyOfRemote { source_text, kind: SourceKind::Http | SourceKind::Git | SourceKind::Path } => {
            format!("use ADD, which downloads: ADD {source_text} DESTINATION")
        }
        PlanFault::Mode { .. } => {
            "give an octal mode of up to four digits, as in --chmod=755, or clauses, as in --chmod=u+x,go-w".to_owned()
        }
        PlanFault::ChecksumOfSeveral => "write one ADD for each source, each with its --checksum".to_owned(),
        PlanFault::ChecksumOfPath => "remove --checksum: files of the context need none".to_owned(),
        PlanFault::Checksum { .. } => {
            "write --checksum=sha256: with 64 hexadecimal digits in lower case, as `sha256sum FILE` prints them".to_owned()
        }
        PlanFault::NoArguments => "give RUN a command: RUN [\"program\", \"argument\"]".to_owned(),
        PlanFault::Device { .. } => "remove --device: steps see no devices of the host".to_owned(),
        PlanFault::TooManyPorts { .. } => "name only the ports that the image listens on".to_owned(),
        PlanFault::EmptyVolume => "name a path, as in VOLUME /data; a variable in it needs a value".to_owned(),
        PlanFault::ConfigTooLarge { .. } => "put what is so large into a file of the image".to_owned(),
        PlanFault::PlanTooLarge { .. } => {
            "declare ARG and ENV where they are used, or put commands together in one RUN".to_owned()
        }
        PlanFault::FrontendArgument { .. } | PlanFault::FrontendDirective { .. } => {
            "remove it: the language of docker/dockerfile is built in, and no other is fetched".to_owned()
        }
        _ => return None,
    })
}

fn expansion(error: &ExpandError) -> Hint {
    Hint::from(match &error.fault {
        ExpandFault::OpenQuote { .. } => "close the quote, or put a backslash in front of it",
        ExpandFault::MissingBrace => "close the substitution with \"}\": ${NAME}",
        ExpandFault::MissingSlash => "write the replacement as ${NAME/pattern/text}",
        ExpandFault::Modifier(_) => {
            "use one of the modifiers there are: ${NAME:-default}, ${NAME:+text}, ${NAME:?message}, ${NAME#pattern}, \
             ${NAME%pattern}, ${NAME/pattern/text}"
        }
        ExpandFault::BadSubstitution => {
            "write a variable as $NAME or ${NAME}; a \"$\" that is meant as such needs a backslash in front"
        }
        ExpandFault::Pattern { .. } => {
            "write the pattern with *, ? and plain characters; others need a backslash in front"
        }
        ExpandFault::TooDeep { .. } | ExpandFault::TooLarge { .. } | ExpandFault::TooSlow => {
            "write the value in a simpler way: it grows or nests beyond what any image needs"
        }
        _ => {
            return Hint::from("give the variable a value with ARG NAME=value, ENV NAME=value or ")
                .setting(Setting::BuildArg, "NAME=value");
        }
    })
}

/// Names with blanks take the JSON form: quotes do not hold words together here.
fn transfer_word(error: &ExpandError, words: &str) -> Hint {
    if json_fault(words).is_some() {
        return "write double quotes, with commas between the strings: [\"a b\", \"/c\"]".into();
    }
    let mut strings: Vec<String> = Vec::new();
    let mut rest = words.trim();
    while let Some(first) = rest.chars().next() {
        let (word, behind) = match first {
            '"' | '\'' => match rest[1..].split_once(first) {
                Some(found) => found,
                None => return expansion(error),
            },
            _ => rest.split_once(' ').unwrap_or((rest, "")),
        };
        strings.push(quote(word));
        rest = behind.trim_start();
    }
    format!("quotes do not join words here: write a JSON list, [{}]", strings.join(", ")).into()
}

fn unknown_target(target: &str, stages: &[String]) -> Vec<Hint> {
    let mut hints = Vec::new();
    if let Some(nearest) = nearest(target, stages.iter().map(String::as_str)) {
        hints.push(Hint::from("build with ").setting(Setting::Target, nearest));
    }
    let named = stages.iter().map(String::as_str).filter(|name| !name.starts_with("stage-"));
    let named: Vec<&str> = named.take(20).collect();
    hints.push(if target.bytes().all(|byte| byte.is_ascii_digit()) {
        let last = stages.len().saturating_sub(1);
        format!("stages are counted from 0, and the last is {last}; a name is FROM IMAGE AS NAME").into()
    } else if named.is_empty() {
        format!("name the stage: FROM IMAGE AS {target}").into()
    } else {
        format!("the stages of this file are {}", named.join(", ")).into()
    });
    hints
}

fn circular(stage: &str, way: &[String], namesakes: &[u32]) -> Vec<Hint> {
    let mut hints = Vec::new();
    if namesakes.len() > 1 {
        let lines: Vec<String> = namesakes.iter().map(u32::to_string).collect();
        hints
            .push(format!("stages in lines {} are all called {stage}: rename them", lines.join(", ")).into());
    }
    hints.push(if way.len() == 2 && way.first() == way.last() {
        format!("{stage} is the stage that this stands in: name another with --from").into()
    } else {
        "take one of the COPY --from or mounts out, or move what both need to a stage of its own".into()
    });
    hints
}

/// What to do about a variable without which the name of a base image is none.
fn unset_arg(arg: &UnsetArg) -> Vec<Hint> {
    let name = &arg.name;
    if arg.is_declared {
        return vec![
            Hint::from(format!("give it one: ARG {name}=VALUE or "))
                .setting(Setting::BuildArg, format!("{name}=VALUE")),
        ];
    }
    let near = nearest(name, arg.declared.iter().map(String::as_str));
    let near = near.map(|nearest| format!("did you mean ${nearest}?"));
    let declare = format!("declare it before the first FROM with a default: ARG {name}=VALUE");
    near.into_iter().chain([declare]).map(Hint::from).collect()
}

fn not_allowed(entitlement: Entitlement) -> Hint {
    let flag = match entitlement {
        Entitlement::NetworkHost => "--network=host",
        _ => "--security=insecure",
    };
    Hint::from("allow it with ")
        .setting(Setting::Allow, entitlement.to_string())
        .text(format!(", or drop {flag}"))
}

fn mount(fault: &MountFault) -> Vec<Hint> {
    let text = match fault {
        MountFault::Fields(_) => "write --mount=type=TYPE,key=value,... without blanks and quotes".to_owned(),
        MountFault::FromVariable => {
            "add a stage `FROM ... AS source` that uses the variable, and write from=source".to_owned()
        }
        MountFault::NoValue { field } => return mount_without_value(field),
        MountFault::UnknownKey { key, .. } => match nearest(key, MOUNT_KEYS) {
            Some(nearest) => format!("write {nearest} instead of {key}"),
            None => format!("remove it; the keys of a mount are {}", MOUNT_KEYS.join(", ")),
        },
        MountFault::KeyOfOtherType { key, fitting, .. } => {
            format!("remove {key}, or write type={} in front of it", fitting.join(" or type="))
        }
        MountFault::Value { key, .. } | MountFault::Number { key, .. } => match key.as_str() {
            "size" => "give a number of bytes, with k, m or g behind it if you like: size=64m",
            "mode" => "give an octal number: mode=0755",
            "uid" | "gid" => "give a number: uid=1000",
            _ => "write true or false, or the key alone",
        }
        .to_owned(),
        MountFault::Choice { value, known, .. } => {
            let near = nearest(value, known.iter().copied());
            let near = near.map(|nearest| format!("write {nearest} instead of {value}"));
            let all = format!("there are {}", known.join(", "));
            return near.into_iter().chain([all]).map(Hint::from).collect();
        }
        MountFault::Owner { key, .. } => format!("remove {key}: it goes with type=cache and type=secret"),
        MountFault::Sharing { .. } => "remove sharing, or write type=cache".to_owned(),
        MountFault::SshSource => "remove source: --mount=type=ssh,id=default".to_owned(),
        MountFault::TargetIsRoot => "give the mount a directory of its own: target=/path".to_owned(),
        _ => "write --mount=type=secret,id=NAME, with target=PATH or env=VARIABLE if you like".to_owned(),
    };
    vec![text.into()]
}

fn mount_without_value(field: &str) -> Vec<Hint> {
    if field.is_empty() {
        return vec!["write a mount without blanks: --mount=type=cache,target=/path".into()];
    }
    let near = nearest(field, MOUNT_KEYS).map(|key| format!("did you mean {key}?"));
    let is_type = matches!(field, "bind" | "cache" | "tmpfs" | "secret" | "ssh");
    let name = if is_type { "type" } else { "target" };
    near.into_iter().chain([format!("write key=value, as in {name}={field}")]).map(Hint::from).collect()
}

/// What a word of `EXPOSE` was probably meant to be.
fn port(word: &str) -> String {
    let is_port = |text: &str| text.split('/').next().is_some_and(is_range);
    if word.starts_with('#') {
        return "a comment needs a line of its own".to_owned();
    }
    let parts = || word.split([',', ';']).filter(|part| !part.is_empty());
    if word.contains([',', ';']) && parts().all(is_port) {
        return format!("separate ports by blanks: EXPOSE {}", parts().collect::<Vec<_>>().join(" "));
    }
    if let Some((first, last)) = word.split_once('-')
        && let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>())
    {
        return format!("begin a range with the smaller port: EXPOSE {last}-{first}");
    }
    if let Some((protocol, port)) = word.split_once('/').filter(|(_, port)| is_port(port)) {
        return format!("the protocol stands behind the port: EXPOSE {port}/{protocol}");
    }
    if let Some((_, container)) = word.rsplit_once(':').filter(|(_, container)| is_port(container)) {
        return format!("name the port of the container alone: EXPOSE {container}");
    }
    "write a port from 0 to 65535, with /tcp, /udp or /sctp behind it if you like: EXPOSE 8080/tcp".to_owned()
}

/// Whether it is a port, or a range of them.
fn is_range(text: &str) -> bool {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if first <= last)
}

fn stop_signal(signal: &str) -> Vec<Hint> {
    let upper = signal.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let near = nearest(name, SIGNALS).map(|nearest| format!("did you mean SIG{nearest}?"));
    let form = "write the name or the number of a signal: STOPSIGNAL SIGTERM".to_owned();
    near.into_iter().chain([form]).map(Hint::from).collect()
}

const PLATFORM: &str = "write os/architecture[/variant], as in linux/amd64 or linux/arm64, or use $BUILDPLATFORM or $TARGETPLATFORM";
const COMMON_PLATFORMS: [&str; 7] = [
    "linux/amd64",
    "linux/arm64",
    "linux/arm/v7",
    "linux/386",
    "linux/ppc64le",
    "linux/s390x",
    "linux/riscv64",
];

/// Whether another name might have led to an image. Where this host failed, or the image is there, it would not have.
fn leads_nowhere(error: &PlanError) -> bool {
    if matches!(error.fault(), PlanFault::BaseImage { context: Some(_), .. }) {
        return false;
    }
    error.cause().and_then(|source| source.downcast_ref::<SourceError>()).is_none_or(|error| {
        matches!(
            error.kind(),
            SourceErrorKind::NotFound
                | SourceErrorKind::Denied
                | SourceErrorKind::Network
                | SourceErrorKind::Offline
        )
    })
}

/// Images that many files begin with: a name near to one of them was probably meant for it.
const COMMON_IMAGES: [&str; 32] = [
    "alpine",
    "amazonlinux",
    "archlinux",
    "bash",
    "busybox",
    "centos",
    "composer",
    "debian",
    "docker",
    "eclipse-temurin",
    "elixir",
    "fedora",
    "golang",
    "gradle",
    "haproxy",
    "httpd",
    "mariadb",
    "maven",
    "mongo",
    "mysql",
    "nginx",
    "node",
    "openjdk",
    "perl",
    "php",
    "postgres",
    "python",
    "redis",
    "rockylinux",
    "ruby",
    "rust",
    "ubuntu",
];

/// The stage whose name is near to that of an image.
fn near_stage(fault: &PlanFault) -> Option<&str> {
    let PlanFault::BaseImage { name, stages, .. } = fault else { return None };
    let is_plain = !name.contains(['/', '.', ':']);
    nearest(name, stages.iter().map(String::as_str)).filter(|_| is_plain)
}

/// What a name was probably meant for that leads to no image: a stage, a named context, a well-known image.
fn base_image(fault: &PlanFault) -> Vec<Hint> {
    let PlanFault::BaseImage { name, is_base, stages, contexts, .. } = fault else { return Vec::new() };
    let (bare, tag) = name.split_once(':').map_or((name.as_str(), None), |(bare, tag)| (bare, Some(tag)));
    if bare == "scratch" {
        return vec!["the empty base image has no tag: write FROM scratch".into()];
    }
    let mut hints: Vec<Hint> = Vec::new();
    hints.extend(near_stage(fault).map(|stage| format!("did you mean the stage {stage}?").into()));
    if let Some(context) = nearest(name, contexts.iter().map(String::as_str)) {
        hints.push(
            Hint::from(format!("did you mean {context}, which "))
                .setting(Setting::BuildContext, "")
                .text(" gives?"),
        );
    }
    let is_short = !bare.contains(['/', '.']);
    if is_short && let Some(image) = nearest(bare, COMMON_IMAGES).filter(|_| !COMMON_IMAGES.contains(&bare)) {
        let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
        hints.push(format!("did you mean the image {image}{tag}?").into());
    }
    if !is_base && hints.is_empty() && !stages.is_empty() {
        let stages: Vec<&str> = stages.iter().take(12).map(String::as_str).collect();
        hints.push(format!("the stages of this file are {}", stages.join(", ")).into());
    }
    hints
}
