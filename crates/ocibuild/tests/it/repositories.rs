//! Git repositories, as `ADD` and as build contexts, from servers on loopback.

use fs_err as fs;
use ocibuild::dockerfile::Dockerfile;
use ocibuild::{
    Build, BuildContext, CancelToken, ContextSource, Error, ErrorKind, Fetcher, GitProgram, RemoteSource,
    Remotes,
};
use ocibuild_testkit::{GitRepository, Reply, WebServer};

use crate::support::{World, chain, layer_listing};

const THEN: u64 = 1_577_934_245;

/// A world, a repository with two commits and a tag, and a server that has it as `/r.git`.
struct Served {
    world: World,
    server: WebServer,
    repository: GitRepository,
    commits: [String; 2],
}

impl Served {
    fn new() -> Option<Self> {
        let (world, server) = (World::new(), WebServer::start());
        let repository = GitRepository::init(&world.path("repository"))?;
        let first = repository
            .commit(&[("a", "one"), ("sub/s", "s"), ("Dockerfile", "FROM scratch\nCOPY a /\n")], THEN);
        repository.git(&["tag", "-a", "-m", "a tag", "v1"]);
        std::os::unix::fs::symlink("sub", world.path("repository/link")).unwrap();
        let second = repository.commit(&[("a", "two")], THEN + 60);
        server.serve_directory("/r.git", &repository.git_directory());
        Some(Self { world, server, repository, commits: [first, second] })
    }

    fn url(&self, rest: &str) -> String {
        self.server.url(&format!("/r.git{rest}"))
    }

    /// `host:port`
    fn authority(&self) -> String {
        self.server.url("").trim_start_matches("http://").to_owned()
    }

    fn add(&self, flags: &str, rest: &str) -> Build {
        self.world.prepare(&format!("FROM scratch\nADD {flags} {} /d/\n", self.url(rest)))
    }

    fn listing(&self, flags: &str, rest: &str) -> Vec<String> {
        let (image, _) = self.world.build(self.add(flags, rest));
        layer_listing(&self.world.blobs().join(image.layers().next().unwrap().1.digest.hex()))
    }

    fn fetch(&self, text: &str) -> Result<BuildContext, Error> {
        let remotes = Remotes::system()?;
        let cancel = CancelToken::new();
        let store = self.world.store();
        let fetcher = Fetcher::new(&remotes, store, &cancel, ocibuild::spec::Timestamp::default());
        fetcher.fetch(&RemoteSource::parse(text)?.unwrap())
    }
}

/// Requests that came with credentials.
fn tokens(server: &WebServer) -> usize {
    server.requests().iter().filter(|request| request.headers.contains_key("authorization")).count()
}

#[test]
fn branches_tags_commits_and_directories_are_added() {
    let Some(served) = Served::new() else { return };
    let has = |flags: &str, rest: &str, name: &str| {
        served.listing(flags, rest).iter().any(|entry| entry.contains(name))
    };
    assert!(has("", "", "d/sub/s"));
    assert!(!has("", "", ".git"));
    assert!(!has("", "#v1", "d/link"), "the tag is older than the link");
    assert!(has("", "#main", "d/link"));
    assert!(has("", &format!("#{}", served.commits[0]), "d/a"));
    assert!(has("", "#:sub", "d/s"));
    assert!(has("", "?tag=v1&subdir=sub", "d/s"));
    assert!(has("--keep-git-dir", "#v1", "d/.git/HEAD"));
    assert!(!has("--keep-git-dir", "#v1:sub", ".git"));
    assert!(has(&format!("--checksum={}", &served.commits[1][..8]), "", "d/a"));
    served.world.check_left_nothing();
}

#[test]
fn a_moved_branch_is_new_and_a_commit_is_not_asked_for() {
    let Some(served) = Served::new() else { return };
    let done = |rest: &str| served.world.build(served.add("", rest)).1.done.len();
    assert_eq!((done("#main"), done("#main")), (1, 0));
    served.repository.commit(&[("a", "three")], THEN + 120);
    assert_eq!(done("#main"), 1);
    let pinned = format!("#{}", served.commits[0]);
    assert_eq!(done(&pinned), 1);
    let before = served.server.requests().len();
    assert_eq!(done(&pinned), 0);
    assert_eq!(served.server.requests().len(), before);
}

