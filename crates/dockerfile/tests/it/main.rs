//! Tests over the fixtures, and properties that hold for any input.

mod dockerfile;
mod expand;
mod fixtures;
mod ignore;
mod limits;
mod meaning;
mod properties;
