use std::path::Path;
use std::process::Command;

use ocibuild_registry::Registry;
use ocibuild_testkit::{DockerRegistry, TestImage, skip, write_layout};

use super::{RegistryFault, client, fault_of, pull, resolve};

#[test]
fn the_reference_registry_is_understood() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = DockerRegistry::start(directory.path(), "", "") else { return };
    let image = TestImage::new("linux/amd64").layer(&[("etc/motd", "hello\n")]).gzip().build();
    let layout = directory.path().join("layout");
    fs_err::create_dir(&layout).unwrap();
    write_layout(&layout, &[("1", &image)]);
    let reference = format!("{}/team/app:1", server.authority());
    let pushed = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false"])
        .arg(format!("oci:{}:1", layout.display()))
        .arg(format!("docker://{reference}"))
        .output();
    let Ok(pushed) = pushed else { return skip("skopeo is not installed") };
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let registry = client();
    let found = resolve(&registry, &reference).unwrap();
    assert_eq!(found.descriptor.digest, image.descriptor.digest);
    let (layer, bytes) = &image.layers[0];
    assert_eq!(pull(&registry, &reference, layer).unwrap(), *bytes);
    let missing = resolve(&registry, &reference.replace(":1", ":2")).unwrap_err();
    assert!(missing.to_string().contains("MANIFEST_UNKNOWN"), "{missing}");
}

/// A certificate for 127.0.0.1 that is its own authority.
fn certificate(directory: &Path) -> Option<String> {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .arg("-keyout")
        .arg(directory.join("key.pem"))
        .arg("-out")
        .arg(directory.join("cert.pem"))
        .output()
        .ok()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let at = directory.display();
    Some(format!(", tls: {{certificate: {at}/cert.pem, key: {at}/key.pem}}"))
}

#[test]
fn certificates_decide_and_nothing_falls_back_to_plain_text() {
    let directory = tempfile::tempdir().unwrap();
    let Some(tls) = certificate(directory.path()) else { return skip("openssl is not installed") };
    let Some(server) = DockerRegistry::start(directory.path(), &tls, "") else { return };
    let reference = format!("{}/team/app:1", server.authority());
    let untrusted = resolve(&client(), &reference).unwrap_err();
    assert!(untrusted.to_string().contains("https://"), "{untrusted}");
    assert!(matches!(fault_of(&untrusted), RegistryFault::Certificate { .. }), "{untrusted:?}");
    let pem = fs_err::read(directory.path().join("cert.pem")).unwrap();
    for builder in [Registry::builder().ca_pem(pem), Registry::builder().insecure(server.authority())] {
        let answer = resolve(&builder.build().unwrap(), &reference).unwrap_err();
        assert!(answer.to_string().contains("404: MANIFEST_UNKNOWN"), "{answer}");
    }
    assert!(Registry::builder().ca_pem("no certificate").build().is_err());
}
