use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use ocibuild_registry::{Proxies, Registry};
use ocibuild_spec::{CancelToken, SourceErrorKind};
use ocibuild_testkit::{TestImage, TestRegistry};

use super::name;

/// A proxy that answers so, and then is the way to `target` where it is 200; what it was asked for comes out of the
/// channel.
fn proxy(status: u16, target: &str) -> (String, Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (asked, heard) = channel();
    let target = target.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut reader = BufReader::new(client.try_clone().unwrap());
            let lines = reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty());
            let _ = asked.send(lines.collect());
            write!(client, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n").unwrap();
            if status == 200 {
                let server = TcpStream::connect(&target).unwrap();
                let (mut from, mut to) = (server.try_clone().unwrap(), server);
                std::thread::spawn(move || {
                    let _ = io::copy(&mut reader, &mut to);
                    to.shutdown(Shutdown::Write)
                });
                std::thread::spawn(move || io::copy(&mut from, &mut client));
            }
        }
    });
    (address, heard)
}

fn through(proxy: &str) -> Registry {
    let proxy = Some(format!("http://user:c4n4ry@{proxy}"));
    let proxies = Proxies { http: proxy.clone(), https: proxy, no_proxy: None };
    Registry::builder().proxies(proxies).insecure("registry.test:5000").build().unwrap()
}

#[test]
fn what_a_proxy_refuses_is_its_word_and_final() {
    for (status, hint) in [(407, "wants a login"), (403, "does not let this host be asked")] {
        let (address, asked) = proxy(status, "");
        let registry = through(&address);
        let error = registry.manifest(&name("other.test/app:1"), &CancelToken::new()).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Denied);
        assert!(error.to_string().contains(&format!("the proxy {address} answered {status}")), "{error}");
        assert!(error.hint_text().unwrap().contains(hint), "{error:?}");
        assert!(!format!("{error:?}").contains("c4n4ry"), "{error:?}");
        let asked: Vec<_> = asked.try_iter().collect();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!(asked[0][0], "CONNECT other.test:443 HTTP/1.1");
        assert!(
            asked[0].iter().any(|line| line == "Proxy-Authorization: Basic dXNlcjpjNG40cnk="),
            "{asked:?}"
        );
    }
}

#[test]
fn behind_a_proxy_who_speaks_tls_is_found_out_through_it() {
    let server = TestRegistry::start();
    let image = TestImage::new("linux/amd64").layer(&[("file", "1")]).build();
    server.push("app", "1", &image);
    let (address, _asked) = proxy(200, &server.authority());
    let found = through(&address).manifest(&name("registry.test:5000/app:1"), &CancelToken::new()).unwrap();
    assert_eq!(found.1, image.manifest);
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let proxies = Proxies { https: Some(format!("http://user:c4n4ry@{address}")), ..Proxies::default() };
    let none = std::time::Duration::ZERO;
    let registry = Registry::builder().proxies(proxies).retries(1, none, none).build().unwrap();
    let error = registry.manifest(&name("other.test/app:1"), &CancelToken::new()).unwrap_err();
    assert!(error.to_string().contains(&format!("(through the proxy {address})")), "{error}");
}
