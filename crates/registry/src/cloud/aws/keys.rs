use std::path::{Path, PathBuf};

use ocibuild_spec::{CancelToken, SourceError, SourceErrorKind};
use serde_json::Value;

use super::super::Variables;
use super::super::services::{CloudServices, accepted, field, json, refused, request, text, token_file};
use super::signature::Keys;
use super::{NAME, Registry};
use crate::http::{Form, HttpRequest, Method, Scheme, is_loopback};

/// Addresses at which containers are given their identity: of ECS, and of pods of EKS.
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];
/// Seconds that a token of the machine's metadata service is good for; it is used at once.
const METADATA_LIFE: &str = "60";

/// What the environment says about the identity, in the order in which it is looked for.
#[derive(Clone)]
pub(super) enum Origin {
    Given(Keys),
    /// A token of the cluster for a role.
    Web {
        role: String,
        session: String,
        file: PathBuf,
    },
    /// A service beside the container.
    Container {
        url: String,
        token: Option<String>,
        file: Option<PathBuf>,
    },
    /// The machine's metadata service.
    Machine,
    Nobody(&'static str),
}

impl Origin {
    pub(super) fn new(variable: Variables<'_>, container: &str) -> Self {
        if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            return Self::Given(Keys { id, secret, session: variable("AWS_SESSION_TOKEN") });
        }
        if let (Some(role), Some(file)) = (variable("AWS_ROLE_ARN"), variable("AWS_WEB_IDENTITY_TOKEN_FILE"))
        {
            let session = variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "ocibuild".to_owned());
            return Self::Web { role, session, file: file.into() };
        }
        let relative =
            variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{container}{path}"));
        if let Some(url) = relative.or_else(|| variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
            let token = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
            let file = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from);
            return Self::Container { url, token, file };
        }
        if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Self::Nobody("no variable gives an identity, and AWS_EC2_METADATA_DISABLED is set");
        }
        Self::Machine
    }

    /// What it is called in an explanation.
    pub(super) fn place(&self) -> &'static str {
        match self {
            Self::Given(_) => "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
            Self::Web { .. } => "AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE",
            Self::Container { .. } => "AWS_CONTAINER_CREDENTIALS_FULL_URI or …_RELATIVE_URI",
            Self::Machine => "EC2 metadata service",
            Self::Nobody(_) => "-",
        }
    }

    /// The keys, or why there are none.
    pub(super) fn keys(
        &self,
        services: &CloudServices,
        metadata: &str,
        (registry, sts): (&Registry, Option<&str>),
        cancel: &CancelToken,
    ) -> Result<Result<Keys, &'static str>, SourceError> {
        match self {
            Self::Nobody(why) => Ok(Err(why)),
            Self::Given(keys) => Ok(Ok(keys.clone())),
            Self::Web { role, session, file } => {
                let url = sts.map_or_else(|| registry.sts(), str::to_owned);
                web(services, &url, [role, session], file, cancel).map(Ok)
            }
            Self::Container { url, token, file } => {
                let token = match file {
                    Some(file) => Some(token_file(file, NAME)?),
                    None => token.clone(),
                };
                container(services, url, token, cancel).map(Ok)
            }
            Self::Machine => machine(services, metadata, cancel),
        }
    }
}

fn web(
    services: &CloudServices,
    url: &str,
    [role, session]: [&str; 2],
    file: &Path,
    cancel: &CancelToken,
) -> Result<Keys, SourceError> {
    let token = token_file(file, NAME)?;
    let mut form = Form::new();
    for (key, value) in [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", role),
        ("RoleSessionName", session),
        ("WebIdentityToken", &token),
    ] {
        form.add(key, value);
    }
    let request = form.post(request(Method::Post, url, NAME)?);
    let answer = text(services.ask(&request, NAME, cancel)?, NAME)?;
    let field = |name: &str| {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let found = answer.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
        let found = found.map(|(value, _)| value.trim().to_owned());
        found.ok_or_else(|| refused(NAME, format_args!("{} gave no {name}", request.url)))
    };
    Ok(Keys {
        id: field("AccessKeyId")?,
        secret: field("SecretAccessKey")?,
        session: Some(field("SessionToken")?),
    })
}

fn container(
    services: &CloudServices,
    url: &str,
    token: Option<String>,
    cancel: &CancelToken,
) -> Result<Keys, SourceError> {
    let request = request(Method::Get, url, NAME)?;
    let host = request.url.host();
    if request.url.scheme() == Scheme::Http && !is_loopback(host) && !CONTAINER_HOSTS.contains(&host) {
        let text =
            format!("{NAME}: AWS_CONTAINER_CREDENTIALS_FULL_URI: {} is not asked in the clear", request.url);
        return Err(SourceError::new(SourceErrorKind::Configuration, text)
            .hint("in the clear it may be on this machine or at the addresses of ECS and EKS alone"));
    }
    let request = token.into_iter().fold(request, |request, token| request.header("authorization", token));
    let response = services.probe(&request, NAME, cancel)?;
    let response = response.ok_or_else(|| refused(NAME, format_args!("{} does not answer", request.url)))?;
    keys_of(&json(accepted(response, NAME)?, NAME)?)
}

fn machine(
    services: &CloudServices,
    metadata: &str,
    cancel: &CancelToken,
) -> Result<Result<Keys, &'static str>, SourceError> {
    const NOWHERE: &str = "no variable gives an identity, and there is no metadata service";
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    let base = metadata.trim_end_matches('/');
    let ask = |request: HttpRequest| services.probe(&request, NAME, cancel);
    let token = request(Method::Put, &format!("{base}/latest/api/token"), NAME)?;
    let token = ask(token.header("x-aws-ec2-metadata-token-ttl-seconds", METADATA_LIFE))?;
    // The machines of others have metadata services, too, which know nothing of this.
    let Some(token) = token.filter(|response| response.status == 200) else { return Ok(Err(NOWHERE)) };
    let token = text(token, NAME)?;
    let get = |path: &str| -> Result<_, SourceError> {
        let request = request(Method::Get, &format!("{base}{ROLES}{path}"), NAME)?;
        ask(request.header("x-aws-ec2-metadata-token", token.trim()))
    };
    let Some(roles) = get("")?.filter(|response| response.status != 404) else {
        return Ok(Err("no variable gives an identity, and this machine has no role"));
    };
    let roles = text(accepted(roles, NAME)?, NAME)?;
    let role = roles.lines().next().unwrap_or_default().trim();
    let keys = get(role)?.ok_or_else(|| refused(NAME, "the metadata service does not answer any more"))?;
    keys_of(&json(accepted(keys, NAME)?, NAME)?).map(Ok)
}

fn keys_of(answer: &Value) -> Result<Keys, SourceError> {
    let id = field(answer, "/AccessKeyId", NAME)?;
    Ok(Keys {
        id,
        secret: field(answer, "/SecretAccessKey", NAME)?,
        session: field(answer, "/Token", NAME).ok(),
    })
}
