//! Properties that hold for any input.

use std::collections::BTreeMap;

use ocibuild_dockerfile::expand::{expand_heredoc, expand_word, expand_words};
use ocibuild_dockerfile::{
    Dockerfile, HeredocNode, IgnoreFile, IgnorePatterns, Node, SyntaxTree, Word, glob_match, nodes_json,
    parse_nodes,
};
use proptest::prelude::*;

/// Pieces that mean something in a Dockerfile, in any order.
fn dockerfile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("FROM a"),
        Just("RUN "),
        Just("COPY "),
        Just("ENV "),
        Just("ONBUILD "),
        Just("HEALTHCHECK "),
        Just("\n"),
        Just("\r\n"),
        Just("\\\n"),
        Just("`"),
        Just("\\"),
        Just(" "),
        Just("\t"),
        Just("#"),
        Just("# escape=`\n"),
        Just("<<E"),
        Just("<<-'E'"),
        Just("E\n"),
        Just("\""),
        Just("'"),
        Just("="),
        Just("["),
        Just("]"),
        Just("\"x\""),
        Just(","),
        Just("--"),
        Just("--a=b"),
        Just("${"),
        Just("}"),
        Just("x"),
        Just("é"),
        Just("\u{feff}"),
        Just("\u{85}"),
        Just("\u{a0}"),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn word() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("$"),
        Just("{"),
        Just("}"),
        Just("A"),
        Just("N"),
        Just(":-"),
        Just("+"),
        Just("?"),
        Just("#"),
        Just("%"),
        Just("/"),
        Just("*"),
        Just("'"),
        Just("\""),
        Just("\\"),
        Just(" "),
        Just("<<"),
        Just("é"),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

fn pattern() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("a"),
        Just("b"),
        Just("*"),
        Just("**"),
        Just("?"),
        Just("/"),
        Just("[ab]"),
        Just("[^a]"),
        Just("\\a"),
    ];
    prop::collection::vec(piece, 1..7).prop_map(|pieces| pieces.concat())
}

fn spans_are_inside(node: &Node, source: &str) -> bool {
    let words = [&node.keyword].into_iter().chain(&node.flags).chain(&node.arguments);
    let mut spans = words
        .map(|word| word.span)
        .chain([node.location.span])
        .chain(node.heredocs.iter().map(|doc| doc.span));
    spans.all(|span| source.get(span.range()).is_some())
        && node.children.iter().all(|child| spans_are_inside(child, source))
}

/// All of a tree but places.
fn view(nodes: &[Node]) -> Vec<String> {
    let words = |words: &[Word]| words.iter().map(|word| word.text.clone()).collect::<Vec<_>>();
    let body = |body: &HeredocNode| {
        let HeredocNode { name, content, expand, chomp, file_descriptor, span: _ } = body;
        format!("{name:?} {content:?} {expand} {chomp} {file_descriptor}")
    };
    let node = |node: &Node| {
        let bodies: Vec<_> = node.heredocs.iter().map(body).collect();
        let (flags, arguments, children) = (words(&node.flags), words(&node.arguments), view(&node.children));
        let Node { keyword, json, text, comments, .. } = node;
        format!(
            "{:?} {flags:?} {arguments:?} {json} {bodies:?} {children:?} {:?} {comments:?}",
            keyword.text,
            text.trim()
        )
    };
    nodes.iter().map(node).collect()
}

/// What was once printed as something else.
#[test]
fn odd_trees_can_be_printed() {
    for text in [
        "# check= \nFROM a",
        "\\",
        "\\ \\",
        "FROM a\n\\\n \\\n\\",
        "FROM a\n\\\n\\\\",
        "# escape=`\nFROM a \\ `",
    ] {
        let tree = SyntaxTree::parse(text).unwrap();
        let again = SyntaxTree::parse(tree.to_string()).unwrap();
        assert_eq!(view(&tree.nodes), view(&again.nodes), "{text:?} {tree}");
    }
}

