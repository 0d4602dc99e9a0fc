//! Carries out one RUN step: an OCI bundle, then a runtime or namespaces of our own.
