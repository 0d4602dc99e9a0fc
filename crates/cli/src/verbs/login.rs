//! `login` and `logout`.

use std::io::{self, IsTerminal as _, Read as _};
use std::process::ExitCode;

use ocibuild::registry::{Credential, Credentials, KnownCredential, LoginCheck, RegistryKey, Secret, Stored};
use ocibuild::spec::Reference;
use ocibuild::{Error, ErrorKind};

use crate::args::{LoginArgs, LogoutArgs};
use crate::backends::{Notices, registry_with};
use crate::credentials::store;
use crate::failure::{Failure, Outcome, host, usage};
use crate::progress::warn;
use crate::remote::StandardInput;
use crate::signals::Signals;
use crate::terminal::{HiddenInput, Screen, to_stderr, to_stdout};

/// Most bytes of a password.
const MAX_PASSWORD: u64 = 64 << 10;

/// Checks credentials at the registry and stores them.
pub(crate) fn login(args: &LoginArgs) -> Outcome {
    refuse_password(args)?;
    let key = key(&args.host)?;
    let store = store()?;
    let signals = Signals::install()?;
    let with_signal = |error: Error| {
        let mut failure = Failure::from(error);
        failure.signal = signals.received();
        failure
    };
    let credential = credential(args, &signals).map_err(with_signal)?;
    let known = KnownCredential::new("login", "what was given", key.clone(), credential.clone());
    let registry = registry_with(&args.registry, Credentials::new(vec![Box::new(known)]), Notices::Lines)?;
    let check = registry
        .check_login(&key, &signals.cancel)
        .map_err(|error| with_signal(Error::of_registry(error)))?;
    let kept = store.put(&key, &credential, &signals.cancel).map_err(|error| with_signal(error.into()))?;
    let screen = Screen::of_stderr();
    if check == LoginCheck::NotAsked {
        warn(&format!("{key} does not ask for a login, so the password was not checked"), false, screen);
    }
    if kept == Stored::InFile {
        let path = store.path().display();
        warn(
            &format!(
                "the password is stored unencrypted in {path}; a credential helper (credsStore) keeps it safe"
            ),
            false,
            screen,
        );
    }
    to_stdout(b"Login Succeeded\n")?;
    Ok(ExitCode::SUCCESS)
}

/// Forgets credentials.
pub(crate) fn logout(args: &LogoutArgs) -> Outcome {
    let key = key(&args.host)?;
    let store = store()?;
    let signals = Signals::install()?;
    let was_there = store.remove(&key, &signals.cancel)?;
    let text = if was_there { "Removing login credentials for" } else { "Not logged in to" };
    to_stdout(format!("{text} {key}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn refuse_password(args: &LoginArgs) -> Result<(), Error> {
    if args.password.is_none() {
        return Ok(());
    }
    Err(usage(
        "a password is not accepted on the command line: everybody on this machine can read it there, and the \
               shell keeps it in its history",
    )
    .hint("give it on standard input: … | ocibuild login -u NAME --password-stdin HOST"))
}

/// The registry as the names of images have it.
fn key(text: &str) -> Result<RegistryKey, Error> {
    let unusable =
        || usage(format!("HOST {text}: not a registry")).hint("write host[:port], as in the names of images");
    let key = RegistryKey::parse(text).ok_or_else(unusable)?;
    let path = if key.path().is_empty() { "x" } else { key.path() };
    let image: Reference = format!("{}/{path}", key.host()).parse().map_err(|_| unusable())?;
    if image.registry() != key.host() {
        return Err(usage(format!("HOST {text}: no image has a registry of this name")).hint(format!(
            "{text}/app would be an image at Docker Hub; add the domain or the port: {text}:5000"
        )));
    }
    Ok(key)
}

fn credential(args: &LoginArgs, signals: &Signals) -> Result<Credential, Error> {
    let is_terminal = io::stdin().is_terminal();
    if args.password_stdin {
        let name = args
            .username
            .clone()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| usage("--password-stdin needs a user name").hint("give it with -u NAME"))?;
        return Ok(Credential::password(name, password(&from_stdin(signals)?)?));
    }
    if !is_terminal {
        return Err(usage("there is no terminal to ask for the password")
            .hint("give it on standard input: … | ocibuild login -u NAME --password-stdin HOST"));
    }
    let name = match args.username.clone().filter(|name| !name.is_empty()) {
        Some(name) => name,
        None => ask("Username: ", signals)?,
    };
    let hidden = HiddenInput::start().map_err(|error| host("cannot hide what is typed", error))?;
    let typed = ask("Password: ", signals);
    drop(hidden);
    to_stderr("\n");
    Ok(Credential::password(name, password(&typed?)?))
}

/// What stands before the end of the line.
fn password(text: &str) -> Result<Secret, Error> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(usage("the password is empty"));
    }
    if text.contains(char::is_control) {
        return Err(usage("the password has several lines or contains control characters"));
    }
    Ok(Secret::new(text))
}

fn from_stdin(signals: &Signals) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let input = StandardInput { cancel: &signals.cancel };
    let read = input.take(MAX_PASSWORD + 1).read_to_end(&mut bytes);
    read.map_err(|error| unread(error, signals))?;
    if bytes.len() as u64 > MAX_PASSWORD {
        return Err(usage("the password on standard input is larger than 64 KiB"));
    }
    String::from_utf8(bytes).map_err(|_| usage("the password on standard input is not valid UTF-8"))
}

/// One line of what is typed.
fn ask(prompt: &str, signals: &Signals) -> Result<String, Error> {
    to_stderr(prompt);
    let mut input = StandardInput { cancel: &signals.cancel };
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() as u64 <= MAX_PASSWORD {
        match input.read(&mut byte).map_err(|error| unread(error, signals))? {
            0 => break,
            _ if byte[0] == b'\n' => break,
            _ => line.push(byte[0]),
        }
    }
    let text = String::from_utf8(line).map_err(|_| usage("what was typed is not valid UTF-8"))?;
    if text.trim().is_empty() { Err(usage("nothing was typed")) } else { Ok(text) }
}

fn unread(error: io::Error, signals: &Signals) -> Error {
    if signals.cancel.is_cancelled() {
        return Error::new(ErrorKind::Cancelled, "cancelled");
    }
    host("cannot read standard input", error)
}