#[test]
fn wrong_references_and_checksums_are_named() {
    let Some(served) = Served::new() else { return };
    let zeros = "0".repeat(40);
    for (flags, rest, kind, words) in [
        ("", "#nope", ErrorKind::Dockerfile, "does not contain ref nope"),
        ("", "#main:nope", ErrorKind::Dockerfile, "invalid subdir nope"),
        ("", "#main:link", ErrorKind::Dockerfile, "invalid subdir link"),
        ("", &format!("#{zeros}"), ErrorKind::Dockerfile, &zeros),
        ("--checksum=abcd", "", ErrorKind::Refused, "expected checksum to match abcd"),
    ] {
        let (error, _) = served.world.fail(served.add(flags, rest));
        assert_eq!(error.kind(), kind, "{flags} {rest}: {}", chain(&error));
        assert!(chain(&error).contains(words), "{flags} {rest}: {}", chain(&error));
    }
    served.server.put("/private.git/info/refs", Reply::of("").status(401));
    let url = served.server.url("/private.git");
    let (error, _) = served.world.fail(served.world.prepare(&format!("FROM scratch\nADD {url} /\n")));
    assert_eq!(error.kind(), ErrorKind::Network);
    served.world.check_left_nothing();
}

#[test]
fn a_host_without_git_says_what_to_install() {
    let Some(served) = Served::new() else { return };
    let http = ocibuild::registry::HttpClient::builder().build().unwrap();
    let remotes = Remotes::new(http, GitProgram::new("/nowhere"));
    let (error, _) = served.world.fail(served.add("", "").remotes(remotes));
    assert_eq!(error.kind(), ErrorKind::Host);
    assert!(error.reports()[0].hint_texts().iter().any(|hint| hint.contains("install git")), "{error}");
}

#[test]
fn names_that_a_server_gives_are_looked_at() {
    let Some(served) = Served::new() else { return };
    served.server.put("/evil.git/HEAD", Reply::of("ref: refs/heads/--upload-pack=id\n"));
    let refs = format!("{}\trefs/heads/--upload-pack=id\n", served.commits[0]);
    served.server.put("/evil.git/info/refs", Reply::of(refs));
    served.server.serve_directory("/evil.git", &served.repository.git_directory());
    let url = served.server.url("/evil.git");
    let (error, _) = served.world.fail(served.world.prepare(&format!("FROM scratch\nADD {url} /\n")));
    assert_ne!(error.kind(), ErrorKind::StepFailed(0));
    let text = chain(&error);
    assert!(text.contains("invalid git ref") || text.contains("default branch"), "{text}");
}

#[test]
fn redirects_of_repositories_lead_nowhere_near_and_carry_no_token() {
    let Some(served) = Served::new() else { return };
    let other = WebServer::start();
    other.serve_directory("/moved.git", &served.repository.git_directory());
    let asked = "/old.git/info/refs";
    served.server.put(asked, Reply::redirect(format!("{}/info/refs", other.url("/moved.git"))));
    let url = served.server.url("/old.git");
    let build = || {
        let secret = ocibuild::Secret::Value(b"canary".to_vec());
        let id = format!("GIT_AUTH_TOKEN.{}", served.authority());
        served.world.prepare(&format!("FROM scratch\nADD {url} /d/\n")).secret(id, secret)
    };
    served.world.build(build());
    assert!(tokens(&served.server) > 0);
    assert_eq!(tokens(&other), 0);
    served.server.put(asked, Reply::redirect("http://169.254.169.254/r.git/info/refs"));
    assert_eq!(served.world.fail(build()).0.kind(), ErrorKind::Refused);
    served.server.put(asked, Reply::redirect(other.url("/login")));
    other.put("/login", Reply::of("sign in"));
    assert_eq!(served.world.fail(build()).0.kind(), ErrorKind::Refused);
}

#[test]
fn submodules_come_along_but_none_of_this_machine() {
    let Some(served) = Served::new() else { return };
    let world = &served.world;
    let outer = GitRepository::init(&world.path("outer")).unwrap();
    outer.commit(&[("x", "x")], THEN);
    outer.git(&["submodule", "add", "-q", world.path("repository").to_str().unwrap(), "inner"]);
    outer.git(&["config", "-f", ".gitmodules", "submodule.inner.url", "../r.git"]);
    outer.commit(&[], THEN);
    served.server.serve_directory("/outer.git", &outer.git_directory());
    let add = |rest: &str| {
        world.prepare(&format!("FROM scratch\nADD {}{rest} /d/\n", served.server.url("/outer.git")))
    };
    let names = |build: Build| {
        let (image, _) = world.build(build);
        layer_listing(&world.blobs().join(image.layers().next().unwrap().1.digest.hex())).join("\n")
    };
    let with = names(add(""));
    assert!(with.contains("d/inner/a") && !with.contains(".git/") && !with.contains("inner/.git"), "{with}");
    assert!(!names(add("?submodules=false")).contains("d/inner/a"));
    let own = world.path("repository");
    outer.git(&["config", "-f", ".gitmodules", "submodule.inner.url", own.to_str().unwrap()]);
    outer.commit(&[], THEN + 1);
    let (error, _) = world.fail(add(""));
    assert_eq!(error.kind(), ErrorKind::Refused, "{}", chain(&error));
    world.check_left_nothing();
}

