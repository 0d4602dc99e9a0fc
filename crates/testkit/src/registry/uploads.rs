//! What pushes do to a [`TestRegistry`](super::TestRegistry).

use ocibuild_spec::Digest;

use super::{Answer, LoggedRequest, State, etag_of};

impl State {
    /// A request below `/v2/<repository>/blobs/uploads/`.
    pub(super) fn upload(
        &mut self,
        request: &LoggedRequest,
        repository: &str,
        rest: &str,
        query: &str,
    ) -> Answer {
        let parameter = |name: &str| {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, v)| v)
        };
        if request.method == "POST" {
            if let (Some(digest), Some(from)) = (parameter("mount"), parameter("from"))
                && let Some(bytes) = self.blobs.get(&format!("{from}/{digest}")).cloned()
            {
                self.blobs.insert(format!("{repository}/{digest}"), bytes);
                return Answer::of(201, "").header("location", format!("/v2/{repository}/blobs/{digest}"));
            }
            self.begun += 1;
            self.uploads.insert(self.begun, Vec::new());
            return self.session(202, repository, self.begun);
        }
        let number = rest.parse().unwrap_or_default();
        let Some(have) = self.uploads.get(&number).map(Vec::len) else {
            return Answer::error(404, "BLOB_UPLOAD_UNKNOWN");
        };
        match request.method.as_str() {
            "GET" => self.session(204, repository, number),
            "PATCH" => {
                let from = request.headers.get("content-range").and_then(|range| range.split('-').next());
                if from.is_some_and(|from| from.parse() != Ok(have)) {
                    return self.session(416, repository, number);
                }
                self.keep_part(request);
                self.session(202, repository, number)
            }
            "PUT" => {
                self.keep_part(request);
                let bytes = self.uploads.remove(&number).unwrap_or_default();
                let digest = Digest::of(&bytes);
                if parameter("digest") != Some(&digest.to_string()) {
                    return Answer::error(400, "DIGEST_INVALID");
                }
                self.blobs.insert(format!("{repository}/{digest}"), bytes);
                Answer::of(201, "")
                    .header("location", format!("/v2/{repository}/blobs/{digest}"))
                    .header("docker-content-digest", digest.to_string())
            }
            _ => Answer::error(405, "UNSUPPORTED"),
        }
    }

    /// Keeps what came of a body for the upload that the path names.
    pub(super) fn keep_part(&mut self, request: &LoggedRequest) {
        let path = request.path.split('?').next().unwrap_or_default();
        let number = path.rsplit('/').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        if let Some(bytes) = self.uploads.get_mut(&number) {
            bytes.extend_from_slice(&request.body);
        }
    }

    fn session(&self, status: u16, repository: &str, number: u64) -> Answer {
        let have = self.uploads.get(&number).map_or(0, Vec::len);
        Answer::of(status, "")
            .header("location", format!("/v2/{repository}/blobs/uploads/{number}"))
            .header("range", format!("0-{}", have.saturating_sub(1)))
    }

    /// Takes a manifest of which everything is here.
    pub(super) fn store_manifest(&mut self, request: &LoggedRequest, repository: &str, name: &str) -> Answer {
        let digest = Digest::of(&request.body);
        let Ok(document) = serde_json::from_slice::<serde_json::Value>(&request.body) else {
            return Answer::error(400, "MANIFEST_INVALID");
        };
        let entries = |key: &str| document[key].as_array().cloned().unwrap_or_default();
        let has = |map_has: &dyn Fn(&str) -> bool, entry: &serde_json::Value| {
            entry["digest"].as_str().is_some_and(|digest| map_has(&format!("{repository}/{digest}")))
        };
        let blobs = entries("layers").into_iter().chain(document.get("config").cloned());
        let misses_blob = blobs.into_iter().any(|entry| !has(&|key| self.blobs.contains_key(key), &entry));
        let misses_manifest =
            entries("manifests").iter().any(|entry| !has(&|key| self.manifests.contains_key(key), entry));
        if misses_blob || misses_manifest {
            return Answer::error(404, "MANIFEST_BLOB_UNKNOWN");
        }
        if self.conditions
            && let Some(wanted) = request.headers.get("if-match")
        {
            let stored = self.manifests.get(&format!("{repository}/{name}"));
            if stored.is_none_or(|(_, bytes)| *wanted != etag_of(bytes)) {
                return Answer::error(412, "PRECONDITION_FAILED");
            }
        }
        let media_type = request.headers.get("content-type").cloned().unwrap_or_default();
        let stored = (media_type, request.body.clone());
        self.manifests.insert(format!("{repository}/{digest}"), stored.clone());
        self.manifests.insert(format!("{repository}/{name}"), stored);
        Answer::of(201, "").header("docker-content-digest", digest.to_string())
    }
}
