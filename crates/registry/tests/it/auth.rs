use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ocibuild_registry::{
    Credential, CredentialSource, Credentials, KnownCredential, LoginCheck, Lookup, Match, Registry,
    RegistryBuilder, RegistryKey, Secret, Wanted,
};
use ocibuild_spec::{CancelToken, SourceError, SourceErrorKind};
use ocibuild_testkit::{Fault, LoggedRequest, Reply, TestImage, TestRegistry, WebServer};

use super::{RegistryFault, TestClock, fault_of, resolve};

/// Must never be seen outside of an `authorization` header or a form.
const CANARY: &str = "pa55-c4n4ry";
/// `alice:pa55-c4n4ry`
const ENCODED: &str = "YWxpY2U6cGE1NS1jNG40cnk=";

fn builder() -> RegistryBuilder {
    Registry::builder()
        .retries(3, Duration::from_millis(5), Duration::from_millis(50))
        .stall_timeout(Duration::from_millis(700))
}

fn alice() -> Credential {
    Credential::password("alice", Secret::new(CANARY))
}

fn known(registry: &str, credential: Credential) -> Credentials {
    let key = RegistryKey::parse(registry).unwrap();
    Credentials::new(vec![Box::new(KnownCredential::new("test", "THERE", key, credential))])
}

