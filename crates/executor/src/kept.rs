//! Bundles that outlive their step: a directory that any OCI runtime takes, and that is opened again here.
//!
//! ```text
//! config.json        the configuration of the runtime specification, with the annotation `ocibuild.kept`
//! rootfs/            the root file system
//! hosts, resolv.conf what is mounted at the paths of these names
//! owners             whom files belong to where their disk cannot say so
//! ```

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    BoxBuilder, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, Mount, Spec,
};
use ocibuild_spec::{EntryKind, Owned};
use ocibuild_sys::{IdRange, WindowSize};

use crate::error::Repr;
use crate::private_network::namespace_path;
use crate::{Bundle, Error, Host, PrivateNetwork, Rootfs, StateFile, Step, bundle};

/// The annotation of bundles that are made here, and the version of their form.
const ANNOTATION: (&str, &str) = ("ocibuild.kept", "1");
/// The annotation of a step in a private network, which is made anew here; a runtime gives it one without a way out.
const NETWORK: (&str, &str) = ("ocibuild.network", "private");
/// The annotation that has the groups of the command where no runtime would take them.
const GROUPS: &str = "ocibuild.groups";
const CONFIG: &str = "config.json";
const ROOTFS: &str = "rootfs";
const OWNERS: &str = "owners";
/// First record of the file of owners.
const OWNERS_VERSION: &[u8] = b"ocibuild owners 1";

/// Writes everything of a bundle but its root file system into the directory `place`, which is then to be renamed to the state
/// directory of `step`, whose paths are those of then. The root file system is `rootfs` there.
///
/// Secrets have no place in a step that is written: what it has in memory only is an error.
pub fn write_bundle(step: &Step, host: &Host, place: &Path) -> Result<(), Error> {
    if !step.memory_files.is_empty() {
        return Err(Error::invalid("a file in memory", "is not written to a disk"));
    }
    if !step.outside.is_empty() {
        return Err(Error::invalid("a mount on a path of this host", "is not written to a disk"));
    }
    let mut bundle = bundle(step, host);
    if let Some(mut root) = bundle.spec.root().clone() {
        root.set_path(ROOTFS.into());
        bundle.spec.set_root(Some(root));
    }
    let mut annotations =
        HashMap::from([ANNOTATION].map(|(name, value)| (name.to_owned(), value.to_owned())));
    if !host.privileged {
        with_user_namespace(&mut bundle.spec, host);
        annotations.extend(take_groups(&mut bundle.spec).map(|groups| (GROUPS.to_owned(), groups)));
    }
    if bundle.private_network.is_some() {
        set_network_path(&mut bundle.spec, None);
        annotations.insert(NETWORK.0.to_owned(), NETWORK.1.to_owned());
    }
    bundle.spec.set_annotations(Some(annotations));
    for StateFile { path, content } in &bundle.files {
        let name = path.file_name().unwrap_or_default();
        write(&place.join(name), content.as_bytes(), 0o644)?;
    }
    let config = serde_json::to_vec_pretty(&bundle.spec).map_err(Repr::Config)?;
    write(&place.join(CONFIG), &config, 0o600)?;
    if !(bundle.unkept.is_empty() && bundle.unkept_mounted.is_empty()) {
        write(&place.join(OWNERS), &owners_text(&bundle.unkept, &bundle.unkept_mounted), 0o600)?;
    }
    Ok(())
}

