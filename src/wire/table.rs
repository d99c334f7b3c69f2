//! The method table: which (method, version) pairs a server answers now.
//!
//! `hash:8 count:2`, then per method `method:4 ceiling:2 n:1` and n times
//! `version:2 fingerprint:8` (RT-3). The same layout serves TABLE and TABLE_UPDATE.
//!
//! Invariants (RT-3): methods ascend by id, versions ascend within a method; at most 2,048 methods
//! and 4,096 versions, so that a table always fits a frame of 65,536 bytes.

use crate::util::fnv64;
use crate::wire::cursor::Cursor;

/// The number of a method: CRC-32 of `"service/method"` unless overridden.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MethodId(pub u32);

impl MethodId {
    /// The id of a method by its full name, `"service/method"` (RT-1).
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(crc32fast::hash(name.as_bytes()))
    }
}

impl std::fmt::Debug for MethodId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl std::fmt::Display for MethodId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// One version of a method.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VersionRow {
    /// 1 to 65,534.
    pub version: u16,
    /// Of its request, response and error types; 0 = unknown.
    pub fingerprint: u64,
}

/// One method with all its versions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MethodRow {
    /// See [`MethodId`].
    pub method: MethodId,
    /// The highest version that may be called; 65,535 = all of them.
    pub ceiling: u16,
    /// Ascending. Empty only in an update, where it removes the method.
    pub versions: Vec<VersionRow>,
}

impl MethodRow {
    /// The ceiling that forbids nothing.
    pub const NO_CEILING: u16 = u16::MAX;
    /// Versions of one method, at most.
    pub const VERSIONS_MAX: usize = 64;

    /// Whether `version` may be called now: listed and not above the ceiling (CA-4).
    #[must_use]
    pub fn is_callable(&self, version: u16) -> bool {
        version <= self.ceiling && self.versions.iter().any(|row| row.version == version)
    }
}

/// What is wrong with a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The payload is cut short, out of order, or over a limit.
    #[error("malformed method table: {0}")]
    Malformed(&'static str),
    /// The rows do not give the hash that the payload names.
    #[error("the method table hashes to {computed:016x}, its sender says {named:016x}")]
    Hash {
        /// Of the rows as they are now.
        computed: u64,
        /// As sent.
        named: u64,
    },
}

/// The payload of a TABLE or TABLE_UPDATE.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TablePayload {
    /// FNV-1a 64 of the full table's bytes after the hash.
    pub hash: u64,
    /// Ascending by method.
    pub rows: Vec<MethodRow>,
}

impl TablePayload {
    /// Methods in one table, at most.
    pub const METHODS_MAX: usize = 2048;
    /// Versions in one table, all methods together, at most.
    pub const VERSIONS_MAX: usize = 4096;

    /// Reads a payload. Whether the hash fits is for the caller to check.
    ///
    /// # Errors
    /// [`TableError::Malformed`] (RT-3).
    pub fn parse(payload: &[u8]) -> Result<Self, TableError> {
        let mut cursor = Cursor::new(payload);
        let (Some(hash), Some(count)) = (cursor.u64(), cursor.u16()) else {
            return Err(TableError::Malformed("cut short before the first method"));
        };
        if usize::from(count) > Self::METHODS_MAX {
            return Err(TableError::Malformed("more than 2048 methods"));
        }
        let mut rows: Vec<MethodRow> = Vec::new();
        let mut versions = 0;
        for _ in 0..count {
            let row = parse_row(&mut cursor)?;
            if rows.last().is_some_and(|last| last.method >= row.method) {
                return Err(TableError::Malformed("methods do not ascend"));
            }
            versions += row.versions.len();
            if versions > Self::VERSIONS_MAX {
                return Err(TableError::Malformed("more than 4096 versions"));
            }
            rows.push(row);
        }
        if !cursor.is_empty() {
            return Err(TableError::Malformed("bytes left over after the last method"));
        }
        Ok(Self { hash, rows })
    }

    /// The updates that make this table out of `before`, in order: none when they are the same,
    /// two when all the changes do not fit one (RT-5).
    #[must_use]
    pub fn updates_from(&self, before: &Self) -> Vec<Self> {
        let mut gone: Vec<MethodRow> = Vec::new();
        for row in before.rows.iter().filter(|row| self.row(row.method).is_none()) {
            gone.push(MethodRow { method: row.method, ceiling: 0, versions: Vec::new() });
        }
        let changed = |row: &&MethodRow| before.row(row.method) != Some(*row);
        let mut rows: Vec<MethodRow> = self.rows.iter().filter(changed).cloned().collect();
        if gone.is_empty() && rows.is_empty() {
            return Vec::new();
        }
        if gone.len() + rows.len() <= Self::METHODS_MAX {
            for row in gone {
                let at = rows.partition_point(|other| other.method < row.method);
                rows.insert(at, row);
            }
            return vec![Self { hash: self.hash, rows }];
        }
        // First what goes, so that no table on the way is over its limits.
        let kept = before.rows.iter().filter(|row| self.row(row.method).is_some());
        let kept: Vec<MethodRow> = kept.cloned().collect();
        vec![Self { hash: table_hash(&kept), rows: gone }, Self { hash: self.hash, rows }]
    }

    /// The row of one method.
    #[must_use]
    pub fn row(&self, method: MethodId) -> Option<&MethodRow> {
        let at = self.rows.binary_search_by_key(&method, |row| row.method).ok()?;
        Some(&self.rows[at])
    }

    /// The payload as sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.hash.to_be_bytes().to_vec();
        push_rows(&mut out, &self.rows);
        out
    }
}

/// The hash of a full table with these rows (RT-3).
pub(crate) fn table_hash(rows: &[MethodRow]) -> u64 {
    let mut bytes = Vec::new();
    push_rows(&mut bytes, rows);
    fnv64(&bytes)
}

fn parse_row(cursor: &mut Cursor<'_>) -> Result<MethodRow, TableError> {
    let (Some(method), Some(ceiling), Some(n)) = (cursor.u32(), cursor.u16(), cursor.u8()) else {
        return Err(TableError::Malformed("cut short in a method"));
    };
    if usize::from(n) > MethodRow::VERSIONS_MAX {
        return Err(TableError::Malformed("more than 64 versions of one method"));
    }
    let mut versions: Vec<VersionRow> = Vec::new();
    for _ in 0..n {
        let (Some(version), Some(fingerprint)) = (cursor.u16(), cursor.u64()) else {
            return Err(TableError::Malformed("cut short in a version"));
        };
        if version == 0 || version == MethodRow::NO_CEILING {
            return Err(TableError::Malformed("a version is not 1 to 65534"));
        }
        if versions.last().is_some_and(|last| last.version >= version) {
            return Err(TableError::Malformed("versions do not ascend"));
        }
        versions.push(VersionRow { version, fingerprint });
    }
    Ok(MethodRow { method: MethodId(method), ceiling, versions })
}

fn push_rows(out: &mut Vec<u8>, rows: &[MethodRow]) {
    let count = u16::try_from(rows.len()).expect("tables are bounded to 2048 methods when made");
    out.extend_from_slice(&count.to_be_bytes());
    for row in rows {
        out.extend_from_slice(&row.method.0.to_be_bytes());
        out.extend_from_slice(&row.ceiling.to_be_bytes());
        out.push(u8::try_from(row.versions.len()).expect("bounded to 64 versions when made"));
        for version in &row.versions {
            out.extend_from_slice(&version.version.to_be_bytes());
            out.extend_from_slice(&version.fingerprint.to_be_bytes());
        }
    }
}