/// A registry with an image that wants tokens of a service elsewhere.
fn served(host: &str) -> (TestRegistry, WebServer, String) {
    let (server, tokens) = (TestRegistry::start(), WebServer::start());
    server.push("team/app", "1", &TestImage::new("linux/amd64").layer(&[("a", "1")]).build());
    server.require_token("t0ken", Some(&tokens.url("/token").replace("127.0.0.1", host)));
    tokens.put("/token", Reply::of(r#"{"token":"t0ken","expires_in":300}"#));
    let reference = server.reference("team/app", "1");
    (server, tokens, reference)
}

fn authorization(request: &LoggedRequest) -> Option<&str> {
    request.headers.get("authorization").map(String::as_str)
}

#[test]
fn passwords_go_to_the_token_service_and_tokens_to_the_registry() {
    let (server, tokens, reference) = served("127.0.0.1");
    let registry = builder().credentials(known(&server.authority(), alice())).build().unwrap();
    resolve(&registry, &reference).unwrap();
    let asked = tokens.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/token?service=test&scope=repository:team/app:pull&account=alice");
    assert_eq!(authorization(&asked[0]), Some(&format!("Basic {ENCODED}")[..]));
    let sent: Vec<_> = server.requests().iter().filter_map(|r| authorization(r).map(str::to_owned)).collect();
    assert!(sent.len() > 1 && sent.iter().all(|header| header == "Bearer t0ken"), "{sent:?}");
}

#[test]
fn identity_tokens_are_sent_as_a_form() {
    for credential in [
        Credential::IdentityToken(Secret::new("r3fresh/+")),
        Credential::password("<token>", Secret::new("r3fresh/+")),
    ] {
        let (server, tokens, reference) = served("127.0.0.1");
        tokens.put("/token", Reply::of(r#"{"access_token":"t0ken"}"#));
        let registry = builder().credentials(known(&server.authority(), credential)).build().unwrap();
        resolve(&registry, &reference).unwrap();
        let asked = tokens.requests();
        assert_eq!((asked.len(), &asked[0].method[..], &asked[0].path[..]), (1, "POST", "/token"));
        assert_eq!(
            String::from_utf8_lossy(&asked[0].body),
            "grant_type=refresh_token&refresh_token=r3fresh/%2B&service=test&client_id=ocibuild&\
             scope=repository:team/app:pull"
        );
        assert_eq!(authorization(&asked[0]), None);
    }
}

#[test]
fn registry_tokens_are_sent_as_they_are() {
    let (server, tokens, reference) = served("localhost");
    let credential = Credential::RegistryToken(Secret::new("t0ken"));
    let registry = builder().credentials(known(&server.authority(), credential)).build().unwrap();
    resolve(&registry, &reference).unwrap();
    assert!(tokens.requests().is_empty());
}

#[test]
fn services_that_know_oauth2_alone_get_a_form() {
    for status in [404, 405] {
        let (server, tokens, reference) = served("127.0.0.1");
        tokens.put("/token", Reply::of("").status(status));
        let registry = builder().credentials(known(&server.authority(), alice())).build().unwrap();
        let error = resolve(&registry, &reference).unwrap_err();
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        let posted = tokens.requests().into_iter().find(|request| request.method == "POST").unwrap();
        let body = String::from_utf8(posted.body).unwrap();
        assert!(
            body.starts_with(&format!("grant_type=password&username=alice&password={CANARY}&")),
            "{body}"
        );
        assert!(!error.to_string().contains(CANARY), "{error}");
    }
}

#[test]
fn another_host_gets_credentials_by_the_users_word_alone() {
    let (server, tokens, reference) = served("localhost");
    let credentials = || known(&server.authority(), alice());
    let error = resolve(&builder().credentials(credentials()).build().unwrap(), &reference).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Denied);
    assert!(
        error.to_string().contains("localhost") && error.to_string().contains(&server.authority()),
        "{error}"
    );
    assert!(
        matches!(fault_of(&error), RegistryFault::TokenRealm { host, registry, .. } if host == "localhost" && *registry == server.authority()),
        "{error:?}"
    );
    assert!(tokens.requests().is_empty(), "it was asked");
    for (of, host) in [(Some("other.test"), "localhost"), (None, "localhost.test")] {
        let registry = builder().credentials(credentials()).allow_realm(of, host).build().unwrap();
        resolve(&registry, &reference).unwrap_err();
    }
    assert!(tokens.requests().is_empty(), "it was asked");
    for of in [None, Some(server.authority())] {
        let registry =
            builder().credentials(credentials()).allow_realm(of.as_deref(), "localhost").build().unwrap();
        resolve(&registry, &reference).unwrap();
    }
    assert_eq!(tokens.requests().len(), 2);
    // Somebody without credentials has nothing to lose.
    resolve(&builder().build().unwrap(), &reference).unwrap();
    resolve(&builder().credentials(known("other.test", alice())).build().unwrap(), &reference).unwrap();
    assert!(tokens.requests()[2..].iter().all(|request| authorization(request).is_none()));
}

#[test]
fn short_tokens_are_renewed_before_they_end() {
    let (server, tokens, reference) = served("127.0.0.1");
    tokens.put("/token", Reply::of(r#"{"token":"t0ken","expires_in":3}"#));
    let clock = TestClock::default();
    let credentials = known(&server.authority(), alice());
    let registry = builder().credentials(credentials).clock(clock.read()).build().unwrap();
    resolve(&registry, &reference).unwrap();
    assert_eq!(tokens.requests().len(), 1);
    clock.advance(Duration::from_millis(2399));
    resolve(&registry, &reference).unwrap();
    assert_eq!(tokens.requests().len(), 1);
    clock.advance(Duration::from_millis(1));
    // The service gives another one from now on, and the registry takes no other.
    tokens.put("/token", Reply::of(r#"{"token":"next","expires_in":300}"#));
    server.require_token("next", Some(&tokens.url("/token")));
    let before = server.requests().len();
    resolve(&registry, &reference).unwrap();
    let later = server.requests().split_off(before);
    assert!(later.iter().all(|request| authorization(request) == Some("Bearer next")), "{later:?}");
    assert_eq!(tokens.requests().len(), 2);
}

#[test]
fn a_token_that_ends_early_is_replaced_once() {
    let (server, tokens, reference) = served("127.0.0.1");
    let registry = builder().credentials(known(&server.authority(), alice())).build().unwrap();
    resolve(&registry, &reference).unwrap();
    server.require_token("next", Some(&tokens.url("/token")));
    let error = resolve(&registry, &reference).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Denied);
    assert_eq!(tokens.requests().len(), 2);
    tokens.put("/token", Reply::of(r#"{"token":"next"}"#));
    resolve(&registry, &reference).unwrap();
    assert_eq!(tokens.requests().len(), 3);
}

#[test]
fn threads_that_need_the_same_token_fetch_it_once() {
    let (server, tokens, reference) = served("127.0.0.1");
    let registry = builder().credentials(known(&server.authority(), alice())).build().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| resolve(&registry, &reference).unwrap());
        }
    });
    assert_eq!(tokens.requests().len(), 1);
}

#[test]
fn a_basic_registry_gets_the_password_itself() {
    let server = TestRegistry::start();
    server.push("app", "1", &TestImage::new("linux/amd64").build());
    let basic = || {
        let challenge = vec![("www-authenticate".to_owned(), "Basic realm=\"x\"".to_owned())];
        Fault::Answer(401, challenge, Vec::new())
    };
    server.fault("/v2/", 1, basic());
    let registry = builder().credentials(known(&server.authority(), alice())).build().unwrap();
    let reference = server.reference("app", "1");
    resolve(&registry, &reference).unwrap();
    let requests = server.requests();
    assert_eq!(authorization(&requests[0]), None);
    let header = format!("Basic {ENCODED}");
    assert!(requests[1..].iter().all(|request| authorization(request) == Some(&header)), "{requests:?}");
    // A refusal is final, and is told with where the password is from.
    server.fault("/v2/", 2, basic());
    let error = resolve(&registry, &reference).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Denied);
    let told = fault_of(&error).to_string();
    assert!(told.contains("password of alice was sent (test: THERE"), "{told}");
    for credential in
        [Credential::IdentityToken(Secret::new("x")), Credential::RegistryToken(Secret::new("x"))]
    {
        let registry = builder().credentials(known(&server.authority(), credential)).build().unwrap();
        server.fault("/v2/", 1, basic());
        let error = resolve(&registry, &reference).unwrap_err();
        assert!(error.to_string().contains("wants a password"), "{error}");
    }
    server.fault("/v2/", 1, basic());
    let error = resolve(&builder().build().unwrap(), &reference).unwrap_err();
    assert!(
        matches!(fault_of(&error), RegistryFault::NoCredentials { registry } if registry.starts_with("127.0.0.1")),
        "{error:?}"
    );
}

#[test]
fn a_redirect_takes_no_password_along_and_its_target_gets_none() {
    let (server, store) = (TestRegistry::start(), TestRegistry::start());
    server.push("app", "1", &TestImage::new("linux/amd64").build());
    let challenge = vec![("www-authenticate".to_owned(), "Basic realm=\"x\"".to_owned())];
    server.fault("/manifests/", 1, Fault::Answer(401, challenge.clone(), Vec::new()));
    server.fault(
        "/manifests/",
        1,
        Fault::Redirect(format!("http://{}/v2/app/manifests/1", store.authority())),
    );
    store.fault("/v2/", 1, Fault::Answer(401, challenge, Vec::new()));
    let registry = builder().credentials(known(&server.authority(), alice())).build().unwrap();
    let error = resolve(&registry, &server.reference("app", "1")).unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
    assert!(
        !store.requests().is_empty()
            && store.requests().iter().all(|request| authorization(request).is_none())
    );
}

#[test]
fn what_the_token_service_says_is_told_without_the_password() {
    for body in [
        r#"{"details":"incorrect username or password"}"#.to_owned(),
        format!("no user has {CANARY}, incorrect username or password"),
        format!(
            r#"{{"errors":[{{"code":"UNAUTHORIZED","message":"incorrect username or password {ENCODED}"}}]}}"#
        ),
    ] {
        let (server, tokens, reference) = served("127.0.0.1");
        tokens.put("/token", Reply::of(body).status(401));
        let registry = builder().credentials(known(&server.authority(), alice())).build().unwrap();
        let error = resolve(&registry, &reference).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Denied);
        let text = format!("{error} {error:?} {registry:?}");
        assert!(text.contains("incorrect username or password") && text.contains("401"), "{text}");
        assert!(!text.contains(CANARY) && !text.contains(ENCODED), "{text}");
    }
}

#[test]
fn a_token_service_that_fails_for_a_while_is_asked_again() {
    let server = TestRegistry::start();
    server.push("app", "1", &TestImage::new("linux/amd64").build());
    server.require_token("t", None);
    server.fault("/token", 1, Fault::Answer(503, Vec::new(), Vec::new()));
    server.fault("/token", 1, Fault::Hangup);
    resolve(&builder().build().unwrap(), &server.reference("app", "1")).unwrap();
    server.fault("/token", 9, Fault::Answer(429, Vec::new(), b"too many logins".to_vec()));
    let error = resolve(&builder().build().unwrap(), &server.reference("app", "1")).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Network);
    assert!(error.to_string().contains("429: too many logins"), "{error}");
}

/// Gives one credential after the other, the last one for ever.
#[derive(Debug)]
struct Changing {
    left: Mutex<Vec<Match>>,
    asked: AtomicUsize,
}

impl CredentialSource for &'static Changing {
    fn name(&self) -> String {
        "changing".to_owned()
    }

    fn place(&self) -> String {
        "here".to_owned()
    }

    fn find(&self, _wanted: Wanted<'_>, _cancel: &CancelToken) -> Result<Lookup, SourceError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut left = self.left.lock().unwrap();
        let next = if left.len() > 1 { left.remove(0) } else { left[0].clone() };
        Ok(Lookup::Match(next))
    }
}

