//! `switchback check`: what a server serves against what was published, for CI.
//!
//! Invariants: nothing is written without `--write`, and nothing when the contract is broken; the
//! file is replaced as a whole, so that a reader never sees half of it.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;
use switchback::service::{Change, Comparison, Contract, Fingerprint};

use crate::args::CheckArgs;
use crate::failure::{Exit, Failure};
use crate::output::{Answer, Screen, clean};
use crate::remote::Remote;

/// Yes unless a promise is broken.
pub(crate) async fn run(args: &CheckArgs, screen: &Screen) -> Result<Answer, Failure> {
    // First: a file that cannot be used needs no server.
    let published = read(&args.lock)?;
    let now = served(args).await?;
    let path = args.lock.display();
    let Some(published) = published else {
        if !args.retire.is_empty() {
            let what = format!("there is no {path} yet, so nothing can be retired from it");
            return Err(Failure::usage(&what));
        }
        if !args.write {
            let hint = "say --write to begin it, and commit it";
            return Err(Failure::usage(&format!("there is no {path} yet")).do_this(Some(hint)));
        }
        let comparison = Contract::default().compare(&now, &[]);
        write(&args.lock, &comparison.next)?;
        return answer(args, &comparison, true, screen);
    };
    let comparison = published.compare(&now, &args.retire);
    let is_written = args.write && !comparison.is_broken() && comparison.next != published;
    if is_written {
        write(&args.lock, &comparison.next)?;
    }
    answer(args, &comparison, is_written, screen)
}

fn answer(
    args: &CheckArgs,
    comparison: &Comparison,
    is_written: bool,
    screen: &Screen,
) -> Result<Answer, Failure> {
    let path = args.lock.display();
    let mut text = clean(&comparison.to_string());
    if !comparison.changes.is_empty() {
        text.push('\n');
    }
    let is_broken = comparison.is_broken();
    let end = match (is_broken, comparison.changes.is_empty(), is_written) {
        (true, ..) => format!("broken: {path} was not kept"),
        (false, true, _) => format!("kept: what is served is what {path} says"),
        (false, false, true) => format!("kept: {path} was written, commit it"),
        (false, false, false) => format!("kept: say --write to put what is new into {path}"),
    };
    // Writing to a string does not fail.
    let _written = writeln!(text, "{end}");
    let changes = comparison.changes.iter();
    let json = Answer::json(&Document {
        lock: path.to_string(),
        broken: is_broken,
        written: is_written,
        changes: changes.map(|(name, version, change)| row(name, *version, change)).collect(),
        report: comparison.to_string(),
    })?;
    Ok(Answer { text: screen.fold(&text), json, exit: is_broken.then_some(Exit::No) })
}

/// The file's contract; `None` if there is no file.
fn read(path: &Path) -> Result<Option<Contract>, Failure> {
    let failed = |what: &str| Failure::usage(&format!("{}: {what}", path.display()));
    match std::fs::read_to_string(path) {
        Ok(text) => match Contract::from_lock(&text) {
            Ok(contract) => Ok(Some(contract)),
            Err(error) => Err(failed(&error.to_string())),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&error.to_string())),
    }
}

fn write(path: &Path, contract: &Contract) -> Result<(), Failure> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let written = std::fs::write(&beside, contract.to_lock());
    let written = written.and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| Failure::usage(&format!("cannot write {}: {error}", path.display())))
}

/// What the server serves, without what the library brings itself.
async fn served(args: &CheckArgs) -> Result<Contract, Failure> {
    let remote = Remote::connect(&args.server).await?;
    let catalog = remote.catalog().await?;
    if !catalog.is_reflected {
        let what = format!("{} has no reflection, which check reads", clean(&remote.address));
        let hint = "serve it with `Server::reflection`, or check the router in a test with \
                    `testing::check_contract`";
        return Err(Failure::server(&what).do_this(Some(hint)));
    }
    let mut contract = Contract::default();
    for method in &catalog.methods {
        let Some(name) = method.name.as_deref().filter(|name| !name.starts_with(BUILT_IN)) else {
            continue;
        };
        for version in &method.versions {
            let text = remote.described(name, version.version).await?.and_then(|it| it.text);
            let fingerprint = Fingerprint::from(version.fingerprint);
            let text = text.unwrap_or_default();
            contract.insert(name, version.version, method.id, fingerprint, &text);
        }
    }
    Ok(contract)
}

fn row<'a>(method: &'a str, version: u16, change: &'a Change) -> Row<'a> {
    let (word, differences) = match change {
        Change::Added => ("added", &[][..]),
        Change::Retired => ("retired", &[][..]),
        Change::Gone => ("gone", &[][..]),
        Change::Types { differences, .. } => ("types", &differences[..]),
        Change::Id { .. } => ("id", &[][..]),
        Change::NotRetired => ("not_retired", &[][..]),
        _ => ("other", &[][..]),
    };
    let difference =
        |found: &'a switchback::service::Difference| Place { path: &found.path, what: &found.what };
    let is_broken = change.is_broken();
    let differences = differences.iter().map(difference).collect();
    Row { method, version, change: word, broken: is_broken, differences }
}

#[derive(Serialize)]
struct Document<'a> {
    lock: String,
    broken: bool,
    written: bool,
    changes: Vec<Row<'a>>,
    report: String,
}

#[derive(Serialize)]
struct Row<'a> {
    method: &'a str,
    version: u16,
    change: &'static str,
    broken: bool,
    differences: Vec<Place<'a>>,
}

#[derive(Serialize)]
struct Place<'a> {
    path: &'a str,
    what: &'a str,
}

/// Of names of services that every server may have (BI-1).
const BUILT_IN: &str = "switchback.";
