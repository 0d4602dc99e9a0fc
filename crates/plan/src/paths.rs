//! Paths as text, the way Go's `path` treats them: nothing here looks at a file.

/// The shortest path that means the same; `.` for nothing.
pub(super) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// `path` below `parent`, clean; an absolute `path` is taken as it is, then cleaned.
pub(super) fn join(parent: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("/{parent}/{path}")) }
}

/// The last element; `/` for the root and `.` for nothing.
pub(super) fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        trimmed => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

/// The text of a working directory after `WORKDIR path` (5.312): an absolute one is kept as written.
pub(super) fn workdir(current: &str, path: &str) -> String {
    let parent = if current.starts_with('/') { current.to_owned() } else { clean(&format!("/{current}")) };
    match path {
        "" => parent,
        path if path.starts_with('/') => path.to_owned(),
        path => join(&parent, path),
    }
}

/// Where a copy goes (6.20): below `workdir`, clean, with a slash at the end if it has to be a directory.
pub(super) fn destination(workdir: &str, path: &str) -> String {
    let mut target = join(workdir, path);
    let directory = matches!(path, "" | ".") || path.ends_with('/') || path.ends_with("/.");
    if directory && target != "/" {
        target.push('/');
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_text() {
        for (path, cleaned) in [
            ("", "."),
            ("/", "/"),
            ("//a/./b//c/", "/a/b/c"),
            ("/../x", "/x"),
            ("a/../..", ".."),
            ("../../a", "../../a"),
            ("/a/../..", "/"),
            ("./", "."),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
        assert_eq!([base("/a/b/"), base("/"), base(""), base("x")], ["b", "/", ".", "x"]);
    }

    #[test]
    fn working_directories_keep_absolute_text() {
        for (current, path, result) in [
            ("", "a", "/a"),
            ("", "", "/"),
            ("/a", "b/", "/a/b"),
            ("/a", "/x/./y//z/", "/x/./y//z/"),
            ("/a/./b", "", "/a/./b"),
            ("/a", "..", "/"),
            ("/a", "~/t", "/a/~/t"),
        ] {
            assert_eq!(workdir(current, path), result);
        }
    }

    #[test]
    fn destinations_remember_that_they_are_directories() {
        for (path, result) in [
            ("", "/w/"),
            (".", "/w/"),
            ("x", "/w/x"),
            ("x/", "/w/x/"),
            ("x/.", "/w/x/"),
            ("/", "/"),
            ("/d/../e/", "/e/"),
            ("..", "/"),
        ] {
            assert_eq!(destination("/w", path), result, "{path}");
        }
        assert_eq!(destination("", "f"), "/f");
    }
}
