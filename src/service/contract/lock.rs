//! `switchback.lock`: the contract of a service as a text file in the user's repository.
//!
//! ```text
//!   # what this is, for whoever opens it
//!   switchback.lock 1
//!   frozen  bank.Ledger/transfer 1 e7d44bf5 c2b21444a6c8a13b struct{…}->struct{…}!never
//!   retired bank.Ledger/balance 1 2b3a4b1a c7845e9dee564dc5 u64->i64!never
//! ```
//!
//! One line for each (method, version), sorted, so that a merge of two branches that froze
//! different versions is a merge of lines. A retired version keeps its line: its number must not
//! come back with other types.
//!
//! Invariants: what is written is read back the same; a line whose text has not its fingerprint, or
//! whose order or words are off, was edited by hand, and is refused with its number.

use std::collections::BTreeMap;
use std::fmt;

use crate::service::contract::tree::SchemaTree;
use crate::service::schema::Fingerprint;
use crate::service::{Method, Router};
use crate::wire::MethodId;

/// What a service serves, or what a lock file says that it serves.
///
/// ```
/// use std::convert::Infallible;
/// use switchback::service::Contract;
/// use switchback::{CallError, Cx, Method, Router};
///
/// let method = Method::infallible("demo.Math/double", 1, |_cx: Cx, n: u64| async move {
///     Ok::<u64, CallError<Infallible>>(n * 2)
/// });
/// let before = Router::new().method(method.clone().schema::<u64, u64, Infallible>());
/// let published = Contract::from_lock(&Contract::from(&before).to_lock())?;
/// assert!(!published.compare(&Contract::from(&before), &[]).is_broken());
///
/// // The same version with another type of request.
/// let now = Router::new().method(method.schema::<u32, u64, Infallible>());
/// assert!(published.compare(&Contract::from(&now), &[]).is_broken());
/// # Ok::<(), switchback::service::LockError>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Contract {
    /// By method name and version.
    rows: BTreeMap<(String, u16), ContractRow>,
}

/// One version of one method.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ContractRow {
    /// The method's number.
    pub id: MethodId,
    /// Of its types; [`Fingerprint::UNCHECKED`] if it has none.
    pub fingerprint: Fingerprint,
    /// `request->response!error`; empty if the method does not know its types.
    pub text: String,
    /// It is no longer served, and must not come back with other types.
    pub is_retired: bool,
}

/// A lock file that cannot be believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Its first line is not that of a lock file.
    #[error("line {line}: expected `{FIRST_WORD} {FORMAT}`; this is no lock file")]
    NotALock {
        /// From 1.
        line: usize,
    },
    /// It was made by a newer version of switchback.
    #[error(
        "line {line}: format {format} is newer than {FORMAT}, the newest that this build reads: \
         update switchback"
    )]
    Newer {
        /// From 1.
        line: usize,
        /// As it says.
        format: u32,
    },
    /// A line that no switchback wrote.
    #[error("line {line}: {what}; it was edited by hand or merged wrongly: restore it")]
    Damaged {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
}

impl Contract {
    /// Reads a lock file.
    ///
    /// # Errors
    /// [`LockError`] for the first line that is wrong.
    pub fn from_lock(text: &str) -> Result<Self, LockError> {
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let (at, first) = lines.next().unwrap_or((1, ""));
        match first.strip_prefix(FIRST_WORD).map(|rest| rest.trim().parse::<u32>()) {
            Some(Ok(FORMAT)) => {}
            Some(Ok(format)) if format > FORMAT => {
                return Err(LockError::Newer { line: at, format });
            }
            _ => return Err(LockError::NotALock { line: at }),
        }
        let mut rows = BTreeMap::new();
        for (at, line) in lines {
            let damaged = |what: String| LockError::Damaged { line: at, what };
            let (key, row) = read_row(line).map_err(damaged)?;
            if rows.last_key_value().is_some_and(|(last, _)| *last >= key) {
                let what = format!("{} version {} is not in its place or twice", key.0, key.1);
                return Err(damaged(what));
            }
            rows.insert(key, row);
        }
        Ok(Self { rows })
    }

    /// The text of a lock file.
    #[must_use]
    pub fn to_lock(&self) -> String {
        let mut text = format!("{PREAMBLE}{FIRST_WORD} {FORMAT}\n");
        for ((name, version), row) in &self.rows {
            let word = if row.is_retired { RETIRED } else { FROZEN };
            let ContractRow { id, fingerprint, text: types, .. } = row;
            text.push_str(&format!("{word} {name} {version} {:08x} {fingerprint} {types}", id.0));
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// Every (name, version), in their order.
    pub fn rows(&self) -> impl Iterator<Item = (&str, u16, &ContractRow)> {
        self.rows.iter().map(|((name, version), row)| (name.as_str(), *version, row))
    }

    /// One version of a method.
    #[must_use]
    pub fn row(&self, name: &str, version: u16) -> Option<&ContractRow> {
        self.rows.get(&(name.to_owned(), version))
    }

    /// Adds what a server says of one of its methods; `text` may be empty.
    pub fn insert(
        &mut self,
        name: &str,
        version: u16,
        id: MethodId,
        fingerprint: Fingerprint,
        text: &str,
    ) {
        let (text, is_retired) = (text.to_owned(), false);
        let row = ContractRow { id, fingerprint, text, is_retired };
        self.rows.insert((name.to_owned(), version), row);
    }

    pub(crate) const fn rows_mut(&mut self) -> &mut BTreeMap<(String, u16), ContractRow> {
        &mut self.rows
    }

    fn of_methods<'a>(methods: impl Iterator<Item = &'a Method>) -> Self {
        let mut contract = Self::default();
        for method in methods {
            let text = method.text().unwrap_or_default();
            contract.insert(&method.name, method.version, method.id, method.fingerprint, &text);
        }
        contract
    }
}

impl From<&Router> for Contract {
    fn from(router: &Router) -> Self {
        Self::of_methods(router.methods.iter())
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_lock())
    }
}

