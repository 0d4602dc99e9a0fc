//! Tables, sizes and ages as docker prints them.

use ocibuild::spec::Timestamp;

/// Rows as a table, no column wider than it has to be.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let text: String = rows.iter().map(|row| row.join("\t") + "\n").collect();
    aligned(&text, 0).lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// No column of docker's is narrower than this, the blanks behind it included.
const MIN_WIDTH: usize = 10;
/// Blanks between columns.
const PADDING: usize = 3;

/// Lines up cells that end in tabs, as Go's `tabwriter` does for docker: a column is as wide as its widest cell, and is a
/// run of lines that have a cell there which ends in a tab.
pub(crate) fn tabulate(text: &str) -> String {
    aligned(text, MIN_WIDTH)
}

fn aligned(text: &str, narrowest: usize) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut out = String::with_capacity(text.len() * 2);
    lay_out(&mut out, &lines, &mut Vec::new(), narrowest);
    // Every line got its end, the empty one behind the last end too.
    out.pop();
    out
}

fn lay_out(out: &mut String, lines: &[Vec<&str>], widths: &mut Vec<usize>, narrowest: usize) {
    let column = widths.len();
    let has_cell = |line: &Vec<&str>| column + 1 < line.len();
    for block in lines.chunk_by(|a, b| has_cell(a) == has_cell(b)) {
        if !has_cell(&block[0]) {
            for line in block {
                write_line(out, line, widths);
            }
            continue;
        }
        let widest = block.iter().map(|line| line[column].chars().count() + PADDING).max();
        widths.push(widest.unwrap_or_default().max(narrowest));
        lay_out(out, block, widths, narrowest);
        widths.pop();
    }
}

fn write_line(out: &mut String, cells: &[&str], widths: &[usize]) {
    for (number, cell) in cells.iter().enumerate() {
        out.push_str(cell);
        if let Some(width) = widths.get(number) {
            out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
    }
    out.push('\n');
}

/// Bytes in powers of 1000 with three digits: `1.23MB`.
pub(crate) fn human_size(bytes: u64) -> String {
    human(bytes, 3)
}

/// The same with four digits.
pub(crate) fn precise_size(bytes: u64) -> String {
    human(bytes, 4)
}

#[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
fn human(bytes: u64, digits: i32) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    general(size, digits) + UNITS[unit]
}

/// What `%.Ng` prints of a number from 0 to 1000.
fn general(value: f64, digits: i32) -> String {
    let scientific = format!("{value:.*e}", (digits - 1).max(0) as usize);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if exponent >= digits {
        // 999.9 with three digits is 1e+03, also for docker.
        return format!("{}e+{exponent:02}", trimmed(mantissa.to_owned()));
    }
    trimmed(format!("{value:.*}", (digits - 1 - exponent).max(0) as usize))
}

/// Without zeros that say nothing.
fn trimmed(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// How long ago a time was, in docker's words.
pub(crate) fn age(time: Timestamp, now: Timestamp) -> String {
    let nanoseconds = i64::from(now.nanoseconds) - i64::from(time.nanoseconds);
    let seconds = now.seconds.saturating_sub(time.seconds) - i64::from(nanoseconds < 0);
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    let text = match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 730 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    };
    text + " ago"
}

/// A time as Go prints it, in UTC: `2024-05-06 07:08:09 +0000 UTC`.
pub(crate) fn go_time(time: Timestamp) -> String {
    rfc3339(time).replace('T', " ").replace('Z', " +0000 UTC")
}

/// A time in whole seconds, in UTC: `2024-05-06T07:08:09Z`.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    Timestamp::from_seconds(time.seconds).to_string()
}

/// At most `width` columns of a text, an ellipsis at the end when it has more.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().map(columns).sum::<usize>() <= width {
        return text.to_owned();
    }
    let mut used = 0;
    let fits = |c: &char| {
        used += columns(*c);
        used < width
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// Columns of a character by its East Asian width.
fn columns(c: char) -> usize {
    let is_wide = matches!(u32::from(c),
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xa960..=0xa97c | 0xac00..=0xd7a3
        | 0xf900..=0xfaff | 0xfe10..=0xfe19 | 0xfe30..=0xfe6b | 0xff01..=0xff60 | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f | 0x1f680..=0x1f6ff | 0x1f900..=0x1faff | 0x20000..=0x3fffd);
    if is_wide { 2 } else { 1 }
}

/// The first twelve digits of a digest.
pub(crate) fn short_id(digest: &ocibuild::spec::Digest) -> String {
    digest.hex().chars().take(12).collect()
}

/// Now.
pub(crate) fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let table = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_234_567, "1.23MB"),
            (12_345_678, "12.3MB"),
            (123_456_789, "123MB"),
            (10_000_000, "10MB"),
            (5_000_000_000, "5GB"),
            (999_600, "1e+03kB"),
            (999_499, "999kB"),
            (1_005, "1kB"),
            (1_996, "2kB"),
        ];
        for (bytes, text) in table {
            assert_eq!(human_size(bytes), text);
        }
        assert_eq!((precise_size(3_964_512), precise_size(1000)), ("3.965MB".to_owned(), "1kB".to_owned()));
    }

    #[test]
    fn ages_are_rounded() {
        let table = [
            (0, "Less than a second ago"),
            (59, "59 seconds ago"),
            (61, "About a minute ago"),
            (3599, "59 minutes ago"),
            (3600, "About an hour ago"),
            (7200, "2 hours ago"),
            (86_400 * 3, "3 days ago"),
            (86_400 * 21, "3 weeks ago"),
            (86_400 * 90, "3 months ago"),
            (86_400 * 900, "2 years ago"),
            (5399, "About an hour ago"),
            (5400, "2 hours ago"),
            (48 * 3600 - 1801, "47 hours ago"),
            (48 * 3600 - 1800, "2 days ago"),
            (86_400 * 14, "2 weeks ago"),
            (86_400 * 60, "2 months ago"),
        ];
        let now = Timestamp::from_seconds(1_700_000_000);
        for (seconds, text) in table {
            assert_eq!(age(Timestamp::from_seconds(now.seconds - seconds), now), text);
        }
        assert_eq!(age(Timestamp::from_seconds(now.seconds + 5), now), "Less than a second ago");
        assert_eq!(
            (go_time(now), rfc3339(now)),
            ("2023-11-14 22:13:20 +0000 UTC".to_owned(), "2023-11-14T22:13:20Z".to_owned())
        );
    }

    #[test]
    fn columns_line_up() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(table(&[row(["A", "B"]), row(["long", "x"])]), "A      B\nlong   x\n");
        assert_eq!(table(&[row(["longer than", ""])]), "longer than\n");
        assert_eq!(tabulate("longer than\t\n"), "longer than   \n");
        // A line without a tab ends the columns above it.
        assert_eq!(tabulate("a\tb\nc\nlonger than all\td\n"), "a         b\nc\nlonger than all   d\n");
        assert_eq!(tabulate("é\tb\tc\nd\te\n"), "é         b         c\nd         e\n");
        assert_eq!(tabulate(""), "");
    }

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        assert_eq!(ellipsis("abcdef", 6), "abcdef");
        assert_eq!(ellipsis("abcdefg", 6), "abcde…");
        assert_eq!(ellipsis("日本語", 5), "日本…");
        assert_eq!(ellipsis("日本", 4), "日本");
    }
}
