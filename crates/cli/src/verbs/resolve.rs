use std::process::ExitCode;

use ocibuild::registry::{Origin, Route, Transport};
use ocibuild::{Error, ErrorKind};
use serde_json::json;

use crate::args::{ReportFormat, ResolveArgs};
use crate::backends::{Notices, registry};
use crate::failure::Outcome;
use crate::table::table;
use crate::terminal::to_stdout;
use crate::values::reference;

/// Shows where an image would be looked for; nobody is asked.
pub(crate) fn registry_resolve(args: &ResolveArgs) -> Outcome {
    let name = reference(&args.image)?;
    let is_pinned = name.digest().is_some();
    let mut routes = registry(&args.registry, Notices::Lines)?.routes(&name)?;
    routes.retain(|route| route.serves_content || !is_pinned);
    let text = match args.format {
        ReportFormat::Text => table(&routes.iter().map(row).collect::<Result<Vec<_>, _>>()?),
        ReportFormat::Json => {
            let routes = routes.iter().map(object).collect::<Result<Vec<_>, _>>()?;
            format!("{:#}\n", serde_json::Value::Array(routes))
        }
    };
    to_stdout(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn url(route: &Route) -> Result<String, Error> {
    let url = route.url().map_err(|error| Error::new(ErrorKind::Usage, error.to_string()))?;
    // URLs are printed without what may be a secret, and this is none.
    let namespace = route.namespace.as_ref().map(|name| format!("?ns={name}")).unwrap_or_default();
    Ok(format!("{url}{namespace}"))
}

fn row(route: &Route) -> Result<Vec<String>, Error> {
    let mut row = vec![url(route)?, origin(&route.origin)];
    let mut notes = Vec::new();
    match (route.resolves_tags, route.serves_content) {
        (false, _) => notes.push("by digest only"),
        (true, false) => notes.push("for the meaning of tags only"),
        (true, true) => {}
    }
    match route.speaks {
        Transport::Tls | Transport::Plain => {}
        Transport::AnyTls => notes.push("any certificate"),
        Transport::TlsOrPlain => notes.push("http if it does not speak TLS"),
        Transport::Anything => notes.push("any certificate, http if it does not speak TLS"),
    }
    if !notes.is_empty() {
        row.push(notes.join("; "));
    }
    Ok(row)
}

fn object(route: &Route) -> Result<serde_json::Value, Error> {
    let speaks = match route.speaks {
        Transport::Tls => "tls",
        Transport::AnyTls => "tls-unverified",
        Transport::TlsOrPlain => "tls-or-http",
        Transport::Anything => "tls-unverified-or-http",
        Transport::Plain => "http",
    };
    Ok(json!({
        "url": url(route)?,
        "image": route.reference.to_string(),
        "origin": origin(&route.origin),
        "speaks": speaks,
        "resolves_tags": route.resolves_tags,
        "serves_content": route.serves_content,
    }))
}

/// Who named a server; a mirror of the command line is the flag.
fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Mirror(text) => format!("--registry-mirror {text}"),
        other => other.to_string(),
    }
}
