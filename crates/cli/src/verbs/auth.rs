use std::process::ExitCode;

use ocibuild::Error;
use ocibuild::registry::{Explained, Lookup, Wanted};
use ocibuild::spec::SourceError;
use serde_json::json;

use crate::args::{ExplainArgs, TableFormat};
use crate::backends::{Notices, credentials, registry_with};
use crate::failure::Outcome;
use crate::signals::Signals;
use crate::table::table;
use crate::terminal::to_stdout;
use crate::text::printable;
use crate::values::reference;

/// What each source of credentials has for an image, and which one counts: at the registry and at each of its mirrors.
pub(crate) fn explain(args: &ExplainArgs) -> Outcome {
    let name = reference(&args.image)?;
    let credentials = credentials(&args.registry)?;
    let signals = Signals::install()?;
    let mut places: Vec<String> = Vec::new();
    let mut failed = None;
    for route in registry_with(&args.registry, credentials.clone(), Notices::Lines)?.routes(&name)? {
        let image = route.reference.familiar_name();
        if places.contains(&image) {
            continue;
        }
        let wanted =
            Wanted { registry: route.reference.registry(), repository: Some(route.reference.repository()) };
        let explained = credentials.explain(wanted, &signals.cancel);
        let text = match args.format {
            TableFormat::Json => explained.iter().map(|one| object(&image, one) + "\n").collect(),
            TableFormat::Table => {
                let header =
                    ["SOURCE", "WHERE", "MATCH", "CREDENTIAL", "VERDICT"].map(str::to_owned).to_vec();
                let rows = std::iter::once(header).chain(explained.iter().map(row)).collect::<Vec<_>>();
                let gap = if places.is_empty() { "" } else { "\n" };
                format!("{gap}{}{}", table(&rows), conclusion(&image, &explained))
            }
        };
        to_stdout(text.as_bytes())?;
        places.push(image);
        failed = failed.or_else(|| first_error(explained));
    }
    failed.map_or(Ok(ExitCode::SUCCESS), |error| Err(Error::from(error).into()))
}

/// An error that comes before any credentials, which is what a pull would end with.
fn first_error(explained: Vec<Explained>) -> Option<SourceError> {
    explained.into_iter().take_while(|one| !one.is_used).find_map(|one| one.lookup.err())
}

fn cells(explained: &Explained) -> (String, String, &'static str) {
    match &explained.lookup {
        Ok(Lookup::Match(hit)) => {
            let verdict = if explained.is_used { "used" } else { "not reached" };
            (hit.key.clone(), hit.credential.to_string(), verdict)
        }
        Ok(Lookup::Miss(why)) => (why.clone(), String::new(), "nothing"),
        Err(error) => (error.to_string(), String::new(), "error"),
    }
}

fn row(explained: &Explained) -> Vec<String> {
    let (matched, credential, verdict) = cells(explained);
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { printable(text) };
    vec![
        explained.name.clone(),
        or_dash(&explained.place),
        or_dash(&matched),
        or_dash(&credential),
        verdict.to_owned(),
    ]
}

fn object(image: &str, explained: &Explained) -> String {
    let (matched, credential, verdict) = cells(explained);
    let username = match &explained.lookup {
        Ok(Lookup::Match(hit)) => hit.credential.username().map(str::to_owned),
        _ => None,
    };
    json!({
        "image": image,
        "source": explained.name,
        "where": explained.place,
        "match": matched,
        "credential": credential,
        "username": username,
        "verdict": verdict,
    })
    .to_string()
}

/// One sentence for those who do not read tables.
fn conclusion(name: &str, explained: &[Explained]) -> String {
    let decided = explained.iter().find(|one| one.is_used || one.lookup.is_err());
    let text = match decided.map(|one| (one, &one.lookup)) {
        Some((one, Ok(Lookup::Match(hit)))) => {
            format!("the {} is sent, from {} ({})", hit.credential, one.name, one.place)
        }
        Some((one, _)) => format!("nothing is sent, as {} cannot be used", one.name),
        None => "no credentials are sent".to_owned(),
    };
    format!("\n{name}: {}\n", printable(&text))
}
