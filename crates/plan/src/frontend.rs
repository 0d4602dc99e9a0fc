//! Who is to read the file: `# syntax=` and `BUILDKIT_SYNTAX` (1.10). Nothing is ever fetched for it.

use ocibuild_dockerfile::Dockerfile;
use ocibuild_spec::Reference;

use super::PlanOptions;
use super::error::PlanError;
use super::fault::PlanFault;

/// The build argument that takes the place of the directive.
const ARGUMENT: &str = "BUILDKIT_SYNTAX";
/// Repositories, on any registry, whose language is the one that is built in.
const BUILT_IN: [&str; 2] = ["docker/dockerfile", "docker/dockerfile-upstream"];

/// Refuses a file that asks for another language.
pub(super) fn check(file: &Dockerfile, options: &PlanOptions) -> Result<(), PlanError> {
    if let Some(value) = options.build_arg(ARGUMENT).filter(|value| !value.is_empty()) {
        if is_built_in(value) {
            return Ok(());
        }
        return Err(PlanFault::FrontendArgument { frontend: value.to_owned() }.into());
    }
    let Some((value, location)) = &file.directives.syntax else { return Ok(()) };
    if value.is_empty() || is_built_in(value) {
        return Ok(());
    }
    let fault = PlanFault::FrontendDirective { frontend: value.to_owned() };
    Err(PlanError::new(fault).at(*location).word(value))
}

/// The first word is the image, the rest its options.
fn is_built_in(value: &str) -> bool {
    let image = value.split_whitespace().next().unwrap_or_default();
    let Ok(reference) = image.parse::<Reference>() else { return false };
    let repository = reference.repository();
    BUILT_IN.iter().any(|known| {
        repository.strip_suffix(known).is_some_and(|above| above.is_empty() || above.ends_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::is_built_in;

    #[test]
    fn what_is_built_in() {
        for value in [
            "docker/dockerfile",
            "docker/dockerfile:1.7-labs",
            "docker.io/docker/dockerfile-upstream:master options",
            "mirror.example:5000/hub/docker/dockerfile@sha256:0123456789012345678901234567890123456789012345678901234567890123",
        ] {
            assert!(is_built_in(value), "{value}");
        }
        for value in
            ["dockerfile", "other/dockerfile", "xdocker/dockerfile", "docker/dockerfile/x", "A B", "x"]
        {
            assert!(!is_built_in(value), "{value}");
        }
    }
}
