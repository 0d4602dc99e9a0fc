use super::Fault;
use super::functions::{Mode, call};
use super::parse::{Node, Operand, Pipeline, Start};
use super::value::{Record, Value};

/// The text of a template for `value`.
pub(super) fn render(nodes: &[Node], value: &Value, mode: Mode) -> Result<String, Fault> {
    let mut scope = Scope { variables: vec![("$".to_owned(), value.clone())], mode, out: String::new() };
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
}

impl Scope {
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
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.names.is_empty() {
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
        let items: Vec<(Value, Value)> = match source {
            Value::List(list) => (0..).map(Value::Int).zip(list.into_iter().flatten()).collect(),
            Value::Map(map) => {
                map.into_iter().flatten().map(|(key, value)| (Value::Text(key), value)).collect()
            }
            Value::Int(count) => (0..count.max(0)).map(|n| (Value::Int(n), Value::Int(n))).collect(),
            Value::Nil | Value::Missing => Vec::new(),
            other => {
                return Err(Fault::new(over.at, format!("range can't iterate over {other}"))
                    .hint(format!("it is a {}: range takes a list or a map", other.kind())));
            }
        };
        if items.is_empty() {
            return self.block(otherwise, dot);
        }
        let before = self.variables.len();
        for (key, value) in items {
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
        call(name, &values, self.mode).map_err(|fault| Fault { at: first.at, ..fault })
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, Fault> {
        let mut value = match &operand.start {
            Start::Dot => dot.clone(),
            Start::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone()).ok_or_else(|| self.undefined(name, operand.at))?
            }
            Start::Literal(value) => value.clone(),
            Start::Nested(pipeline) => self.commands(pipeline, dot)?,
            Start::Function(name) => {
                return call(name, &[], self.mode).map_err(|fault| Fault { at: operand.at, ..fault });
            }
        };
        for (name, at) in &operand.fields {
            value = field(&value, name, *at)?;
        }
        Ok(value)
    }
}

fn field(value: &Value, name: &str, at: usize) -> Result<Value, Fault> {
    match value {
        Value::Record(record) => record.get(name).cloned().ok_or_else(|| no_field(record, name, at)),
        Value::Map(map) => Ok(map.as_ref().and_then(|map| map.get(name)).cloned().unwrap_or(Value::Missing)),
        Value::Nil | Value::Missing => Err(Fault::new(at, format!("nil pointer evaluating .{name}"))
            .hint(format!("nothing is there: ask first, as in {{{{with …}}}}{{{{.{name}}}}}{{{{end}}}}"))),
        other => Err(Fault::new(at, format!("can't evaluate field {name} in type {}", other.kind()))
            .hint(format!("a {} has no fields", other.kind()))),
    }
}

fn no_field(record: &Record, name: &str, at: usize) -> Fault {
    let known: Vec<&str> = record.fields.iter().map(|field| field.name).collect();
    Fault::new(at, format!("can't evaluate field {name}")).one_of("fields", name, &known)
}
