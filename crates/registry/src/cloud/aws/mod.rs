mod keys;
mod signature;

use std::fmt;
use std::time::Duration;

use ocibuild_spec::{CancelToken, SourceError};
use serde_json::Value;

use super::Variables;
use super::services::{CloudServices, field, json, refused, request};
use crate::credentials::{Credential, CredentialSource, Lookup, Match, Secret, Wanted, decode};
use crate::http::Method;

use keys::Origin;
use signature::{Keys, Signed, date};

const NAME: &str = "AWS identity";

/// Where AWS's services are, if not where they usually are.
#[derive(Debug, Clone)]
pub struct AwsEndpoints {
    /// The machine's metadata service.
    pub metadata: String,
    /// Where relative addresses of containers' identities begin.
    pub container: String,
    /// The service that gives keys for roles.
    pub sts: Option<String>,
    /// The service of private registries.
    pub ecr: Option<String>,
    /// The service of the public registry.
    pub ecr_public: Option<String>,
}

impl AwsEndpoints {
    /// What the variables of AWS's own tools say.
    pub fn new(variable: Variables<'_>) -> Self {
        let metadata = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        Self {
            metadata: metadata.unwrap_or_else(|| "http://169.254.169.254".to_owned()),
            container: "http://169.254.170.2".to_owned(),
            sts: variable("AWS_ENDPOINT_URL_STS"),
            ecr: variable("AWS_ENDPOINT_URL_ECR"),
            ecr_public: variable("AWS_ENDPOINT_URL_ECR_PUBLIC"),
        }
    }
}

/// Registries at AWS (`ACCOUNT.dkr.ecr.REGION.amazonaws.com` and `public.ecr.aws`), with the identity that the
/// environment gives: keys, a role for a token of the cluster (IRSA), a service beside the container (ECS, EKS Pod
/// Identity), or the machine's role (`IMDSv2`), in this order.
pub struct AwsIdentity {
    services: CloudServices,
    endpoints: AwsEndpoints,
    origin: Origin,
}

/// It holds keys.
impl fmt::Debug for AwsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsIdentity").field("origin", &self.origin.place()).finish_non_exhaustive()
    }
}

/// A registry at AWS.
#[derive(Debug, PartialEq, Eq)]
struct Registry {
    region: String,
    /// `amazonaws.com`, or that of another part of AWS.
    domain: &'static str,
    is_fips: bool,
    is_public: bool,
}

impl Registry {
    fn parse(host: &str) -> Option<Self> {
        if host == "public.ecr.aws" {
            let region = "us-east-1".to_owned();
            return Some(Self { region, domain: "amazonaws.com", is_fips: false, is_public: true });
        }
        let labels: Vec<&str> = host.split('.').collect();
        let [account, "dkr", service @ ("ecr" | "ecr-fips"), region, rest @ ..] = labels.as_slice() else {
            return None;
        };
        let domain = match rest {
            ["amazonaws", "com"] => "amazonaws.com",
            ["amazonaws", "com", "cn"] => "amazonaws.com.cn",
            _ => return None,
        };
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let is_region =
            !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (is_account && is_region).then(|| Self {
            region: (*region).to_owned(),
            domain,
            is_fips: *service == "ecr-fips",
            is_public: false,
        })
    }

    fn sts(&self) -> String {
        format!("https://sts.{}.{}/", self.region, self.domain)
    }

    /// URL, service, and what is asked of it.
    fn service(&self, endpoints: &AwsEndpoints) -> (String, &'static str, &'static str) {
        let Self { region, domain, .. } = self;
        if self.is_public {
            let url = format!("https://api.ecr-public.{region}.{domain}/");
            let url = endpoints.ecr_public.clone().unwrap_or(url);
            return (url, "ecr-public", "SpencerFrontendService.GetAuthorizationToken");
        }
        let host = if self.is_fips { "ecr-fips" } else { "api.ecr" };
        let url = endpoints.ecr.clone().unwrap_or_else(|| format!("https://{host}.{region}.{domain}/"));
        (url, "ecr", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken")
    }
}

impl AwsIdentity {
    /// The identity that the variables give.
    pub fn new(services: CloudServices, endpoints: AwsEndpoints, variable: Variables<'_>) -> Self {
        let origin = Origin::new(variable, &endpoints.container);
        Self { services, endpoints, origin }
    }