/// Opens a bundle that [`write_bundle`] wrote, for who is in the namespace that it was written in; `state` is an existing
/// private directory for the time of the command.
pub fn open_bundle(directory: &Path, state: &Path) -> Result<Bundle, Error> {
    let config = fs_err::read(directory.join(CONFIG)).map_err(Repr::State)?;
    let mut spec: Spec = serde_json::from_slice(&config).map_err(Repr::Config)?;
    let version = spec.annotations().as_ref().and_then(|annotations| annotations.get(ANNOTATION.0));
    if version.map(String::as_str) != Some(ANNOTATION.1) {
        return Err(Error::invalid(directory.display().to_string(), "was not kept by a build"));
    }
    let rootfs = directory.join(ROOTFS);
    if let Some(mut root) = spec.root().clone() {
        root.set_path(rootfs.clone());
        spec.set_root(Some(root));
    }
    without_user_namespace(&mut spec);
    give_groups(&mut spec)?;
    // An executor that cannot mount moves them.
    let files = ["hosts", "resolv.conf"].map(|name| (directory.join(name), state.join(name)));
    let mut mounts: Vec<Mount> = spec.mounts().clone().unwrap_or_default();
    for mount in &mut mounts {
        if let Some((_, own)) = files.iter().find(|(kept, _)| mount.source().as_ref() == Some(kept)) {
            mount.set_source(Some(own.clone()));
        }
    }
    spec.set_mounts(Some(mounts));
    let file = |(kept, path): (PathBuf, PathBuf)| -> Result<StateFile, Error> {
        Ok(StateFile { path, content: fs_err::read_to_string(kept).map_err(Repr::State)? })
    };
    let files: Vec<StateFile> = files.into_iter().map(file).collect::<Result<_, _>>()?;
    let network = spec.annotations().as_ref().and_then(|annotations| annotations.get(NETWORK.0));
    let private_network = network.is_some_and(|network| network == NETWORK.1).then(|| {
        set_network_path(&mut spec, Some(&namespace_path(state)));
        PrivateNetwork::with_servers(&files[1].content)
    });
    let (unkept, unkept_mounted) = match fs_err::read(directory.join(OWNERS)) {
        Ok(text) => owners(&text).ok_or_else(|| Error::invalid(OWNERS, "cannot be read"))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Default::default(),
        Err(error) => return Err(Repr::State(error).into()),
    };
    Ok(Bundle {
        spec,
        rootfs: Rootfs::at(rootfs),
        outside: Vec::new(),
        files,
        memory_files: Vec::new(),
        state: state.to_owned(),
        movable: None,
        unkept,
        unkept_mounted,
        private_network,
    })
}

impl Bundle {
    /// Gives the command a terminal of this size, or none.
    pub fn set_terminal(&mut self, size: Option<WindowSize>) {
        let Some(mut process) = self.spec.process().clone() else { return };
        let console = size.map(|size| {
            let size =
                BoxBuilder::default().height(u64::from(size.rows)).width(u64::from(size.columns)).build();
            size.expect("both fields are set")
        });
        process.set_terminal(Some(size.is_some())).set_console_size(console);
        self.spec.set_process(Some(process));
    }
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    fs_err::write(path, content).map_err(Repr::State)?;
    let mode = std::fs::Permissions::from_mode(mode);
    Ok(fs_err::set_permissions(path, mode).map_err(Repr::State)?)
}

/// The namespace that the step was in, for a runtime that is started outside of it.
fn with_user_namespace(spec: &mut Spec, host: &Host) {
    let Some(mut linux) = spec.linux().clone() else { return };
    let user = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::User).build();
    let mut namespaces: Vec<LinuxNamespace> = linux.namespaces().clone().unwrap_or_default();
    namespaces.push(user.expect("the type is set"));
    linux.set_namespaces(Some(namespaces));
    linux.set_uid_mappings(Some(host.ids.users.iter().map(mapping).collect()));
    linux.set_gid_mappings(Some(host.ids.groups.iter().map(mapping).collect()));
    spec.set_linux(Some(linux));
}

fn mapping(range: &IdRange) -> LinuxIdMapping {
    LinuxIdMappingBuilder::default()
        .container_id(range.inside)
        .host_id(range.outside)
        .size(range.count)
        .build()
        .expect("all fields are set")
}

fn set_network_path(spec: &mut Spec, path: Option<&Path>) {
    let Some(mut linux) = spec.linux().clone() else { return };
    let mut namespaces: Vec<LinuxNamespace> = linux.namespaces().clone().unwrap_or_default();
    for namespace in &mut namespaces {
        if namespace.typ() == LinuxNamespaceType::Network {
            namespace.set_path(path.map(Path::to_owned));
        }
    }
    linux.set_namespaces(Some(namespaces));
    spec.set_linux(Some(linux));
}

