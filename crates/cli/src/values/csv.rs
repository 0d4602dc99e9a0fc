use ocibuild::Error;

use crate::failure::usage;

/// `key=value` fields between commas; a field in double quotes may hold commas, and two double quotes for one.
pub(super) fn pairs(flag: &str, text: &str) -> Result<Vec<(String, String)>, Error> {
    let pairs = pairs_as_written(flag, text)?;
    Ok(pairs.into_iter().map(|(key, value)| (key.to_lowercase(), value)).collect())
}

/// The same with keys in the case in which they were typed.
pub(super) fn pairs_as_written(flag: &str, text: &str) -> Result<Vec<(String, String)>, Error> {
    let fields = fields(text).ok_or_else(|| {
        usage(format!("{flag} {text}: misplaced double quote"))
            .hint("quote a whole key=value, or omit the quotes")
    })?;
    let pair = |field: &String| match field.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
        None => Err(usage(format!("{flag} {text}: {field:?} is not of the form key=value"))
            .hint("write key=value,key=value without spaces")),
    };
    fields.iter().map(pair).collect()
}

fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_field(quoted)?
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        };
        if !rest.starts_with('"') && field.contains('"') {
            return None;
        }
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return after.is_empty().then_some(fields),
        }
    }
}

fn quoted_field(mut rest: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Some((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_as_go_reads_them() {
        let list = |text| fields(text).unwrap();
        assert_eq!(list("a=1,b=2"), ["a=1", "b=2"]);
        assert_eq!(list(r#"a=1,"name=x,y","q=""z""""#), ["a=1", "name=x,y", r#"q="z""#]);
        assert_eq!(list(""), [""]);
        assert!(fields(r#"a"b"#).is_none());
        assert!(fields(r#""a"b"#).is_none());
        assert!(fields(r#""a"#).is_none());
    }

    #[test]
    fn a_field_needs_a_value() {
        assert!(pairs("--output", "type=oci,dest").is_err());
        assert_eq!(pairs("--output", "TYPE=oci").unwrap(), [("type".to_owned(), "oci".to_owned())]);
    }
}
