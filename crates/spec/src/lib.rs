//! Nouns of the OCI image specification, as ocibuild uses them.
