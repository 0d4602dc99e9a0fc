#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod ast;
mod code;
mod confusable_space;
mod diagnostic;
mod dockerfile;
pub mod expand;
mod glob;
mod ignore;
mod instruction;
mod keyword;
pub mod lint;
mod meaning;
mod node;
mod quote;
mod span;
mod suggest;
mod syntax;
mod syntax_tree;
mod text;
mod wildcard;

pub use crate::{
    ast::nodes_json,
    code::Code,
    confusable_space::confusable_space,
    diagnostic::{Diagnostic, ParseErrors, Severity},
    dockerfile::{Directives, Dockerfile, parse_trigger},
    expand::{Environment, ExpandError, ExpandFault, Expanded, ExpandedWords},
    glob::{BadPattern, glob_match},
    ignore::{DirectoryMatches, IgnoreError, IgnoreFile, IgnorePatterns, Verdict, ignore_protocol},
    instruction::{
        Add, ArgDefinition, Command, Copy, Healthcheck, Heredoc, Instruction, InstructionKind, KeyValues,
        Run, RunCommand, RunNetwork, RunSecurity, Stage, Transfer,
    },
    keyword::is_instruction,
    lint::{CheckOptionError, CheckOptions, Finding, Findings, Place, Rule},
    node::{HeredocNode, Node, Word},
    span::{Location, Span, line_column},
    suggest::{nearest, suggest, suggest_unordered},
    syntax::json_fault,
    syntax_tree::{SyntaxTree, parse_nodes},
    text::Text,
};
