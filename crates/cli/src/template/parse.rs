use super::functions::{FUNCTIONS, is_function};
use super::lex::{Part, Token, Word, parts};
use super::value::Value;
use super::{Fault, Text};

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Action(Pipeline),
    /// The first branch whose condition holds, else the rest.
    If {
        branches: Vec<(Pipeline, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    Range {
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        value: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Break,
    Continue,
}

/// Commands, each with what the one before it gave as its last argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    pub(super) at: usize,
    /// `$x :=`, `$k, $v :=` or `$x =`.
    pub(super) names: Vec<String>,
    pub(super) declares: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

/// A value in the making: a start and the fields that are followed from there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operand {
    pub(super) at: usize,
    pub(super) start: Start,
    pub(super) fields: Vec<(String, usize)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Start {
    Dot,
    Variable(String),
    Function(String),
    Literal(Value),
    Nested(Pipeline),
}

/// Blocks in blocks, and brackets in brackets; more is nobody's template.
const MAX_DEPTH: usize = 64;

pub(super) fn parse(source: &str, text: Text) -> Result<Vec<Node>, Fault> {
    let parts = parts(source, text)?;
    let mut parser = Parser { parts: parts.into_iter() };
    let (nodes, end) = parser.block(&Block { at: 0, keyword: "", in_range: false, depth: 0 })?;
    match end {
        Stop::Source => Ok(nodes),
        Stop::Else(_, at) | Stop::Closed(at) => {
            Err(Fault::new(at, "there is nothing open to end here").hint("remove it, or open an if or range"))
        }
    }
}

/// Why a block is over.
enum Stop {
    Source,
    Closed(usize),
    Else(Vec<Word>, usize),
}

struct Block {
    at: usize,
    keyword: &'static str,
    in_range: bool,
    depth: usize,
}

struct Parser {
    parts: std::vec::IntoIter<Part>,
}

impl Parser {
    fn block(&mut self, block: &Block) -> Result<(Vec<Node>, Stop), Fault> {
        if block.depth > MAX_DEPTH {
            return Err(Fault::new(block.at, format!("blocks are nested more than {MAX_DEPTH} deep"))
                .hint("write a simpler template, and leave the rest to jq and --format json"));
        }
        let mut nodes = Vec::new();
        while let Some(part) = self.parts.next() {
            let (mut words, at) = match part {
                Part::Text(text) if text.is_empty() => continue,
                Part::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Part::Action(words, at) => (words, at),
            };
            let keyword = match words.first() {
                Some(Word { token: Token::Name(name), .. }) => name.clone(),
                _ => String::new(),
            };
            let place = words.first().map_or(at, |word| word.at);
            match keyword.as_str() {
                "end" => return finish(&words, place, Stop::Closed(place)).map(|end| (nodes, end)),
                "else" => {
                    words.remove(0);
                    return Ok((nodes, Stop::Else(words, place)));
                }
                "if" | "range" | "with" => {
                    words.remove(0);
                    nodes.push(self.control(&keyword, words, place, block)?);
                }
                "break" | "continue" if block.in_range => {
                    let node = if keyword == "break" { Node::Break } else { Node::Continue };
                    nodes.push(finish(&words, place, node)?);
                }
                "break" | "continue" => {
                    return Err(Fault::new(place, format!("{keyword} outside range"))
                        .hint("it belongs between {{range}} and its {{end}}"));
                }
                "define" | "template" | "block" => {
                    return Err(Fault::new(place, format!("{keyword} is not supported"))
                        .hint("named templates are not supported: write the text itself"));
                }
                _ => nodes.push(Node::Action(pipeline(words, at)?)),
            }
        }
        if block.keyword.is_empty() {
            return Ok((nodes, Stop::Source));
        }
        Err(Fault::new(block.at, format!("unexpected end of the template: {} is not closed", block.keyword))
            .hint("close it with {{end}}"))
    }

    fn control(&mut self, keyword: &str, words: Vec<Word>, at: usize, outer: &Block) -> Result<Node, Fault> {
        let keyword = match keyword {
            "if" => "if",
            "range" => "range",
            _ => "with",
        };
        let inner =
            Block { at, keyword, in_range: outer.in_range || keyword == "range", depth: outer.depth + 1 };
        let head = pipeline(words, at)?;
        if keyword != "range" && head.names.len() > 1 {
            return Err(Fault::new(at, format!("too many variables in {keyword}")).hint("it takes one"));
        }
        let (body, end) = self.block(&inner)?;
        let otherwise = self.otherwise(end, outer, &inner)?;
        Ok(match keyword {
            "range" => Node::Range { over: head, body, otherwise },
            "with" => Node::With { value: head, body, otherwise },
            _ => match otherwise.as_slice() {
                // `else if` has one condition more of the same.
                [Node::If { branches, otherwise }] if !branches.is_empty() => {
                    let branches = std::iter::once((head, body)).chain(branches.iter().cloned()).collect();
                    Node::If { branches, otherwise: otherwise.clone() }
                }
                _ => Node::If { branches: vec![(head, body)], otherwise },
            },
        })
    }

    fn otherwise(&mut self, end: Stop, outer: &Block, inner: &Block) -> Result<Vec<Node>, Fault> {
        let Stop::Else(mut words, at) = end else { return Ok(Vec::new()) };
        if let Some(Word { token: Token::Name(name), .. }) = words.first()
            && name == inner.keyword
            && name != "range"
        {
            let keyword = name.clone();
            words.remove(0);
            let deeper = Block { at, keyword: "", in_range: outer.in_range, depth: outer.depth + 1 };
            return Ok(vec![self.control(&keyword, words, at, &deeper)?]);
        }
        finish_else(&words, at)?;
        let block = Block { at: inner.at, in_range: outer.in_range, ..*inner };
        match self.block(&block)? {
            (nodes, Stop::Closed(_) | Stop::Source) => Ok(nodes),
            (_, Stop::Else(_, at)) => {
                Err(Fault::new(at, "it already has an else").hint("close it with {{end}}"))
            }
        }
    }
}

fn finish<T>(words: &[Word], at: usize, value: T) -> Result<T, Fault> {
    match words.get(1) {
        None => Ok(value),
        Some(word) => Err(Fault::new(word.at.max(at), "unexpected word").hint("nothing follows here")),
    }
}

fn finish_else(words: &[Word], at: usize) -> Result<(), Fault> {
    match words.first() {
        None => Ok(()),
        Some(word) => {
            Err(Fault::new(word.at.max(at), "unexpected word after else")
                .hint("write {{else}} or {{else if …}}"))
        }
    }
}

/// Reads the words of an action.
fn pipeline(words: Vec<Word>, at: usize) -> Result<Pipeline, Fault> {
    let mut words = words.into_iter().peekable();
    let found = read_pipeline(&mut words, at, false, 0)?;
    match words.next() {
        None => Ok(found),
        Some(word) => Err(unexpected(&word)),
    }
}

type Words = std::iter::Peekable<std::vec::IntoIter<Word>>;

fn read_pipeline(words: &mut Words, at: usize, is_nested: bool, depth: usize) -> Result<Pipeline, Fault> {
    if depth > MAX_DEPTH {
        return Err(
            Fault::new(at, format!("brackets are nested more than {MAX_DEPTH} deep")).hint("use variables")
        );
    }
    let (names, declares) = if is_nested { (Vec::new(), false) } else { assignment(words) };
    let mut commands = vec![Vec::new()];
    while let Some(word) = words.next_if(|word| !(is_nested && word.token == Token::Close)) {
        let last = commands.len() - 1;
        let command = &mut commands[last];
        if word.token == Token::Pipe {
            if command.is_empty() {
                return Err(Fault::new(word.at, "missing value for command").hint("put a value before |"));
            }
            commands.push(Vec::new());
            continue;
        }
        command.push(operand(word, words, depth)?);
    }
    if commands.last().is_none_or(Vec::is_empty) {
        return Err(Fault::new(at, "missing value for command").hint("write a field, such as {{.ID}}"));
    }
    for command in &commands[1..] {
        if !matches!(command[0].start, Start::Function(_)) {
            return Err(Fault::new(command[0].at, "what follows | has to be a function")
                .hint(format!("the functions are {}", FUNCTIONS.join(", "))));
        }
    }
    for command in &commands {
        if let [first, second, ..] = command.as_slice()
            && !matches!(first.start, Start::Function(_))
        {
            return Err(Fault::new(second.at, "can't give argument to non-function")
                .hint("a field stands alone; a function comes first: {{join .RepoTags \",\"}}"));
        }
    }
    Ok(Pipeline { at, names, declares, commands })
}

/// The variables in front of `:=` or `=`.
fn assignment(words: &mut Words) -> (Vec<String>, bool) {
    let mut ahead = words.clone();
    let mut names = Vec::new();
    while let Some(Word { token: Token::Variable(name), .. }) = ahead.next() {
        names.push(name);
        match ahead.next().map(|word| word.token) {
            Some(Token::Comma) if names.len() == 1 => {}
            Some(token @ (Token::Declare | Token::Assign)) => {
                *words = ahead;
                return (names, token == Token::Declare);
            }
            _ => break,
        }
    }
    (Vec::new(), false)
}

fn operand(word: Word, words: &mut Words, depth: usize) -> Result<Operand, Fault> {
    let at = word.at;
    let mut fields = Vec::new();
    let start = match word.token {
        Token::Dot => Start::Dot,
        Token::Field(name) => {
            fields.push((name, at));
            Start::Dot
        }
        Token::Variable(name) => Start::Variable(name),
        Token::Text(text) => Start::Literal(Value::Text(text)),
        Token::Number(number) => Start::Literal(Value::Int(number)),
        Token::Name(name) => match name.as_str() {
            "true" | "false" => Start::Literal(Value::Bool(name == "true")),
            "nil" => Start::Literal(Value::Nil),
            _ if is_function(&name) => Start::Function(name),
            _ => {
                return Err(Fault::new(at, format!("function {name:?} not defined")).one_of(
                    "functions",
                    &name,
                    &FUNCTIONS,
                ));
            }
        },
        Token::Open => {
            let nested = read_pipeline(words, at, true, depth + 1)?;
            if words.next().is_none() {
                return Err(Fault::new(at, "unclosed left paren").hint("close it with )"));
            }
            Start::Nested(nested)
        }
        Token::Pipe | Token::Close | Token::Comma | Token::Declare | Token::Assign => {
            return Err(unexpected(&word));
        }
    };
    let takes_fields = !matches!(start, Start::Literal(_) | Start::Function(_));
    while let Some(next) =
        words.next_if(|next| takes_fields && !next.spaced && matches!(next.token, Token::Field(_)))
    {
        if let Token::Field(name) = next.token {
            fields.push((name, next.at));
        }
    }
    Ok(Operand { at, start, fields })
}

fn unexpected(word: &Word) -> Fault {
    let text = match word.token {
        Token::Close => ")",
        Token::Comma => ",",
        Token::Declare => ":=",
        Token::Assign => "=",
        _ => "word",
    };
    Fault::new(word.at, format!("unexpected {text} in an action")).hint("remove it")
}
