use ocibuild_spec::Reference;

use crate::credentials::Wanted;
use crate::exchange::Access;

/// For what a request needs a token: the key under which one is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Need {
    pub(super) registry: String,
    repository: Option<String>,
    /// Distribution's "Token Scope Documentation".
    pub(super) scopes: Vec<String>,
}

impl Need {
    pub(crate) fn new(reference: &Reference, access: &Access) -> Self {
        let own = |actions: &str| format!("repository:{}:{actions}", reference.repository());
        let scopes = match access {
            Access::Pull => vec![own("pull")],
            Access::Push(others) => {
                let others = others.iter().map(|repository| format!("repository:{repository}:pull"));
                std::iter::once(own("pull,push")).chain(others).collect()
            }
            Access::Delete => vec![own("delete,pull")],
            Access::Catalogue => vec!["registry:catalog:*".to_owned()],
        };
        let repository = Some(reference.repository().to_owned());
        Self { registry: reference.registry().to_owned(), repository, scopes }
    }

    /// Nothing but being known to the registry.
    pub(crate) fn login(registry: &str, path: &str) -> Self {
        let repository = Some(path.to_owned()).filter(|path| !path.is_empty());
        Self { registry: registry.to_owned(), repository, scopes: Vec::new() }
    }

    pub(super) fn is_login(&self) -> bool {
        self.scopes.is_empty()
    }

    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted { registry: &self.registry, repository: self.repository.as_deref() }
    }
}