/// The meaning of a cleaned pattern by plain backtracking.
fn slow_match(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*'] => true,
        [b'*', b'*', rest @ ..] => {
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            let starts = std::iter::once(0).chain((1..=path.len()).filter(|&at| path[at - 1] == b'/'));
            rest.is_empty() || starts.into_iter().any(|at| slow_match(rest, &path[at..]))
        }
        [b'*', rest @ ..] => (0..=path.len())
            .take_while(|&at| at == 0 || path[at - 1] != b'/')
            .any(|at| slow_match(rest, &path[at..])),
        [b'?', rest @ ..] => matches!(path, [c, after @ ..] if *c != b'/' && slow_match(rest, after)),
        [b'[', b'a', b'b', b']', rest @ ..] => {
            matches!(path, [b'a' | b'b', after @ ..] if slow_match(rest, after))
        }
        [b'[', b'^', b'a', b']', rest @ ..] => {
            matches!(path, [c, after @ ..] if *c != b'a' && slow_match(rest, after))
        }
        [b'\\', c, rest @ ..] | [c, rest @ ..] => {
            matches!(path, [first, after @ ..] if first == c && slow_match(rest, after))
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Dockerfile::parse(&bytes);
        let _ = IgnoreFile::parse(&bytes).map(|file| file.patterns.matches(&bytes));
        let _ = glob_match(&bytes, &bytes);
    }

    #[test]
    fn any_text_is_read(text in dockerfile_text()) {
        let errors = Dockerfile::parse(&text).err();
        prop_assert!(errors.is_none_or(|errors| !errors.diagnostics.is_empty()));
        if let Ok(nodes) = parse_nodes(&text) {
            prop_assert!(nodes.iter().all(|node| spans_are_inside(node, &text)));
            prop_assert!(serde_json::from_str::<serde_json::Value>(&nodes_json(&nodes)).is_ok());
        }
    }

    /// A printed tree, read again, is the same tree: keywords, flags, arguments, forms, comments, heredocs.
    #[test]
    fn trees_can_be_printed(text in dockerfile_text()) {
        let Ok(tree) = SyntaxTree::parse(&text) else { return Ok(()) };
        // A carriage return behind an escape character is the end of a line when printed.
        if tree.nodes.iter().any(|node| node.text.ends_with('\r')) {
            return Ok(());
        }
        let printed = tree.to_string();
        let again = SyntaxTree::parse(&printed).unwrap();
        prop_assert_eq!(tree.directives.escape, again.directives.escape);
        prop_assert_eq!(view(&tree.nodes), view(&again.nodes), "{}", printed);
    }

    #[test]
    fn any_word_is_expanded(word in word(), escape in prop_oneof![Just('\\'), Just('`')]) {
        let environment = BTreeMap::from([("A".to_owned(), "aé*b/a".to_owned())]);
        let _ = expand_word(&word, escape, &environment);
        let _ = expand_heredoc(&word, &environment);
        let one = expand_word(&word, escape, &environment).map(|expanded| expanded.value);
        prop_assert_eq!(one.is_ok(), expand_words(&word, escape, &environment).is_ok());
        // A part in braces makes several words forget what is in front of it.
        if let Ok(several) = expand_words(&word, escape, &environment) && !word.contains("${") {
            let dense = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(dense(&several.words.concat()), dense(&one.unwrap()));
        }
    }

    #[test]
    fn plain_words_stay(word in "[a-zA-Z0-9_./:=é-]*") {
        prop_assert_eq!(expand_word(&word, '\\', &BTreeMap::new()).unwrap().value, word);
    }

    #[test]
    fn ignore_patterns_match_as_by_backtracking(pattern in pattern(), path in "[ab]{1,3}(/[ab]{1,3}){0,3}") {
        // Leading stars before plain text are the one exception to the rule of the reference.
        let is_glued = pattern.starts_with("**") && !pattern.starts_with("**/");
        if is_glued || pattern.starts_with('/') || pattern.ends_with('/') || pattern.contains("//") {
            return Ok(());
        }
        let patterns = IgnorePatterns::new([&pattern]).unwrap();
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let expected = ends.into_iter().any(|end| slow_match(pattern.as_bytes(), &path.as_bytes()[..end]));
        prop_assert_eq!(patterns.matches(&path), expected, "{} on {}", pattern, path);
    }

    /// Where a walk is cut short nothing would have been kept.
    #[test]
    fn pruned_directories_hold_nothing(list in prop::collection::vec((pattern(), any::<bool>()), 1..5), path in "[ab]{1,2}(/[ab]{1,2}){1,3}") {
        let list = list.into_iter().map(|(pattern, exception)| if exception { format!("!{pattern}") } else { pattern });
        let Ok(patterns) = IgnorePatterns::new(list) else { return Ok(()) };
        for (end, _) in path.match_indices('/') {
            let directory = &path[..end];
            if patterns.matches(directory) && !patterns.may_have_exceptions_below(directory) {
                prop_assert!(patterns.matches(&path), "{}", path);
            }
        }
    }
}
