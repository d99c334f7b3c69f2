//! The service `demo.Packages` in both of its versions.
//!
//! ```text
//!             version 1                       version 2
//!   find      name, version                   the full record
//!   download  one copy; name, version         several copies; the full record
//! ```
//!
//! `PackagesV1` is the service as an old program knows it, `Packages` as a new one does. Every
//! request carries the key of its call and every answer says which execution made it: that is
//! what the ledger compares in the end.

use std::fmt::{Display, Formatter};

use serde::{Deserialize, Serialize};
use switchback::{Cx, Schema};

use crate::packages::{Field, NAME, VERSION};

/// `find`, with the name of its service.
pub(crate) const FIND: &str = "demo.Packages/find";
/// `download`, with the name of its service.
pub(crate) const DOWNLOAD: &str = "demo.Packages/download";

/// Which call it is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub(crate) struct CallKey {
    /// Who makes it.
    pub(crate) client: u64,
    /// Its number there.
    pub(crate) seq: u64,
}

/// Who answered which call.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub(crate) struct Execution {
    /// Its number among all executions.
    pub(crate) nonce: u64,
    /// The call.
    pub(crate) key: CallKey,
    /// The server.
    pub(crate) instance: u64,
    /// The method version that was called.
    pub(crate) version: u16,
    /// Which build of the handler it was: 1, then one more with each replacement.
    pub(crate) build: u32,
}

/// Looks a package up. The same in both versions.
#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub(crate) struct Find {
    /// The call.
    pub(crate) key: CallKey,
    /// The package.
    pub(crate) name: String,
}

/// What `find` answered in version 1.
#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub(crate) struct FoundV1 {
    /// Who answered.
    pub(crate) by: Execution,
    /// The package.
    pub(crate) name: String,
    /// The package's version.
    pub(crate) version: String,
}

/// What `find` answers.
#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub(crate) struct Found {
    /// Who answers.
    pub(crate) by: Execution,
    /// The full record; name and version alone if it comes from an old server.
    pub(crate) fields: Vec<Field>,
}

/// What `download` was asked in version 1.
#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub(crate) struct DownloadV1 {
    /// The call.
    pub(crate) key: CallKey,
    /// The package.
    pub(crate) name: String,
}

/// Counts downloads. Not idempotent: twice is counted twice.
#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub(crate) struct Download {
    /// The call.
    pub(crate) key: CallKey,
    /// The package.
    pub(crate) name: String,
    /// How many; an old server knows only one at a time.
    pub(crate) copies: u64,
}

/// What `download` answered in version 1.
#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub(crate) struct ReceiptV1 {
    /// Who answered.
    pub(crate) by: Execution,
    /// The package.
    pub(crate) name: String,
    /// The package's version.
    pub(crate) version: String,
    /// Copies of this package counted so far.
    pub(crate) total: u64,
}

/// What `download` answers.
#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub(crate) struct Receipt {
    /// Who answers.
    pub(crate) by: Execution,
    /// The full record; name and version alone if it comes from an old server.
    pub(crate) fields: Vec<Field>,
    /// Copies of this package counted so far.
    pub(crate) total: u64,
}

/// The service's own error, the same in both versions.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub(crate) enum PackagesError {
    /// No such package.
    Unknown(String),
    /// The server cannot write its ledger, so it must not execute anything.
    Ledger(String),
}

/// The service as an old program knows it.
#[switchback::service(name = "demo.Packages")]
pub(crate) trait PackagesV1 {
    /// Looks a package up.
    #[rpc(version = 1, idempotent)]
    async fn find(&self, cx: &Cx, request: Find) -> Result<FoundV1, PackagesError>;

    /// Counts a download.
    #[rpc(version = 1)]
    async fn download(&self, cx: &Cx, request: DownloadV1) -> Result<ReceiptV1, PackagesError>;
}

/// The service as a new program knows it; it still speaks version 1, through conversions.
#[switchback::service(name = "demo.Packages")]
pub(crate) trait Packages {
    /// Looks a package up.
    #[rpc(version = 2, idempotent)]
    #[compat(1, resp = FoundV1)]
    async fn find(&self, cx: &Cx, request: Find) -> Result<Found, PackagesError>;

    /// Counts downloads.
    #[rpc(version = 2)]
    #[compat(1, req = DownloadV1, resp = ReceiptV1)]
    async fn download(&self, cx: &Cx, request: Download) -> Result<Receipt, PackagesError>;
}

/// A value that the other version cannot say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotInOldVersion(&'static str);

impl TryFrom<Found> for FoundV1 {
    type Error = NotInOldVersion;

    fn try_from(new: Found) -> Result<Self, NotInOldVersion> {
        let (name, version) = name_and_version(new.fields)?;
        Ok(Self { by: new.by, name, version })
    }
}

impl From<FoundV1> for Found {
    fn from(old: FoundV1) -> Self {
        Self { by: old.by, fields: two_fields(old.name, old.version) }
    }
}

impl From<DownloadV1> for Download {
    fn from(old: DownloadV1) -> Self {
        Self { key: old.key, name: old.name, copies: 1 }
    }
}

impl TryFrom<Download> for DownloadV1 {
    type Error = NotInOldVersion;

    fn try_from(new: Download) -> Result<Self, NotInOldVersion> {
        match new.copies {
            1 => Ok(Self { key: new.key, name: new.name }),
            _ => Err(NotInOldVersion("more than one copy")),
        }
    }
}

impl TryFrom<Receipt> for ReceiptV1 {
    type Error = NotInOldVersion;

    fn try_from(new: Receipt) -> Result<Self, NotInOldVersion> {
        let (name, version) = name_and_version(new.fields)?;
        Ok(Self { by: new.by, name, version, total: new.total })
    }
}

impl From<ReceiptV1> for Receipt {
    fn from(old: ReceiptV1) -> Self {
        Self { by: old.by, fields: two_fields(old.name, old.version), total: old.total }
    }
}

impl Display for NotInOldVersion {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "version 1 has no {}", self.0)
    }
}

impl std::error::Error for NotInOldVersion {}

impl Display for PackagesError {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "no package {name:?}"),
            Self::Ledger(error) => write!(f, "the server's ledger: {error}"),
        }
    }
}

impl std::error::Error for PackagesError {}

/// The record of an answer in version 1.
pub(crate) fn two_fields(name: String, version: String) -> Vec<Field> {
    let field = |field: &str, value| Field { name: field.to_owned(), value };
    vec![field(NAME, name), field(VERSION, version)]
}

fn name_and_version(fields: Vec<Field>) -> Result<(String, String), NotInOldVersion> {
    let (mut name, mut version) = (None, None);
    for field in fields {
        match field.name.as_str() {
            NAME => name = Some(field.value),
            VERSION => version = Some(field.value),
            _ => {}
        }
    }
    name.zip(version).ok_or(NotInOldVersion("record without a name or a version"))
}
