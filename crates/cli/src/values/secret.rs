use std::path::PathBuf;

use ocibuild::{Error, Secret};

use super::Lookup;
use super::csv::pairs;
use super::simple::one_of;
use crate::failure::usage;

/// `id=ID[,src=FILE|,env=NAME][,type=file|env]`: without a source the variable named like the id, else such a file.
pub(crate) fn secret(text: &str, env: Lookup<'_>) -> Result<(String, Secret), Error> {
    let (mut id, mut source, mut variable, mut kind) = (None, None, None, None);
    for (key, value) in pairs("--secret", text)? {
        match key.as_str() {
            "id" => id = Some(value),
            "source" | "src" => source = Some(value),
            "env" => variable = Some(value),
            "type" if value == "file" || value == "env" => kind = Some(value),
            "type" => {
                return Err(usage(format!("--secret {text}: type is file or env"))
                    .hint("write type=file or type=env"));
            }
            other => {
                let error = usage(format!("--secret {text}: unknown key {other:?}"));
                return Err(one_of(error, other, &["id", "src", "source", "env", "type"]));
            }
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| {
        usage(format!("--secret {text}: there is no id"))
            .hint("write --secret id=NAME,src=FILE or id=NAME,env=VARIABLE")
    })?;
    if kind.as_deref() == Some("env") && variable.is_none() {
        variable = source.take().or_else(|| Some(id.clone()));
    }
    let by_name = || env(&id).filter(|_| kind.is_none());
    let secret = match (&variable, &source) {
        (Some(name), None) => value_of(text, name, env)?,
        (None, None) => match by_name() {
            Some(value) => Secret::Value(value.into_bytes()),
            None => file(text, &id)?,
        },
        (None, Some(path)) => file(text, path)?,
        (Some(_), Some(_)) => {
            return Err(usage(format!("--secret {text}: either src or env")).hint("leave one of them out"));
        }
    };
    Ok((id, secret))
}

fn value_of(text: &str, name: &str, env: Lookup<'_>) -> Result<Secret, Error> {
    let value = env(name).ok_or_else(|| {
        let error = usage(format!("--secret {text}: the variable {name} is not set"));
        error.hint(format!("set {name} in the environment, or give a file with src=FILE"))
    })?;
    Ok(Secret::Value(value.into_bytes()))
}

/// Asked for before anything is built: a step that needs the file may be an hour away.
fn file(text: &str, path: &str) -> Result<Secret, Error> {
    let metadata = fs_err::metadata(path).map_err(|error| {
        usage(format!("--secret {text}: cannot use the file {path}"))
            .hint("name a file that is there with src=FILE, or a variable with env=NAME")
            .caused_by(error)
    })?;
    if metadata.is_dir() {
        return Err(usage(format!("--secret {text}: {path} is a directory")).hint("name a file in it"));
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
        assert!(matches!(of("id=a,env=TOKEN").unwrap().1, Secret::Value(_)));
        assert!(matches!(of("id=TOKEN").unwrap().1, Secret::Value(_)));
        assert!(matches!(of("type=env,id=a,src=TOKEN").unwrap().1, Secret::Value(_)));
        assert!(matches!(of("id=a,src=/dev/null").unwrap().1, Secret::File(_)));
        for bad in
            ["id=", "src=/dev/null", "id=a,env=NO", "id=a,src=/nowhere", "id=a,x=y", "id=a,src=b,env=c"]
        {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
