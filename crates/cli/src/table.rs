//! Tables, sizes and ages as docker prints them.

use ocibuild::spec::Timestamp;
use std::fmt::Write as _;

/// Columns as wide as their widest cell, three blanks between them.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}   ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Bytes in powers of 1000 with three digits: `1.23MB`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    let text = match size {
        _ if unit == 0 => format!("{bytes}"),
        size if size >= 100.0 => format!("{size:.0}"),
        size if size >= 10.0 => trimmed(format!("{size:.1}")),
        size => trimmed(format!("{size:.2}")),
    };
    text + UNITS[unit]
}

/// Without zeros that say nothing.
fn trimmed(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// How long ago a time was, in docker's words.
pub(crate) fn age(time: Option<Timestamp>, now: Timestamp) -> String {
    let Some(time) = time else { return "N/A".to_owned() };
    let seconds = now.seconds.saturating_sub(time.seconds);
    let (minutes, hours, days) = (seconds / 60, (seconds + 1800) / 3600, seconds / 86_400);
    let text = match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        3600..5400 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if days < 14 => format!("{days} days"),
        _ if days < 60 => format!("{} weeks", days / 7),
        _ if days < 730 => format!("{} months", days / 30),
        _ => format!("{} years", days / 365),
    };
    text + " ago"
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
        ];
        for (bytes, text) in table {
            assert_eq!(human_size(bytes), text);
        }
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
        ];
        let now = Timestamp::from_seconds(1_700_000_000);
        for (seconds, text) in table {
            assert_eq!(age(Some(Timestamp::from_seconds(now.seconds - seconds)), now), text);
        }
        assert_eq!(age(None, now), "N/A");
        assert_eq!(age(Some(Timestamp::from_seconds(now.seconds + 5)), now), "Less than a second ago");
    }

    #[test]
    fn columns_line_up() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(table(&[row(["A", "B"]), row(["long", "x"])]), "A      B\nlong   x\n");
    }
}
