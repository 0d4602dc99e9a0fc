//! Builds in containers of engines that give them little: the image is the one that root of the host gets.

use std::os::unix::fs::PermissionsExt as _;

use fs_err as fs;
use ocibuild_testkit::{HostBase, has_tool, output_of, podman};

use crate::program::{Place, namespaces};

const DOCKERFILE: &str = "FROM base
RUN touch /one && chown 5:6 /one && chmod 4755 /one && mkdir -p /srv/data && chown 7 /srv/data
RUN stat -c '%u:%g %a' /one && rm /etc/passwd && test -r /proc/self/status && ls /sys > /dev/null
USER 1000:1000
RUN --network=none --mount=type=tmpfs,target=/t touch /t/x && id -u && echo made > /tmp/by-user
RUN --mount=type=cache,target=/c --mount=type=bind,target=/b test -e /b/file
";

#[test]
fn privileged_root_of_a_container_gets_the_image_that_root_gets() {
    if !has_tool("podman") || !namespaces() {
        return;
    }
    let place = Place::new();
    place.write("context/Dockerfile", DOCKERFILE);
    place.write("context/file", "1");
    HostBase::find().unwrap().write_layout(place.path("base")).unwrap();
    let directory = place.path("context").parent().unwrap().to_owned();
    fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    let flags = |state: &str, directory: &str| -> Vec<String> {
        let text = format!(
            "--root {state} build -q --build-context base=oci-layout://{directory}/base -f {directory}/context/Dockerfile \
             -o type=oci,dest={state}.tar,rewrite-timestamp=true --build-arg SOURCE_DATE_EPOCH=1700000000 {directory}/context"
        );
        text.split(' ').map(str::to_owned).collect()
    };
    let outside = flags(&directory.join("outside").display().to_string(), &directory.display().to_string());
    let outside: Vec<&str> = outside.iter().map(String::as_str).collect();
    let expected = output_of(std::process::Command::new(env!("CARGO_BIN_EXE_ocibuild")).args(&outside));
    let podman = || podman(&place.path("podman"));
    place.write("Dockerfile", "FROM base\n");
    let archive = format!("type=docker,dest={}", place.path("base.tar").display());
    let base = format!("base=oci-layout://{}", place.path("base").display());
    place.run(&["build", "-t", "base:1", "--build-context", &base, "-o", &archive, "."]).succeeds();
    output_of(podman().args(["load", "-q", "-i"]).arg(place.path("base.tar")));
    let own = format!("{}:/given:ro", directory.display());
    let program = format!("{}:/ocibuild:ro", env!("CARGO_BIN_EXE_ocibuild"));
    let nobody = ["-u", "1000:1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
    for engine in [&[][..], &["--uidmap", "0:200000:65536"], &nobody] {
        let mut command = podman();
        command.args(["run", "--rm", "--network", "host"]);
        command.args(["--ulimit", "nofile=20000:20000", "--ulimit", "nproc=30000:30000"]);
        // The program's libraries are the host's.
        for path in ["/lib", "/lib64", "/usr/lib"].into_iter().filter(|path| fs::metadata(path).is_ok()) {
            command.args(["-v", &format!("{path}:{path}:ro")]);
        }
        command.args(["-v", &own, "-v", &program]).args(engine).arg("base:1").arg("/ocibuild");
        let found = output_of(command.args(flags("/tmp/state", "/given")));
        assert_eq!(found, expected, "podman run {}", engine.join(" "));
    }
}
