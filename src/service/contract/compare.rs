//! A published contract against what a program serves now.
//!
//! | found | verdict |
//! |---|---|
//! | a version that is not in the lock | added: it is frozen from now on |
//! | the same types as in the lock | kept |
//! | other types, or another method id, under a frozen version | broken |
//! | a frozen version that is not served | broken, unless it is to be retired |
//! | a retired version with its old types | served again: added |
//! | a retired version with other types | broken |
//!
//! Invariant: a comparison that is not broken leaves a contract in which nothing that was frozen
//! has changed.

use std::fmt;

use crate::service::contract::difference::Difference;
use crate::service::contract::lock::{Contract, ContractRow};
use crate::service::contract::tree::SchemaTree;

/// What may be done although it takes something away: `service/method` and a version.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Pledge {
    /// `"service/method"`.
    pub name: String,
    /// The version that is given up.
    pub version: u16,
}

impl Pledge {
    /// To give up this version of the method `name`, `"service/method"`.
    #[must_use]
    pub fn new(name: &str, version: u16) -> Self {
        Self { name: name.to_owned(), version }
    }
}

/// One finding of a comparison.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// A version that was not there before, or comes back as it was.
    Added,
    /// A version is no longer served, as was said.
    Retired,
    /// A version is no longer served, and nobody said so.
    Gone,
    /// A frozen or retired version has other types.
    Types {
        /// Where, as far as both texts are known.
        differences: Vec<Difference>,
        /// The version was retired before.
        was_retired: bool,
    },
    /// A method has another number on the wire.
    Id {
        /// The published row.
        before: ContractRow,
        /// The row now.
        after: ContractRow,
    },
    /// Something was to be retired that is still served, or was never published.
    NotRetired,
}

/// Everything that differs, and what the lock says after it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// By method name and version; what is kept is not named.
    pub changes: Vec<(String, u16, Change)>,
    /// The contract to be written, if nothing is broken.
    pub next: Contract,
}

impl Contract {
    /// Compares what was published with what is served `now`; versions in `retire` may be gone.
    #[must_use]
    pub fn compare(&self, now: &Self, retire: &[Pledge]) -> Comparison {
        let mut next = self.clone();
        let mut changes = Vec::new();
        for (name, version, before) in self.rows() {
            let pledge = retire.iter().any(|it| it.name == name && it.version == version);
            let change = match now.row(name, version) {
                None if before.is_retired => None,
                None if pledge => Some(Change::Retired),
                None => Some(Change::Gone),
                Some(_) if pledge => Some(Change::NotRetired),
                Some(after) => change(before, after),
            };
            if let Some(row) = next.rows_mut().get_mut(&(name.to_owned(), version)) {
                match &change {
                    Some(Change::Retired) => row.is_retired = true,
                    Some(Change::Added) => row.is_retired = false,
                    _ => {}
                }
            }
            changes.extend(change.map(|change| (name.to_owned(), version, change)));
        }
        for (name, version, row) in now.rows() {
            if self.row(name, version).is_none() {
                next.rows_mut().insert((name.to_owned(), version), row.clone());
                changes.push((name.to_owned(), version, Change::Added));
            }
        }
        for pledge in retire {
            if self.row(&pledge.name, pledge.version).is_none() {
                changes.push((pledge.name.clone(), pledge.version, Change::NotRetired));
            }
        }
        changes.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        Comparison { changes, next }
    }
}

impl Comparison {
    /// Whether a promise to somebody is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.changes.iter().any(|(_, _, change)| change.is_broken())
    }
}

impl Change {
    /// Whether it breaks a promise to somebody.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        !matches!(self, Self::Added | Self::Retired)
    }
}

impl fmt::Display for Comparison {
    /// A paragraph for each change: what, where, whom it breaks, what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, version, change)) in self.changes.iter().enumerate() {
            write!(f, "{}{name} version {version}: ", if at > 0 { "\n" } else { "" })?;
            match change {
                Change::Added => f.write_str("new")?,
                Change::Retired => f.write_str("retired")?,
                Change::Gone => write!(
                    f,
                    "no longer served\n  breaks: clients that know no other version of it; their \
                     calls end with UNSUPPORTED_VERSION or UNKNOWN_METHOD\n  do: serve it again, \
                     or say --retire {name}:{version} if nobody calls it any more"
                )?,
                Change::Types { differences, was_retired } => {
                    let since = if *was_retired { "was retired with" } else { "is frozen with" };
                    write!(f, "{since} other types")?;
                    for difference in differences {
                        write!(f, "\n  {difference}")?;
                    }
                    write!(
                        f,
                        "\n  breaks: every client and server built with version {version} as it \
                         was published; their calls end with SCHEMA_MISMATCH\n  do: give the new \
                         types a new version, and keep this one with #[compat({version}, ...)]"
                    )?;
                }
                Change::Id { before, after } => write!(
                    f,
                    "has the method id {} now, was published with {}\n  breaks: every client \
                     built before; their calls end with UNKNOWN_METHOD\n  do: set the old id",
                    after.id, before.id
                )?,
                Change::NotRetired => {
                    f.write_str("was to be retired, but is served, or was never published")?;
                }
            }
        }
        Ok(())
    }
}

