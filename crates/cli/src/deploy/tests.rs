//! Deployments, as other readers of YAML and of Kubernetes' schemas find them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use ocibuild::spec::{ContainerConfig, Digest, Empty, HealthConfig};
use ocibuild_testkit::skip;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{DeployOptions, Deployment};

/// Each line is one case: name of the image | ports | USER | HEALTHCHECK, words between commas | `--service`
const CASES: &str = "
app                                 |                          |           |                                   |
r.io/app:1.0                        | 80/tcp                   | 1000      |                                   | service
127.0.0.1:5000/team/my_app:on       | 443/tcp 53/udp 53/tcp    | 1000:1000 | CMD,/check                        | service
[::1]:5000/2048:2048                | 1/sctp                   | 0         | CMD-SHELL,curl -f \"http://x\" # no | service
r.io/a/b__c/d-e.f:V1                | 65535/tcp 65535/udp      | app       | NONE                              | service
r.io/null:null                      | 8000-8002/tcp            | root      |                                   |
r.io/x:_tag                         | 9                        | 1:2       | CMD,on,1,1.5,~,,- a,\t,'\",é,\u{1}\u{2028} |
r.io/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-b:1 | 80/tcp |  | FOO,a                    | service
";

fn config(ports: &str, user: &str, health: &str) -> ContainerConfig {
    let test: Vec<String> = health.split(',').map(str::to_owned).collect();
    let healthcheck = HealthConfig { test, ..HealthConfig::default() };
    ContainerConfig {
        user: user.to_owned(),
        exposed_ports: ports
            .split(' ')
            .filter(|port| !port.is_empty())
            .map(|port| (port.to_owned(), Empty {}))
            .collect(),
        healthcheck: (!health.is_empty()).then_some(healthcheck),
        ..ContainerConfig::default()
    }
}

fn cases() -> Vec<(&'static str, Deployment)> {
    let lines = CASES.lines().filter(|line| !line.is_empty());
    let case = |line: &'static str| {
        let fields: Vec<&str> = line.split('|').map(|field| field.trim_matches(' ')).collect();
        let [name, ports, user, health, service] = fields[..] else { panic!("{line}: five fields") };
        let options = DeployOptions {
            service: service == "service",
            namespace: Some("on".to_owned()),
            pull_secret: Some("1.0".to_owned()),
            ..DeployOptions::default()
        };
        let config = config(ports, user, health);
        (line, Deployment::new(&name.parse().unwrap(), &Digest::of(b""), &config, &options).unwrap())
    };
    lines.map(case).collect()
}

/// What a program prints about a text on its standard input; `None` where there is no such program.
fn answer(command: &mut Command, input: &str) -> Option<String> {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        skip(&format!("{} is not installed", command.get_program().display()));
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{command:?}: {text}\n{input}");
    Some(text)
}

/// The documents as `PyYAML`, a reader of YAML 1.1, understands them.
fn documents(yaml: &str) -> Option<Vec<Value>> {
    const PROGRAM: &str = "import json, sys, yaml
json.dump(list(yaml.safe_load_all(sys.stdin.buffer)), sys.stdout)";
    let found = Command::new("python3").args(["-c", "import yaml"]).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        skip("python3 with PyYAML is not installed");
        return None;
    }
    let text = answer(Command::new("python3").args(["-c", PROGRAM]), yaml)?;
    Some(serde_json::from_str(&text).unwrap())
}

#[test]
fn kubernetes_validate_accepts_all_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("all.yaml");
    let documents: Vec<String> = cases().iter().map(|(_, deployment)| deployment.to_string()).collect();
    fs_err::write(&path, documents.join("---\n")).unwrap();
    let mut command = Command::new("kubernetes-validate");
    command.args(["--strict", "-k", "1.35", "-k", "1.36", "-k", "1.37"]).arg(&path);
    let Some(text) = answer(&mut command, "") else { return };
    assert_eq!(text.matches(" passed ").count(), 3 * (8 + 5), "{text}");
    assert!(!text.contains("WARN"), "{text}");
}

/// What Kubernetes checks beyond its schemas.
#[test]
fn names_are_what_kubernetes_wants() {
    let is_label = |value: &Value| {
        let text = value.as_str().unwrap();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        (1..=63).contains(&text.len())
            && text.starts_with(plain)
            && text.ends_with(plain)
            && text.chars().all(|c| plain(c) || c == '-')
    };
    for (case, deployment) in cases() {
        let Some(documents) = documents(&deployment.to_string()) else { return };
        let (deployment, service) = (&documents[0], documents.get(1));
        let spec = &deployment["spec"];
        let pod = &spec["template"];
        let labels = &pod["metadata"]["labels"];
        for (key, value) in spec["selector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(labels[key], *value, "{case}");
        }
        for value in labels.as_object().unwrap().values() {
            let text = value.as_str().unwrap();
            let ends = |c: char| c.is_ascii_alphanumeric();
            assert!(text.len() <= 63 && text.starts_with(ends) && text.ends_with(ends), "{case}");
        }
        let container = &pod["spec"]["containers"][0];
        let ports = container["ports"].as_array().cloned().unwrap_or_default();
        let names: BTreeSet<&str> = ports.iter().filter_map(|port| port["name"].as_str()).collect();
        assert_eq!(names.len(), ports.len(), "{case}: each port has a name of its own");
        assert!(names.iter().all(|name| name.len() <= 15 && is_label(&json!(name))), "{case}");
        assert!(is_label(&deployment["metadata"]["name"]) && is_label(&container["name"]), "{case}");
        assert_eq!(service.is_some(), case.ends_with("service"), "{case}");
        if let Some(service) = service {
            let begins = service["metadata"]["name"].as_str().unwrap().chars().next();
            assert!(begins.is_some_and(|c| c.is_ascii_lowercase()), "{case}");
            assert_eq!(service["spec"]["selector"], spec["selector"]["matchLabels"], "{case}");
            for port in service["spec"]["ports"].as_array().unwrap() {
                assert!(names.contains(port["targetPort"].as_str().unwrap()), "{case}");
            }
        }
    }
}

