//! `ADD` of a repository by ssh, from a real server on loopback, with the keys of a forwarded agent.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fs_err as fs;
use ocibuild::registry::HttpClient;
use ocibuild::{Build, ErrorKind, GitProgram, Remotes, SshAgent};
use ocibuild_testkit::{GitRepository, skip};

use crate::support::{World, chain, layer_listing};

/// A server that lets one key in, and the files of both sides.
struct Server {
    child: Child,
    port: u16,
    world: World,
    repository: GitRepository,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// `None`, with the reason said, where there is no server.
    fn start() -> Option<Self> {
        let program = Path::new("/usr/sbin/sshd");
        for needed in [program, Path::new("/usr/bin/ssh"), Path::new("/usr/bin/ssh-agent")] {
            if !needed.exists() {
                skip(&format!(
                    "{} is missing (packages openssh-server and openssh-client)",
                    needed.display()
                ));
                return None;
            }
        }
        if rustix::process::geteuid().is_root() && !Path::new("/run/sshd").exists() {
            skip("sshd wants the directory /run/sshd");
            return None;
        }
        let world = World::new();
        let repository = GitRepository::init(&world.path("repository"))?;
        repository.commit(&[("a", "by ssh")], 86_400);
        for name in ["host", "key", "stranger"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(world.path(name))
                .stdin(Stdio::null())
                .status();
            assert!(made.unwrap().success());
        }
        fs::copy(world.path("key.pub"), world.path("authorized")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
             SetEnv GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*\n",
            world.path("host").display(),
            world.path("authorized").display(),
        );
        fs::write(world.path("sshd.conf"), config).unwrap();
        let mut command = Command::new(program);
        command.args(["-D", "-e", "-f"]).arg(world.path("sshd.conf"));
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, port, world, repository };
        server.wait();
        Some(server)
    }

    fn wait(&self) {
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "sshd does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What is trusted as the server's key.
    fn known_hosts(&self, key: &str) -> PathBuf {
        let path = self.world.path(&format!("known-{key}"));
        let public = fs::read_to_string(self.world.path(key).with_extension("pub")).unwrap();
        fs::write(&path, format!("[127.0.0.1]:{} {public}", self.port)).unwrap();
        path
    }

    fn add(&self, known: &str) -> Build {
        let output = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(output.stdout).unwrap();
        let directory = self.repository.git_directory();
        let url = format!("ssh://{}@127.0.0.1:{}{}", user.trim(), self.port, directory.display());
        let git = GitProgram::default().known_hosts(self.known_hosts(known));
        let remotes = Remotes::new(HttpClient::builder().build().unwrap(), git);
        self.world.prepare(&format!("FROM scratch\nADD {url} /d/\n")).remotes(remotes)
    }

    fn key(&self, name: &str) -> SshAgent {
        SshAgent::Keys(vec![self.world.path(name)])
    }
}

#[test]
fn the_forwarded_key_opens_a_repository_and_nothing_else_does() {
    let Some(server) = Server::start() else { return };
    fs::set_permissions(server.world.path("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let (image, _) = server.world.build(server.add("host").ssh("default", server.key("key")));
    let blob = server.world.blobs().join(image.layers().next().unwrap().1.digest.hex());
    let listing = layer_listing(&blob);
    assert!(listing.iter().any(|entry| entry.contains("d/a")), "{listing:?}");

    let refused = "Permission denied";
    for (build, words) in [
        (server.add("host"), refused),
        (server.add("host").ssh("other", server.key("key")), refused),
        (server.add("host").ssh("default", server.key("stranger")), refused),
        (server.add("stranger").ssh("default", server.key("key")), "Host key verification failed"),
    ] {
        let (error, _) = server.world.fail(build);
        assert_eq!(error.kind(), ErrorKind::Network, "{}", chain(&error));
        assert!(chain(&error).contains(words), "{words}: {}", chain(&error));
    }
    server.world.check_left_nothing();
}
