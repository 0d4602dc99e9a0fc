//! What a build may reach: nothing offline, and no address where clouds keep credentials.

use ocibuild_testkit::{GitRepository, Reply, TestImage, TestRegistry, WebServer};

use crate::program::{Ended, Place};

const METADATA: &str = "link-local address";

/// Whoever names it, and in whatever form.
#[test]
fn metadata_services_of_clouds_are_refused() {
    let place = Place::new();
    place.write("c/f", "x");
    let refused = |ended: &Ended| ended.fails(3, &[METADATA, "--allow-link-local"]);
    for source in [
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/latest/",
        "http://169.254.170.2/v2/credentials",
        "http://[::ffff:169.254.169.254]/",
        "http://[fd00:ec2::254]/latest/",
        "http://[fe80::1]/",
        "https://169.254.169.254/r.git",
        "http://[::ffff:a9fe:a9fe]/r.git",
        "git://169.254.169.254/r.git",
        "ssh://git@169.254.169.254/r.git",
        "git@169.254.169.254:r.git",
        "git://2852039166/r.git",
    ] {
        place.write("c/Dockerfile", &format!("FROM scratch\nADD {source} /f\n"));
        refused(&place.run(&["build", "--progress", "plain", "c"]));
    }
    // Other spellings are not addresses here.
    place.write("c/Dockerfile", "FROM scratch\nADD http://2852039166/ /f\n");
    place.run(&["build", "c"]).fails(2, &["neither a name nor an address"]);
    place.write("c/Dockerfile", "FROM 169.254.169.254/app:1\nCOPY f /\n");
    refused(&place.run(&["build", "--progress", "plain", "c"]));
    refused(&place.run(&["build", "http://169.254.169.254/context.tar"]));
    refused(&place.run(&["build", "https://169.254.169.254/r.git"]));
    refused(&place.run(&["build", "-f", "http://169.254.169.254/Dockerfile", "c"]));
    place.write("c/Dockerfile", "FROM scratch\nCOPY --from=other f /\n");
    refused(&place.run(&["build", "--build-context", "other=http://169.254.169.254/f.tar", "c"]));
    place.run(&["pull", "169.254.169.254/app:1"]).fails(3, &[METADATA, "--allow-link-local"]);
}

/// A proxy would go wherever it is told to.
#[test]
fn a_proxy_is_not_asked_for_metadata_unless_that_is_allowed() {
    let (place, proxy) = (Place::new(), WebServer::start());
    place.write("Dockerfile", "FROM scratch\nADD http://169.254.169.254/latest/ /f\n");
    let build = |flags: &[&str]| {
        let mut command = place.command(&["build", "--progress", "plain"]);
        command.args(flags).arg(".").env("http_proxy", proxy.url(""));
        crate::program::ended(command.output().unwrap())
    };
    build(&[]).fails(3, &[METADATA, "--allow-link-local"]);
    build(&["--allow-link-local", "other.test"]).fails(3, &[METADATA]);
    assert!(proxy.requests().is_empty());
    build(&["--allow-link-local", "169.254.169.254"]).fails(3, &["answered 404"]);
    assert_eq!(proxy.requests().len(), 1);
}

/// The registry, the web server with a repository on it, and the Dockerfile that takes from all of them.
struct Outside {
    registry: TestRegistry,
    web: WebServer,
    commit: String,
    dockerfile: String,
}

impl Outside {
    fn new(place: &Place) -> Option<Self> {
        let (registry, web) = (TestRegistry::start(), WebServer::start());
        let image =
            TestImage::new("linux/amd64").layer(&[("etc/", ""), ("etc/motd", "hello")]).gzip().build();
        registry.push("app", "1", &image);
        web.put("/f", Reply::of("file").header("etag", "\"1\""));
        let repository = GitRepository::init(&place.path("repository"))?;
        let commit = repository.commit(&[("a", "one")], 1_577_934_245);
        web.serve_directory("/r.git", &repository.git_directory());
        let app = registry.reference("app", "1");
        let (file, git) = (web.url("/f"), web.url("/r.git"));
        let dockerfile = format!(
            "FROM {app} AS base\nCOPY f /\nADD {file} /url/\nADD {git}#{commit} /git/\nFROM base\nCOPY --from={app} etc/motd /m\n"
        );
        Some(Self { registry, web, commit, dockerfile })
    }

