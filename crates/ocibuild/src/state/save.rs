use std::io::Write;

use ocibuild_spec::{Descriptor, Reference, Timestamp};
use ocibuild_store::{ArchiveFormat, LayoutArchive, OutputImage, copy_image};

use super::State;
use crate::output::{Destination, write_whole};
use crate::{Error, ErrorKind};

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
    ) -> Result<(), Error> {
        let _lease = self.layout.lease()?;
        let mut outputs: Vec<OutputImage> = Vec::new();
        for (name, descriptor) in images {
            let descriptor = match format {
                ArchiveFormat::Oci => descriptor.clone(),
                ArchiveFormat::Docker => self.details(descriptor)?.descriptor,
            };
            let at = outputs.iter().position(|output| output.descriptor.digest == descriptor.digest);
            let at = at.unwrap_or_else(|| {
                outputs.push(OutputImage { descriptor, names: Vec::new(), created: None });
                outputs.len() - 1
            });
            let names = &mut outputs[at].names;
            names.extend(name.iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
        }
        match destination {
            Destination::Path(path) => write_whole(&path, |writer| self.write(&outputs, format, writer)),
            Destination::Writer(mut writer) => self.write(&outputs, format, &mut *writer),
            Destination::Registry { .. } => {
                Err(Error::new(ErrorKind::Usage, "an archive is not saved to a registry")
                    .hint("images are pushed: State::push"))
            }
        }
    }

    fn write(
        &self,
        outputs: &[OutputImage],
        format: ArchiveFormat,
        writer: &mut (dyn Write + Send),
    ) -> Result<(), Error> {
        let archive = LayoutArchive::new(writer, Timestamp::from_seconds(0));
        for output in outputs {
            copy_image(self.layout, &output.descriptor, &archive)?;
        }
        archive.finish(outputs, format)?;
        Ok(())
    }
}
