use std::path::Path;

use ocibuild_registry::{Registry, RegistryBuilder};
use ocibuild_spec::SourceErrorKind;
use ocibuild_testkit::{CertificateFiles, Certificates, TestImage, TestRegistry, TlsFront, skip};

use super::{client, fault_of, resolve};

/// A registry behind TLS, and certificates to choose from.
struct Scene {
    registry: TestRegistry,
    certificates: Certificates,
    /// Searched for folders about hosts.
    certs_d: tempfile::TempDir,
}

impl Scene {
    fn new() -> Option<Self> {
        let registry = TestRegistry::start();
        registry.push("app", "1", &TestImage::new("linux/amd64").layer(&[("a", "1")]).build());
        let certs_d = tempfile::tempdir().unwrap();
        let certificates = Certificates::new();
        if certificates.is_none() {
            skip("openssl is not installed");
        }
        Some(Self { registry, certificates: certificates?, certs_d })
    }

    fn front(&self, own: &CertificateFiles) -> TlsFront {
        TlsFront::start(&self.registry.authority(), own, None)
    }

    /// Puts a file into the folder about a host.
    fn put(&self, host: &str, name: &str, from: &Path) {
        let folder = self.certs_d.path().join(host);
        fs_err::create_dir_all(&folder).unwrap();
        fs_err::copy(from, folder.join(name)).unwrap();
    }

    fn with_folders(&self) -> Registry {
        builder().certs_d(self.certs_d.path()).build().unwrap()
    }
}

fn builder() -> RegistryBuilder {
    Registry::builder().retries(1, std::time::Duration::ZERO, std::time::Duration::ZERO)
}

fn trusting(certificate: &Path) -> Registry {
    builder().ca_pem(fs_err::read(certificate).unwrap()).build().unwrap()
}

fn app(front: &TlsFront) -> String {
    format!("{}/app:1", front.authority())
}

/// The text of the refusal of a certificate, and what it calls for: a hint, or what is wrong.
#[track_caller]
fn refusal(registry: &Registry, front: &TlsFront) -> (String, String) {
    let error = resolve(registry, &app(front)).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Network, "{error}");
    let hint = error.hint_text().map(str::to_owned);
    (error.to_string(), hint.unwrap_or_else(|| format!("{:?}", fault_of(&error))))
}

#[test]
fn a_certificate_that_vouches_for_itself_counts_where_it_is_named() {
    let Some(scene) = Scene::new() else { return };
    let own = scene.certificates.self_signed("own", "IP:127.0.0.1");
    let front = scene.front(&own);
    let (text, hint) = refusal(&client(), &front);
    assert!(text.contains("CaUsedAsEndEntity"), "{text}");
    assert!(hint.contains("SelfSigned") && hint.contains(&front.authority()), "{hint}");
    resolve(&trusting(&own.certificate), &app(&front)).unwrap();
    // Another one of the same kind and subject is another one.
    let other = scene.certificates.self_signed("other", "IP:127.0.0.1");
    refusal(&trusting(&other.certificate), &front);
    scene.put(&front.authority(), "ca.crt", &other.certificate);
    refusal(&scene.with_folders(), &front);
    scene.put(&front.authority(), "own.crt", &own.certificate);
    resolve(&scene.with_folders(), &app(&front)).unwrap();
    resolve(&builder().insecure(front.authority()).build().unwrap(), &app(&front)).unwrap();
}

#[test]
fn names_and_dates_are_looked_at_even_so() {
    let Some(scene) = Scene::new() else { return };
    for (names, words) in
        [("DNS:registry.test,IP:10.0.0.1", "registry.test"), ("", "not valid for any names")]
    {
        let own = scene.certificates.self_signed("named", names);
        let front = scene.front(&own);
        let (text, hint) = refusal(&trusting(&own.certificate), &front);
        assert!(text.contains("not valid for name \"127.0.0.1\"") && text.contains(words), "{text}");
        assert!(hint.contains("subjectAltName has 127.0.0.1"), "{hint}");
    }
    let own = scene.certificates.expired("old", "IP:127.0.0.1");
    let front = scene.front(&own);
    let (text, hint) = refusal(&trusting(&own.certificate), &front);
    assert!(text.contains("certificate expired"), "{text}");
    assert!(hint.contains("new certificate"), "{hint}");
    resolve(&builder().insecure(front.authority()).build().unwrap(), &app(&front)).unwrap();
}

#[test]
fn an_authority_of_one_host_is_none_of_another() {
    let Some(scene) = Scene::new() else { return };
    let authority = scene.certificates.self_signed("ca", "DNS:ca");
    let own = scene.certificates.issued("server", &authority, "IP:127.0.0.1", "serverAuth");
    let (one, other) = (scene.front(&own), scene.front(&own));
    scene.put(&one.authority(), "ca.crt", &authority.certificate);
    let registry = scene.with_folders();
    resolve(&registry, &app(&one)).unwrap();
    let (text, hint) = refusal(&registry, &other);
    assert!(text.contains("UnknownIssuer"), "{text}");
    assert!(hint.contains("UnknownIssuer") && hint.contains(&other.authority()), "{hint}");
    resolve(&trusting(&authority.certificate), &app(&other)).unwrap();
    // A server's certificate that is named itself needs no authority.
    resolve(&trusting(&own.certificate), &app(&other)).unwrap();
    // containerd's way to write a port.
    let folder = format!("{}_", other.authority().replace(':', "_"));
    scene.put(&folder, "ca.crt", &authority.certificate);
    resolve(&scene.with_folders(), &app(&other)).unwrap();
}

