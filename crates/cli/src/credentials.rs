//! Where credentials are looked for, as the environment of this process has it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ocibuild::Error;
use ocibuild::registry::{
    AwsEndpoints, AwsIdentity, AzureEndpoints, AzureIdentity, CloudServices, ConfigSource, Credential,
    CredentialSource, CredentialStore, Credentials, GoogleEndpoints, GoogleIdentity, Helpers,
    KnownCredential, RegistryKey, Secret, Variables,
};

use crate::failure::usage;

/// How long a credential helper may take.
const HELPER_TIME: Duration = Duration::from_secs(30);

const OWN: &str = "OCIBUILD_REGISTRY";
const OWN_USER: &str = "OCIBUILD_REGISTRY_USERNAME";
const OWN_PASSWORD: &str = "OCIBUILD_REGISTRY_PASSWORD";

/// The environment of this process, or that of a test.
type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The environment of this process. What is empty counts as not set.
fn process_env(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// All sources in the order of `docs/credentials.md`.
pub(crate) fn credentials(services: &CloudServices) -> Result<Credentials, Error> {
    let mut sources = sources(&process_env)?;
    sources.extend(clouds(services, &|name| std::env::var(name).ok().filter(|value| !value.is_empty())));
    Ok(Credentials::new(sources))
}

/// The identities that clouds give; each is asked about registries of its own alone.
fn clouds(services: &CloudServices, variable: Variables<'_>) -> Vec<Box<dyn CredentialSource>> {
    let services = || services.clone();
    vec![
        Box::new(AwsIdentity::new(services(), AwsEndpoints::new(variable), variable)),
        Box::new(GoogleIdentity::new(services(), GoogleEndpoints::new(variable), variable)),
        Box::new(AzureIdentity::new(services(), AzureEndpoints::new(variable), variable)),
    ]
}

/// Docker's `config.json`, where `login` and `logout` write.
pub(crate) fn store() -> Result<CredentialStore, Error> {
    let path = docker_config(&process_env).ok_or_else(|| {
        usage("no location for credentials: neither DOCKER_CONFIG nor HOME is set")
            .hint("name a directory with DOCKER_CONFIG")
    })?;
    Ok(CredentialStore::new(path, helpers()))
}

/// Helpers see what this program sees, as docker's do: they find their key rings by it.
fn helpers() -> Helpers {
    let path = process_env("PATH").unwrap_or_default();
    Helpers::new(path).environment(std::env::vars_os()).timeout(HELPER_TIME)
}

fn sources(env: Env<'_>) -> Result<Vec<Box<dyn CredentialSource>>, Error> {
    Ok(vec![
        Box::new(own(env)?),
        Box::new(named_file(env)),
        Box::new(docker_text(env)?),
        Box::new(file("docker", docker_config(env), "neither DOCKER_CONFIG nor HOME is set")),
        Box::new(file("containers", runtime_auth(env), "XDG_RUNTIME_DIR is not set")),
        Box::new(file("containers", home_auth(env), "neither XDG_CONFIG_HOME nor HOME is set")),
        Box::new(gitlab(env)?),
        Box::new(gitlab_proxy(env)?),
        Box::new(github(env)?),
    ])
}

/// A variable that has to be text.
fn text(env: Env<'_>, name: &str) -> Result<Option<String>, Error> {
    let value = env(name).filter(|value| !value.is_empty());
    value
        .map(|value| {
            value.into_string().map_err(|_| usage(format!("the variable {name} is not valid UTF-8")))
        })
        .transpose()
}

/// Credentials that are given for this program. They are for the registry that is named with them and nobody else.
fn own(env: Env<'_>) -> Result<KnownCredential, Error> {
    const PLACE: &str = "OCIBUILD_REGISTRY, …_USERNAME, …_PASSWORD";
    let (host, user, password) = (text(env, OWN)?, text(env, OWN_USER)?, text(env, OWN_PASSWORD)?);
    let (host, user, password) = match (host, user, password) {
        (_, None, None) => {
            return Ok(KnownCredential::missing("environment", PLACE, format!("{OWN_PASSWORD} is not set")));
        }
        (Some(host), Some(user), Some(password)) => (host, user, password),
        (host, user, _) => {
            let missing = if host.is_none() {
                OWN
            } else if user.is_none() {
                OWN_USER
            } else {
                OWN_PASSWORD
            };
            return Err(usage(format!("{OWN_USER} and {OWN_PASSWORD} need {OWN}: {missing} is not set"))
                .hint(format!(
                    "set all three, {OWN} to the registry that they are for: registry.example.com"
                )));
        }
    };
    known("environment", PLACE, OWN, &host, user, password)
}

fn known(
    name: &'static str,
    place: &'static str,
    variable: &str,
    host: &str,
    user: String,
    password: String,
) -> Result<KnownCredential, Error> {
    let key = RegistryKey::parse(host).ok_or_else(|| {
        usage(format!("{variable}={host:?} does not name a registry")).hint("write host[:port]")
    })?;
    Ok(KnownCredential::new(name, place, key, Credential::password(user, Secret::new(password))))
}

/// `REGISTRY_AUTH_FILE`, which the containers tools read.
fn named_file(env: Env<'_>) -> ConfigSource {
    const NAME: &str = "REGISTRY_AUTH_FILE";
    match env(NAME) {
        Some(path) => ConfigSource::file(NAME, path, helpers()).required(),
        None => ConfigSource::missing(NAME, "REGISTRY_AUTH_FILE", "it is not set"),
    }
}

/// The text of a docker configuration, which GitLab and docker read.
fn docker_text(env: Env<'_>) -> Result<ConfigSource, Error> {
    const NAME: &str = "DOCKER_AUTH_CONFIG";
    Ok(match text(env, NAME)? {
        Some(text) => {
            ConfigSource::text(NAME, "the variable DOCKER_AUTH_CONFIG", Secret::new(text), helpers())
        }
        None => ConfigSource::missing(NAME, "the variable DOCKER_AUTH_CONFIG", "it is not set"),
    })
}

fn file(name: &'static str, path: Option<PathBuf>, why_not: &str) -> ConfigSource {
    match path {
        Some(path) => ConfigSource::file(name, path, helpers()),
        None => ConfigSource::missing(name, "", why_not),
    }
}

fn docker_config(env: Env<'_>) -> Option<PathBuf> {
    let directory = env("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(home(env)?.join(".docker")))?;
    Some(directory.join("config.json"))
}

fn runtime_auth(env: Env<'_>) -> Option<PathBuf> {
    Some(absolute(env, "XDG_RUNTIME_DIR")?.join("containers/auth.json"))
}

fn home_auth(env: Env<'_>) -> Option<PathBuf> {
    let directory = absolute(env, "XDG_CONFIG_HOME").or_else(|| Some(home(env)?.join(".config")))?;
    Some(directory.join("containers/auth.json"))
}

fn home(env: Env<'_>) -> Option<PathBuf> {
    absolute(env, "HOME")
}

/// A directory; relative ones are ignored, as the specification of these variables wants.
fn absolute(env: Env<'_>, name: &str) -> Option<PathBuf> {
    env(name).map(PathBuf::from).filter(|path: &PathBuf| Path::is_absolute(path))
}

/// The registry of the GitLab that runs this job.
fn gitlab(env: Env<'_>) -> Result<KnownCredential, Error> {
    const NAME: &str = "GitLab CI";
    const PLACE: &str = "CI_REGISTRY, CI_REGISTRY_USER, CI_REGISTRY_PASSWORD or CI_JOB_TOKEN";
    let Some(host) = text(env, "CI_REGISTRY")? else {
        return Ok(KnownCredential::missing(NAME, PLACE, "CI_REGISTRY is not set"));
    };
    if let (Some(user), Some(password)) = (text(env, "CI_REGISTRY_USER")?, text(env, "CI_REGISTRY_PASSWORD")?)
    {
        return known(NAME, PLACE, "CI_REGISTRY", &host, user, password);
    }
    match text(env, "CI_JOB_TOKEN")? {
        Some(token) => known(NAME, PLACE, "CI_REGISTRY", &host, "gitlab-ci-token".to_owned(), token),
        None => Ok(KnownCredential::missing(NAME, PLACE, "there is no password for CI_REGISTRY")),
    }
}

/// The proxy for Docker Hub of the GitLab that runs this job.
fn gitlab_proxy(env: Env<'_>) -> Result<KnownCredential, Error> {
    const NAME: &str = "GitLab dependency proxy";
    const PLACE: &str = "CI_DEPENDENCY_PROXY_SERVER, …_USER, …_PASSWORD";
    let server = text(env, "CI_DEPENDENCY_PROXY_SERVER")?;
    let user = text(env, "CI_DEPENDENCY_PROXY_USER")?;
    let password = text(env, "CI_DEPENDENCY_PROXY_PASSWORD")?;
    match (server, user, password) {
        (Some(server), Some(user), Some(password)) => {
            known(NAME, PLACE, "CI_DEPENDENCY_PROXY_SERVER", &server, user, password)
        }
        _ => Ok(KnownCredential::missing(NAME, PLACE, "not all of them are set")),
    }
}

/// GitHub's registry, in its workflows: only they know who acts.
fn github(env: Env<'_>) -> Result<KnownCredential, Error> {
    const NAME: &str = "GitHub Actions";
    const PLACE: &str = "GITHUB_ACTOR, GITHUB_TOKEN";
    match (text(env, "GITHUB_ACTOR")?, text(env, "GITHUB_TOKEN")?) {
        (Some(actor), Some(token)) => known(NAME, PLACE, "ghcr.io", "ghcr.io", actor, token),
        _ => Ok(KnownCredential::missing(NAME, PLACE, "not both are set")),
    }
}

#[cfg(test)]
mod tests {
    use ocibuild::CancelToken;
    use ocibuild::registry::Wanted;

    use super::*;

    fn found(variables: &[(&str, &str)], registry: &str) -> Result<Option<String>, String> {
        let env = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        let credentials = Credentials::new(sources(&env).map_err(|error| error.to_string())?);
        let wanted = Wanted { registry, repository: Some("team/app") };
        let found = credentials.find(wanted, &CancelToken::new()).map_err(|error| error.to_string())?;
        Ok(found.map(|found| format!("{} ({})", found.credential, found.origin)))
    }

    #[test]
    fn variables_are_for_their_registry_alone() {
        let own = [(OWN, "r.io:5000"), (OWN_USER, "u"), (OWN_PASSWORD, "p")];
        let shown = "password of u (environment: OCIBUILD_REGISTRY, …_USERNAME, …_PASSWORD, r.io:5000)";
        assert_eq!(found(&own, "r.io:5000"), Ok(Some(shown.to_owned())));
        for other in ["r.io", "docker.io", "r.io:5001", "x.r.io:5000"] {
            assert_eq!(found(&own, other), Ok(None), "{other}");
        }
        let error = found(&own[1..], "r.io").unwrap_err();
        assert!(error.contains("OCIBUILD_REGISTRY is not set"), "{error}");
        let error = found(&[own[0], own[1]], "r.io").unwrap_err();
        assert!(error.contains("OCIBUILD_REGISTRY_PASSWORD is not set"), "{error}");
        assert_eq!(found(&own[..1], "r.io:5000"), Ok(None));
        assert!(
            found(&[(OWN, "a b"), own[1], own[2]], "r.io").unwrap_err().contains("does not name a registry")
        );
    }

    #[test]
    fn jobs_have_credentials_for_their_own_registry() {
        let job = [("CI_REGISTRY", "registry.gitlab.test"), ("CI_JOB_TOKEN", "t")];
        let user = |registry: &str, variables: &[(&str, &str)]| found(variables, registry).unwrap();
        assert!(user("registry.gitlab.test", &job).unwrap().starts_with("password of gitlab-ci-token"));
        assert_eq!(user("registry.gitlab.test.evil.com", &job), None);
        assert_eq!(user("docker.io", &job), None);
        let named = [job[0], ("CI_REGISTRY_USER", "deploy"), ("CI_REGISTRY_PASSWORD", "p"), job[1]];
        assert!(user("registry.gitlab.test", &named).unwrap().starts_with("password of deploy"));
        let actions = [("GITHUB_ACTOR", "octo"), ("GITHUB_TOKEN", "t")];
        assert!(user("ghcr.io", &actions).unwrap().starts_with("password of octo"));
        assert_eq!(user("ghcr.io", &actions[1..]), None);
        assert_eq!(user("docker.ghcr.io", &actions), None);
    }

    #[test]
    fn the_first_source_wins() {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, user: &str| {
            let path = directory.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            let text = format!(r#"{{"auths":{{"r.io":{{"username":"{user}","password":"p"}}}}}}"#);
            fs_err::write(&path, text).unwrap();
            path.display().to_string()
        };
        let at = |path: &str| directory.path().join(path).display().to_string();
        let (home, runtime) = (at("home"), at("run"));
        let named = write("named.json", "named");
        write("home/.docker/config.json", "docker");
        write("run/containers/auth.json", "runtime");
        write("home/.config/containers/auth.json", "home");
        let text = r#"{"auths":{"r.io":{"username":"text","password":"p"}}}"#;
        let mut variables = vec![
            (OWN, "r.io"),
            (OWN_USER, "own"),
            (OWN_PASSWORD, "p"),
            ("REGISTRY_AUTH_FILE", &named),
            ("DOCKER_AUTH_CONFIG", text),
            ("HOME", &home),
            ("XDG_RUNTIME_DIR", &runtime),
            ("CI_REGISTRY", "r.io"),
            ("CI_JOB_TOKEN", "t"),
        ];
        let mut seen = Vec::new();
        let mut next = |variables: &[(&str, &str)]| {
            let shown = found(variables, "r.io").unwrap().unwrap();
            seen.push(shown.split(' ').nth(2).unwrap().to_owned());
        };
        next(&variables);
        variables.retain(|(key, _)| !key.starts_with("OCIBUILD"));
        next(&variables);
        variables.retain(|(key, _)| *key != "REGISTRY_AUTH_FILE");
        next(&variables);
        variables.retain(|(key, _)| *key != "DOCKER_AUTH_CONFIG");
        next(&variables);
        fs_err::remove_file(directory.path().join("home/.docker/config.json")).unwrap();
        next(&variables);
        variables.retain(|(key, _)| *key != "XDG_RUNTIME_DIR");
        next(&variables);
        variables.retain(|(key, _)| *key != "HOME");
        next(&variables);
        assert_eq!(seen, ["own", "named", "text", "docker", "runtime", "home", "gitlab-ci-token"]);
        let error = found(&[("REGISTRY_AUTH_FILE", "/nowhere/auth.json")], "r.io").unwrap_err();
        assert!(error.contains("REGISTRY_AUTH_FILE names /nowhere/auth.json"), "{error}");
    }
}
