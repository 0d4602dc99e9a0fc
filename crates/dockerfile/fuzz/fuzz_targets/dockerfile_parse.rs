//! Any bytes: no panic, spans inside the file, and a syntax tree that survives being printed and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocibuild_dockerfile::{Dockerfile, Node, SyntaxTree, nodes_json};

fuzz_target!(|bytes: &[u8]| {
    if let Err(errors) = Dockerfile::parse(bytes) {
        assert!(!errors.diagnostics.is_empty());
        for diagnostic in &errors.diagnostics {
            let spans = [diagnostic.location.map(|location| location.span), diagnostic.label_span];
            for span in spans.into_iter().flatten() {
                assert!(errors.source.get(span.range()).is_some(), "{diagnostic:?}");
            }
        }
    }
    let Ok(tree) = SyntaxTree::parse(bytes) else { return };
    // A carriage return behind an escape character is the end of a line when printed.
    if tree.nodes.iter().any(|node| node.text.ends_with('\r')) {
        return;
    }
    let again = SyntaxTree::parse(tree.to_string()).expect("a printed tree is a file");
    assert_eq!(tree.directives.escape, again.directives.escape);
    assert_eq!(view(&tree.nodes), view(&again.nodes), "{tree}");
});

/// All of a tree but places.
fn view(nodes: &[Node]) -> Vec<String> {
    let mut nodes = nodes.to_vec();
    nodes.iter_mut().for_each(forget_places);
    let comments = nodes.iter().map(|node| format!("{:?}{:?}", node.comments, node.text.trim()));
    let comments: Vec<_> = comments.collect();
    nodes_json(&nodes).lines().map(str::to_owned).chain(comments).collect()
}

fn forget_places(node: &mut Node) {
    (node.location.start_line, node.location.end_line) = (1, 1);
    node.children.iter_mut().for_each(forget_places);
}