    fn requests(&self) -> usize {
        self.registry.requests().len() + self.web.requests().len()
    }
}

#[test]
fn what_an_earlier_build_fetched_is_enough_offline() {
    let place = Place::new();
    let Some(outside) = Outside::new(&place) else { return };
    place.write("c/f", "x");
    place.write("c/Dockerfile", &outside.dockerfile);
    let build = |flags: &[&str]| {
        let mut all = vec!["build", "-q", "--platform", "linux/amd64"];
        all.extend(flags);
        all.push("c");
        place.run(&all)
    };
    let online = build(&["-t", "first"]).succeeds().to_owned();
    let asked = outside.requests();
    assert!(asked > 0);
    assert_eq!(build(&["--offline", "-t", "second"]).succeeds(), online);
    // What is new of it is made of what is here.
    place.write("c/Dockerfile", &format!("{}LABEL a=b\nCOPY f /g\n", outside.dockerfile));
    build(&["--offline", "-o", "type=oci,dest=out.tar"]).succeeds();
    assert_eq!(outside.requests(), asked);
}

#[test]
fn what_is_not_here_is_named_offline() {
    let place = Place::new();
    let Some(outside) = Outside::new(&place) else { return };
    place.write("c/f", "x");
    let app = outside.registry.reference("app", "1");
    let fails = |dockerfile: &str, words: &[&str]| {
        place.write("c/Dockerfile", dockerfile);
        let ended = place.run(&["build", "--progress", "plain", "--offline", "c"]);
        ended.fails(4, &["offline", "omit --offline"]);
        ended.fails(4, words);
    };
    fails(&format!("FROM {app}\nCOPY f /\n"), &[&app, "is not in the state directory"]);
    let digest = format!("sha256:{}", "a".repeat(64));
    fails(&format!("FROM {app}@{digest}\nCOPY f /\n"), &[&digest]);
    fails(&format!("FROM scratch\nCOPY --from={app} f /\n"), &[&app]);
    fails(&format!("FROM scratch\nADD {} /\n", outside.web.url("/f")), &[&outside.web.url("/f")]);
    fails(&format!("FROM scratch\nADD {} /\n", outside.web.url("/r.git")), &["/r.git"]);
    fails(&format!("FROM scratch\nADD {}#{} /\n", outside.web.url("/r.git"), outside.commit), &["/r.git"]);
    fails("FROM scratch\nADD git@localhost:r.git /\n", &["git@localhost:r.git"]);
    for context in [outside.web.url("/f"), outside.web.url("/r.git"), "git://localhost/r.git".to_owned()] {
        place.run(&["build", "--offline", &context]).fails(4, &["offline"]);
    }
    let file = outside.web.url("/f");
    place.run(&["build", "--offline", "-f", &file, "c"]).fails(4, &["offline", &file]);
    place.write("c/Dockerfile", "FROM scratch\nCOPY --from=other context /\n");
    let other = format!("other={file}");
    place.run(&["build", "--offline", "--build-context", &other, "c"]).fails(4, &["offline", &file]);
    place.write("c/Dockerfile", &format!("FROM {app}\nCOPY f /\n"));
    place.run(&["plan", "--offline", "c"]).fails(4, &["offline", &app]);
    place.run(&["build", "--offline", "--check", "c"]).fails(4, &["offline", &app]);
    assert_eq!(outside.requests(), 0);
}

#[test]
fn what_sends_or_asks_is_no_flag_of_an_offline_build() {
    let place = Place::with("FROM scratch\nCOPY Dockerfile /\n");
    for flags in [
        &["--push", "-t", "localhost:1/a:b"][..],
        &["-o", "type=registry", "-t", "localhost:1/a:b"],
        &["--pull"],
        &["--network", "host"],
        &["--allow", "network.host"],
    ] {
        let mut all = vec!["--offline"];
        all.extend(flags);
        place.build(&all).fails(2, &["--offline and", "cannot be used together"]);
    }
    place.build(&["--offline", "--network", "none", "-t", "a:b"]).succeeds();
}