fn without_user_namespace(spec: &mut Spec) {
    let Some(mut linux) = spec.linux().clone() else { return };
    let mut namespaces: Vec<LinuxNamespace> = linux.namespaces().clone().unwrap_or_default();
    namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::User);
    linux.set_namespaces(Some(namespaces));
    linux.set_uid_mappings(None).set_gid_mappings(None);
    spec.set_linux(Some(linux));
}

/// runc sets no groups for an ordinary user, and refuses a bundle that asks for some.
fn take_groups(spec: &mut Spec) -> Option<String> {
    let mut process = spec.process().clone()?;
    let mut user = process.user().clone();
    let groups = user.additional_gids().clone().filter(|groups| !groups.is_empty())?;
    user.set_additional_gids(None);
    process.set_user(user);
    spec.set_process(Some(process));
    let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    Some(groups.join(","))
}

fn give_groups(spec: &mut Spec) -> Result<(), Error> {
    let groups = spec.annotations().as_ref().and_then(|annotations| annotations.get(GROUPS));
    let (Some(groups), Some(mut process)) = (groups, spec.process().clone()) else { return Ok(()) };
    let groups: Result<Vec<u32>, _> = groups.split(',').map(str::parse).collect();
    let mut user = process.user().clone();
    user.set_additional_gids(Some(groups.map_err(|_| Error::invalid(GROUPS, "cannot be read"))?));
    process.set_user(user);
    spec.set_process(Some(process));
    Ok(())
}

type Owners = Vec<(PathBuf, Owned)>;

/// Records that end with NUL: `root` or `mounted`, owner, group, `-` or a device, path.
fn owners_text(root: &Owners, mounted: &Owners) -> Vec<u8> {
    let mut text = [OWNERS_VERSION, b"\0"].concat();
    for (place, list) in [("root", root), ("mounted", mounted)] {
        for (path, Owned { uid, gid, device }) in list {
            let device = match device {
                Some(EntryKind::CharacterDevice { major, minor }) => format!("c{major}:{minor}"),
                Some(EntryKind::BlockDevice { major, minor }) => format!("b{major}:{minor}"),
                _ => "-".to_owned(),
            };
            text.extend_from_slice(format!("{place} {uid} {gid} {device} ").as_bytes());
            text.extend_from_slice(path.as_os_str().as_bytes());
            text.push(0);
        }
    }
    text
}

fn owners(text: &[u8]) -> Option<(Owners, Owners)> {
    let mut records = text.strip_suffix(b"\0")?.split(|byte| *byte == 0);
    if records.next()? != OWNERS_VERSION {
        return None;
    }
    let (mut root, mut mounted) = (Vec::new(), Vec::new());
    for record in records {
        let mut fields = record.splitn(5, |byte| *byte == b' ');
        let mut text = || std::str::from_utf8(fields.next()?).ok();
        let list = match text()? {
            "root" => &mut root,
            "mounted" => &mut mounted,
            _ => return None,
        };
        let (uid, gid) = (text()?.parse().ok()?, text()?.parse().ok()?);
        let device = match text()? {
            "-" => None,
            device => Some(device_of(device)?),
        };
        let path = OsString::from_vec(fields.next()?.to_vec());
        list.push((path.into(), Owned { uid, gid, device }));
    }
    Some((root, mounted))
}

