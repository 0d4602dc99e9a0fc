//! Expansion over lines of text, for other programs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{expand_heredoc, expand_word, expand_words};

#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Word { unset: Vec<String>, value: String },
    Words { words: Vec<String> },
    Error { error: String },
}

/// Answers one line of four fields between tabs: mode (`word`, `words` or `heredoc`), escape character, environment as a
/// JSON list of `NAME=value`, and the text as a JSON string.
///
/// The answer is one line of JSON, without line end: `{"unset": […], "value": …}`, `{"words": […]}` or
/// `{"error": …}`. A line that cannot be read has an error for answer as well.
pub fn answer_line(line: &str) -> String {
    let answer = answer(line).unwrap_or_else(|error| Answer::Error { error });
    serde_json::to_string(&answer).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}

fn answer(line: &str) -> Result<Answer, String> {
    let line = line.trim_end_matches(['\r', '\n']);
    let fields: Vec<&str> = line.splitn(4, '\t').collect();
    let [mode, escape, environment, text] = fields[..] else {
        return Err("a request has four fields between tabs".to_owned());
    };
    let mut chars = escape.chars();
    let (Some(escape), None) = (chars.next(), chars.next()) else {
        return Err("the escape is one character".to_owned());
    };
    let environment = parse_environment(environment)?;
    let text: String = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let expanded = match mode {
        "word" => expand_word(&text, escape, &environment),
        "heredoc" => expand_heredoc(&text, &environment),
        "words" => {
            let expanded = expand_words(&text, escape, &environment).map_err(|error| error.to_string())?;
            return Ok(Answer::Words { words: expanded.words });
        }
        _ => return Err(format!("unknown mode {mode}")),
    };
    let mut expanded = expanded.map_err(|error| error.to_string())?;
    expanded.unset.sort_unstable();
    Ok(Answer::Word { unset: expanded.unset, value: expanded.value })
}

fn parse_environment(json: &str) -> Result<BTreeMap<String, String>, String> {
    let list: Vec<String> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let pair = |entry: &String| {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        (name.to_owned(), value.to_owned())
    };
    Ok(list.iter().map(pair).collect())
}
