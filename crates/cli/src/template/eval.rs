use super::Fault;
use super::functions::{Mode, call, cost};
use super::parse::{Node, Operand, Pipeline, Start};
use super::value::{Record, Value};

/// Most bytes that a template may make of one value, texts in between included.
pub(super) const MAX_WORK: usize = 64 << 20;
/// What one more round of a range counts like.
const ROUND: usize = 256;

/// The text of a template for `value`.
pub(super) fn render(nodes: &[Node], value: &Value, mode: Mode) -> Result<String, Fault> {
    let variables = vec![("$".to_owned(), value.clone())];
    let mut scope = Scope { variables, mode, out: String::new(), left: MAX_WORK, at: 0 };
    scope.walk(nodes, value)?;
    Ok(scope.out)
}

/// What happens behind a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Scope {
    variables: Vec<(String, Value)>,
    mode: Mode,
    out: String,
    /// What of [`MAX_WORK`] is left.
    left: usize,
    /// The action that is worked on.
    at: usize,
}

impl Scope {
    /// Every text and every round counts before it is made, so that a loop ends before the memory does.
    fn spend(&mut self, bytes: usize) -> Result<(), Fault> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            Fault::new(self.at, format!("the template produces more than {} MiB of text", MAX_WORK >> 20))
                .hint("print less of it, or leave the work to jq and --format json")
        })?;
        Ok(())
    }

    fn walk(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Fault> {
        for node in nodes {
            let flow = self.step(node, dot)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    /// A block's variables are gone behind it.
    fn block(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Fault> {
        let before = self.variables.len();
        let flow = self.walk(nodes, dot);
        self.variables.truncate(before);
        flow
    }

    fn step(&mut self, node: &Node, dot: &Value) -> Result<Flow, Fault> {
        match node {
            Node::Text(text) => {
                self.spend(text.len())?;
                self.out.push_str(text);
            }
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.names.is_empty() {
                    self.spend(value.weight())?;
                    self.out.push_str(&value.to_string());
                }
            }
            Node::If { branches, otherwise } => {
                let before = self.variables.len();
                for (condition, body) in branches {
                    if self.pipeline(condition, dot)?.is_true() {
                        let flow = self.block(body, dot);
                        self.variables.truncate(before);
                        return flow;
                    }
                }
                let flow = self.block(otherwise, dot);
                self.variables.truncate(before);
                return flow;
            }
            Node::With { value, body, otherwise } => {
                let before = self.variables.len();
                let value = self.pipeline(value, dot)?;
                let flow =
                    if value.is_true() { self.block(body, &value) } else { self.block(otherwise, dot) };
                self.variables.truncate(before);
                return flow;
            }
            Node::Range { over, body, otherwise } => return self.range(over, body, otherwise, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        over: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, Fault> {
        let source = self.commands(over, dot)?;
        // A number may be large: nothing is made of it before its turn.
        let items: Box<dyn Iterator<Item = (Value, Value)>> = match source {
            Value::List(list) => Box::new((0..).map(Value::Int).zip(list.into_iter().flatten())),
            Value::Map(map) => {
                Box::new(map.into_iter().flatten().map(|(key, value)| (Value::Text(key), value)))
            }
            Value::Int(count) => Box::new((0..count.max(0)).map(|n| (Value::Int(n), Value::Int(n)))),
            Value::Nil | Value::Missing => Box::new(std::iter::empty()),
            other => {
                return Err(Fault::new(over.at, format!("range can't iterate over {other}"))
                    .hint(format!("it is a {}: range takes a list or a map", other.kind())));
            }
        };
        let mut items = items.peekable();
        if items.peek().is_none() {
            return self.block(otherwise, dot);
        }
        let before = self.variables.len();
        for (key, value) in items {
            self.at = over.at;
            self.spend(ROUND)?;
            self.variables.truncate(before);
            match over.names.as_slice() {
                [] => {}
                [name] => self.set(over, name, value.clone())?,
                [first, second, ..] => {
                    self.set(over, first, key)?;
                    self.set(over, second, value.clone())?;
                }
            }
            if self.block(body, &value)? == Flow::Break {
                break;
            }
        }
        self.variables.truncate(before);
        Ok(Flow::On)
    }

    fn set(&mut self, pipeline: &Pipeline, name: &str, value: Value) -> Result<(), Fault> {
        if pipeline.declares {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, old)) => {
                *old = value;
                Ok(())
            }
            None => Err(self.undefined(name, pipeline.at)),
        }
    }

    fn undefined(&self, name: &str, at: usize) -> Fault {
        let known: Vec<&str> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        Fault::new(at, format!("undefined variable {name:?}")).one_of("variables", name, &known)
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Fault> {
        let value = self.commands(pipeline, dot)?;
        if let Some(name) = pipeline.names.last() {
            self.set(pipeline, name, value.clone())?;
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Fault> {
        self.at = pipeline.at;
        let mut piped = None;
        for command in &pipeline.commands {
            piped = Some(self.command(command, dot, piped)?);
        }
        Ok(piped.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &[Operand], dot: &Value, piped: Option<Value>) -> Result<Value, Fault> {
        let Some((first, arguments)) = command.split_first() else { return Ok(Value::Nil) };
        let Start::Function(name) = &first.start else { return self.operand(first, dot) };
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for argument in arguments {
            let value = self.operand(argument, dot)?;
            // The first that decides is the answer, and the others are not looked at.
            let decides = match name.as_str() {
                "and" => !value.is_true(),
                "or" => value.is_true(),
                _ => false,
            };
            if decides {
                return Ok(value);
            }
            values.push(value);
        }
        values.extend(piped);
        self.call(name, &values, first.at)
    }

    fn call(&mut self, name: &str, arguments: &[Value], at: usize) -> Result<Value, Fault> {
        self.spend(cost(name, arguments))?;
        call(name, arguments, self.mode).map_err(|fault| Fault { at, ..fault })
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, Fault> {
        let nested;
        let mut found = match &operand.start {
            Start::Dot => dot,
            Start::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map(|(_, value)| value).ok_or_else(|| self.undefined(name, operand.at))?
            }
            Start::Literal(value) => value,
            Start::Nested(pipeline) => {
                nested = self.commands(pipeline, dot)?;
                &nested
            }
            Start::Function(name) => return self.call(name, &[], operand.at),
        };
        for (name, at) in &operand.fields {
            found = field(found, name, *at)?;
        }
        let value = found.clone();
        self.spend(value.weight())?;
        Ok(value)
    }
}

fn field<'v>(value: &'v Value, name: &str, at: usize) -> Result<&'v Value, Fault> {
    match value {
        Value::Record(record) => record.get(name).ok_or_else(|| no_field(record, name, at)),
        Value::Map(map) => Ok(map.as_ref().and_then(|map| map.get(name)).unwrap_or(&Value::Missing)),
        Value::Nil | Value::Missing => Err(Fault::new(at, format!("nil pointer evaluating .{name}"))
            .hint(format!("there is no value: check first, as in {{{{with …}}}}{{{{.{name}}}}}{{{{end}}}}"))),
        other => Err(Fault::new(at, format!("can't evaluate field {name} in type {}", other.kind()))
            .hint(format!("a {} has no fields", other.kind()))),
    }
}

fn no_field(record: &Record, name: &str, at: usize) -> Fault {
    let known: Vec<&str> = record.fields.iter().map(|field| field.name).collect();
    Fault::new(at, format!("can't evaluate field {name}")).one_of("fields", name, &known)
}
