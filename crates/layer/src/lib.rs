//! Changeset to tar to compressed blob in one pass, and back, confined.
