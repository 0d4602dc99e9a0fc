//! Root file systems of steps: overlay and copy drivers, and the merged view of a stack of layers.
