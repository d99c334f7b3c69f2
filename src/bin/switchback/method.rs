//! One version of a method, found at a server, with its types if the server tells them.

use std::fmt::Write as _;

use switchback::service::{Fingerprint, SchemaTree};

use crate::failure::Failure;
use crate::output::clean;
use crate::remote::{Catalog, KnownMethod, KnownVersion, Remote};

/// What is to be called.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) method: KnownMethod,
    pub(crate) version: KnownVersion,
    /// Request, response and error.
    pub(crate) types: Option<[SchemaTree; 3]>,
}

impl Target {
    /// Finds the method in this version, or in the highest that may be called.
    pub(crate) async fn find(
        remote: &Remote,
        name: &str,
        version: Option<u16>,
    ) -> Result<Self, Failure> {
        let catalog = remote.catalog().await?;
        let method = known(&catalog, name, &remote.address)?.clone();
        let version = match version {
            None => method.newest().ok_or_else(|| none_callable(name, &method))?,
            Some(wish) => {
                let found = method.versions.iter().find(|known| known.version == wish);
                *found.ok_or_else(|| no_such_version(name, wish, &method))?
            }
        };
        let types = match catalog.is_reflected {
            true => types(remote, name, version.version).await?,
            false => None,
        };
        Ok(Self { method, version, types })
    }

    /// The fingerprint as a request carries it.
    pub(crate) fn folded(&self) -> u32 {
        Fingerprint::from(self.version.fingerprint).fold()
    }
}

/// The method of this name; else what the server has, and what was perhaps meant.
pub(crate) fn known<'a>(
    catalog: &'a Catalog,
    name: &str,
    address: &str,
) -> Result<&'a KnownMethod, Failure> {
    if let Some(method) = catalog.find(name) {
        return Ok(method);
    }
    let service = name.split('/').next().unwrap_or(name);
    let names: Vec<&str> = catalog.methods.iter().filter_map(|m| m.name.as_deref()).collect();
    let of_service = |known: &&&str| known.split('/').next() == Some(service);
    let mut message = format!("{address} has no method {name}");
    let hint = if catalog.is_reflected && !names.iter().any(|known| of_service(&known)) {
        let mut services: Vec<&str> = names.iter().filter_map(|n| n.split('/').next()).collect();
        services.dedup();
        services.sort_unstable();
        services.dedup();
        // Writing to a string does not fail.
        let _written = write!(message, ": no service {service}");
        format!("its services are {}", some(&services))
    } else if catalog.is_reflected {
        let methods: Vec<&str> = names.iter().filter(of_service).copied().collect();
        format!("its methods there are {}", some(&methods))
    } else {
        format!(
            "it has no reflection, so it was looked for by its number, {}; see that the name is \
             right",
            switchback::wire::MethodId::of(name)
        )
    };
    Err(Failure::unknown(&clean(&message)).do_this(Some(&clean(&hint))))
}

/// The types of one version, if the server knows them.
pub(crate) async fn types(
    remote: &Remote,
    name: &str,
    version: u16,
) -> Result<Option<[SchemaTree; 3]>, Failure> {
    let text = remote.described(name, version).await?.and_then(|described| described.text);
    // A text that is none, of a newer server perhaps: as if it were not known.
    Ok(text.and_then(|text| SchemaTree::parse_method(&text).ok()))
}

fn no_such_version(name: &str, wish: u16, method: &KnownMethod) -> Failure {
    let versions = numbers(method.versions.iter());
    Failure::unknown(&format!("the server has no version {wish} of {name}"))
        .do_this(Some(&format!("it has {versions}")))
}

fn none_callable(name: &str, method: &KnownMethod) -> Failure {
    let message = format!(
        "no version of {name} may be called: its ceiling is {}, it has {}",
        method.ceiling,
        numbers(method.versions.iter())
    );
    Failure::server(&message).do_this(Some("its operators have taken it out of service"))
}

/// `1, 2 and 3`
pub(crate) fn numbers<'a>(versions: impl Iterator<Item = &'a KnownVersion>) -> String {
    let numbers: Vec<String> = versions.map(|known| known.version.to_string()).collect();
    let word = if numbers.len() == 1 { "version" } else { "versions" };
    format!("{word} {}", numbers.join(", "))
}

fn some(names: &[&str]) -> String {
    let shown = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A hint is a line, not a list.
const NAMES_MAX: usize = 8;
