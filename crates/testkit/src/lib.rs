//! Test helpers of the ocibuild workspace.
