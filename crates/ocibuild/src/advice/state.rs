//! About the images of a state directory, and archives to be loaded.

use super::{Hint, Setting};
use crate::failure::StateFailure;

/// What can be done about it.
pub(crate) fn state(failure: &StateFailure) -> Option<Hint> {
    Some(match failure {
        StateFailure::NoSuchImage { .. } => Hint::of(Setting::Images, "").text(" lists the names there are"),
        StateFailure::InvalidName { source } => source.advice().into(),
        StateFailure::AmbiguousId { ids, .. } => format!("give more of it: {}", ids.join(", ")).into(),
        StateFailure::NotAnImage { .. } => Hint::from("it can be tagged, pushed, removed, and saved with ")
            .setting(Setting::SaveFormat, "oci"),
        StateFailure::DraftExists { .. } => Hint::from("add to it with ")
            .setting(Setting::Append, "")
            .text(", or remove it first: ")
            .setting(Setting::IndexRemove, ""),
        StateFailure::EmptyDraft { .. } => {
            Hint::from("add some: ").setting(Setting::IndexAdd, "NAME IMAGE…")
        }
        StateFailure::NoDraft { .. } => Hint::from("make one with ")
            .setting(Setting::IndexCreate, "NAME IMAGE…")
            .text("; of an index at its registry with ")
            .setting(Setting::IndexAdd, "NAME"),
        StateFailure::DraftUnreadable { .. } => Hint::from("remove it with ")
            .setting(Setting::IndexRemove, "NAME")
            .text(" or by hand, and make it again"),
        StateFailure::Incomplete { .. } => "save the image again, with all its blobs".into(),
        StateFailure::DecompressesTooMuch { .. } => "decompress it first, if it is what it should be".into(),
        StateFailure::ArchiveToRegistry => "images are pushed: State::push".into(),
        StateFailure::NoCommand => "give the command after the image's name".into(),
        StateFailure::NoShell => "give the command to run, with its path".into(),
        StateFailure::WorkingDirectory { .. } => {
            "name a directory, or a path that does not exist: it is created".into()
        }
        StateFailure::UnknownUser { .. } => {
            "name a user and a group that the image has, or give numbers: 1000:1000".into()
        }
        StateFailure::NoKeptStep { .. } | StateFailure::KeptCacheGone { .. } => {
            Hint::from("build again with ").setting(Setting::KeepFailed, "").text(", which tells where it is kept")
        }
        StateFailure::NotStarted { .. } => {
            "name a program that the image has and this user may execute, with its path if PATH does not lead to it"
                .into()
        }
        _ => return None,
    })
}