fn changing(hits: Vec<Match>) -> &'static Changing {
    Box::leak(Box::new(Changing { left: Mutex::new(hits), asked: AtomicUsize::new(0) }))
}

#[test]
fn credentials_are_looked_up_again_when_their_life_is_over_or_they_are_refused() {
    let (_server, tokens, reference) = served("127.0.0.1");
    tokens.put("/token", Reply::of(r#"{"token":"t0ken","expires_in":3}"#));
    let hit =
        |user: &str, life| Match { life, ..Match::new(Credential::password(user, Secret::new("x")), "key") };
    let second = Some(Duration::from_secs(3));
    let source = changing(vec![hit("first", second), hit("second", None), hit("third", None)]);
    let (clock, credentials) = (TestClock::default(), Credentials::new(vec![Box::new(source)]));
    let registry = builder().credentials(credentials).clock(clock.read()).build().unwrap();
    let user = |number: usize| tokens.requests()[number].path.rsplit_once("account=").unwrap().1.to_owned();
    resolve(&registry, &reference).unwrap();
    assert_eq!(user(0), "first");
    clock.advance(Duration::from_millis(2500));
    resolve(&registry, &reference).unwrap();
    assert_eq!(user(1), "second");
    assert_eq!(source.asked.load(Ordering::SeqCst), 2);
    // A password that is refused after it did is asked for once more, and then it is enough.
    tokens.put("/token", Reply::of("gone").status(401));
    clock.advance(Duration::from_millis(2500));
    let error = resolve(&registry, &reference).unwrap_err();
    assert!(error.to_string().contains("gone"), "{error}");
    assert_eq!((user(2), user(3)), ("second".to_owned(), "third".to_owned()));
    assert_eq!(source.asked.load(Ordering::SeqCst), 3);
}

#[test]
fn a_login_is_checked_without_asking_for_anything() {
    let (server, tokens, _) = served("127.0.0.1");
    let key = RegistryKey::parse(&server.authority()).unwrap();
    let check = |credential| {
        let registry = builder().credentials(known(&server.authority(), credential)).build().unwrap();
        registry.check_login(&key, &CancelToken::new())
    };
    assert_eq!(check(alice()).unwrap(), LoginCheck::Accepted);
    assert_eq!(tokens.requests()[0].path, "/token?service=test&account=alice");
    tokens.put("/token", Reply::of(r#"{"details":"wrong"}"#).status(401));
    let error = check(alice()).unwrap_err();
    assert!(error.to_string().contains("401: wrong"), "{error}");
    tokens.put("/token", Reply::of(r#"{"token":"other"}"#));
    let error = check(alice()).unwrap_err();
    assert!(error.to_string().contains("401: UNAUTHORIZED"), "{error}");
    let open = TestRegistry::start();
    let key = RegistryKey::parse(&open.authority()).unwrap();
    let registry = builder().credentials(known(&open.authority(), alice())).build().unwrap();
    assert_eq!(registry.check_login(&key, &CancelToken::new()).unwrap(), LoginCheck::NotAsked);
    assert!(open.requests().iter().all(|request| authorization(request).is_none()));
}
