//! A URL, a line end, and a `Location`: no panic, a URL means the same when it is read again, and what does not name
//! a server stays on that of the URL.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use ocibuild_registry::{Scheme, Url};

fuzz_target!(|text: &str| {
    let (base, location) = text.split_once('\n').unwrap_or(("https://r.test:5000/v2/a/b?c", text));
    let Ok(base) = base.parse::<Url>() else { return };
    check(&base);
    let Ok(joined) = base.join(location) else { return };
    check(&joined);
    let location = location.trim();
    let names_scheme = location.split(['/', '?', '#']).next().is_some_and(|start| start.contains(':'));
    if !names_scheme && !location.starts_with("//") {
        assert!(joined.is_same_origin(&base), "{base} and {location:?}: {joined}");
    }
    let queried = joined.with_query(location, text);
    assert_eq!((queried.to_string(), queried.authority()), (joined.to_string(), joined.authority()));
    assert!(!queried.with_scheme(Scheme::Http).to_string().contains(['?', '#', ' ']), "{queried}");
});

fn check(url: &Url) {
    let again: Url = url.to_string().parse().expect("a written URL is one");
    assert_eq!(again.to_string(), url.to_string());
    assert!(again.is_same_origin(url));
    assert!(url.path().starts_with('/') && url.port() != 0);
    let host = url.host();
    assert!(!host.is_empty() && !host.contains(['@', '/', '?', '#', '%', '\\']), "{host}");
    // An address in another notation would be one address here and another one to the system.
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_numeric = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    assert!(!is_numeric || host.parse::<Ipv4Addr>().is_ok(), "{host}");
    if let Some(address) = host.strip_prefix('[') {
        assert!(address.trim_end_matches(']').parse::<Ipv6Addr>().is_ok(), "{host}");
    }
}
