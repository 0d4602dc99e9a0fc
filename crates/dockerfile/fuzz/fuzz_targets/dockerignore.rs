//! An ignore file, an empty line, and a path: the same verdict as from a matcher that backtracks, and no panic on
//! whatever is no such thing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocibuild_dockerfile::{IgnoreFile, glob_match, ignore_protocol};

fuzz_target!(|bytes: &[u8]| {
    let _ = ignore_protocol(bytes, bytes);
    let split = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (file, path) = split.map_or((bytes, &b"a/b"[..]), |at| (&bytes[..at], &bytes[at + 2..]));
    let _ = glob_match(file, path);
    let Ok(parsed) = IgnoreFile::parse(file) else { return };
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || b"/.*?!\n".contains(byte);
    if file.len() > 24 || path.len() > 24 || !file.iter().all(is_plain) || !path.iter().all(is_plain) {
        return;
    }
    let components = || path.split(|byte| *byte == b'/');
    if path.contains(&b'\n') || components().any(|part| part.is_empty() || part == b"." || part == b"..") {
        return;
    }
    let patterns: Vec<(bool, Vec<u8>)> = file.split(|byte| *byte == b'\n').filter_map(pattern).collect();
    // A pattern that comes a second time behind an exception has a rule of its own.
    let is_repeated = |(at, item): (usize, &(bool, Vec<u8>))| patterns[..at].contains(item);
    // So has a sign inside, which cleaning may bring to the front.
    let has_sign = |text: &[u8]| text.contains(&b'!');
    // Stars glued to what follows them have one as well.
    let is_glued = |text: &[u8]| text.starts_with(b"**") && text.get(2).is_some_and(|byte| *byte != b'/');
    if patterns.len() > 1 && patterns.iter().enumerate().any(is_repeated)
        || patterns.iter().any(|(_, text)| is_glued(text) || has_sign(text))
    {
        return;
    }
    // Parents first: what one decided stays in force below it.
    let mut expected = false;
    let mut matched = vec![false; patterns.len()];
    for end in
        path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()])
    {
        expected = false;
        for ((is_exception, text), matched) in patterns.iter().zip(&mut matched) {
            *matched = *matched || (*is_exception == expected && matches(text, &path[..end]));
            if *matched {
                expected = !is_exception;
            }
        }
    }
    assert_eq!(parsed.patterns.matches(path), expected);
});

/// Sign and cleaned text of a line.
fn pattern(line: &[u8]) -> Option<(bool, Vec<u8>)> {
    let (is_exception, text) = match line {
        [b'!', text @ ..] => (true, text),
        text => (false, text),
    };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in text.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => drop(parts.pop()),
            b".." if text.starts_with(b"/") => {}
            part => parts.push(part),
        }
    }
    let text = parts.join(&b'/');
    (!text.is_empty()).then_some((is_exception, text))
}

/// The meaning of a cleaned pattern by plain backtracking.
fn matches(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', rest @ ..] => {
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            let starts = std::iter::once(0).chain((1..=path.len()).filter(|&at| path[at - 1] == b'/'));
            rest.is_empty() || starts.into_iter().any(|at| matches(rest, &path[at..]))
        }
        [b'*', rest @ ..] => (0..=path.len())
            .take_while(|&at| at == 0 || path[at - 1] != b'/')
            .any(|at| matches(rest, &path[at..])),
        [b'?', rest @ ..] => matches!(path, [byte, after @ ..] if *byte != b'/' && matches(rest, after)),
        [byte, rest @ ..] => matches!(path, [first, after @ ..] if first == byte && matches(rest, after)),
    }
}