#[test]
fn git_is_ended_with_the_build() {
    let Some(served) = Served::new() else { return };
    let object = format!("/r.git/objects/{}/{}", &served.commits[1][..2], &served.commits[1][2..]);
    served.server.put(&object, Reply::of(vec![b'x'; 100]).stalled(1));
    let cancel = CancelToken::new();
    let planned = served.add("", "").plan(&served.world.backends()).unwrap();
    std::thread::scope(|scope| {
        let (token, server) = (cancel.clone(), &served.server);
        scope.spawn(move || {
            while !server.requests().iter().any(|request| request.path == object) {
                std::thread::yield_now();
            }
            token.cancel();
        });
        let error = planned.run(&served.world.backends(), &cancel, |_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{}", chain(&error));
    });
    served.world.check_left_nothing();
    let place = served.world.path("state/tmp").display().to_string();
    let runs = |path: std::path::PathBuf| {
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&place)
    };
    assert!(!fs::read_dir("/proc").unwrap().any(|entry| runs(entry.unwrap().path())), "git still runs");
}

#[test]
fn a_repository_is_a_context() {
    let Some(served) = Served::new() else { return };
    let context = served.fetch(&served.url("#v1")).unwrap();
    assert_eq!(context.time(), Some(THEN.cast_signed()));
    let dockerfile = Dockerfile::parse(context.dockerfile(None).unwrap()).unwrap();
    let build = Build::new(dockerfile, context).build_arg("SOURCE_DATE_EPOCH", "context");
    let (image, _) = served.world.build(build);
    assert_eq!(image.layers().count(), 1);
    assert!(String::from_utf8_lossy(&image.config_bytes).contains("2020-01-02T03:04:05Z"));
    served.world.check_left_nothing();

    let named = RemoteSource::parse(&served.url("#main:sub")).unwrap().unwrap();
    let build = served.world.prepare("FROM scratch\nCOPY --from=code s /\n");
    served.world.build(build.build_context("code", ContextSource::Remote(named.clone())));
    let unused = served.world.prepare("FROM scratch\nCOPY --from=code s /\n");
    let epoch =
        unused.build_context("code", ContextSource::Remote(named)).build_arg("SOURCE_DATE_EPOCH", "code");
    let planned = epoch.plan(&served.world.backends()).unwrap();
    assert_eq!(planned.plans[0].source_date_epoch, Some(THEN.cast_signed() + 60));
    drop(planned);
    served.world.check_left_nothing();
}

/// A stranger's Dockerfile names the stranger's host.
#[test]
fn plain_tokens_are_for_hosts_that_the_user_named() {
    let Some(served) = Served::new() else { return };
    let other = WebServer::start();
    other.serve_directory("/r.git", &served.repository.git_directory());
    let there = other.url("/r.git");
    let with_tokens = |build: Build| {
        ["GIT_AUTH_TOKEN", "GIT_AUTH_HEADER"]
            .iter()
            .fold(build, |build, id| build.secret(*id, ocibuild::Secret::Value(b"canary".to_vec())))
    };
    let add = |url: &str| Dockerfile::parse(format!("FROM scratch\nADD {url} /d/\n")).unwrap();
    let named = || ContextSource::Remote(RemoteSource::parse(&served.url("#main:sub")).unwrap().unwrap());

    // No repository is named on the command line, then one as the context, then one as a named context.
    served.world.build(with_tokens(served.world.prepare(&format!("FROM scratch\nADD {there} /d/\n"))));
    let context = || served.fetch(&served.url("#main")).unwrap();
    served.world.build(with_tokens(Build::new(add(&there), context())).no_cache(true));
    let local = served.world.prepare(&format!("FROM scratch\nADD {there} /e/\nCOPY --from=code s /\n"));
    served.world.build(with_tokens(local.build_context("code", named())).no_cache(true));
    assert!(!other.requests().is_empty());
    assert_eq!(tokens(&other), 0);
    assert!(tokens(&served.server) > 0, "the named context has it");

    // Other repositories of the named host have it, too.
    let before = tokens(&served.server);
    served.world.build(with_tokens(Build::new(add(&served.url("#v1")), context())));
    assert!(tokens(&served.server) > before);

    other.put("/private.git/info/refs", Reply::of("").status(401));
    let url = other.url("/private.git");
    let (error, _) = served.world.fail(with_tokens(Build::new(add(&url), context())));
    let hints = error.reports()[0].hint_texts().join("\n");
    let own = format!("GIT_AUTH_TOKEN.{}", other.url("").trim_start_matches("http://"));
    assert!(hints.contains("repositories that you named yourself") && hints.contains(&own), "{hints}");
    served.world.check_left_nothing();
}

