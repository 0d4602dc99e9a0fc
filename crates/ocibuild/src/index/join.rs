use ocibuild_spec::{Descriptor, Index, MediaType, Platform, Reference, json};

use super::draft::{IndexDraft, IndexEntry};
use super::lookup::{CollectedEntries, Found};
use super::publish::Publishing;
use super::{back_off, check_name};
use crate::advice::{Hint, Setting};
use crate::error::{Error, ErrorKind};
use crate::transfer::{Origin, Pushed, Transfer};

/// How often the images are looked at again because one of them changed while the index was written, or because the
/// registry does not show yet what it took.
const MAX_ROUNDS: u32 = 8;

/// What jobs that build one platform each have to agree on to meet in a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JoinOptions {
    /// The platforms of the index.
    pub platforms: Vec<Platform>,
    /// What only these jobs know, so that images of earlier ones do not count.
    pub run: Option<String>,
}

/// What a job found when it had pushed its own images.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JoinOutcome {
    /// Platforms whose images are there.
    pub present: Vec<Platform>,
    /// Platforms whose images are still to come.
    pub missing: Vec<Platform>,
    /// The index, which this job put under its name since nothing is missing; else the name was not touched.
    pub pushed: Option<Pushed>,
}

/// A platform, and the name that its image has while the others are waited for.
#[derive(Debug)]
struct Slot {
    platform: Platform,
    name: Reference,
}

/// Jobs that meet in a registry.
///
/// Each puts its image under a name that only it writes, and *then* looks at the names of all. So whichever comes last
/// sees all of them, and puts the index; two that see all put the same bytes, since these follow from the images alone.
/// A name that changes while the index is written (a job that runs once more) is seen by whoever changed it or by
/// whoever wrote: both look again after they wrote.
pub(crate) struct PlatformJoin<'a> {
    publishing: Publishing<'a>,
    name: Reference,
    seats: Vec<Slot>,
}

