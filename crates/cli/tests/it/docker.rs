//! What the program prints beside what docker prints about the same image.

use std::process::{Command, Stdio};

use ocibuild_testkit::{Daemon, has_tool, output_of};

use crate::program::Place;

const DOCKERFILE: &str = r#"FROM scratch
COPY Dockerfile /
COPY big /srv/data/
ENV A=1 B="x y"
LABEL k=v url="<https://h/?a&b>" long="a label that makes this instruction much longer than a column of the table"
EXPOSE 80 443/udp
VOLUME /data
WORKDIR /srv
USER 1000:1000
HEALTHCHECK --interval=90s --retries=3 CMD true
ENTRYPOINT ["/bin/sh"]
STOPSIGNAL SIGINT
CMD ["-c", "echo hi"]
"#;

/// Command lines that both have to answer with the same bytes.
const SAME: [&[&str]; 65] = [
    &["images"],
    &["images", "app"],
    &["images", "app:1"],
    &["images", "-a", "nothing"],
    &["images", "-q"],
    &["images", "-q", "--no-trunc"],
    &["images", "--no-trunc"],
    &["images", "--format", "json"],
    &["images", "--format", "{{json .}}"],
    &["images", "--format", "raw"],
    &["images", "-q", "--format", "raw"],
    &["images", "--format", "table"],
    &["images", "--format", "table {{.Repository}}:{{.Tag}}\\t{{upper .ID}}\\n{{.Size}}"],
    &["images", "--format", "table {{.ID}}\t{{.CreatedAt}}\t{{truncate .Repository 2}}"],
    &[
        "images",
        "--format",
        "table {{lower .Repository}}\\t{{.VirtualSize}}\\t{{.SharedSize}}{{.UniqueSize}}\\t{{.Containers}}",
    ],
    &["images", "--format", "{{.ID}}\\t{{.CreatedSince}}|{{truncate .ID 3}}{{pad .Tag 1 2}}|"],
    &["images", "--format", "{{if eq .Repository \"app\"}}own{{else}}other{{end}} {{.Tag}}"],
    &["images", "--format", "tabl"],
    &["images", "-q", "--filter", "label=k=v"],
    &["images", "-q", "--filter", "label=none"],
    &["images", "-q", "--filter", "reference=a*"],
    &["images", "-q", "--filter", "before=app:1"],
    &["images", "-q", "--filter", "since=app:1"],
    &["images", "-q", "--filter", "dangling=false"],
    &["images", "--format", ""],
    &["images", "--digests", "--format", "", "nothing"],
    &["image", "ls"],
    &["history", "app:1"],
    &["history", "--format", "", "app:1"],
    &["history", "--no-trunc", "app:1"],
    &["history", "--human=false", "app:1"],
    &["history", "-q", "app:1"],
    &["history", "--format", "json", "app:1"],
    &["history", "--format", "json", "--no-trunc", "app:1"],
    &["history", "--format", "{{json .}}", "app:1"],
    &["history", "--format", "{{.CreatedBy}}|{{.Size}}|{{.Comment}}|{{.CreatedAt}}", "app:1"],
    &["history", "--format", "table {{.ID}}: {{.CreatedSince}}\\t{{.Size}}", "app:1"],
    &["inspect", "-f", "{{.Id}}", "app:1"],
    &["inspect", "-f", "{{.RepoTags}} {{len .RepoTags}} {{index .RepoTags 0}}", "app:1"],
    &[
        "inspect",
        "-f",
        "{{.Config.Labels}} {{.Config.Env}} {{.Config.ExposedPorts}} {{.Config.OnBuild}}",
        "app:1",
    ],
    &[
        "inspect",
        "-f",
        "{{.Config.Healthcheck}} {{.Size}} {{.RootFS}} {{.Config.Volumes}} {{.Config.Shell}}",
        "app:1",
    ],
    &["inspect", "-f", "{{json .RootFS}} {{json .Config.Healthcheck}} {{json .Config.OnBuild}}", "app:1"],
    &["inspect", "-f", "{{json .Config.Labels}} {{json .Config.ExposedPorts}} {{json .RepoTags}}", "app:1"],
    &[
        "inspect",
        "-f",
        "{{.Config.Labels.nope}}|{{index .Config.Labels \"k\"}}|{{index .Config.Labels \"nope\"}}|",
        "app:1",
    ],
    &["inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", "app:1"],
    &["inspect", "-f", "{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}", "app:1"],
    &["inspect", "-f", "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}},{{end}}", "app:1"],
    &["inspect", "-f", "{{range $p, $_ := .Config.ExposedPorts}}{{$p}} {{end}}", "app:1"],
    &["inspect", "-f", "{{join .Config.Env \", \"}}", "app:1"],
    &[
        "inspect",
        "-f",
        "{{.Architecture}}/{{.Os}} {{.Comment}} {{.Created}} {{.Author}}|{{.DockerVersion}}|{{.Parent}}|{{.Variant}}",
        "app:1",
    ],
    &["inspect", "-f", "{{if .Config.Cmd}}{{index .Config.Cmd 1 | upper}}{{else}}none{{end}}", "app:1"],
    &[
        "inspect",
        "-f",
        "{{with .Config.Healthcheck}}{{.Test}} {{.Interval}} {{.Timeout}} {{.Retries}}{{end}}",
        "app:1",
    ],
    &["inspect", "-f", "{{split .Id \":\"}} {{(index (split .Id \":\") 1) | printf \"%.12s\"}}", "app:1"],
    &["inspect", "-f", "{{title .Os}} {{print .Os .Architecture}} {{println .Os}}", "app:1"],
    &["inspect", "-f", "{{slice .Id 7 19}} {{truncate .Id 10}} {{pad .Os 1 1}}", "app:1"],
    &[
        "inspect",
        "-f",
        "{{.Config.User}} {{.Config.WorkingDir}} {{.Config.Entrypoint}} {{.Config.Cmd}} {{.Config.StopSignal}}",
        "app:1",
    ],
    &["inspect", "-f", "{{/* c */}}{{- .Os -}}  a", "app:1"],
    &["inspect", "-f", "{{eq .Os \"linux\"}} {{and .Os \"\"}} {{or \"\" .Os}} {{not .Os}}", "app:1"],
    &[
        "inspect",
        "-f",
        "{{$x := .Os}}{{if and (ne $x \"\") (eq .Architecture .Architecture)}}{{$x | len}}{{end}}",
        "app:1",
    ],
    &["inspect", "-f", "{{printf \"%s|%-8s|%8s|%q|%v\" .Os .Os .Os .Os .RepoTags}}", "app:1"],
    &["inspect", "-f", "{{html .Config.Labels.url}}{{json .Config.Labels.url}}", "app:1"],
    &["inspect", "--type", "image", "-f", "{{.Id}}", "app:1", "app:1"],
    &["inspect", "-f", "{{.Id}}", "app:1", "nope"],
    &["image", "inspect", "-f", "{{.Os}}", "app:1"],
    &["inspect", "nope"],
];

