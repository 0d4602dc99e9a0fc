use ocibuild::dockerfile::{Location, Span};
use std::fmt::Write as _;

use crate::terminal::Paint;
use crate::text::push_printable;

/// Lines of an instruction that are shown; of a longer one, its first line and those around what is to blame.
const MAX_LINES: usize = 6;

/// Columns of a line that are shown.
const MAX_COLUMNS: usize = 120;

/// One line of another file, whose number is `number`.
pub(super) fn excerpt_from(number: u32, text: &str, location: Location, paint: Paint) -> String {
    let text = text.lines().next().unwrap_or_default();
    let padding = number.to_string().len();
    let whole = excerpt(text, location, None, paint);
    // The text's own number is 1: it is put right, and the frame with it.
    whole
        .lines()
        .map(|line| match line.split_once(' ') {
            Some((one, rest)) if !one.is_empty() => format!("{} {rest}\n", paint.frame(&number.to_string())),
            _ => format!("{}{line}\n", " ".repeat(padding - 1)),
        })
        .collect()
}

/// The lines of an instruction with their numbers, and carets below what is to blame.
pub(crate) fn excerpt(text: &str, location: Location, label: Option<Span>, paint: Paint) -> String {
    let first = location.start_line as usize;
    let last = (location.end_line as usize).max(first);
    let label = label.filter(|label| label.start < label.end && label.end <= text.len());
    let before = text.get(..location.span.start).unwrap_or_default();
    let at = before.rfind('\n').map_or(0, |newline| newline + 1);
    let lines: Vec<Line<'_>> =
        Lines { text, at, number: first }.take_while(|line| (1..=last).contains(&line.number)).collect();
    if lines.is_empty() {
        return String::new();
    }
    let blamed = label.and_then(|label| lines.iter().position(|line| line.holds(label.start)));
    let width = lines.last().map_or(1, |line| line.number.to_string().len());
    let bar = paint.frame("|");
    let mut out = format!("{:width$} {bar}\n", "");
    let mut before = None;
    for position in chosen(lines.len(), blamed.unwrap_or(0)) {
        if before.is_some_and(|before| before + 1 != position) {
            let _ = writeln!(out, "{:width$} {bar} ⋮", "");
        }
        before = Some(position);
        let line = &lines[position];
        let span = label.filter(|_| blamed == Some(position)).or_else(|| {
            // Without a word to blame the whole first line is.
            (blamed.is_none() && position == 0).then(|| line.content())
        });
        let shown = line.show(span);
        let number = paint.frame(&format!("{:width$}", line.number));
        out.push_str(format!("{number} {bar} {}", shown.text).trim_end());
        out.push('\n');
        if shown.carets > 0 {
            let carets = paint.error(&"^".repeat(shown.carets));
            let _ = writeln!(out, "{:width$} {bar} {:indent$}{carets}", "", "", indent = shown.indent);
        }
    }
    out
}

/// Which of the lines are shown, in order.
fn chosen(count: usize, blamed: usize) -> Vec<usize> {
    if count <= MAX_LINES {
        return (0..count).collect();
    }
    let around = blamed.saturating_sub(1)..(blamed + 2).min(count);
    let mut chosen: Vec<usize> = (0..2).chain(around).chain(count - 1..count).collect();
    chosen.dedup();
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// A line without its end, and where it begins.
struct Line<'t> {
    text: &'t str,
    start: usize,
    number: usize,
}

struct Lines<'t> {
    text: &'t str,
    at: usize,
    number: usize,
}

impl<'t> Iterator for Lines<'t> {
    type Item = Line<'t>;

    fn next(&mut self) -> Option<Line<'t>> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').map_or(rest.len(), |end| end + 1);
        let line =
            Line { text: rest[..length].trim_end_matches(['\r', '\n']), start: self.at, number: self.number };
        self.at += length;
        self.number += 1;
        Some(line)
    }
}

/// A line on the screen.
struct Shown {
    text: String,
    indent: usize,
    carets: usize,
}

impl Line<'_> {
    fn holds(&self, byte: usize) -> bool {
        (self.start..=self.start + self.text.len()).contains(&byte)
    }

    fn content(&self) -> Span {
        let begin = self.text.len() - self.text.trim_start().len();
        Span::new(self.start + begin, self.start + self.text.trim_end().len().max(begin))
    }

    /// The line with escapes for what a screen may not get, cut around `span` where it is long.
    fn show(&self, span: Option<Span>) -> Shown {
        let span = span.unwrap_or_else(|| Span::new(self.start, self.start));
        let mut cells: Vec<(usize, String)> = Vec::new();
        for (at, c) in self.text.char_indices() {
            let mut cell = String::new();
            match c {
                '\t' => cell.push_str("    "),
                c => push_printable(&mut cell, c),
            }
            cells.push((self.start + at, cell));
        }
        let first = cells.iter().position(|(at, _)| *at >= span.start).unwrap_or(cells.len());
        let from =
            if first > MAX_COLUMNS / 2 && cells.len() > MAX_COLUMNS { first - MAX_COLUMNS / 4 } else { 0 };
        let (mut text, mut indent, mut carets) = (String::new(), 0, 0);
        if from > 0 {
            text.push('…');
            indent = 1;
        }
        for (at, cell) in cells.iter().skip(from).take(MAX_COLUMNS) {
            let columns = cell.chars().count();
            text.push_str(cell);
            if *at < span.start {
                indent += columns;
            } else if *at < span.end {
                carets += columns;
            }
        }
        if from + MAX_COLUMNS < cells.len() {
            text.push('…');
        }
        Shown { text, indent, carets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(text: &str, start_line: u32, end_line: u32) -> Location {
        Location { span: Span::new(0, text.len()), start_line, end_line }
    }

    #[test]
    fn carets_stand_below_the_word() {
        let text = "FROM a\n\tCOPY é x y\n";
        let at = text.find("x y").unwrap();
        let second = Location { span: Span::new(7, text.len() - 1), start_line: 2, end_line: 2 };
        let shown = excerpt(text, second, Some(Span::new(at, at + 1)), Paint(false));
        assert_eq!(shown, "  |\n2 |     COPY é x y\n  |            ^\n");
    }

    #[test]
    fn long_instructions_are_shortened() {
        let text: String = (0..20).map(|line| format!("line{line}\n")).collect::<Vec<_>>().concat();
        let at = text.find("line10").unwrap();
        let shown = excerpt(&text, location(&text, 1, 20), Some(Span::new(at, at + 6)), Paint(false));
        let numbers: Vec<&str> =
            shown.lines().filter_map(|line| line.split_once(" | line")).map(|(n, _)| n).collect();
        assert_eq!(numbers, [" 1", " 2", "10", "11", "12", "20"]);
        assert!(shown.contains("11 | line10\n   | ^^^^^^\n"), "{shown}");
    }

    #[test]
    fn long_lines_are_cut_around_the_word() {
        let text = format!("{}X{}", "a".repeat(70_000), "b".repeat(70_000));
        let shown = excerpt(&text, location(&text, 1, 1), Some(Span::new(70_000, 70_001)), Paint(false));
        assert!(shown.len() < 600, "{}", shown.len());
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1].chars().position(|c| c == 'X'), lines[2].chars().position(|c| c == '^'));
    }

    #[test]
    fn places_outside_the_text_show_nothing() {
        assert_eq!(excerpt("", location("", 3, 4), Some(Span::new(5, 9)), Paint(false)), "");
        let shown = excerpt("a\n", location("a\n", 1, 1), Some(Span::new(5, 9)), Paint(false));
        assert_eq!(shown, "  |\n1 | a\n  | ^\n");
    }
}
