use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A value that tests share: made for the first of them, and gone with the last that has it. What is `static` itself is never
/// dropped, and leaves its files behind.
#[derive(Debug, Default)]
pub struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    /// The value that there is, or else a new one, if it can be made.
    pub fn get_or_make(&self, make: impl FnOnce() -> Option<T>) -> Option<Arc<T>> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = shared.upgrade() {
            return Some(value);
        }
        let value = Arc::new(make()?);
        *shared = Arc::downgrade(&value);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_last_as_long_as_somebody_has_them() {
        static SHARED: Shared<String> = Shared::new();
        assert!(SHARED.get_or_make(|| None).is_none());
        let first = SHARED.get_or_make(|| Some("first".to_owned())).unwrap();
        let same = SHARED.get_or_make(|| Some("second".to_owned())).unwrap();
        assert_eq!((first.as_str(), same.as_str()), ("first", "first"));
        drop((first, same));
        assert_eq!(*SHARED.get_or_make(|| Some("third".to_owned())).unwrap(), "third");
    }
}
