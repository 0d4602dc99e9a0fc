//! What an embedding program relies on.

use ocibuild::executor::{NamespaceExecutor, RuntimeExecutor};
use ocibuild::registry::Registry;
use ocibuild::{
    Backends, BaseImages, Build, BuildContext, Built, Error, Event, Output, PlannedBuild, StateDirectory,
};

/// Builds are started on one thread and carried out on others.
#[test]
fn what_a_build_is_made_of_crosses_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Build>();
    crosses::<BuildContext>();
    crosses::<PlannedBuild>();
    crosses::<Backends<'static>>();
    crosses::<StateDirectory>();
    crosses::<BaseImages>();
    crosses::<Registry>();
    crosses::<NamespaceExecutor>();
    crosses::<RuntimeExecutor>();
    crosses::<Output>();
    crosses::<Event>();
    crosses::<Built>();
    crosses::<Error>();
}

/// Build, events, cancelling and a push: the listing that `docs/embedding.md` starts with.
#[test]
fn the_whole_program_is_short() {
    let page = include_str!("../../../../docs/embedding.md");
    let listing = page.split("```").nth(1).unwrap();
    let own = listing.lines().skip(1).filter(|line| !line.trim().is_empty()).count();
    assert!(own <= 25, "{own} lines");
    for part in [".run(", "cancel", "|event|", "OutputKind::Registry"] {
        assert!(listing.contains(part), "{part} is missing");
    }
}