#[test]
fn a_client_certificate_is_shown_to_its_host() {
    let Some(scene) = Scene::new() else { return };
    let authority = scene.certificates.self_signed("ca", "DNS:ca");
    let own = scene.certificates.issued("server", &authority, "IP:127.0.0.1", "serverAuth");
    let client = scene.certificates.issued("client", &authority, "DNS:client", "clientAuth");
    let front = TlsFront::start(&scene.registry.authority(), &own, Some(&authority.certificate));
    let host = front.authority();
    scene.put(&host, "ca.crt", &authority.certificate);
    let (text, hint) = refusal(&scene.with_folders(), &front);
    assert!(text.to_lowercase().contains("certificaterequired"), "{text}");
    assert!(hint.contains("ClientCertificate") && hint.contains(&host), "{hint}");
    for (name, file, words) in [
        ("client.cert", &client.certificate, "client.key is missing"),
        ("client.key", &client.certificate, "no private key"),
        ("client.key", &own.key, "client certificate"),
    ] {
        scene.put(&host, name, file);
        let error = resolve(&scene.with_folders(), &app(&front)).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains(&format!("{host}/client.")), "{error}");
    }
    scene.put(&host, "client.key", &client.key);
    resolve(&scene.with_folders(), &app(&front)).unwrap();
    // One that nobody the server knows vouches for.
    let stranger = scene.certificates.self_signed("stranger", "DNS:client");
    scene.put(&host, "client.cert", &stranger.certificate);
    scene.put(&host, "client.key", &stranger.key);
    let (text, _) = refusal(&scene.with_folders(), &front);
    assert!(text.contains("received fatal alert"), "{text}");
    let second = scene.certs_d.path().join(&host).join("second.key");
    fs_err::copy(&client.key, &second).unwrap();
    let error = resolve(&scene.with_folders(), &app(&front)).unwrap_err();
    assert!(error.to_string().contains("second.cert is missing"), "{error}");
    fs_err::copy(&client.certificate, second.with_extension("cert")).unwrap();
    let error = resolve(&scene.with_folders(), &app(&front)).unwrap_err();
    assert!(error.to_string().contains("second client certificate"), "{error}");
}

#[test]
fn an_insecure_registry_makes_no_other_host_insecure() {
    let Some(scene) = Scene::new() else { return };
    let own = scene.certificates.self_signed("own", "IP:127.0.0.1");
    let (front, elsewhere) = (scene.front(&own), scene.front(&own));
    let registry = builder().insecure(front.authority()).build().unwrap();
    // Its token service has a certificate that nobody named.
    scene.registry.require_token("t", Some(&format!("https://{}/token", elsewhere.authority())));
    let before = scene.registry.requests().len();
    let (text, _) = refusal(&registry, &front);
    assert!(text.contains(&format!("https://{}/token", elsewhere.authority())), "{text}");
    assert!(text.contains("CaUsedAsEndEntity"), "{text}");
    assert_eq!(scene.registry.requests().len(), before + 1);
    // So does the server that it redirects to.
    let scene = Scene::new().expect("openssl was there before");
    let (front, elsewhere) = (scene.front(&own), scene.front(&own));
    let registry = builder().insecure(front.authority()).build().unwrap();
    let target = format!("https://{}/v2/app/manifests/1", elsewhere.authority());
    scene.registry.fault("/manifests/", 1, ocibuild_testkit::Fault::Redirect(target));
    let (text, _) = refusal(&registry, &front);
    assert!(text.contains("CaUsedAsEndEntity") && text.contains(&elsewhere.authority()), "{text}");
}

#[test]
fn folders_that_cannot_be_used_are_named() {
    let Some(scene) = Scene::new() else { return };
    let own = scene.certificates.self_signed("own", "IP:127.0.0.1");
    let front = scene.front(&own);
    scene.put(&front.authority(), "ca.crt", &own.key);
    let error = resolve(&scene.with_folders(), &app(&front)).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Configuration);
    assert!(error.to_string().contains("ca.crt: the file holds no certificate"), "{error}");
    // What is wrong about one host is nothing to another.
    let other = scene.front(&own);
    scene.put(&other.authority(), "ca.crt", &own.certificate);
    resolve(&scene.with_folders(), &app(&other)).unwrap();
    // Beside a hosts.toml only what it names counts.
    fs_err::write(scene.certs_d.path().join(other.authority()).join("hosts.toml"), "").unwrap();
    refusal(&scene.with_folders(), &other);
}