#[test]
fn privileged_what_is_printed_is_what_docker_prints() {
    if !has_tool("docker") || !has_tool("dockerd") {
        return;
    }
    let place = Place::with(DOCKERFILE);
    place.write("big", &"x".repeat(1_234_567));
    let mut build = place.command(&["build", "-q", "-t", "app:1", "-o", "type=docker,dest=app.tar", "."]);
    output_of(build.env("SOURCE_DATE_EPOCH", "1700000000"));
    let mut build = place.command(&["build", "-q", "-t", "app:1", "."]);
    output_of(build.env("SOURCE_DATE_EPOCH", "1700000000"));
    let Some(engine) = Daemon::docker(&place.path("docker")) else { return };
    output_of(engine.client().args(["load", "-q", "-i"]).arg(place.path("app.tar")));
    let printed = |command: &mut Command| {
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let mut different = Vec::new();
    for args in SAME {
        let (ours, theirs) = (printed(&mut place.command(args)), printed(engine.client().args(args)));
        if ours != theirs {
            different.push(format!("{args:?}\nocibuild: {ours:?}\ndocker:   {theirs:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
    same_keys(&place, &engine);
}

/// Keys of docker's that say nothing about an image: what engines before 28 print of the container it was made in, and
/// where the engine keeps it.
const LEFT_OUT: [&str; 4] = ["Container", "ContainerConfig", "VirtualSize", "GraphDriver"];

/// `inspect` has the engine's keys in the engine's order, then ours.
fn same_keys(place: &Place, engine: &Daemon) {
    let keys = |text: &str| -> Vec<String> {
        let top = text.lines().filter_map(|line| line.strip_prefix("        \"")?.split('"').next());
        top.map(str::to_owned).collect()
    };
    let theirs = output_of(engine.client().args(["inspect", "app:1"]));
    let wanted: Vec<String> =
        keys(&theirs).into_iter().filter(|key| !LEFT_OUT.contains(&key.as_str())).collect();
    let ours = keys(&output_of(&mut place.command(&["inspect", "app:1"])));
    assert_eq!(ours[..wanted.len()], wanted);
    assert_eq!(ours[wanted.len()..], ["Descriptor", "Manifest", "History"]);
}
