use std::collections::BTreeMap;

use ocibuild_registry::Registry;
use ocibuild_spec::{CancelToken, Descriptor, Digest, Reference, VerifyingReader, is_document};
use ocibuild_store::{reachable, read_document};

use super::{State, no_such_image};
use crate::error::Error;
use crate::transfer::{ImageUpload, PullOptions, Pulled, Pushed, Watcher, also, pull, push};

impl State<'_> {
    /// Fetches an image from its registry, and gives it its name here once all of it is here.
    pub fn pull(
        &self,
        name: &Reference,
        options: &PullOptions,
        registry: &Registry,
        cancel: &CancelToken,
        watcher: &Watcher<'_>,
    ) -> Result<Pulled, Error> {
        let Self { layout, cache, .. } = self;
        pull::Pulling { registry, layout, origins: cache.origins(), cancel, watcher }.run(name, options)
    }

    /// Pushes images under their names. Names of the same image share what is sent. Where one registry fails, the others
    /// get theirs all the same: the watcher is told of each name, also when the result is an error.
    pub fn push(
        &self,
        names: &[Reference],
        registry: &Registry,
        cancel: &CancelToken,
        watcher: &Watcher<'_>,
    ) -> Result<Vec<Pushed>, Error> {
        let _lease = self.layout.lease()?;
        let catalog = self.catalog()?;
        let mut images: Vec<(Descriptor, Vec<Reference>)> = Vec::new();
        let mut places: BTreeMap<&Digest, usize> = BTreeMap::new();
        for name in names {
            let image = catalog.resolve(name).ok_or_else(|| no_such_image(name))?;
            let at = *places.entry(&image.digest).or_insert_with(|| {
                images.push((image.clone(), Vec::new()));
                images.len() - 1
            });
            images[at].1.push(name.clone());
        }
        let (mut pushed, mut wrong) = (Vec::new(), None);
        for (image, names) in &images {
            let (documents, blobs): (Vec<_>, Vec<_>) = reachable(self.layout, image)?
                .into_iter()
                .partition(|descriptor| is_document(&descriptor.media_type));
            // Parents come first there.
            let documents = documents.into_iter().rev().map(|descriptor| {
                let bytes = read_document(self.layout, &descriptor)?;
                Ok((descriptor, bytes))
            });
            let upload = ImageUpload {
                documents: documents.collect::<Result<_, Error>>()?,
                blobs,
                open: &|blob| Ok(Box::new(VerifyingReader::new(self.layout.open_blob(blob)?, blob))),
            };
            match push(registry, self.cache.origins(), names, &upload, (cancel, watcher)) {
                Ok(named) => pushed.extend(named),
                Err(error) => wrong = Some(also(wrong, error)?),
            }
        }
        wrong.map_or(Ok(pushed), Err)
    }
}