fn change(before: &ContractRow, after: &ContractRow) -> Option<Change> {
    if before.id != after.id {
        return Some(Change::Id { before: before.clone(), after: after.clone() });
    }
    if before.fingerprint == after.fingerprint {
        return before.is_retired.then_some(Change::Added);
    }
    let differences = differences(&before.text, &after.text);
    Some(Change::Types { differences, was_retired: before.is_retired })
}

/// Between two method texts; none if one of them is not known.
fn differences(before: &str, after: &str) -> Vec<Difference> {
    let (Ok(before), Ok(after)) =
        (SchemaTree::parse_method(before), SchemaTree::parse_method(after))
    else {
        return Vec::new();
    };
    let parts = ["request", "response", "error"].into_iter().zip(before.iter().zip(&after));
    parts.flat_map(|(part, (before, after))| Difference::between(part, before, after)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Fingerprint;
    use crate::wire::MethodId;

    const NAME: &str = "bank.Ledger/transfer";

    fn contract(rows: &[(u16, &str)]) -> Contract {
        let mut contract = Contract::default();
        for (version, text) in rows {
            let fingerprint = Fingerprint::of_text(text);
            contract.insert(NAME, *version, MethodId::of(NAME), fingerprint, text);
        }
        contract
    }

    fn pledge(version: u16) -> Pledge {
        Pledge { name: NAME.to_owned(), version }
    }

    /// A new version passes and is frozen from then on; the same again changes nothing.
    #[test]
    fn a_new_version_passes() {
        let (old, new) = (contract(&[(1, "u8->u8!never")]), "struct{a:u8}->u8!never");
        let now = contract(&[(1, "u8->u8!never"), (2, new)]);

        let comparison = old.compare(&now, &[]);
        assert!(!comparison.is_broken());
        assert_eq!(comparison.to_string(), format!("{NAME} version 2: new"));
        assert_eq!(comparison.next, now);
        assert!(now.compare(&now, &[]).changes.is_empty());
    }

    /// A change to a frozen version fails, and says which field, whom it breaks and what to do.
    #[test]
    fn a_changed_version_fails() {
        let old = contract(&[(1, "struct{from:u64,cents:u64}->u8!never")]);
        let now = contract(&[(1, "struct{from:u64,cents:u32}->u8!never")]);

        let comparison = old.compare(&now, &[]);
        assert!(comparison.is_broken());
        let text = comparison.to_string();
        for part in [
            "bank.Ledger/transfer version 1: is frozen with other types",
            "request.cents: was u64, is u32",
            "breaks: every client and server built with version 1",
            "#[compat(1, ...)]",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }

    /// What is gone fails unless somebody says so; its number does not come back with other types.
    #[test]
    fn a_removal_must_be_meant() {
        let old = contract(&[(1, "u8->u8!never"), (2, "u16->u8!never")]);
        let now = contract(&[(2, "u16->u8!never")]);
        assert!(old.compare(&now, &[]).is_broken());

        let retired = old.compare(&now, &[pledge(1)]);
        assert!(!retired.is_broken());
        let lock = retired.next;
        assert!(lock.row(NAME, 1).unwrap().is_retired);
        assert!(lock.compare(&now, &[]).changes.is_empty());

        // Back as it was: welcome. Back with other types: broken.
        let back = lock.compare(&old, &[]);
        assert!(!back.is_broken());
        assert_eq!(back.next, old);
        let other = contract(&[(1, "str->u8!never"), (2, "u16->u8!never")]);
        let broken = lock.compare(&other, &[]);
        assert!(broken.is_broken());
        assert!(broken.to_string().contains("was retired with other types"));

        // A pledge that is not true is an error, not a wish.
        assert!(old.compare(&old, &[pledge(1)]).is_broken());
        assert!(old.compare(&old, &[pledge(9)]).is_broken());
    }

    /// Another method id is found although name and types are the same.
    #[test]
    fn a_changed_id_fails() {
        let old = contract(&[(1, "u8->u8!never")]);
        let mut now = old.clone();
        now.insert(NAME, 1, MethodId(7), Fingerprint::of_text("u8->u8!never"), "u8->u8!never");
        let comparison = old.compare(&now, &[]);
        assert!(comparison.is_broken());
        assert!(comparison.to_string().contains("set the old id"), "{comparison}");
    }
}
