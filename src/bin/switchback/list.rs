//! `switchback list`: services, methods, versions, and what may be called now.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use switchback::wire::MethodRow;

use crate::args::ServerArgs;
use crate::failure::Failure;
use crate::method::numbers;
use crate::output::{Answer, Screen, clean};
use crate::remote::{Catalog, KnownMethod, KnownVersion, Remote};

/// Asks the server, and shows it.
pub(crate) async fn run(args: &ServerArgs, screen: &Screen) -> Result<Answer, Failure> {
    let remote = Remote::connect(args).await?;
    let mut catalog = remote.catalog().await?;
    catalog.methods.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    let counted = remote.counted().await?;
    let json = Answer::json(&Document {
        address: &remote.address,
        build: &remote.build,
        reflection: catalog.is_reflected,
        methods: catalog.methods.iter().map(|method| Method::of(method, &counted)).collect(),
    })?;
    Ok(Answer::good(screen.fold(&text(&remote, &catalog, &counted, screen)), json))
}

fn text(remote: &Remote, catalog: &Catalog, counted: &Counted, screen: &Screen) -> String {
    let mut text = screen.strong(&clean(&remote.address));
    if !remote.build.is_empty() {
        text.push_str(&format!(" ({})", clean(&remote.build)));
    }
    let count = catalog.methods.len();
    let methods = if count == 1 { "method" } else { "methods" };
    text.push_str(&format!(": {count} {methods}\n"));
    if !catalog.is_reflected {
        text.push_str(
            "It has no reflection: methods are known by number, names and types are not.\n",
        );
    }
    let names = catalog.methods.iter().map(|method| short(method).chars().count());
    let width = names.max().unwrap_or(0).min(NAME_COLUMNS_MAX);
    let mut service = None;
    for method in &catalog.methods {
        let of = method.name.as_deref().and_then(|name| name.split_once('/')).map(|(of, _)| of);
        if service != Some(of) {
            let title = of.map_or_else(|| "(names not known)".to_owned(), clean);
            // Writing to a string does not fail, here and below.
            let _written = writeln!(text, "\n{}", screen.strong(&title));
            service = Some(of);
        }
        let _written = write!(text, "  {:<width$}  {}", short(method), notes(method, counted));
        text.push('\n');
    }
    text
}

/// The name within its service, or the number.
fn short(method: &KnownMethod) -> String {
    let short = method.name.as_deref().and_then(|name| name.split_once('/'));
    short.map_or_else(|| method.id.to_string(), |(_, method)| clean(method))
}

fn notes(method: &KnownMethod, counted: &Counted) -> String {
    let mut notes = numbers(method.versions.iter());
    if method.versions.iter().any(|version| !version.is_callable) {
        let closed = numbers(method.versions.iter().filter(|version| !version.is_callable));
        let _written = write!(notes, "; {closed} not callable (ceiling {})", method.ceiling);
    }
    if method.versions.iter().all(|version| version.idempotent == Some(true)) {
        notes.push_str("; idempotent");
    }
    let calls = method.versions.iter().filter_map(|version| {
        calls(method, *version, counted).map(|calls| (version.version, calls))
    });
    match calls.collect::<Vec<_>>().as_slice() {
        [] => {}
        [(_, calls)] => notes.push_str(&format!("; calls: {calls}")),
        many => {
            let many: Vec<String> = many.iter().map(|(v, calls)| format!("v{v} {calls}")).collect();
            notes.push_str(&format!("; calls: {}", many.join(", ")));
        }
    }
    notes
}

/// Since the server started; `None`: not known.
fn calls(method: &KnownMethod, version: KnownVersion, counted: &Counted) -> Option<u64> {
    let name = method.name.as_ref()?;
    counted.get(&(name.clone(), version.version)).copied()
}

/// Calls by method and version.
type Counted = BTreeMap<(String, u16), u64>;

#[derive(Serialize)]
struct Document<'a> {
    address: &'a str,
    build: &'a str,
    reflection: bool,
    methods: Vec<Method<'a>>,
}

#[derive(Serialize)]
struct Method<'a> {
    /// `null`: not known.
    name: Option<&'a str>,
    id: String,
    /// `null`: none.
    ceiling: Option<u16>,
    versions: Vec<Version>,
}

#[derive(Serialize)]
struct Version {
    version: u16,
    callable: bool,
    /// `null`: not known.
    fingerprint: Option<String>,
    /// `null`: not known.
    idempotent: Option<bool>,
    /// Since the server started; `null`: not known.
    calls: Option<u64>,
}

impl<'a> Method<'a> {
    fn of(method: &'a KnownMethod, counted: &Counted) -> Self {
        let version = |version: &KnownVersion| Version {
            calls: calls(method, *version, counted),
            version: version.version,
            callable: version.is_callable,
            fingerprint: (version.fingerprint != 0)
                .then(|| format!("{:016x}", version.fingerprint)),
            idempotent: version.idempotent,
        };
        Self {
            name: method.name.as_deref(),
            id: method.id.to_string(),
            ceiling: (method.ceiling != MethodRow::NO_CEILING).then_some(method.ceiling),
            versions: method.versions.iter().map(version).collect(),
        }
    }
}

/// Longer names push their notes to the right.
const NAME_COLUMNS_MAX: usize = 24;
