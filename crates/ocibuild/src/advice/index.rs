//! About indexes that are put together.

use super::{Hint, Setting};
use crate::failure::{DocumentProblem, IndexFailure};

/// What can be done about an index that cannot be put together.
pub(crate) fn index(failure: &IndexFailure) -> Vec<Hint> {
    let hint = match failure {
        IndexFailure::TwoImages { .. } => Hint::from(
            "an index has one image for each platform: leave one out, or let the later one count: ",
        )
        .setting(Setting::Replace, ""),
        IndexFailure::TwoImagesOfJob { .. } => "omit one of them".into(),
        IndexFailure::NoImageNamed => Hint::from("name the image after the index, or its platform: ")
            .setting(Setting::Platform, "linux/arm64"),
        IndexFailure::NotInDraft { images, .. } => {
            let listed: Vec<String> =
                images.iter().map(|(name, platform)| format!("{} for {platform}", name.familiar())).collect();
            let listed = if listed.is_empty() { "no image".to_owned() } else { listed.join(", ") };
            Hint::from(format!("it has {listed}; "))
                .setting(Setting::IndexInspect, "")
                .text(" shows the digests")
        }
        IndexFailure::NotAPlatform { .. } => Hint::from("write the names that Go has: ")
            .setting(Setting::Os, "linux")
            .text(" ")
            .setting(Setting::Architecture, "arm")
            .text(" ")
            .setting(Setting::Variant, "v7"),
        IndexFailure::AnnotationLevel { .. } => {
            "index:KEY=VALUE annotates the index, manifest-descriptor:KEY=VALUE what it says of an image; \
             annotations of the image itself are made when it is built"
                .into()
        }
        IndexFailure::NotATag { name } => {
            format!("write a tag instead of the digest: {}:1.0", name.familiar_name()).into()
        }
        IndexFailure::NothingExpected => Hint::from("list all platforms of the index: ")
            .setting(Setting::Expect, "linux/amd64,linux/arm64"),
        IndexFailure::UnnamedRun => Hint::from("give ")
            .setting(Setting::RunName, "")
            .text(" what only these jobs have in common; is a variable empty?"),
        IndexFailure::ExpectedTwice { .. } => "list each platform once".into(),
        IndexFailure::InvalidTag { source, .. } => {
            let other =
                Hint::from("tags have up to 128 letters, digits, dots, dashes and underscores: choose a shorter tag or another ")
                    .setting(Setting::RunName, "");
            return vec![source.advice().into(), other];
        }
        IndexFailure::NotExpected { expected, .. } => {
            let all: Vec<String> = expected.iter().map(ToString::to_string).collect();
            format!("all jobs have to expect the same platforms, now {}", all.join(",")).into()
        }
        IndexFailure::KeepsChanging { .. } => Hint::from(
            "the registry does not show what it took, or several runs use one name: give each its own ",
        )
        .setting(Setting::RunName, ""),
        IndexFailure::NotOneImage { .. } => {
            Hint::from("something else has that name: give the run one of its own with ")
                .setting(Setting::RunName, "")
                .text(", or remove the tag")
        }
        IndexFailure::ChangedByOthers { .. } => Hint::from("for jobs that run at once there is ")
            .setting(Setting::IndexJoin, "")
            .text(", which needs no luck"),
        IndexFailure::ImagesMissing { .. } => {
            "a cleaning job may have removed them: make the index again from where they are".into()
        }
        IndexFailure::Document { problem: DocumentProblem::NoPlatform, .. } => Hint::from("build it with ")
            .setting(Setting::Platform, "")
            .text(", so that it says what it runs on"),
        IndexFailure::Document { .. } => return Vec::new(),
    };
    vec![hint]
}
