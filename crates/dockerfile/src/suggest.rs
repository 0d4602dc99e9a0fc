//! The nearest known word to an unknown one.

/// Edits that a suggestion may be away.
const MAX_EDITS: usize = 2;

/// The candidate nearest to `word`, if it is at most two edits away and not `word` itself. Of equals the first.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    measured(word, candidates).min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// The same for candidates in no order: of equals the one that sorts first.
pub fn suggest_unordered<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    measured(word, candidates).min().map(|(_, candidate)| candidate)
}

fn measured<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> impl Iterator<Item = (usize, &'a str)> {
    candidates
        .into_iter()
        .filter_map(move |candidate| Some((edits(word, candidate, MAX_EDITS)?, candidate)))
        .filter(|(distance, _)| *distance > 0)
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
            // The beginning of a word is probably that word.
            3 if other.starts_with(&lower) => 2,
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

/// Insertions, removals and replacements that lead from `a` to `b`, unless these are more than `allowed`.
fn edits(a: &str, b: &str, allowed: usize) -> Option<usize> {
    // A character has four bytes at most.
    if a.len().abs_diff(b.len()) > 4 * allowed {
        return None;
    }
    let (mut a, mut b) = (a.chars(), b.chars());
    loop {
        let (rest_of_a, rest_of_b) = (a.as_str(), b.as_str());
        match (a.next(), b.next()) {
            (None, None) => return Some(0),
            (one, other) if one == other => {}
            _ if allowed == 0 => return None,
            _ => {
                let (a, b) = (a.as_str(), b.as_str());
                let ways = [(a, rest_of_b), (rest_of_a, b), (a, b)];
                return ways
                    .iter()
                    .filter_map(|(a, b)| edits(a, b, allowed - 1))
                    .min()
                    .map(|edits| edits + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{nearest, suggest, suggest_unordered};

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
        let long = "x".repeat(100_000);
        assert_eq!(suggest(&format!("a{long}b"), [long.as_str()]), Some(long.as_str()));
        assert_eq!(suggest(&format!("a{long}bc"), [long.as_str()]), None);
        assert_eq!(suggest("é", ["e", ""]), Some("e"));
    }

    #[test]
    fn of_equals_the_first_in_either_order() {
        assert_eq!(suggest("ab", ["ac", "aa", "abcd"]), Some("ac"));
        assert_eq!(suggest_unordered("ab", ["ac", "aa", "abcd"]), Some("aa"));
    }
}
