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

/// The candidate that was probably meant by `word`: the same in another case, or the nearest by a more generous measure
/// than [`suggest`]'s, in which two neighbours that changed places are one edit, and long words may differ more.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Names longer than this are not compared.
    const MAX_CHARS: usize = 128;
    let lower: Vec<char> = word.to_lowercase().chars().take(MAX_CHARS + 1).collect();
    if lower.is_empty() || lower.len() > MAX_CHARS {
        return None;
    }
    let mut best: Option<(&str, usize)> = None;
    for candidate in candidates.into_iter().filter(|candidate| *candidate != word) {
        let other: Vec<char> = candidate.to_lowercase().chars().take(MAX_CHARS + 1).collect();
        let allowed = match lower.len().min(other.len()) {
            0 => continue,
            1..=3 => 1,
            4..=7 => 2,
            length => length / 3,
        };
        if lower.len().abs_diff(other.len()) > allowed || other.len() > MAX_CHARS {
            continue;
        }
        let distance = transposing_distance(&lower, &other);
        // Of two letters, one has to stay.
        if distance <= allowed
            && distance < lower.len().max(other.len())
            && best.is_none_or(|(_, known)| distance < known)
        {
            best = Some((candidate, distance));
        }
    }
    best.map(|(candidate, _)| candidate)
}

/// Edits between two texts, two neighbours that change places counting as one.
fn transposing_distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
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
    use super::{nearest, suggest};

    #[test]
    fn nearest_in_a_generous_measure() {
        let known = ["entrypoint", "env", "Makefile", "requirements.txt", "a"];
        assert_eq!(nearest("ENV", known), Some("env"));
        assert_eq!(nearest("makefile", known), Some("Makefile"));
        assert_eq!(nearest("requirement.text", known), Some("requirements.txt"));
        assert_eq!(nearest("etnrypiont", known), Some("entrypoint"));
        assert_eq!(nearest("b", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }

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
