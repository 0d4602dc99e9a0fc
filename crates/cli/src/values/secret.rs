use std::io::Read as _;
use std::path::PathBuf;

use ocibuild::{Error, Secret};

use super::Lookup;
use super::csv::pairs;
use super::simple::one_of;
use crate::failure::usage;

/// What is read of a secret that is not a regular file; more than any secret may have.
const LIMIT: u64 = 1 << 20;

/// `id=ID[,src=FILE|,env=NAME][,type=file|env]`: without a source the variable named like the id, else such a file.
///
/// No error repeats the text: somebody may have put the secret itself there.
pub(crate) fn secret(text: &str, env: Lookup<'_>) -> Result<(String, Secret), Error> {
    let (mut id, mut source, mut variable, mut kind) = (None, None, None, None);
    let pairs = pairs("--secret", text).map_err(|_| {
        let error = usage("--secret: not of the form id=ID[,src=FILE|,env=NAME]");
        let path = std::path::Path::new(text);
        // The name of a file that is there is no secret.
        match path.file_name().filter(|_| path.is_file()) {
            Some(name) => error.hint(format!("write --secret id={},src={text}", name.display())),
            None => error.hint("write --secret id=NAME,src=FILE"),
        }
    })?;
    for (key, value) in pairs {
        match key.as_str() {
            "id" => id = Some(value),
            "source" | "src" => source = Some(value),
            "env" => variable = Some(value),
            "type" if value == "file" || value == "env" => kind = Some(value),
            "type" => return Err(usage("--secret: type is file or env").hint("write type=file or type=env")),
            other => {
                let error = usage(format!("--secret: unknown key {other:?}"));
                return Err(one_of(error, other, &["id", "src", "source", "env", "type"]));
            }
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| {
        usage("--secret: id is missing").hint("write --secret id=NAME,src=FILE or id=NAME,env=VARIABLE")
    })?;
    if kind.as_deref() == Some("env") && variable.is_none() {
        variable = source.take().or_else(|| Some(id.clone()));
    }
    let by_name = || env(&id).filter(|_| kind.is_none());
    let secret = match (&variable, &source) {
        (Some(name), None) => value_of(&id, name, env)?,
        (None, None) => match by_name() {
            Some(value) => Secret::Value(value.into_bytes()),
            None => file(&id, &id)?,
        },
        (None, Some(path)) => file(&id, path)?,
        (Some(_), Some(_)) => {
            return Err(usage(format!("--secret id={id}: give either src or env")).hint("omit one of them"));
        }
    };
    Ok((id, secret))
}

fn value_of(id: &str, name: &str, env: Lookup<'_>) -> Result<Secret, Error> {
    let value = env(name).ok_or_else(|| {
        let error = usage(format!("--secret id={id}: the variable {name} is not set"));
        error.hint(format!("set {name} in the environment, or give a file with src=FILE"))
    })?;
    Ok(Secret::Value(value.into_bytes()))
}

/// Asked for before anything is built: a step that needs the file may be an hour away. What can be read only once,
/// such as a pipe, is read now.
fn file(id: &str, path: &str) -> Result<Secret, Error> {
    let unusable = |error| {
        usage(format!("--secret id={id}: cannot use the file {path}"))
            .hint("name an existing file with src=FILE, or a variable with env=NAME")
            .caused_by(error)
    };
    let file = fs_err::File::open(path).map_err(unusable)?;
    let metadata = file.metadata().map_err(unusable)?;
    if metadata.is_dir() {
        return Err(usage(format!("--secret id={id}: {path} is a directory")).hint("name a file in it"));
    }
    if !metadata.is_file() {
        let mut value = Vec::new();
        file.take(LIMIT).read_to_end(&mut value).map_err(unusable)?;
        return Ok(Secret::Value(value));
    }
    let path = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    Ok(Secret::File(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_an_id_and_a_source() {
        let env = |name: &str| (name == "TOKEN").then(|| "x".to_owned());
        let of = |text: &str| secret(text, &env);
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        let is_value = |text: &str| matches!(of(text).unwrap().1, Secret::Value(_));
        for text in [
            "id=a,env=TOKEN",
            "id=TOKEN",
            "type=env,id=a,src=TOKEN",
            "id=TOKEN,type=env",
            "id=a,src=/dev/null",
        ] {
            assert!(is_value(text), "{text}");
        }
        for text in
            [format!("id=a,src={path}"), format!("ID=a,type=file,SOURCE={path}"), format!("id={path}")]
        {
            assert!(!is_value(&text), "{text}");
        }
        let bad = [
            "id=",
            "src=/dev/null",
            "id=a,env=NO",
            "id=a,src=/nowhere",
            "id=a,x=canary",
            "id=a,src=b,env=c",
            "canary",
            "id=a,src=/",
            "id=a,type=canary",
            "id=TOKEN,type=file",
        ];
        for text in bad {
            let error = of(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{text}: {error}");
        }
    }
}
