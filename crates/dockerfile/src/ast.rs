//! The syntax tree as JSON.

use serde::Serialize;

use crate::{HeredocNode, Node, Word, keyword};

#[derive(Serialize)]
struct NodeView<'a> {
    instruction: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flags: Vec<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    json: bool,
    #[serde(rename = "args", skip_serializing_if = "Vec::is_empty")]
    arguments: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    heredocs: Vec<HeredocView<'a>>,
    start: u32,
    end: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<NodeView<'a>>,
}

#[derive(Serialize)]
struct HeredocView<'a> {
    name: &'a str,
    content: &'a str,
    expand: bool,
    chomp: bool,
    #[serde(rename = "fd")]
    file_descriptor: u64,
}

impl<'a> From<&'a Node> for NodeView<'a> {
    fn from(node: &'a Node) -> Self {
        let texts = |words: &'a [Word]| words.iter().map(|word| &word.text[..]).collect();
        Self {
            instruction: keyword::lower(&node.keyword.text),
            flags: texts(&node.flags),
            json: node.json,
            arguments: texts(&node.arguments),
            heredocs: node.heredocs.iter().map(HeredocView::from).collect(),
            start: node.location.start_line,
            end: node.location.end_line,
            children: node.children.iter().map(Self::from).collect(),
        }
    }
}

impl<'a> From<&'a HeredocNode> for HeredocView<'a> {
    fn from(heredoc: &'a HeredocNode) -> Self {
        Self {
            name: &heredoc.name,
            content: &heredoc.content,
            expand: heredoc.expand,
            chomp: heredoc.chomp,
            file_descriptor: heredoc.file_descriptor,
        }
    }
}

/// The nodes as a JSON list, one node a line. Empty lists and `false` are left out.
pub fn nodes_json(nodes: &[Node]) -> String {
    let lines: Vec<String> = nodes
        .iter()
        .map(|node| serde_json::to_string(&NodeView::from(node)).unwrap_or_else(|error| error.to_string()))
        .collect();
    if lines.is_empty() { "[]".to_owned() } else { format!("[\n{}\n]", lines.join(",\n")) }
}
