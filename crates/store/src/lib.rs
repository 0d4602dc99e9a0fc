//! An OCI image layout on disk: blobs, tags, locks, garbage collection.
