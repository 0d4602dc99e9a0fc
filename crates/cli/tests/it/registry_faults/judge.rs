use std::io;

use ocibuild::spec::{Digest, Document, VerifyingReader, parse_manifest_or_index};
use ocibuild::store::reachable;
use ocibuild_testkit::LoggedRequest;

use super::case::{Case, Row};
use super::scene::{ENCODED, Ended, IDENTITY, PASSWORD, Scene, TOKEN};

/// What is wrong with a case: with its end, with what the listeners saw, and with what is left of it.
pub(super) fn judge(case: &Case, scene: &Scene<'_>, ended: &Ended) -> Vec<String> {
    let mut wrong = Vec::new();
    wrong.extend(of_end(case, scene, ended));
    wrong.extend(of_table(case, scene));
    for (name, _) in scene.listeners() {
        wrong.extend(of_secrets(case, scene, name));
    }
    wrong.extend(of_order(&scene.heard("registry")));
    wrong.extend(of_name(scene, ended));
    wrong.extend(of_state(scene));
    wrong
}

fn of_end(case: &Case, scene: &Scene<'_>, ended: &Ended) -> Vec<String> {
    let mut wrong = Vec::new();
    assert!([0, 3, 4].contains(&case.code), "{}: it may end with 0, 3 or 4", case.title());
    assert!((case.code == 0) == case.says.is_empty(), "{}: it says something if it fails", case.title());
    if ended.code != Some(case.code) {
        wrong.push(format!("ended with {:?} after {:?}", ended.code, ended.took));
    }
    let report =
        ended.stderr.lines().skip_while(|line| !line.starts_with("error")).collect::<Vec<_>>().join("\n");
    for words in &case.says {
        if !report.contains(&scene.meant(words)) {
            wrong.push(format!("it does not say {words:?}"));
        }
    }
    for (stream, text) in [("output", &ended.stdout), ("error", &ended.stderr)] {
        if text.chars().any(|character| character.is_control() && character != '\n') {
            wrong.push(format!("a control character in standard {stream}"));
        }
        for secret in [PASSWORD, ENCODED, IDENTITY, TOKEN] {
            if text.contains(secret) {
                wrong.push(format!("{secret} in standard {stream}"));
            }
        }
    }
    wrong
}

fn of_table(case: &Case, scene: &Scene<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, _) in scene.listeners() {
        let is_in_table = case.rows.iter().any(|row| row.listener == name);
        let is_used = name == "registry" || case.uses(name);
        assert!(is_in_table || !is_used, "{}: nothing about {name} in the table", case.title());
        let heard = scene.heard(name);
        if !is_in_table && !heard.is_empty() {
            wrong.push(format!("{name} was asked: {}", listed(&heard)));
        }
    }
    for row in &case.rows {
        wrong.extend(of_row(scene, row));
    }
    wrong
}

fn of_row(scene: &Scene<'_>, row: &Row) -> Option<String> {
    let path = scene.meant(&row.path);
    let is_meant = |request: &LoggedRequest| {
        (row.method == "*" || row.method == request.method) && request.path.contains(&path)
    };
    let heard: Vec<LoggedRequest> = scene.heard(&row.listener).into_iter().filter(is_meant).collect();
    let schemes: Vec<&str> = heard
        .iter()
        .map(|request| {
            request.headers.get("authorization").map_or("none", |value| value.split(' ').next().unwrap())
        })
        .collect();
    let all = |scheme: &str| schemes.iter().all(|sent| sent.eq_ignore_ascii_case(scheme));
    let is_authorized = match row.authorization.as_str() {
        "-" => true,
        "some" => !all("none"),
        scheme => all(scheme),
    };
    let bytes: u64 = heard.iter().map(|request| request.received).sum();
    let fits = (row.least..=row.most).contains(&heard.len()) && is_authorized && bytes <= row.bytes;
    (!fits).then(|| {
        format!(
            "not {}, but {} requests, {schemes:?}, {bytes} bytes: {}",
            row.text,
            heard.len(),
            listed(&heard)
        )
    })
}

fn listed(requests: &[LoggedRequest]) -> String {
    let line = |request: &LoggedRequest| {
        format!("\n    {} {} ({} bytes) {}", request.method, request.path, request.received, request.status)
    };
    requests.iter().map(line).collect()
}