#[test]
fn what_the_config_says_is_there_and_nothing_else() {
    let mut all = cases().into_iter().map(|(_, deployment)| documents(&deployment.to_string()));
    let mut container =
        || Some(all.next()??.swap_remove(0)["spec"]["template"]["spec"]["containers"][0].take());
    let Some(plain) = container() else { return };
    let digest = Digest::of(b"");
    assert_eq!(plain, json!({"name": "app", "image": format!("docker.io/library/app@{digest}")}));
    let numeric = container().unwrap();
    assert_eq!(numeric["image"], format!("r.io/app:1.0@{digest}"));
    assert_eq!(numeric["securityContext"], json!({"runAsNonRoot": true, "runAsUser": 1000}));
    assert_eq!(numeric["readinessProbe"], json!({"tcpSocket": {"port": "port-80"}}));
    assert!(numeric.get("livenessProbe").is_none());
    let checked = container().unwrap();
    assert_eq!(
        checked["securityContext"],
        json!({"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000})
    );
    assert_eq!(checked["livenessProbe"]["exec"], json!({"command": ["/check"]}));
    assert_eq!(checked["readinessProbe"], checked["livenessProbe"]);
    assert_eq!(checked["startupProbe"]["failureThreshold"], 18);
    let numbers: Vec<_> =
        checked["ports"].as_array().unwrap().iter().map(|port| &port["containerPort"]).collect();
    assert_eq!(numbers, [53, 53, 443]);
    let in_shell = container().unwrap();
    assert_eq!(in_shell["readinessProbe"]["exec"]["command"][2], "curl -f \"http://x\" # no");
    assert!(in_shell.get("securityContext").is_none());
    let unchecked = container().unwrap();
    assert!(unchecked.get("readinessProbe").is_none() && unchecked.get("securityContext").is_none());
}

#[test]
fn what_was_left_out_is_told() {
    let notes: Vec<String> = cases().iter().map(|(_, deployment)| deployment.notes().join("; ")).collect();
    for (number, words) in [
        (0, "no HEALTHCHECK: there are no probes"),
        (1, "pods are ready once port 80 answers"),
        (4, "the name \"app\""),
        (5, "\"8000-8002/tcp\" is not a port"),
        (7, "HEALTHCHECK \"FOO\" is not known"),
    ] {
        assert!(notes[number].contains(words), "{words}: {}", notes[number]);
    }
    assert_eq!((notes[2].as_str(), notes[6].as_str()), ("", ""));
}

fn text() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "y",
        "NO",
        "on",
        "~",
        "null",
        "true",
        ".inf",
        "-.INF",
        ".nan",
        "0x1f",
        "0o7",
        "0b1",
        "1_000",
        "1e3",
        "12:30:45",
        "2001-12-14t21:59:43.10-05:00",
        "<<",
        "=",
        "- ",
        ": ",
        " #",
        "!!",
        "%TAG",
        "\n",
        "\r\n",
        "\u{85}",
        "\u{feff}",
        "---",
        "...",
        "'",
        "\"",
        "\\",
        "{{",
        "[",
        ",",
        "\t",
        " ",
    ];
    let part = prop_oneof![
        proptest::sample::select(WORDS).prop_map(str::to_owned),
        any::<String>(),
        any::<char>().prop_map(String::from),
        (0..1000_i32).prop_map(|number| number.to_string()),
    ];
    proptest::collection::vec(part, 0..3).prop_map(|parts| parts.concat())
}

proptest! {
    // Each case starts a program, and tries many texts.
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_text_comes_back(command in proptest::collection::vec(text(), 1..400)) {
        let test = ["CMD".to_owned()].into_iter().chain(command.iter().cloned()).collect();
        let health = HealthConfig { test, ..HealthConfig::default() };
        let config = ContainerConfig { healthcheck: Some(health), ..ContainerConfig::default() };
        let deployment =
            Deployment::new(&"app".parse().unwrap(), &Digest::of(b""), &config, &DeployOptions::default());
        let Some(documents) = documents(&deployment.unwrap().to_string()) else { return Ok(()) };
        let container = &documents[0]["spec"]["template"]["spec"]["containers"][0];
        prop_assert_eq!(&container["livenessProbe"]["exec"]["command"], &json!(command));
    }
}
