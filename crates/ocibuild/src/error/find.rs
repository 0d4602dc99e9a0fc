use std::error::Error as StdError;
use std::io;

use super::Error;

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
    use std::fmt;

    use super::super::{ErrorKind, Failure};
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
