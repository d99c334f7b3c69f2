//! `switchback describe`: the types of a method, version by version, and an example to begin with.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::value::RawValue;
use switchback::service::SchemaTree;
use switchback::wire::MethodRow;

use crate::args::DescribeArgs;
use crate::example::example;
use crate::failure::Failure;
use crate::method::{Target, known};
use crate::output::{Answer, Screen, clean, pretty};
use crate::remote::{KnownMethod, KnownVersion, Remote};
use crate::tree::show;

/// Asks the server, and shows what it knows.
pub(crate) async fn run(args: &DescribeArgs, screen: &Screen) -> Result<Answer, Failure> {
    let remote = Remote::connect(&args.of.server).await?;
    let name = &args.of.method;
    let catalog = remote.catalog().await?;
    let method = known(&catalog, name, &remote.address)?;
    if args.version.is_some() {
        Target::find(&remote, name, args.version).await?;
    }
    let wanted = method.versions.iter();
    let wanted = wanted.filter(|known| args.version.is_none_or(|wish| wish == known.version));
    let mut described = Vec::new();
    for version in wanted {
        let text = match catalog.is_reflected {
            true => remote.described(name, version.version).await?.and_then(|found| found.text),
            false => None,
        };
        described.push(Described { version: *version, text });
    }
    let versions = described.iter().map(Version::of).collect();
    let json = Answer::json(&Document {
        address: &remote.address,
        method: name,
        id: method.id.to_string(),
        ceiling: (method.ceiling != MethodRow::NO_CEILING).then_some(method.ceiling),
        versions,
    })?;
    Ok(Answer::good(text(name, method, &described, screen), json))
}

/// A version with its text, if the server knows it.
struct Described {
    version: KnownVersion,
    text: Option<String>,
}

fn text(name: &str, method: &KnownMethod, described: &[Described], screen: &Screen) -> String {
    let mut text = format!("{}  id {}\n", screen.strong(&clean(name)), method.id);
    for Described { version, text: types } in described {
        let mut notes = vec![if version.is_callable { "callable" } else { "not callable" }];
        if !version.is_callable {
            notes.push("above the ceiling");
        }
        match version.idempotent {
            Some(true) => notes.push("idempotent"),
            Some(false) => notes.push("not known to be idempotent"),
            None => {}
        }
        let title = screen.strong(&format!("version {}", version.version));
        // Writing to a string does not fail, here and below.
        let _written = writeln!(text, "\n{title}  {}", notes.join(", "));
        let types = types.as_deref().map(SchemaTree::parse_method);
        match types {
            Some(Ok(types)) => text.push_str(&types_text(&types, screen)),
            Some(Err(error)) => {
                let _written = writeln!(text, "  types that this program cannot read: {error}");
            }
            None => text.push_str("  types not known: the server does not describe them\n"),
        }
        if version.fingerprint != 0 {
            let line = format!("  fingerprint {:016x}", version.fingerprint);
            let _written = writeln!(text, "{}", screen.faint(&line));
        }
    }
    text
}

fn types_text(types: &[SchemaTree; 3], screen: &Screen) -> String {
    let mut text = String::new();
    let never = SchemaTree::Atom("never".to_owned());
    for (part, tree) in ["request", "response", "error"].iter().zip(types) {
        let tree = match *tree == never {
            true => "none of its own".to_owned(),
            false => show(tree, screen.columns.saturating_sub(LABEL)),
        };
        let lines = tree.replace('\n', &format!("\n{}", " ".repeat(LABEL)));
        let _written = writeln!(text, "  {part:<9} {lines}");
    }
    if let Some(example) = example(&types[0]) {
        let line = match LABEL + example.chars().count() <= screen.columns {
            true => clean(&example),
            false => pretty(&example).replace('\n', &format!("\n{}", " ".repeat(LABEL))),
        };
        let _written = writeln!(text, "  {:<9} {line}", "example");
    }
    text
}

#[derive(Serialize)]
struct Document<'a> {
    address: &'a str,
    method: &'a str,
    id: String,
    ceiling: Option<u16>,
    versions: Vec<Version<'a>>,
}

#[derive(Serialize)]
struct Version<'a> {
    version: u16,
    callable: bool,
    /// `null`: not known, here and below.
    idempotent: Option<bool>,
    fingerprint: Option<String>,
    /// As the specification writes it: `request->response!error`.
    text: Option<&'a str>,
    request: Option<String>,
    response: Option<String>,
    error: Option<String>,
    example: Option<Box<RawValue>>,
}

impl<'a> Version<'a> {
    fn of(described: &'a Described) -> Self {
        let Described { version, text } = described;
        let types = text.as_deref().and_then(|text| SchemaTree::parse_method(text).ok());
        let part = |at: usize| types.as_ref().map(|types| types[at].to_string());
        let example = types.as_ref().and_then(|types| example(&types[0]));
        Self {
            version: version.version,
            callable: version.is_callable,
            idempotent: version.idempotent,
            fingerprint: (version.fingerprint != 0)
                .then(|| format!("{:016x}", version.fingerprint)),
            text: text.as_deref(),
            request: part(0),
            response: part(1),
            error: part(2).filter(|error| error != "never"),
            example: example.and_then(|example| RawValue::from_string(example).ok()),
        }
    }
}

/// Of `  response  `.
const LABEL: usize = 12;