    /// User and password for the registry.
    fn password(&self, registry: &Registry, keys: &Keys, cancel: &CancelToken) -> Result<Match, SourceError> {
        const BODY: &[u8] = b"{}";
        let (url, service, target) = registry.service(&self.endpoints);
        let mut request = request(Method::Post, &url, NAME)?;
        let now = self.services.now();
        let date = date(now);
        let mut headers = vec![
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("host", request.url.authority()),
            ("x-amz-date", date.clone()),
            ("x-amz-target", target.to_owned()),
        ];
        if let Some(session) = &keys.session {
            headers.insert(3, ("x-amz-security-token", session.clone()));
        }
        let region = registry.region.as_str();
        let path = request.url.path().to_owned();
        let signed =
            Signed { method: "POST", path: &path, query: "", headers: &headers, body: BODY, region, service };
        let authorization = signed.header(keys, &date);
        headers.retain(|(name, _)| *name != "host");
        headers.push(("authorization", authorization));
        request.headers = headers;
        let answer = json(self.services.ask(&request.body(BODY), NAME, cancel)?, NAME)?;
        let data = match &answer["authorizationData"] {
            Value::Array(entries) => entries.first().cloned().unwrap_or_default(),
            other => other.clone(),
        };
        let token = field(&data, "/authorizationToken", NAME)?;
        let (user, password) =
            decode(&token).map_err(|why| refused(NAME, format_args!("its token: {why}")))?;
        let ends = data["expiresAt"].as_f64().filter(|time| *time > 0.0).map(|time| time as u64);
        let life = ends.map(|ends| Duration::from_secs(ends.saturating_sub(now)));
        let credential = Credential::password(user, Secret::new(password));
        Ok(Match { life, ..Match::new(credential, registry.region.clone()) })
    }
}

impl CredentialSource for AwsIdentity {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    fn place(&self) -> String {
        self.origin.place().to_owned()
    }

    fn find(&self, wanted: Wanted<'_>, cancel: &CancelToken) -> Result<Lookup, SourceError> {
        let Some(registry) = Registry::parse(wanted.registry) else {
            return Ok(Lookup::Miss("it is not an AWS registry".to_owned()));
        };
        let (endpoints, services) = (&self.endpoints, &self.services);
        let sts = (&registry, endpoints.sts.as_deref());
        let found =
            self.origin.keys(services, &endpoints.metadata, sts, cancel).and_then(|keys| match keys {
                Ok(keys) => self.password(&registry, &keys, cancel).map(Lookup::Match),
                Err(why) => Ok(Lookup::Miss(why.to_owned())),
            });
        match found {
            // Everybody may read there, and many roles may not log in.
            Err(error) if registry.is_public && error.kind() != ocibuild_spec::SourceErrorKind::Cancelled => {
                Ok(Lookup::Miss(format!("{error}; this registry is open to everybody")))
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_known_by_whole_labels() {
        let private = |region: &str, domain, is_fips| {
            Some(Registry { region: region.to_owned(), domain, is_fips, is_public: false })
        };
        for (host, expected) in [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", private("eu-west-1", "amazonaws.com", false)),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                private("us-gov-west-1", "amazonaws.com", true),
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                private("cn-north-1", "amazonaws.com.cn", false),
            ),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.com", None),
            ("123456789012.dkr.ecr.eu-west-1.evilamazonaws.com", None),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com:8443", None),
            ("evil.com.123456789012.dkr.ecr.eu-west-1.amazonaws.com", None),
            ("12345678901.dkr.ecr.eu-west-1.amazonaws.com", None),
            ("123456789012.dkr.ecr.eu_1.amazonaws.com", None),
            ("public.ecr.aws.evil.com", None),
            ("x.public.ecr.aws", None),
            ("docker.io", None),
        ] {
            assert_eq!(Registry::parse(host), expected, "{host}");
        }
        assert!(Registry::parse("public.ecr.aws").unwrap().is_public);
    }

    #[test]
    fn services_are_those_of_the_region() {
        let endpoints = AwsEndpoints::new(&|_| None);
        for (host, url, sts) in [
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "https://api.ecr.cn-north-1.amazonaws.com.cn/",
                "https://sts.cn-north-1.amazonaws.com.cn/",
            ),
            (
                "123456789012.dkr.ecr-fips.us-east-2.amazonaws.com",
                "https://ecr-fips.us-east-2.amazonaws.com/",
                "https://sts.us-east-2.amazonaws.com/",
            ),
            (
                "public.ecr.aws",
                "https://api.ecr-public.us-east-1.amazonaws.com/",
                "https://sts.us-east-1.amazonaws.com/",
            ),
        ] {
            let registry = Registry::parse(host).unwrap();
            assert_eq!((registry.service(&endpoints).0, registry.sts()), (url.to_owned(), sts.to_owned()));
        }
    }
}
