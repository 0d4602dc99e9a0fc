use super::{Fault, Text};

/// A word of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// `.`
    Dot,
    /// `.A`
    Field(String),
    /// `$` or `$name`
    Variable(String),
    /// A name: a keyword, a function or a constant.
    Name(String),
    /// A quoted text, quotes gone.
    Text(String),
    /// A whole number.
    Number(i64),
    Pipe,
    Open,
    Close,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

/// A word with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) token: Token,
    pub(super) at: usize,
    /// A blank stands in front.
    pub(super) spaced: bool,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    /// The words between the braces, and where the first one would be.
    Action(Vec<Word>, usize),
}

const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// Cuts a template into texts and actions, `{{-` and `-}}` done.
pub(super) fn parts(source: &str, Text { start, escapes }: Text) -> Result<Vec<Part>, Fault> {
    let mut parts = Vec::new();
    let mut at = start;
    let mut trims = false;
    loop {
        let open = source[at..].find("{{").map(|offset| at + offset);
        let text = &source[at..open.unwrap_or(source.len())];
        let text = if escapes { text.replace("\\t", "\t").replace("\\n", "\n") } else { text.to_owned() };
        let mut text = text.as_str();
        if trims {
            text = text.trim_start_matches(BLANKS);
        }
        let Some(open) = open else {
            parts.push(Part::Text(text.to_owned()));
            return Ok(parts);
        };
        let mut scanner = Scanner { source, at: open + 2 };
        if let Some(rest) = scanner.rest().strip_prefix('-').filter(|rest| rest.starts_with(BLANKS)) {
            scanner.at = source.len() - rest.len();
            text = text.trim_end_matches(BLANKS);
        }
        parts.push(Part::Text(text.to_owned()));
        let start = scanner.at;
        if scanner.rest().trim_start_matches(BLANKS).starts_with("/*") {
            (at, trims) = scanner.comment(open)?;
            continue;
        }
        let (words, end, trimmed) = scanner.action(open)?;
        parts.push(Part::Action(words, start));
        (at, trims) = (end, trimmed);
    }
}

struct Scanner<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Scanner<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn take(&mut self, length: usize) -> &'s str {
        let taken = &self.source[self.at..self.at + length];
        self.at += length;
        taken
    }

    fn comment(&self, open: usize) -> Result<(usize, bool), Fault> {
        let unclosed = || Fault::new(open, "unclosed comment").hint("end it with */}}");
        let end = self.rest().find("*/").ok_or_else(unclosed)? + self.at + 2;
        let rest = &self.source[end..];
        let dashed = rest.trim_start_matches(BLANKS).strip_prefix("-}}").filter(|_| rest.starts_with(BLANKS));
        match (dashed, rest.strip_prefix("}}")) {
            (Some(after), _) => Ok((self.source.len() - after.len(), true)),
            (None, Some(after)) => Ok((self.source.len() - after.len(), false)),
            _ => Err(Fault::new(end, "comment ends before closing delimiter").hint("write */}}")),
        }
    }

    /// The words up to the closing braces, where these end, and whether they trim.
    fn action(&mut self, open: usize) -> Result<(Vec<Word>, usize, bool), Fault> {
        let mut words = Vec::new();
        loop {
            let blanks = self.rest().len() - self.rest().trim_start_matches(BLANKS).len();
            self.at += blanks;
            let rest = self.rest();
            if blanks > 0 && rest.starts_with("-}}") {
                return Ok((words, self.at + 3, true));
            }
            if rest.starts_with("}}") {
                return Ok((words, self.at + 2, false));
            }
            if rest.is_empty() {
                return Err(Fault::new(open, "unclosed action").hint("close it with }}"));
            }
            let at = self.at;
            let token = self.token()?;
            words.push(Word { token, at, spaced: blanks > 0 });
        }
    }

    fn token(&mut self) -> Result<Token, Fault> {
        let rest = self.rest();
        let first = rest.chars().next().unwrap_or_default();
        let name_length =
            |text: &str| text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        Ok(match first {
            '.' => match name_length(&rest[1..]) {
                0 => {
                    self.take(1);
                    Token::Dot
                }
                length => Token::Field(self.take(1 + length)[1..].to_owned()),
            },
            '$' => Token::Variable(self.take(1 + name_length(&rest[1..])).to_owned()),
            '|' => self.single(Token::Pipe),
            '(' => self.single(Token::Open),
            ')' => self.single(Token::Close),
            ',' => self.single(Token::Comma),
            '=' => self.single(Token::Assign),
            ':' if rest.starts_with(":=") => {
                self.take(2);
                Token::Declare
            }
            '"' => Token::Text(self.quoted()?),
            '`' => Token::Text(self.raw()?),
            '0'..='9' | '+' | '-' => self.number()?,
            c if c.is_alphabetic() || c == '_' => Token::Name(self.take(name_length(rest)).to_owned()),
            c => {
                let fault = Fault::new(self.at, format!("unexpected {c:?} in an action"));
                return Err(if c == '\'' {
                    fault.hint("strings are in double quotes or backquotes")
                } else {
                    fault.hint("an action is a field such as {{.ID}}, or a function with its arguments")
                });
            }
        })
    }

    fn single(&mut self, token: Token) -> Token {
        self.at += 1;
        token
    }

    fn raw(&mut self) -> Result<String, Fault> {
        let start = self.at;
        let end = self.rest()[1..].find('`').ok_or_else(|| unterminated(start))?;
        Ok(self.take(end + 2)[1..=end].to_owned())
    }

    fn quoted(&mut self) -> Result<String, Fault> {
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.rest()[1..].char_indices();
        while let Some((offset, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = start + 1 + offset + 1;
                    return Ok(text);
                }
                '\n' => break,
                '\\' => {
                    let escaped = chars.next().map(|(_, c)| c).ok_or_else(|| unterminated(start))?;
                    let at = start + 1 + offset;
                    text.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        'a' => '\u{7}',
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        'v' => '\u{b}',
                        '\\' | '"' | '\'' => escaped,
                        'x' | 'u' | 'U' => {
                            let digits = match escaped {
                                'x' => 2,
                                'u' => 4,
                                _ => 8,
                            };
                            let hex: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                            let code = u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32);
                            code.ok_or_else(|| Fault::new(at, format!("invalid escape \\{escaped}{hex}")))?
                        }
                        other => {
                            return Err(Fault::new(at, format!("invalid escape \\{other}"))
                                .hint("use backquotes to take the text as it is"));
                        }
                    });
                }
                c => text.push(c),
            }
        }
        Err(unterminated(start))
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let at = self.at;
        let rest = self.rest();
        let digits = rest[1..].find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.')));
        let text = self.take(digits.map_or(rest.len(), |length| length + 1));
        let number = text.strip_prefix('+').unwrap_or(text).parse();
        number.map(Token::Number).map_err(|_| {
            Fault::new(at, format!("bad number syntax: {text:?}")).hint("only whole numbers are supported")
        })
    }
}

fn unterminated(at: usize) -> Fault {
    Fault::new(at, "unterminated quoted string").hint("close the quotes before }}")
}
