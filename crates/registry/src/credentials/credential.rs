use std::fmt;

use super::secret::Secret;

/// The user name by which docker and its helpers mark an identity token.
const IDENTITY_USER: &str = "<token>";

/// What proves to a registry who asks. It is printed without the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// A user with a password, or with what is used like one.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token of `OAuth2`, for which the registry's token service gives tokens (docker's `identitytoken`).
    IdentityToken(Secret),
    /// A token that the registry itself takes (docker's `registrytoken`).
    RegistryToken(Secret),
}

impl Credential {
    /// A user with a password; the user `<token>` means that the password is an identity token.
    pub fn password(username: impl Into<String>, password: Secret) -> Self {
        let username = username.into();
        if username == IDENTITY_USER {
            return Self::IdentityToken(password);
        }
        Self::Password { username, password }
    }

    /// The user, where there is one.
    pub fn username(&self) -> Option<&str> {
        match self {
            Self::Password { username, .. } => Some(username),
            _ => None,
        }
    }

    /// User and secret as helpers and `auth` entries have them.
    pub(crate) fn parts(&self) -> (&str, &str) {
        match self {
            Self::Password { username, password } => (username, password.expose()),
            Self::IdentityToken(token) | Self::RegistryToken(token) => (IDENTITY_USER, token.expose()),
        }
    }

    /// Why it cannot be sent, if it cannot: it would not stay within its header.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        match self {
            Self::Password { username, .. } if username.is_empty() => Some("the user name is empty"),
            Self::Password { username, .. } if username.contains(':') => {
                Some("the user name contains a colon")
            }
            Self::Password { username, password } => (username.contains(char::is_control)
                || password.expose().contains(char::is_control))
            .then_some("user name or password contain a control character"),
            Self::IdentityToken(token) | Self::RegistryToken(token) => {
                let fits = !token.expose().is_empty() && token.expose().bytes().all(|b| b.is_ascii_graphic());
                (!fits).then_some("the token is empty or contains characters that no token has")
            }
        }
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => write!(f, "password of {username}"),
            Self::IdentityToken(_) => f.write_str("identity token"),
            Self::RegistryToken(_) => f.write_str("registry token"),
        }
    }
}
