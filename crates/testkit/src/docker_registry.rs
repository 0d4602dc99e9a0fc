use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::skip;

/// Debian's `docker-registry` at a free port of 127.0.0.1, ended on drop.
#[derive(Debug)]
pub struct DockerRegistry {
    process: Child,
    port: u16,
}

impl DockerRegistry {
    /// Starts one with its data below `directory`. `http` and `more` go into its configuration: more keys of its
    /// `http` section (`", tls: {…}"`), and more sections. `None` where it is not installed, with that said.
    pub fn start(directory: &Path, http: &str, more: &str) -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("loopback has free ports").port();
        let config = directory.join("registry.yml");
        let data = directory.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, \
             delete: {{enabled: true}}}}\nhttp: {{addr: '127.0.0.1:{port}'{http}}}\n{more}\n",
            data.display()
        );
        fs_err::write(&config, text).expect("the test's directory can be written");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            skip("docker-registry is not installed");
            return None;
        };
        let registry = Self { process, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    /// `127.0.0.1:port`.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
