//! Wildcards of `COPY` sources.

use crate::wildcard::{Class, Stride, Token, matches, push_empty, push_literal, shortest};

/// A pattern with an open class or a trailing escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// Whether `name` as a whole matches `pattern`, by the rules of Go's `filepath.Match`.
///
/// `*` and `?` stop at a slash, `[a-z]` and `[^a]` are classes, a backslash makes the next character an ordinary one. A
/// malformed pattern is an error whatever the name is.
///
/// ```
/// use ocibuild_dockerfile::glob_match;
///
/// assert_eq!(glob_match(b"*.[ch]", b"main.c"), Ok(true));
/// assert_eq!(glob_match(b"*.[ch]", b"src/main.c"), Ok(false));
/// assert!(glob_match(b"*.[ch", b"main.c").is_err());
/// ```
pub fn glob_match(pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'*' => push_empty(&mut tokens, Token::Run),
            b'?' => tokens.push(Token::Any),
            b'[' => {
                let (class, after) = Class::parse(rest)?;
                tokens.push(Token::Class(class));
                rest = after;
            }
            b'\\' => {
                let (escaped, after) = rest.split_first().ok_or(BadPattern)?;
                push_literal(&mut tokens, *escaped);
                rest = after;
            }
            byte => push_literal(&mut tokens, *byte),
        }
    }
    Ok(name.len() >= shortest(&tokens) && matches(&tokens, name, Stride::Bytes))
}

#[cfg(test)]
mod tests {
    use super::glob_match;

    /// Pattern, name, and what comes out: `+`, `-`, or `!` for a bad pattern.
    const TABLE: &[(&str, &str, char)] = &[
        ("abc", "abc", '+'),
        ("*", "abc", '+'),
        ("*", "", '+'),
        ("*c", "abc", '+'),
        ("a*", "ab/c", '-'),
        ("a*/b", "abc/b", '+'),
        ("a*/b", "a/c/b", '-'),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", '+'),
        ("a*b?c*x", "abxbbxdbxebxczzx", '+'),
        ("a*b?c*x", "abxbbxdbxebxczzy", '-'),
        ("ab[c]", "abc", '+'),
        ("ab[b-d]", "abc", '+'),
        ("ab[^e-g]", "abc", '+'),
        ("ab[^c]", "abc", '-'),
        ("a\\*b", "a*b", '+'),
        ("a\\*b", "ab", '-'),
        ("a?b", "a☺b", '+'),
        ("a[^a]b", "a☺b", '+'),
        ("a???b", "a☺b", '-'),
        ("[a-ζ]*", "α", '+'),
        ("*[a-ζ]", "A", '-'),
        ("a?b", "a/b", '-'),
        ("a[x/]b", "a/b", '+'),
        ("[\\]a]", "]", '+'),
        ("[\\-x]", "-", '+'),
        ("[!a]", "!", '+'),
        ("[z-a]", "b", '-'),
        ("[*]", "*", '+'),
        ("[]a]", "]", '!'),
        ("[-]", "-", '!'),
        ("[x-]", "x", '!'),
        ("[-x]", "x", '!'),
        ("[a-b-c]", "a", '!'),
        ("[", "a", '!'),
        ("[^", "a", '!'),
        ("[^bc", "a", '!'),
        ("a[", "ab", '!'),
        ("zz[", "ab", '!'),
        ("\\", "a", '!'),
        ("x\\", "a", '!'),
    ];

    #[test]
    fn table() {
        for (pattern, name, expected) in TABLE {
            let got = match glob_match(pattern.as_bytes(), name.as_bytes()) {
                Ok(true) => '+',
                Ok(false) => '-',
                Err(_) => '!',
            };
            assert_eq!(got, *expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn bytes_that_are_no_text() {
        assert_eq!(glob_match(b"a?", b"a\xff"), Ok(true));
        assert_eq!(glob_match(b"a\xff", b"a\xff"), Ok(true));
        assert!(glob_match(b"[\xff]", b"x").is_err());
    }

    #[test]
    fn many_stars_do_not_explode() {
        let pattern = "*a".repeat(500) + "b";
        assert_eq!(glob_match(pattern.as_bytes(), "a".repeat(4000).as_bytes()), Ok(false));
    }
}
