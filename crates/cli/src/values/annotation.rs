use ocibuild::spec::Platform;
use ocibuild::{Annotation, AnnotationLevel, Error};

use crate::failure::usage;

/// `--annotation [TYPE[PLATFORM],…:]KEY=VALUE`: one annotation for each type (11.20).
pub(crate) fn annotations(text: &str) -> Result<Vec<Annotation>, Error> {
    let wrong =
        |what: String| usage(format!("--annotation {text}: {what}")).hint("write --annotation KEY=VALUE");
    let (before, value) =
        text.split_once('=').ok_or_else(|| wrong("invalid annotation, expected key=value".to_owned()))?;
    let (types, key) = before.split_once(':').unwrap_or(("manifest", before));
    if key.is_empty() {
        return Err(wrong("the annotation has no key".to_owned()));
    }
    let of_type = |text: &str| {
        let (level, platform) = level_and_platform(text).map_err(wrong)?;
        Ok(Annotation::of_manifest(key, value).level(level).platform(platform))
    };
    types.split(',').map(of_type).collect()
}

/// `annotation[-TYPE][[PLATFORM]].KEY`, an attribute of `--output`; `None` when it is another one.
pub(super) fn annotation_attribute(attribute: &str, value: &str) -> Option<Result<Annotation, String>> {
    const NAME: &str = "annotation";
    attribute.get(..NAME.len()).filter(|word| word.eq_ignore_ascii_case(NAME))?;
    let rest = &attribute[NAME.len()..];
    // The key has dots nearly always, a platform may have one.
    let platform_end = rest.find('.').and_then(|dot| rest[..dot].find('[')).and_then(|_| rest.find(']'));
    let (types, key) = match platform_end {
        Some(end) => {
            let (types, key) = rest.split_at(end + 1);
            match key.strip_prefix('.') {
                Some(key) => (types, key),
                None => return Some(Err(format!("{attribute}: a dot and the key follow the platform"))),
            }
        }
        None => rest.split_once('.')?,
    };
    let types = match types.strip_prefix('-') {
        Some(types) => types.to_owned(),
        None if types.is_empty() || types.starts_with('[') => format!("manifest{types}"),
        None => return None,
    };
    let parsed = level_and_platform(&types.to_lowercase()).and_then(|(level, platform)| {
        if key.is_empty() {
            return Err(format!("{attribute} has no key"));
        }
        Ok(Annotation::of_manifest(key, value).level(level).platform(platform))
    });
    Some(parsed)
}

/// `TYPE` or `TYPE[PLATFORM]`
fn level_and_platform(text: &str) -> Result<(AnnotationLevel, Option<Platform>), String> {
    let malformed = || format!("expected type and optional platform in square brackets, got {text:?}");
    let (name, platform) = match text.split_once('[') {
        None => (text, None),
        Some((name, rest)) => (name, Some(rest.strip_suffix(']').ok_or_else(malformed)?)),
    };
    let level = match name {
        "manifest" => AnnotationLevel::Manifest,
        "manifest-descriptor" => AnnotationLevel::ManifestDescriptor,
        "index" => AnnotationLevel::Index,
        "index-descriptor" => AnnotationLevel::IndexDescriptor,
        other => {
            return Err(format!(
                "unknown annotation type {other:?}: the types are manifest, manifest-descriptor, index and index-descriptor"
            ));
        }
    };
    let parsed = platform.map(str::parse).transpose();
    Ok((level, parsed.map_err(|error: ocibuild::spec::PlatformError| error.to_string())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(annotation: &Annotation) -> String {
        let platform = annotation.platform.as_ref().map(|platform| format!("[{platform}]"));
        let Annotation { level, key, value, .. } = annotation;
        format!("{level}{}:{key}={value}", platform.unwrap_or_default())
    }

    #[test]
    fn flags_have_types_and_platforms() {
        for (text, expected) in [
            ("a.b/c=d=e", "manifest:a.b/c=d=e"),
            ("a=", "manifest:a="),
            ("index:a=b", "index:a=b"),
            ("index,manifest:k=v", "index:k=v manifest:k=v"),
            ("manifest[linux/arm64/v8]:k=v:w", "manifest[linux/arm64]:k=v:w"),
            (
                "manifest-descriptor[linux/arm],index-descriptor:k=v",
                "manifest-descriptor[linux/arm/v7]:k=v index-descriptor:k=v",
            ),
        ] {
            let found: Vec<_> = annotations(text).unwrap().iter().map(shown).collect();
            assert_eq!(found.join(" "), expected, "{text}");
        }
        for bad in [
            "",
            "a",
            "=b",
            "manifest:=b",
            "what:a=b",
            "a:b=c",
            "manifest[linux/amd64:a=b",
            "manifest[x/y/z/w]:a=b",
        ] {
            assert!(annotations(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn attributes_have_them_too() {
        for (attribute, expected) in [
            ("annotation.org.example.Key", "manifest:org.example.Key=v"),
            ("Annotation-Index.k", "index:k=v"),
            ("annotation[linux/amd64].k", "manifest[linux/amd64]:k=v"),
            ("annotation-manifest-descriptor[linux/arm64].a.b", "manifest-descriptor[linux/arm64]:a.b=v"),
        ] {
            assert_eq!(shown(&annotation_attribute(attribute, "v").unwrap().unwrap()), expected);
        }
        for other in ["annotation", "annotations.k", "dest", "annotation-index"] {
            assert!(annotation_attribute(other, "v").is_none(), "{other}");
        }
        for bad in ["annotation.", "annotation-what.k", "annotation[nowhere].k", "annotation[linux/amd64]x.k"]
        {
            assert!(annotation_attribute(bad, "v").unwrap().is_err(), "{bad}");
        }
    }
}
