//! Names and label values as Kubernetes wants them.

use ocibuild::Error;

use crate::failure::usage;

/// Characters of an RFC 1123 label and of a label's value.
const MAX_LABEL: usize = 63;
const MAX_SUBDOMAIN: usize = 253;

/// A name of what an image's repository is called: `team/my_app` is `my-app`. It begins with a letter, since a Service
/// has to.
pub(super) fn derived(repository: &str) -> String {
    let last = repository.rsplit('/').next().unwrap_or_default();
    let mut name: String = last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.insert_str(0, "app-");
    }
    name.truncate(MAX_LABEL);
    name.truncate(name.trim_end_matches('-').len());
    name
}

/// Fails when a text is not an RFC 1123 label; `begins_with_letter` asks for RFC 1035's.
pub(super) fn check_label(flag: &str, text: &str, begins_with_letter: bool) -> Result<(), Error> {
    let reason = if text.len() > MAX_LABEL {
        "up to 63 characters".to_owned()
    } else if !is_label(text) {
        "lower-case letters, digits and '-', with a letter or a digit at both ends".to_owned()
    } else if begins_with_letter && text.starts_with(|c: char| c.is_ascii_digit()) {
        "a letter as its first character if there is a Service".to_owned()
    } else {
        return Ok(());
    };
    Err(usage(format!("{flag} {text:?}: Kubernetes wants {reason}")))
}

/// Fails when a text is not an RFC 1123 subdomain: labels with points between.
pub(super) fn check_subdomain(flag: &str, text: &str) -> Result<(), Error> {
    if text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_label) {
        return Ok(());
    }
    let reason =
        "lower-case letters, digits, '-' and '.', with a letter or a digit at both ends of each part";
    Err(usage(format!("{flag} {text:?}: Kubernetes wants {reason}")))
}

fn is_label(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(plain) && text.ends_with(plain) && text.chars().all(|c| plain(c) || c == '-')
}

/// A tag as the value of a label, if it can be one.
pub(super) fn label_value(tag: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric();
    let fits = tag.len() <= MAX_LABEL
        && tag.starts_with(plain)
        && tag.ends_with(plain)
        && tag.chars().all(|c| plain(c) || matches!(c, '-' | '_' | '.'));
    fits.then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_last_part_of_the_repository() {
        let long = "a".repeat(62) + "-.b";
        for (repository, name) in [
            ("library/nginx", "nginx"),
            ("team/my_app.v2", "my-app-v2"),
            ("2048", "app-2048"),
            ("a__b", "a--b"),
            (&long, &long[..62]),
        ] {
            assert_eq!(derived(repository), name);
            check_label("--name", &derived(repository), true).unwrap();
        }
    }

    #[test]
    fn what_kubernetes_refuses() {
        let long = "a".repeat(64);
        for bad in ["", "A", "a_b", "-a", "a-", "a.b", "ä", &long] {
            assert!(check_label("--name", bad, false).is_err(), "{bad}");
        }
        assert!(check_label("--name", "2048", true).is_err() && check_label("--name", "2048", false).is_ok());
        assert!(check_subdomain("--pull-secret", "a.b-c.0").is_ok());
        for bad in ["", "a..b", ".a", "a.", "a_b", &"a.".repeat(127)] {
            assert!(check_subdomain("--pull-secret", bad).is_err(), "{bad}");
        }
        assert_eq!(label_value("1.0_a"), Some("1.0_a"));
        assert!(["_a", "a.", &long].iter().all(|tag| label_value(tag).is_none()));
    }
}
