use ocibuild_spec::escape;

use super::client::HttpRequest;

/// Fields of a form, as browsers send them (`application/x-www-form-urlencoded`).
#[derive(Default)]
pub(crate) struct Form {
    text: String,
}

impl Form {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn add(&mut self, key: &str, value: &str) {
        if !self.text.is_empty() {
            self.text.push('&');
        }
        self.text.extend([&escape(key), "=", &escape(value)]);
    }

    /// The request with the form in it.
    pub(crate) fn post(self, request: HttpRequest) -> HttpRequest {
        request.header("content-type", "application/x-www-form-urlencoded").body(self.text)
    }
}
