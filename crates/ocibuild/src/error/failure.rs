use std::error::Error as StdError;
use std::{fmt, io};

use ocibuild_dockerfile::ParseErrors;
use ocibuild_plan::PlanFault;

use super::Error;

/// What failed, as the crate reported it in which it did: to be matched on, without reading English.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The Dockerfile cannot be read.
    Dockerfile(ParseErrors),
    /// There is no plan for the Dockerfile.
    Plan(PlanFaults),
    /// The state directory, or an archive of images.
    Store(ocibuild_store::Error),
    /// The root file system of a step.
    Snapshot(ocibuild_snapshot::Error),
    /// A layer that is read or written.
    Layer(ocibuild_layer::Error),
    /// The execution of a `RUN`, not its command.
    Executor(ocibuild_executor::Error),
    /// A call of the system.
    System(ocibuild_sys::Error),
}

/// Everything that stands in the way of a plan, the first being what BuildKit reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanFaults(pub(super) Vec<PlanFault>);

impl PlanFaults {
    /// The faults; never empty.
    pub fn as_slice(&self) -> &[PlanFault] {
        &self.0
    }
}

impl fmt::Display for PlanFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fault) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl StdError for PlanFaults {}

impl Failure {
    /// The error of the crate.
    pub fn as_error(&self) -> &(dyn StdError + 'static) {
        match self {
            Self::Dockerfile(error) => error,
            Self::Plan(faults) => faults,
            Self::Store(error) => error,
            Self::Snapshot(error) => error,
            Self::Layer(error) => error,
            Self::Executor(error) => error,
            Self::System(error) => error,
        }
    }
}

macro_rules! failures {
    ($($variant:ident: $error:ty,)*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

failures! {
    Store: ocibuild_store::Error,
    Snapshot: ocibuild_snapshot::Error,
    Layer: ocibuild_layer::Error,
    Executor: ocibuild_executor::Error,
    System: ocibuild_sys::Error,
}

/// The first error of a type among an error and what it was caused by.
pub(super) fn find<'e, T: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        if let Some(found) = error.downcast_ref::<Error>().and_then(Error::find) {
            return Some(found);
        }
        // What an error of input or output is made of is not among its sources.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::ErrorKind;
    use super::*;

    #[derive(Debug)]
    struct Gone;

    impl fmt::Display for Gone {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("gone")
        }
    }

    impl StdError for Gone {}

    #[test]
    fn what_failed_is_found_below_whatever_speaks_of_it() {
        let inner = Error::new(ErrorKind::Host, "cannot write")
            .caused_by(io::Error::new(io::ErrorKind::BrokenPipe, Gone));
        assert!(inner.find::<Gone>().is_some());
        assert!(Error::new(ErrorKind::Host, "cannot save").caused_by(inner).find::<Gone>().is_some());
        assert!(Error::new(ErrorKind::Host, "cannot save").find::<Gone>().is_none());
    }

    #[test]
    fn a_fault_can_be_matched_on() {
        let errors = ocibuild_dockerfile::Dockerfile::parse("FROM a\nWROKDIR /\n").unwrap_err();
        let error = Error::from(errors);
        assert_eq!(error.code(), ocibuild_dockerfile::Code::UnknownInstruction.as_str());
        assert!(
            matches!(error.failure(), Some(Failure::Dockerfile(errors)) if errors.diagnostics.len() == 1)
        );
    }
}
