//! Dockerfile parser with byte spans, word expansion and .dockerignore.