impl<'a> PlatformJoin<'a> {
    pub(crate) fn new(
        publishing: Publishing<'a>,
        name: Reference,
        options: &JoinOptions,
    ) -> Result<Self, Error> {
        let tag = check_name(&name)?.to_owned();
        if options.platforms.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "no platform is expected").hint(
                Hint::from("list all platforms of the index: ")
                    .setting(Setting::Expect, "linux/amd64,linux/arm64"),
            ));
        }
        if options.run.as_ref().is_some_and(String::is_empty) {
            return Err(Error::new(ErrorKind::Usage, "the run has no name, so all runs would share one")
                .hint(
                    Hint::from("give ")
                        .setting(Setting::RunName, "")
                        .text(" what only these jobs have in common; is a variable empty?"),
                ));
        }
        let mut seats: Vec<Slot> = Vec::new();
        for platform in &options.platforms {
            let platform = Platform::new(&platform.os, &platform.architecture, &platform.variant);
            if seats.iter().any(|seat| seat.platform == platform) {
                return Err(Error::new(ErrorKind::Usage, format!("{platform} is expected twice"))
                    .hint("list each platform once"));
            }
            let own = seat_tag(&tag, options.run.as_deref(), &platform);
            let named = name.with_tag(&own).map_err(|error| {
                Error::new(ErrorKind::Usage, format!("the image of {platform} would have the tag {own:?}, which is none"))
                    .hint(error.advice())
                    .hint(Hint::from("tags have up to 128 letters, digits, dots, dashes and underscores: choose a shorter tag or another ").setting(Setting::RunName, ""))
            })?;
            seats.push(Slot { platform, name: named });
        }
        seats.sort_by(|a, b| a.platform.cmp(&b.platform));
        Ok(Self { publishing, name, seats })
    }

    /// Brings images, and puts the index if they are the last ones.
    pub(crate) fn meet(&self, images: &[Reference]) -> Result<JoinOutcome, Error> {
        let mut own = Vec::new();
        for image in images {
            let lookup = &self.publishing.lookup;
            let found = lookup.find(image)?;
            (self.publishing.watcher)(Transfer::Found { name: image, origin: &found.origin });
            own.extend(lookup.gather(image, &found)?.entries);
        }
        let mine = self.take_seats(&own)?;
        for (seat, entries) in &mine {
            self.push_slot(seat, entries)?;
        }
        let mine: Vec<&Slot> = mine.into_iter().map(|(seat, _)| seat).collect();
        self.settle(&mine)
    }

    /// The seat of each image, with the image and its attestations.
    fn take_seats<'s>(
        &'s self,
        own: &'s [IndexEntry],
    ) -> Result<Vec<(&'s Slot, Vec<&'s IndexEntry>)>, Error> {
        let mut taken: Vec<(&Slot, Vec<&IndexEntry>)> = Vec::new();
        for image in own.iter().filter(|entry| entry.subject().is_none()) {
            let digest = &image.descriptor.digest;
            let platform = image.descriptor.platform.clone().unwrap_or_else(|| Platform::new("", "", ""));
            let seat =
                self.seats.iter().find(|seat| platform.satisfies(&seat.platform)).ok_or_else(|| {
                    let all = self.seats.iter().map(|seat| seat.platform.to_string()).collect::<Vec<_>>();
                    let name = image.name.familiar();
                    Error::new(ErrorKind::Usage, format!("{name} is for {platform}, which is not expected"))
                        .hint(format!("all jobs have to expect the same platforms, now {}", all.join(",")))
                })?;
            match taken.iter().find(|(other, _)| other.platform == seat.platform) {
                Some((_, other)) if other[0].descriptor.digest == *digest => continue,
                Some((_, other)) => {
                    let (one, other) = (other[0].name.familiar(), image.name.familiar());
                    let text = format!("two images for {platform}: {one} and {other}");
                    return Err(Error::new(ErrorKind::Usage, text).hint("leave one of them out"));
                }
                None => {}
            }
            let about = own.iter().filter(|entry| entry.subject() == Some(digest.as_str()));
            taken.push((seat, std::iter::once(image).chain(about).collect()));
        }
        Ok(taken)
    }

    /// Puts an image under its name, in an index of its own if there are attestations about it.
    fn push_slot(&self, seat: &Slot, entries: &[&IndexEntry]) -> Result<(), Error> {
        if let [image] = entries {
            return self.publishing.bring(image, &self.name, Some(&seat.name));
        }
        for entry in entries {
            self.publishing.bring(entry, &self.name, None)?;
        }
        let index = Index::new(entries.iter().map(|entry| entry.descriptor.clone()).collect());
        let bytes = json::to_vec_pretty(&index).expect("an index is plain data");
        let descriptor = Descriptor::of(MediaType::ImageIndex, &bytes);
        self.publishing.put(&seat.name, &descriptor, &bytes).map(drop)
    }

    fn platforms(&self) -> impl Iterator<Item = Platform> + '_ {
        self.seats.iter().map(|seat| seat.platform.clone())
    }

    /// Looks who is there, and puts the index when all are, until nobody moved meanwhile.
    fn settle(&self, mine: &[&Slot]) -> Result<JoinOutcome, Error> {
        let cancel = self.publishing.lookup.cancel;
        let mut seen = self.look()?;
        for round in 0..MAX_ROUNDS {
            let missing: Vec<&Slot> = self
                .seats
                .iter()
                .zip(&seen)
                .filter(|(_, found)| found.is_none())
                .map(|(seat, _)| seat)
                .collect();
            if missing.iter().any(|seat| mine.iter().any(|own| own.name == seat.name)) {
                // The registry took it and does not show it yet.
                back_off(round, cancel)?;
                seen = self.look()?;
                continue;
            }
            if !missing.is_empty() {
                let missing: Vec<Platform> = missing.into_iter().map(|seat| seat.platform.clone()).collect();
                let present = self.platforms().filter(|platform| !missing.contains(platform)).collect();
                return Ok(JoinOutcome { present, missing, pushed: None });
            }
            let (descriptor, bytes) = self.assemble(seen.iter().flatten())?.document();
            let pushed = self.publishing.put(&self.name, &descriptor, &bytes)?;
            let now = self.look()?;
            let digests = |found: &[Option<Found>]| -> Vec<_> {
                found
                    .iter()
                    .map(|found| found.as_ref().map(|found| found.descriptor.digest.clone()))
                    .collect()
            };
            if digests(&now) == digests(&seen) {
                return Ok(JoinOutcome {
                    present: self.platforms().collect(),
                    missing: Vec::new(),
                    pushed: Some(pushed),
                });
            }
            seen = now;
        }
        let text = format!("{}: the images of the platforms do not come to rest", self.name.familiar());
        Err(Error::new(ErrorKind::Network, text).hint(
            Hint::from(
                "the registry does not show what it took, or several runs use one name: give each its own ",
            )
            .setting(Setting::RunName, ""),
        ))
    }

    /// What the names stand for now.
    fn look(&self) -> Result<Vec<Option<Found>>, Error> {
        let lookup = &self.publishing.lookup;
        let found = |seat: &Slot| {
            let found =
                lookup.registry.tagged_manifest(&seat.name, lookup.cancel).map_err(Error::of_registry)?;
            Ok(found.map(|found| Found {
                origin: Origin::Registry(seat.name.with_digest(found.descriptor.digest.clone())),
                descriptor: found.descriptor,
                bytes: found.bytes,
            }))
        };
        self.seats.iter().map(found).collect()
    }

    /// The index of what was found, one image for each platform.
    fn assemble<'f>(&self, found: impl Iterator<Item = &'f Found>) -> Result<IndexDraft, Error> {
        let mut draft = IndexDraft::new(self.name.clone());
        for (seat, found) in self.seats.iter().zip(found) {
            let CollectedEntries { entries, .. } = self.publishing.lookup.gather(&seat.name, found)?;
            let fits = |entry: &&IndexEntry| {
                entry.descriptor.platform.as_ref().is_some_and(|own| own.satisfies(&seat.platform))
            };
            let images: Vec<_> = entries.iter().filter(|entry| entry.subject().is_none()).collect();
            if images.len() != 1 || !images.iter().all(fits) {
                let text = format!("{} is not one image for {}", seat.name.familiar(), seat.platform);
                return Err(Error::new(ErrorKind::Refused, text).hint(
                    Hint::from("something else has that name: give the run one of its own with ")
                        .setting(Setting::RunName, "")
                        .text(", or remove the tag"),
                ));
            }
            draft.add(entries, false)?;
        }
        Ok(draft)
    }
}

/// `TAG[-RUN]-OS-ARCHITECTURE[-VARIANT]`
fn seat_tag(tag: &str, run: Option<&str>, platform: &Platform) -> String {
    let Platform { os, architecture, variant, .. } = platform;
    let parts = [tag, run.unwrap_or_default(), os, architecture, variant];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_images_have_meanwhile() {
        for (run, platform, expected) in [
            (None, "linux/amd64", "1.0-linux-amd64"),
            (Some("4711"), "linux/arm", "1.0-4711-linux-arm-v7"),
            (Some("a.b_c"), "linux/arm64/v8", "1.0-a.b_c-linux-arm64"),
        ] {
            assert_eq!(seat_tag("1.0", run, &platform.parse().unwrap()), expected);
        }
    }
}
