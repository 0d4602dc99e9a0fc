//! Paths as text.

/// Removes what does not change the meaning of a path: doubled slashes, `.`, `x/..`, a trailing slash. The result of
/// nothing is `.`.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let is_absolute = path.starts_with(b"/");
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if components.last().is_some_and(|last| *last != b"..") => {
                components.pop();
            }
            b".." if is_absolute => {}
            component => components.push(component),
        }
    }
    let relative = components.join(&b'/');
    match (is_absolute, relative.is_empty()) {
        (true, _) => [b"/", &relative[..]].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => relative,
    }
}

/// `text` without blanks at both ends.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    match str::from_utf8(text) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => text.trim_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn table() {
        let table = [
            ("", "."),
            (".", "."),
            ("./", "."),
            ("a/", "a"),
            ("a//b/./c", "a/b/c"),
            ("a/../b", "b"),
            ("a/..", "."),
            ("../../a", "../../a"),
            ("a/../../b", "../b"),
            ("/", "/"),
            ("/..", "/"),
            ("//a/../..", "/"),
        ];
        for (path, expected) in table {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }
}