/// An epoch taken from an `ADD` is the Dockerfile's wish as well.
#[test]
fn epochs_of_repositories_take_no_plain_token_away() {
    let Some(served) = Served::new() else { return };
    let text = format!("FROM scratch AS src\nADD {} /\nFROM scratch\nCOPY --from=src a /\n", served.url(""));
    let secret = ocibuild::Secret::Value(b"canary".to_vec());
    let build = served.world.prepare(&text).secret("GIT_AUTH_TOKEN", secret);
    let planned = build.build_arg("SOURCE_DATE_EPOCH", "src").plan(&served.world.backends()).unwrap();
    assert_eq!(planned.plans[0].source_date_epoch, Some(THEN.cast_signed() + 60));
    assert!(!served.server.requests().is_empty());
    assert_eq!(tokens(&served.server), 0);
}

/// Submodules may be anywhere.
#[test]
fn submodules_elsewhere_have_no_token() {
    let Some(served) = Served::new() else { return };
    let other = WebServer::start();
    other.serve_directory("/r.git", &served.repository.git_directory());
    let outer = GitRepository::init(&served.world.path("outer")).unwrap();
    outer.commit(&[("x", "x")], THEN);
    outer.git(&["submodule", "add", "-q", served.world.path("repository").to_str().unwrap(), "inner"]);
    outer.git(&["config", "-f", ".gitmodules", "submodule.inner.url", &other.url("/r.git")]);
    outer.commit(&[], THEN);
    served.server.serve_directory("/outer.git", &outer.git_directory());
    let id = format!("GIT_AUTH_TOKEN.{}", served.authority());
    let secret = ocibuild::Secret::Value(b"canary".to_vec());
    let text = format!("FROM scratch\nADD {} /d/\n", served.server.url("/outer.git"));
    served.world.build(served.world.prepare(&text).secret(id, secret));
    assert!(tokens(&served.server) > 0);
    assert!(!other.requests().is_empty());
    assert_eq!(tokens(&other), 0);
}

/// Submodules may be nested, and each may be anywhere.
#[test]
fn submodules_are_looked_at_before_git_goes_there() {
    let Some(served) = Served::new() else { return };
    let world = &served.world;
    let with_submodule = |name: &str, url: &str| {
        let repository = GitRepository::init(&world.path(name)).unwrap();
        repository.commit(&[(name, name)], THEN);
        repository.git(&["submodule", "add", "-q", world.path("repository").to_str().unwrap(), "in side"]);
        repository.git(&["config", "-f", ".gitmodules", "submodule.in side.url", url]);
        let commit = repository.commit(&[], THEN);
        served.server.serve_directory(&format!("/{name}.git"), &repository.git_directory());
        (repository, commit)
    };
    let (middle, _) = with_submodule("middle", "../r.git");
    let (outer, _) = with_submodule("outer", "../middle.git");
    let head = middle.git(&["rev-parse", "HEAD"]);
    outer.git(&["update-index", "--cacheinfo", &format!("160000,{head},in side")]);
    let date = format!("@{THEN} +0000");
    outer.git(&["commit", "-q", "-m", "nested", "--date", &date]);
    outer.publish();
    let text = format!("FROM scratch\nADD {} /d/\n", served.server.url("/outer.git"));
    let (image, _) = world.build(world.prepare(&text));
    let names = layer_listing(&world.blobs().join(image.layers().next().unwrap().1.digest.hex())).join("\n");
    assert!(names.contains("d/in side/middle") && names.contains("d/in side/in side/a"), "{names}");

    for (name, url) in [
        ("one", "http://169.254.169.254/r.git"),
        ("two", "git://169.254.169.254/r.git"),
        ("three", "ssh://git@169.254.169.254/r.git"),
        ("four", "169.254.169.254:r.git"),
        ("five", "http://[fd00:ec2::254]/r.git"),
        ("six", "http://0xa9.0xfe.0xa9.0xfe/r.git"),
    ] {
        with_submodule(name, url);
        let text = format!("FROM scratch\nADD {} /d/\n", served.server.url(&format!("/{name}.git")));
        let (error, _) = world.fail(world.prepare(&text));
        assert_eq!(error.kind(), ErrorKind::Refused, "{url}: {}", chain(&error));
    }
    world.check_left_nothing();
}
