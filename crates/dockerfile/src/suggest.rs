//! The nearest known word to an unknown one.

/// The candidate nearest to `word`, if it is at most two edits away and not `word` itself. Of equals the first.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(&str, usize)> = None;
    for candidate in candidates {
        let limit = best.map_or(3, |(_, distance)| distance);
        let distance = edit_distance(word, candidate);
        if distance > 0 && distance < limit {
            best = Some((candidate, distance));
        }
    }
    best.map(|(candidate, _)| candidate)
}

/// Insertions, removals and replacements that lead from `a` to `b`; at least 3 is as good as any number here.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 {
        return 3;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::suggest;

    #[test]
    fn nearest_within_two_edits() {
        let known = ["from", "run", "workdir"];
        assert_eq!(suggest("form", known), Some("from"));
        assert_eq!(suggest("wrokdir", known), Some("workdir"));
        assert_eq!(suggest("ruun", known), Some("run"));
        assert_eq!(suggest("copy", known), None);
        assert_eq!(suggest("run", known), None);
        assert_eq!(suggest(&"x".repeat(100_000), known), None);
    }
}
