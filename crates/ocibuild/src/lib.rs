//! Builds OCI images from Dockerfiles: no daemon, no root where the kernel allows it.