fn read_row(line: &str) -> Result<((String, u16), ContractRow), String> {
    let mut words = line.splitn(6, ' ');
    let mut next = |what| words.next().ok_or_else(|| format!("{what} is missing"));
    let is_retired = match next("`frozen` or `retired`")? {
        FROZEN => false,
        RETIRED => true,
        other => return Err(format!("{other:?} is neither `frozen` nor `retired`")),
    };
    let name = next("the method's name")?;
    if !name.contains('/') {
        return Err(format!("{name:?} is no service/method"));
    }
    let version = next("the version")?;
    let version: u16 = version.parse().map_err(|_| format!("{version:?} is no version"))?;
    let hex = |word: &str, digits| {
        let number = u64::from_str_radix(word, 16).ok();
        let number = number.filter(|_| word.len() == digits && !word.starts_with('+'));
        number.ok_or_else(|| format!("{word:?} is not {digits} hexadecimal digits"))
    };
    let id = MethodId(u32::try_from(hex(next("the method's id")?, 8)?).unwrap_or_default());
    let fingerprint = Fingerprint::from(hex(next("the fingerprint")?, 16)?);
    let text = words.next().unwrap_or("").to_owned();
    if !text.is_empty() {
        SchemaTree::parse_method(&text).map_err(|error| error.to_string())?;
        let found = Fingerprint::of_text(&text);
        if found != fingerprint {
            return Err(format!("its types have the fingerprint {found}, not {fingerprint}"));
        }
    }
    let row = ContractRow { id, fingerprint, text, is_retired };
    Ok(((name.to_owned(), version), row))
}

const FIRST_WORD: &str = "switchback.lock";
/// The newest format that is read, and the one that is written.
const FORMAT: u32 = 1;
const FROZEN: &str = "frozen";
const RETIRED: &str = "retired";
const PREAMBLE: &str = "\
# The published contracts of this service, one line for each version of each method.
# Written by `switchback check`; commit it. A version that stands here does not change.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn contract() -> Contract {
        let mut contract = Contract::default();
        for (name, version, text) in [
            ("bank.Ledger/transfer", 2, "struct{to:u64}->unit!enum{0:No}"),
            ("bank.Ledger/transfer", 1, "u64->unit!never"),
            ("bank.Ledger/audit", 10, "unit->[str]!never"),
        ] {
            let id = MethodId::of(name);
            contract.insert(name, version, id, Fingerprint::of_text(text), text);
        }
        contract.insert("old/raw", 1, MethodId(7), Fingerprint::UNCHECKED, "");
        contract
    }

    /// What is written is read back, sorted, and says for itself what it is.
    #[test]
    fn a_lock_survives_its_text() {
        let mut contract = contract();
        let text = contract.to_lock();
        assert_eq!(Contract::from_lock(&text), Ok(contract.clone()), "{text}");
        assert!(text.starts_with("# The published contracts"), "{text}");
        assert!(text.contains("\nfrozen bank.Ledger/transfer 1 e7d44bf5 "), "{text}");

        contract.rows_mut().values_mut().for_each(|row| row.is_retired = true);
        let text = contract.to_lock();
        assert_eq!(Contract::from_lock(&text), Ok(contract), "{text}");
    }

    /// Each kind of damage is named with its line.
    #[test]
    fn damage_is_named() {
        let sound = contract().to_lock();
        let refused = |text: &str| Contract::from_lock(text).unwrap_err().to_string();

        assert!(refused("").contains("no lock file"));
        assert!(refused("{}").contains("no lock file"));
        let newer = refused(&sound.replace("switchback.lock 1", "switchback.lock 2"));
        assert!(newer.contains("line 3: format 2 is newer than 1"), "{newer}");
        for (from, to, what) in [
            ("struct{to:u64}", "struct{to:u32}", "line 6: its types have the fingerprint"),
            ("struct{to:u64}", "struct{to:u64", "line 6: no schema at byte"),
            ("frozen bank.Ledger/audit", "thawed bank.Ledger/audit", "neither `frozen`"),
            ("transfer 1", "transfer one", "line 5: \"one\" is no version"),
            ("transfer 2", "transfer 1", "line 6: bank.Ledger/transfer version 1 is not in its"),
            ("e7d44bf5", "e7d44bf", "8 hexadecimal digits"),
            ("bank.Ledger/audit", "audit", "no service/method"),
        ] {
            let text = sound.replacen(from, to, 1);
            assert_ne!(text, sound, "{from}");
            // The first row whose version was changed to the one after it is the second of two.
            let error = refused(&text);
            assert!(error.contains(what), "{from} -> {to}: {error}");
        }
    }
}