fn device_of(text: &str) -> Option<EntryKind> {
    let (major, minor) = text.get(1..)?.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    match text.as_bytes()[0] {
        b'c' => Some(EntryKind::CharacterDevice { major, minor }),
        b'b' => Some(EntryKind::BlockDevice { major, minor }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_as_they_were_written() {
        let device = Some(EntryKind::CharacterDevice { major: 1, minor: 3 });
        let root = vec![
            (PathBuf::from("dir/a b"), Owned::by(1, 2)),
            (OsString::from_vec(b"\xff \n".to_vec()).into(), Owned { uid: 0, gid: 0, device }),
        ];
        let mounted = vec![(PathBuf::from("cache"), Owned::by(7, 8))];
        assert_eq!(owners(&owners_text(&root, &mounted)), Some((root, mounted)));
        for broken in
            [&b""[..], b"x\0", b"ocibuild owners 1\0root 1\0", b"ocibuild owners 1\0root 1 2 d1:2 x\0"]
        {
            assert_eq!(owners(broken), None);
        }
    }

    #[test]
    fn a_bundle_is_opened_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let (place, state) = (directory.path().join("place"), directory.path().join("state"));
        fs_err::create_dir(&place).unwrap();
        fs_err::create_dir(&state).unwrap();
        let mut step = Step::new(Rootfs::at(place.join("rootfs")), &place);
        step.args = vec!["/bin/false".to_owned()];
        step.unkept.push(("etc".into(), Owned::by(3, 4)));
        step.user.additional_gids = vec![5, 6];
        let mut host = Host::root();
        for privileged in [true, false] {
            host.privileged = privileged;
            write_bundle(&step, &host, &place).unwrap();
            let text = fs_err::read_to_string(place.join("config.json")).unwrap();
            assert_eq!(text.contains("uidMappings"), !privileged, "{text}");
            assert_eq!(text.contains("additionalGids"), privileged, "{text}");
            let opened = open_bundle(&place, &state).unwrap();
            let expected = bundle(&step, &host).spec;
            let of_state = |spec: &Spec| {
                let mounts = spec.mounts().iter().flatten();
                mounts
                    .filter(|mount| mount.source().as_ref().is_some_and(|path| path.starts_with(&state)))
                    .count()
            };
            assert_eq!((of_state(&opened.spec), opened.files.len()), (2, 2));
            assert_eq!(opened.spec.process(), expected.process());
            assert_eq!(opened.rootfs.dir, place.join("rootfs"));
            assert_eq!(opened.unkept, step.unkept);
            let linux = expected.linux().clone().unwrap();
            assert_eq!(opened.spec.linux().as_ref().unwrap().namespaces(), linux.namespaces());
        }
        fs_err::write(place.join("config.json"), serde_json::to_vec(&Spec::default()).unwrap()).unwrap();
        assert!(open_bundle(&place, &state).unwrap_err().to_string().contains("was not kept by a build"));
    }

    #[test]
    fn a_private_network_is_made_anew_and_is_an_empty_one_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let (place, state) = (directory.path().join("place"), directory.path().join("state"));
        fs_err::create_dir(&place).unwrap();
        let mut step = Step::new(Rootfs::at(place.join("rootfs")), &place);
        step.network = crate::Network::Private;
        let network_of = |spec: &Spec| {
            let namespaces = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
            namespaces.into_iter().find(|namespace| namespace.typ() == LinuxNamespaceType::Network).unwrap()
        };
        for (servers, forwards) in [("nameserver 10.0.2.3\n", true), ("nameserver 192.0.2.1\n", false)] {
            step.resolv_conf = servers.to_owned();
            write_bundle(&step, &Host::root(), &place).unwrap();
            let written: Spec =
                serde_json::from_slice(&fs_err::read(place.join("config.json")).unwrap()).unwrap();
            assert_eq!(network_of(&written).path(), &None);
            let opened = open_bundle(&place, &state).unwrap();
            assert_eq!(opened.private_network, Some(PrivateNetwork { program: None, forwards }));
            assert_eq!(network_of(&opened.spec).path(), &Some(namespace_path(&state)));
        }
    }

    #[test]
    fn what_the_host_mounts_for_a_step_is_never_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut step = Step::new(Rootfs::at("/rootfs"), directory.path());
        step.outside.push(crate::Outside::View(crate::View::default()));
        write_bundle(&step, &Host::root(), directory.path()).unwrap_err();
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_in_memory_alone_is_never_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut step = Step::new(Rootfs::at("/rootfs"), directory.path());
        step.memory_files.push(crate::MemoryFile {
            path: "/x".into(),
            content: b"canary".to_vec().into(),
            mode: 0o400,
            uid: 0,
            gid: 0,
        });
        write_bundle(&step, &Host::root(), directory.path()).unwrap_err();
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 0);
    }
}
