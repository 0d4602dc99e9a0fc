use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use ocibuild_registry::{
    AwsEndpoints, AwsIdentity, AzureEndpoints, AzureIdentity, CloudServices, Credential, CredentialSource,
    Credentials, GoogleEndpoints, GoogleIdentity, HttpClient, Lookup, Match, Registry, RegistryKey, Secret,
    Wanted,
};
use ocibuild_spec::{CancelToken, SourceError, SourceErrorKind};
use ocibuild_testkit::{HangGuard, LoggedRequest, Reply, TestImage, TestRegistry, WebServer, skip};

use super::{TestClock, resolve};

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
/// `AWS:pa55`
const AWS_TOKEN: &str = "QVdTOnBhNTU=";
const SECRET: &str = "s3cr3t-c4n4ry";
/// 2015-08-30T12:36:00Z
const NOW: u64 = 1_440_938_160;

fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn services() -> CloudServices {
    let client = || {
        let builder = HttpClient::builder().connect_timeout(Duration::from_millis(500));
        builder.stall_timeout(Duration::from_millis(500)).build().unwrap()
    };
    CloudServices::new(client(), client(), clock)
}

/// A cloud whose services are all one server.
struct Cloud {
    server: WebServer,
    directory: tempfile::TempDir,
}

impl Cloud {
    fn start() -> Self {
        Self { server: WebServer::start(), directory: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        fs_err::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn requests(&self, path: &str) -> Vec<LoggedRequest> {
        let mut requests = self.server.requests();
        requests.retain(|request| request.path.split('?').next() == Some(path));
        requests
    }

    fn aws(&self, variables: &[(&str, &str)]) -> AwsIdentity {
        let endpoints = AwsEndpoints {
            metadata: self.server.url(""),
            container: self.server.url(""),
            sts: Some(self.server.url("/sts")),
            ecr: Some(self.server.url("/ecr")),
            ecr_public: Some(self.server.url("/public")),
        };
        AwsIdentity::new(services(), endpoints, &|name| value(variables, name))
    }

    fn google(&self, variables: &[(&str, &str)]) -> GoogleIdentity {
        let endpoints = GoogleEndpoints { metadata: self.server.url(""), token: self.server.url("/token") };
        GoogleIdentity::new(services(), endpoints, &|name| value(variables, name))
    }

    fn azure(&self, variables: &[(&str, &str)]) -> AzureIdentity {
        let endpoints = AzureEndpoints {
            metadata: self.server.url(""),
            authority: self.server.url("/login/"),
            registry: Some(self.server.url("")),
        };
        AzureIdentity::new(services(), endpoints, &|name| value(variables, name))
    }
}

fn value(variables: &[(&str, &str)], name: &str) -> Option<String> {
    variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
}

fn find(source: &dyn CredentialSource, registry: &str) -> Result<Lookup, SourceError> {
    source.find(Wanted { registry, repository: Some("team/app") }, &CancelToken::new())
}

#[track_caller]
fn hit(source: &dyn CredentialSource, registry: &str) -> Match {
    match find(source, registry) {
        Ok(Lookup::Match(hit)) => hit,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn miss(source: &dyn CredentialSource, registry: &str) -> String {
    match find(source, registry) {
        Ok(Lookup::Miss(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn ecr_answer() -> Reply {
    let ends = NOW + 43_200;
    Reply::of(format!(
        r#"{{"authorizationData":[{{"authorizationToken":"{AWS_TOKEN}","expiresAt":{ends}.25}}]}}"#
    ))
}

fn keys_answer() -> Reply {
    Reply::of(format!(
        r#"{{"Code":"Success","AccessKeyId":"ASIA","SecretAccessKey":"{SECRET}","Token":"sess","Expiration":"2015-08-30T18:36:00Z"}}"#
    ))
}

fn is_aws(hit: &Match) {
    assert_eq!(hit.credential, Credential::password("AWS", Secret::new("pa55")));
    assert_eq!(hit.life, Some(Duration::from_hours(12)));
}

#[test]
fn keys_of_aws_sign_the_request_for_a_password() {
    let cloud = Cloud::start();
    cloud.server.put("/ecr", ecr_answer());
    let variables = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    let source = cloud.aws(&variables);
    is_aws(&hit(&source, ECR));
    let request = &cloud.requests("/ecr")[0];
    assert_eq!(request.headers["x-amz-target"], "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken");
    assert_eq!(request.headers["x-amz-date"], "20150830T123600Z");
    assert_eq!((&request.method[..], &request.body[..]), ("POST", &b"{}"[..]));
    let signed = &request.headers["authorization"];
    assert!(
        signed.starts_with(
            "AWS4-HMAC-SHA256 Credential=AKIA/20150830/eu-west-1/ecr/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature="
        ),
        "{signed}"
    );
    assert!(!format!("{source:?}").contains(SECRET));
    for other in ["docker.io", "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.com", "amazonaws.com"] {
        assert_eq!(miss(&source, other), "it is not an AWS registry");
    }
    assert_eq!(cloud.server.requests().len(), 1);
    cloud.server.put(
        "/ecr",
        Reply::of(r#"{"__type":"AccessDeniedException","message":"not authorized"}"#).status(400),
    );
    let error = find(&source, ECR).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Denied);
    assert!(error.to_string().contains("400: not authorized"), "{error}");
}

#[test]
fn roles_of_aws_come_from_tokens_containers_and_machines() {
    let cloud = Cloud::start();
    cloud.server.put("/ecr", ecr_answer());
    let session = |request: &LoggedRequest| {
        let signed = &request.headers["authorization"];
        assert!(signed.contains("Credential=ASIA/") && signed.contains("x-amz-security-token"), "{signed}");
        assert_eq!(request.headers["x-amz-security-token"], "sess");
    };
    // A role for a token of the cluster.
    let answer = format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA</AccessKeyId>\
         <SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>sess</SessionToken></Credentials>\
         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    );
    cloud.server.put("/sts", Reply::of(answer));
    let file = cloud.file("token", "ey.jwt.x\n");
    let role = [("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"), ("AWS_WEB_IDENTITY_TOKEN_FILE", &file)];
    is_aws(&hit(&cloud.aws(&role), ECR));
    session(&cloud.requests("/ecr")[0]);
    let body = String::from_utf8(cloud.requests("/sts")[0].body.clone()).unwrap();
    assert!(
        body.contains("Action=AssumeRoleWithWebIdentity&") && body.contains("WebIdentityToken=ey.jwt.x"),
        "{body}"
    );
    assert!(body.contains("RoleArn=arn:aws:iam::1:role/r&RoleSessionName=ocibuild"), "{body}");
    // A service beside the container, with a token that is renewed.
    cloud.server.put("/v1/credentials", keys_answer());
    let url = cloud.server.url("/v1/credentials");
    let pod = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file),
    ];
    is_aws(&hit(&cloud.aws(&pod), ECR));
    session(&cloud.requests("/ecr")[1]);
    assert_eq!(cloud.requests("/v1/credentials")[0].headers["authorization"], "ey.jwt.x");
    is_aws(&hit(&cloud.aws(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v1/credentials")]), ECR));
    for elsewhere in ["http://10.0.0.1/x", "http://evil.test/x", "http://127.0.0.1.evil.test/"] {
        let error = find(&cloud.aws(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", elsewhere)]), ECR).unwrap_err();
        assert!(error.to_string().contains("in the clear"), "{error}");
    }
    // The machine's role.
    let roles = "/latest/meta-data/iam/security-credentials/";
    cloud.server.put("/latest/api/token", Reply::of("imds-token"));
    assert_eq!(miss(&cloud.aws(&[]), ECR), "no variable gives an identity, and this machine has no role");
    cloud.server.put(roles, Reply::of("builder\n"));
    cloud.server.put(&format!("{roles}builder"), keys_answer());
    is_aws(&hit(&cloud.aws(&[]), ECR));
    let asked = cloud.requests("/latest/api/token");
    assert_eq!(asked[0].method, "PUT");
    assert_eq!(
        cloud.requests(&format!("{roles}builder"))[0].headers["x-aws-ec2-metadata-token"],
        "imds-token"
    );
    assert!(miss(&cloud.aws(&[("AWS_EC2_METADATA_DISABLED", "true")]), ECR).contains("is set"));
}

#[test]
fn the_public_registry_of_aws_stays_open_to_everybody() {
    let cloud = Cloud::start();
    let variables = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    let answer = format!(
        r#"{{"authorizationData":{{"authorizationToken":"{AWS_TOKEN}","expiresAt":{}}}}}"#,
        NOW + 43_200
    );
    cloud.server.put("/public", Reply::of(answer));
    is_aws(&hit(&cloud.aws(&variables), "public.ecr.aws"));
    assert!(cloud.requests("/public")[0].headers["authorization"].contains("/us-east-1/ecr-public/"));
    cloud.server.put("/public", Reply::of(r#"{"message":"denied"}"#).status(400));
    assert!(miss(&cloud.aws(&variables), "public.ecr.aws").contains("open to everybody"));
}

#[test]
fn machines_without_a_metadata_service_are_not_waited_for() {
    let cloud = Cloud::start();
    let _guard = HangGuard::new("looking for metadata services");
    // One that knows nothing of this cloud, and one that never answers.
    assert!(miss(&cloud.aws(&[]), ECR).contains("no metadata service"));
    assert!(miss(&cloud.google(&[]), "eu.gcr.io").contains("no metadata service"));
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let endpoints = AwsEndpoints { metadata: url.clone(), ..AwsEndpoints::new(&|_| None) };
    assert!(miss(&AwsIdentity::new(services(), endpoints, &|_| None), ECR).contains("no metadata service"));
    let endpoints = GoogleEndpoints { metadata: url.clone(), ..GoogleEndpoints::new(&|_| None) };
    assert!(
        miss(&GoogleIdentity::new(services(), endpoints, &|_| None), "gcr.io")
            .contains("no metadata service")
    );
    let endpoints = AzureEndpoints { metadata: url, ..AzureEndpoints::new(&|_| None) };
    let azure = AzureIdentity::new(services(), endpoints, &|_| None);
    assert!(miss(&azure, "mine.azurecr.io").contains("no metadata service"));
    // Each asked once, and did not wait for an answer longer than its client does.
    silent.set_nonblocking(true).unwrap();
    let asked = std::iter::from_fn(|| silent.accept().ok()).count();
    assert_eq!(asked, 3);
}

#[test]
fn the_service_account_of_a_google_machine_is_used() {
    let cloud = Cloud::start();
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let answer = Reply::of(r#"{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}"#);
    cloud.server.put(path, answer.clone());
    assert!(
        miss(&cloud.google(&[]), "gcr.io").contains("no metadata service"),
        "it does not say that it is Google"
    );
    cloud.server.put(path, answer.header("metadata-flavor", "Google"));
    let found = hit(&cloud.google(&[]), "europe-docker.pkg.dev");
    assert_eq!(found.credential, Credential::password("oauth2accesstoken", Secret::new("ya29.x")));
    assert_eq!(found.life, Some(Duration::from_secs(3599)));
    assert_eq!(cloud.requests(path)[1].headers["metadata-flavor"], "Google");
    let before = cloud.server.requests().len();
    assert_eq!(miss(&cloud.google(&[]), "gcr.io.evil.com"), "it is not a Google registry");
    assert_eq!(cloud.server.requests().len(), before);
}

#[test]
fn files_of_google_are_understood() {
    let cloud = Cloud::start();
    cloud.server.put("/token", Reply::of(r#"{"access_token":"ya29.user","expires_in":3599}"#));
    let user = format!(
        r#"{{"type":"authorized_user","client_id":"c","client_secret":"{SECRET}","refresh_token":"r/1"}}"#
    );
    let file = cloud.file("user.json", &user);
    let source = cloud.google(&[("GOOGLE_APPLICATION_CREDENTIALS", &file)]);
    assert_eq!(hit(&source, "gcr.io").credential.username(), Some("oauth2accesstoken"));
    let body = String::from_utf8(cloud.requests("/token")[0].body.clone()).unwrap();
    assert_eq!(
        body,
        format!("grant_type=refresh_token&client_id=c&client_secret={SECRET}&refresh_token=r/1")
    );
    // Another provider's token, exchanged for one of Google's and that for a service account's.
    cloud.server.put("/sts", Reply::of(r#"{"access_token":"federated","expires_in":1200}"#));
    cloud
        .server
        .put("/impersonate", Reply::of(r#"{"accessToken":"ya29.sa","expireTime":"2015-08-30T13:36:00Z"}"#));
    cloud.server.put("/oidc", Reply::of(r#"{"value":"gh.jwt"}"#));
    let token = cloud.file("subject", "k8s.jwt");
    let federation = |source: &str, more: &str| {
        let text = format!(
            r#"{{"type":"external_account","audience":"//iam/x","subject_token_type":"urn:ietf:params:oauth:token-type:jwt",
            "token_url":"{}","credential_source":{source}{more}}}"#,
            cloud.server.url("/sts")
        );
        let file = cloud.file("federation.json", &text);
        cloud.google(&[("GOOGLE_APPLICATION_CREDENTIALS", &file)])
    };
    let found = hit(&federation(&format!(r#"{{"file":"{token}"}}"#), ""), "gcr.io");
    assert_eq!(found.credential, Credential::password("oauth2accesstoken", Secret::new("federated")));
    assert_eq!(found.life, Some(Duration::from_mins(20)));
    let body = |number: usize| String::from_utf8(cloud.requests("/sts")[number].body.clone()).unwrap();
    assert!(body(0).contains("subject_token=k8s.jwt") && body(0).contains("audience=//iam/x"), "{}", body(0));
    let url = format!(
        r#"{{"url":"{}","headers":{{"Authorization":"Bearer job"}},"format":{{"type":"json","subject_token_field_name":"value"}}}}"#,
        cloud.server.url("/oidc")
    );
    let more = format!(r#","service_account_impersonation_url":"{}""#, cloud.server.url("/impersonate"));
    let found = hit(&federation(&url, &more), "gcr.io");
    assert_eq!(found.credential, Credential::password("oauth2accesstoken", Secret::new("ya29.sa")));
    assert!(body(1).contains("subject_token=gh.jwt"), "{}", body(1));
    assert_eq!(cloud.requests("/oidc")[0].headers["authorization"], "Bearer job");
    assert_eq!(cloud.requests("/impersonate")[0].headers["authorization"], "Bearer federated");
    // What is not understood is named, without what is in it.
    for (text, words) in [
        (format!(r#"{{"type":"{SECRET}""#), "not JSON"),
        (r#"{"type":"gdch_service_account"}"#.to_owned(), "gdch_service_account"),
        (r#"{"type":"service_account"}"#.to_owned(), "no client_email"),
        (
            format!(
                r#"{{"type":"service_account","client_email":"a","token_uri":"http://x/","private_key":"{SECRET}"}}"#
            ),
            "not an RSA key",
        ),
    ] {
        let file = cloud.file("odd.json", &text);
        let error = find(&cloud.google(&[("GOOGLE_APPLICATION_CREDENTIALS", &file)]), "gcr.io").unwrap_err();
        assert!(error.to_string().contains(words) && !error.to_string().contains(SECRET), "{error}");
    }
    let error = find(&cloud.google(&[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere")]), "gcr.io").unwrap_err();
    assert!(error.to_string().contains("/nowhere"), "{error}");
}

fn openssl(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("openssl").args(arguments).current_dir(directory).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_service_account_signs_with_its_key() {
    let cloud = Cloud::start();
    let directory = cloud.directory.path();
    let made = openssl(
        directory,
        &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key.pem"],
    );
    if made.is_none() {
        return skip("openssl is not installed");
    }
    openssl(directory, &["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
    cloud.server.put("/jwt", Reply::of(r#"{"access_token":"ya29.sa","expires_in":3599}"#));
    let account = serde_json::json!({
        "type": "service_account",
        "client_email": "builder@project.test",
        "private_key_id": "k1",
        "private_key": fs_err::read_to_string(directory.join("key.pem")).unwrap(),
        "token_uri": cloud.server.url("/jwt"),
    });
    let file = cloud.file("account.json", &account.to_string());
    hit(&cloud.google(&[("GOOGLE_APPLICATION_CREDENTIALS", &file)]), "gcr.io");
    let body = String::from_utf8(cloud.requests("/jwt")[0].body.clone()).unwrap();
    let assertion = body.split_once("assertion=").unwrap().1;
    let (statement, signature) = assertion.rsplit_once('.').unwrap();
    let decode = |text: &str| {
        let padded = text.replace('-', "+").replace('_', "/") + &"=".repeat((4 - text.len() % 4) % 4);
        fs_err::write(directory.join("part"), padded).unwrap();
        openssl(directory, &["base64", "-d", "-A", "-in", "part", "-out", "decoded"]);
        fs_err::read(directory.join("decoded")).unwrap()
    };
    let claims: serde_json::Value =
        serde_json::from_slice(&decode(statement.split_once('.').unwrap().1)).unwrap();
    assert_eq!((&claims["iss"], &claims["iat"]), (&"builder@project.test".into(), &NOW.into()));
    fs_err::write(directory.join("signature"), decode(signature)).unwrap();
    fs_err::write(directory.join("statement"), statement).unwrap();
    let arguments = ["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "statement"];
    assert_eq!(openssl(directory, &arguments).unwrap().trim(), "Verified OK");
}

#[test]
fn azure_gives_an_identity_token_of_the_registry() {
    let cloud = Cloud::start();
    let registry = "mine.azurecr.io";
    let file = cloud.file("token", "cluster.jwt");
    // {"iat":100,"exp":10900}
    let refresh = "e30.eyJpYXQiOjEwMCwiZXhwIjoxMDkwMH0.sig";
    cloud.server.put("/oauth2/exchange", Reply::of(format!(r#"{{"refresh_token":"{refresh}"}}"#)));
    cloud.server.put("/login/t1/oauth2/v2.0/token", Reply::of(r#"{"access_token":"aad","expires_in":3599}"#));
    let cluster =
        [("AZURE_FEDERATED_TOKEN_FILE", file.as_str()), ("AZURE_TENANT_ID", "t1"), ("AZURE_CLIENT_ID", "c1")];
    let found = hit(&cloud.azure(&cluster), registry);
    assert_eq!(found.credential, Credential::IdentityToken(Secret::new(refresh)));
    assert_eq!(found.life, Some(Duration::from_hours(3)));
    let body =
        |path: &str, number: usize| String::from_utf8(cloud.requests(path)[number].body.clone()).unwrap();
    let asked = body("/login/t1/oauth2/v2.0/token", 0);
    assert!(asked.contains("client_assertion=cluster.jwt") && asked.contains("client_id=c1"), "{asked}");
    assert!(asked.contains("scope=https://management.azure.com/.default"), "{asked}");
    assert_eq!(
        body("/oauth2/exchange", 0),
        "grant_type=access_token&service=mine.azurecr.io&tenant=t1&access_token=aad"
    );
    let secret = [("AZURE_CLIENT_SECRET", SECRET), cluster[1], cluster[2]];
    let source = cloud.azure(&secret);
    hit(&source, registry);
    assert!(body("/login/t1/oauth2/v2.0/token", 1).contains(&format!("client_secret={SECRET}")));
    assert!(!format!("{source:?}").contains(SECRET));
    assert!(miss(&cloud.azure(&cluster[..2]), registry).contains("not both set"));
    // The machine's identity.
    let path = "/metadata/identity/oauth2/token";
    cloud.server.put(path, Reply::of(r#"{"access_token":"machine","expires_in":"86399"}"#));
    hit(&cloud.azure(&[("AZURE_CLIENT_ID", "c2")]), registry);
    let asked = &cloud.requests(path)[0];
    assert_eq!(asked.headers["metadata"], "true");
    assert!(
        asked.path.ends_with("&client_id=c2")
            && asked.path.contains("resource=https://management.azure.com/"),
        "{}",
        asked.path
    );
    assert_eq!(
        body("/oauth2/exchange", 2),
        "grant_type=access_token&service=mine.azurecr.io&access_token=machine"
    );
    cloud.server.put(
        path,
        Reply::of(r#"{"error":"invalid_request","error_description":"Identity not found"}"#).status(400),
    );
    assert_eq!(miss(&cloud.azure(&[]), registry), "this machine has no identity");
    // Nobody else's registry gets anything.
    let before = cloud.server.requests().len();
    for other in ["mine.azurecr.io.evil.com", "evil.com.azurecr.io", "mine.azurecr.io:444", "docker.io"] {
        assert_eq!(miss(&cloud.azure(&cluster), other), "it is not an Azure registry");
    }
    assert_eq!(cloud.server.requests().len(), before);
    cloud.server.put(
        "/oauth2/exchange",
        Reply::of(r#"{"errors":[{"code":"UNAUTHORIZED","message":"no role"}]}"#).status(401),
    );
    let error = find(&cloud.azure(&cluster), registry).unwrap_err();
    assert!(error.to_string().contains("401: UNAUTHORIZED (no role)"), "{error}");
}

/// A source of a cloud that answers for the registry of a test.
#[derive(Debug)]
struct Renamed<S>(S, &'static str, RegistryKey);

impl<S: CredentialSource> CredentialSource for Renamed<S> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn place(&self) -> String {
        self.0.place()
    }

    fn find(&self, wanted: Wanted<'_>, cancel: &CancelToken) -> Result<Lookup, SourceError> {
        assert_eq!(wanted.registry, self.2.host());
        self.0.find(Wanted { registry: self.1, ..wanted }, cancel)
    }
}

#[test]
fn an_identity_is_asked_again_before_its_password_ends() {
    let (cloud, server) = (Cloud::start(), TestRegistry::start());
    server.push("app", "1", &TestImage::new("linux/amd64").build());
    server.require_token("t0ken", Some(&cloud.server.url("/registry-token")));
    cloud.server.put("/registry-token", Reply::of(r#"{"token":"t0ken","expires_in":3}"#));
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let google = |token: &str, life: u32| {
        let answer = format!(r#"{{"access_token":"{token}","expires_in":{life}}}"#);
        cloud.server.put(path, Reply::of(answer).header("metadata-flavor", "Google"));
    };
    google("first", 6);
    let key = RegistryKey::parse(&server.authority()).unwrap();
    let source = Renamed(cloud.google(&[]), "gcr.io", key);
    let (clock, credentials) = (TestClock::default(), Credentials::new(vec![Box::new(source)]));
    let registry = Registry::builder().credentials(credentials).clock(clock.read()).build().unwrap();
    let reference = server.reference("app", "1");
    for _ in 0..3 {
        resolve(&registry, &reference).unwrap();
    }
    assert_eq!((cloud.requests(path).len(), cloud.requests("/registry-token").len()), (1, 1));
    // The registry's token ends first, and is renewed with the same password; then the password ends.
    clock.advance(Duration::from_millis(2500));
    resolve(&registry, &reference).unwrap();
    assert_eq!((cloud.requests(path).len(), cloud.requests("/registry-token").len()), (1, 2));
    google("second", 3600);
    clock.advance(Duration::from_millis(2500));
    resolve(&registry, &reference).unwrap();
    assert_eq!((cloud.requests(path).len(), cloud.requests("/registry-token").len()), (2, 3));
    let sent = |number: usize| cloud.requests("/registry-token")[number].headers["authorization"].clone();
    assert_eq!(sent(0), sent(1));
    assert_ne!(sent(1), sent(2));
}
