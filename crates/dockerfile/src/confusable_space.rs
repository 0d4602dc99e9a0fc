//! Characters that look like a blank or like nothing, and are neither to a Dockerfile.

/// The first character of `text` that is blank to the eye alone, as its code: `U+00A0` for a no-break space.
///
/// ```
/// use ocibuild_dockerfile::confusable_space;
///
/// assert_eq!(confusable_space("COPY\u{a0}a").as_deref(), Some("U+00A0"));
/// assert_eq!(confusable_space("COPY a"), None);
/// ```
pub fn confusable_space(text: &str) -> Option<String> {
    let is_odd = |c: &char| {
        let is_unseen = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}');
        is_unseen || (c.is_whitespace() && !c.is_ascii())
    };
    text.chars().find(is_odd).map(|c| format!("U+{:04X}", u32::from(c)))
}
