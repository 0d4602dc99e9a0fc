use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use ocibuild_spec::{CancelToken, Descriptor, Digest, Reference, Timestamp};
use ocibuild_store::{ArchiveFormat, LayoutArchive, OutputImage, copy_image};

use super::State;
use crate::error::Error;
use crate::failure::StateFailure;
use crate::output::write_whole;
use crate::request::Destination;

impl State<'_> {
    /// Writes images into one archive, each with its names; what several of them share is there once.
    ///
    /// With [`ArchiveFormat::Oci`] an index of several platforms is written as it is, and every digest stays. docker's
    /// archive has no place for an index: of one, the image for this host is written. The same images give the same
    /// bytes, and an archive in a file appears when it is complete.
    pub fn save(
        &self,
        images: &[(Option<Reference>, Descriptor)],
        format: ArchiveFormat,
        destination: Destination,
        cancel: &CancelToken,
    ) -> Result<(), Error> {
        let _lease = self.layout.lease()?;
        let mut places: BTreeMap<Digest, usize> = BTreeMap::new();
        let mut named = BTreeSet::new();
        let mut outputs: Vec<OutputImage> = Vec::new();
        for (name, descriptor) in images {
            check(cancel)?;
            let descriptor = match format {
                ArchiveFormat::Oci => descriptor.clone(),
                ArchiveFormat::Docker => self.details(descriptor)?.descriptor,
            };
            let at = *places.entry(descriptor.digest.clone()).or_insert_with(|| {
                outputs.push(OutputImage { descriptor, names: Vec::new(), created: None });
                outputs.len() - 1
            });
            if let Some(name) = name
                && named.insert((at, name.clone()))
            {
                outputs[at].names.push(name.clone());
            }
        }
        match destination {
            Destination::Path(path) => {
                write_whole(&path, |writer| self.write(&outputs, format, writer, cancel))
            }
            Destination::Writer(mut writer) => self.write(&outputs, format, &mut *writer, cancel),
            Destination::Registry { .. } => Err(StateFailure::ArchiveToRegistry.into()),
        }
    }

    fn write(
        &self,
        outputs: &[OutputImage],
        format: ArchiveFormat,
        writer: &mut (dyn Write + Send),
        cancel: &CancelToken,
    ) -> Result<(), Error> {
        let archive = LayoutArchive::new(writer, Timestamp::from_seconds(0));
        for output in outputs {
            check(cancel)?;
            copy_image(self.layout, &output.descriptor, &archive)?;
        }
        archive.finish(outputs, format)?;
        Ok(())
    }
}

fn check(cancel: &CancelToken) -> Result<(), Error> {
    if cancel.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
}