/// What a listener saw that it must not have.
fn of_secrets(case: &Case, scene: &Scene<'_>, name: &str) -> Vec<String> {
    let has = |words: &[&str]| {
        case.rows.iter().any(|row| row.listener == name && words.contains(&row.authorization.as_str()))
    };
    let mut forbidden = Vec::new();
    if !has(&["basic", "some"]) {
        forbidden.extend([PASSWORD, ENCODED]);
    }
    if !has(&["bearer", "some"]) {
        forbidden.push(TOKEN);
    }
    // Identity tokens are sent in forms, to token services.
    if !(name == "token" && case.steps.iter().any(|step| step.ends_with(" identity"))) {
        forbidden.push(IDENTITY);
    }
    let mut wrong = Vec::new();
    for request in scene.heard(name) {
        let text =
            format!("{} {:?} {}", request.path, request.headers, String::from_utf8_lossy(&request.body));
        for secret in &forbidden {
            if text.contains(secret) {
                wrong.push(format!("{name} saw {secret}: {} {}", request.method, request.path));
            }
        }
        let is_stranger = request.headers.contains_key("authorization") && !has(&["basic", "bearer", "some"]);
        if is_stranger {
            wrong.push(format!("{name} saw an authorization: {} {}", request.method, request.path));
        }
        if name != "registry" && has_layer(scene, &request.body) {
            wrong.push(format!("{name} saw bytes of a layer: {} {}", request.method, request.path));
        }
    }
    wrong
}

/// Whether a body has any of some pieces of the image's blobs.
fn has_layer(scene: &Scene<'_>, body: &[u8]) -> bool {
    const PIECE: usize = 24;
    let layers = scene.image.layers.iter().chain([&scene.image.config]).map(|(_, bytes)| bytes);
    let mut pieces =
        layers.flat_map(|bytes| (1..8).filter_map(|part| bytes.get(bytes.len() / 8 * part..)?.get(..PIECE)));
    pieces.any(|piece| body.windows(PIECE).any(|window| window == piece))
}

/// No manifest comes before the registry said that it has every blob of it.
fn of_order(heard: &[LoggedRequest]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, put) in heard.iter().enumerate() {
        let is_manifest = put.method == "PUT" && put.path.contains("/manifests/");
        let Some(Document::Manifest(manifest)) =
            is_manifest.then(|| parse_manifest_or_index(&put.body, None).ok()).flatten()
        else {
            continue;
        };
        for blob in std::iter::once(&manifest.config).chain(manifest.layers()) {
            if !heard[..number].iter().any(|earlier| confirms(earlier, &blob.digest)) {
                wrong.push(format!("a manifest came before its blob {}", blob.digest));
            }
        }
    }
    wrong
}

fn confirms(request: &LoggedRequest, digest: &Digest) -> bool {
    let digest = digest.as_str();
    match request.method.as_str() {
        "HEAD" => request.status == 200 && request.path.ends_with(digest),
        "PUT" => [201, 204].contains(&request.status) && request.path.contains(&format!("digest={digest}")),
        _ => false,
    }
}

/// The name stands for the image where that was wanted and went well, and for what it stood for before otherwise.
fn of_name(scene: &Scene<'_>, ended: &Ended) -> Option<String> {
    let name = scene.name()?;
    let is_well = ended.code == Some(0);
    if scene.args[0] == "push" {
        let stands = scene.at_registry(&name);
        let expected = if is_well { Some(scene.image.manifest.clone()) } else { scene.stood.0.clone() };
        let layers = scene.image.layers.iter().chain([&scene.image.config]);
        let has_all = layers
            .map(|(layer, _)| layer)
            .all(|layer| scene.listener("registry").blob(name.repository(), &layer.digest).is_some());
        if is_well && !has_all {
            return Some("not everything is at the registry".to_owned());
        }
        return (stands != expected).then(|| format!("at the registry {name} stands for something else"));
    }
    let stands = scene.state().resolve(&name).unwrap().map(|found| found.digest.to_string());
    let expected =
        if is_well { Some(scene.image.descriptor.digest.to_string()) } else { scene.stood.1.clone() };
    (stands != expected).then(|| format!("{name} stands for {stands:?}, not for {expected:?}"))
}

/// Everything that has a name here is here, and nothing half-written is left.
fn of_state(scene: &Scene<'_>) -> Vec<String> {
    let layout = scene.state();
    let mut wrong = Vec::new();
    for (name, descriptor) in layout.list().unwrap() {
        match reachable(&layout, &descriptor) {
            Ok(all) => {
                for blob in all {
                    let opened = layout.open_blob(&blob).map_err(|error| error.to_string());
                    let read = opened.and_then(|bytes| {
                        io::copy(&mut VerifyingReader::new(bytes, &blob), &mut io::sink())
                            .map_err(|error| error.to_string())
                    });
                    wrong.extend(read.err().map(|error| format!("{name}: {}: {error}", blob.digest)));
                }
            }
            Err(error) => wrong.push(format!("{name} is not complete: {error}")),
        }
    }
    let left = fs_err::read_dir(scene.state_path("tmp")).map_or(0, Iterator::count);
    if left > 0 {
        wrong.push(format!("{left} files are left in tmp"));
    }
    wrong
}
