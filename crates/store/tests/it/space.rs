use std::io::Write as _;
use std::path::Path;

use ocibuild_spec::MediaType;
use ocibuild_store::{BlobSink as _, Error, ErrorKind, ImageLayout};
use ocibuild_testkit::{TestImage, skip};

use super::{name, open, put};

/// A file system of two megabytes, unmounted on drop.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs"])
            .arg(directory.path())
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success()).then_some(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.path()).status();
    }
}

fn write_too_much(layout: &ImageLayout) -> Result<(), Error> {
    let block = vec![7; 256 << 10];
    let mut writer = layout.writer()?;
    for _ in 0..16 {
        if let Err(error) = writer.write_all(&block) {
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
            return layout.put(MediaType::ImageLayer, &vec![8; 4 << 20]).map(drop);
        }
    }
    writer.finish(MediaType::ImageLayer).map(drop)
}

#[test]
fn privileged_a_full_disk_is_told_and_undone() {
    let Some(small) = Small::mount() else { return skip("cannot mount a tmpfs") };
    let layout = open(small.path());
    let image = put(&layout, &TestImage::new("linux/amd64").build());
    layout.tag(&name("app"), &image).unwrap();
    let error = write_too_much(&layout).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.hint().unwrap().contains("free space"));
    assert_eq!(fs_err::read_dir(layout.private_dir("tmp")).unwrap().count(), 0);
    let filler = small.path().join("cache/filler");
    let mut file = fs_err::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let tags = (0..200).map(|number| layout.tag(&name(&format!("app:{number}")), &image));
    let full = tags.into_iter().find_map(Result::err).expect("an index of 200 names does not fit any more");
    assert_eq!(full.kind(), ErrorKind::NoSpace, "{full}");
    assert!(!layout.list().unwrap().is_empty());
    drop(file);
    fs_err::remove_file(filler).unwrap();
    layout.tag(&name("again"), &image).unwrap();
    drop(layout);
}
