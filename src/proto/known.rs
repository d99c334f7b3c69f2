//! A server's method table as its client knows it, and the choice of a version from it.
//!
//! Invariant: the hash of a [`KnownTable`] is that of its rows. Why contents only are kept between
//! connections: which table is in force, the connection at hand says (RT-8).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::proto::Violation;
use crate::wire::{Hello, MethodId, MethodRow, TableError, TablePayload, table_hash};

/// A table whose hash was checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownTable(TablePayload);

/// What a client may call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum VersionChoice {
    /// The highest version that both know and the ceiling allows.
    Version(u16),
    /// Both know the method, in no common version.
    NoneInCommon,
    /// The server does not have the method.
    UnknownMethod,
}

impl KnownTable {
    /// A full table, as sent.
    ///
    /// # Errors
    /// [`Violation::Table`] when the rows do not give the hash (RT-4).
    pub fn new(payload: TablePayload) -> Result<Self, Violation> {
        let (computed, named) = (table_hash(&payload.rows), payload.hash);
        if computed == named {
            Ok(Self(payload))
        } else {
            Err(TableError::Hash { computed, named }.into())
        }
    }

    /// This table with the changes of an update (RT-5).
    ///
    /// # Errors
    /// [`Violation::Table`] when the result does not give the hash, or is over a limit.
    pub fn updated(&self, update: TablePayload) -> Result<Self, Violation> {
        let mut rows = self.0.rows.clone();
        for row in update.rows {
            match rows.binary_search_by_key(&row.method, |known| known.method) {
                Ok(at) if row.versions.is_empty() => drop(rows.remove(at)),
                Ok(at) => rows[at] = row,
                Err(_) if row.versions.is_empty() => {}
                Err(at) => rows.insert(at, row),
            }
        }
        let versions: usize = rows.iter().map(|row| row.versions.len()).sum();
        if rows.len() > TablePayload::METHODS_MAX || versions > TablePayload::VERSIONS_MAX {
            return Err(TableError::Malformed("the updated table is over its limits").into());
        }
        Self::new(TablePayload { hash: update.hash, rows })
    }

    /// The highest callable version among `versions`, which descend (RT-6).
    #[must_use]
    pub fn choose(
        &self,
        method: MethodId,
        mut versions: impl Iterator<Item = u16>,
    ) -> VersionChoice {
        let Some(row) = self.row(method) else {
            return VersionChoice::UnknownMethod;
        };
        let chosen = versions.find(|version| row.is_callable(*version));
        chosen.map_or(VersionChoice::NoneInCommon, VersionChoice::Version)
    }

    /// What the server says of one method.
    #[must_use]
    pub fn row(&self, method: MethodId) -> Option<&MethodRow> {
        self.0.row(method)
    }

    /// All methods, ascending by id.
    #[must_use]
    pub fn rows(&self) -> &[MethodRow] {
        &self.0.rows
    }

    /// The table's hash.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.0.hash
    }
}

/// Tables a client remembers, so that a server need not send one again. Contents only: which
/// table a connection has is said by that connection alone, or a rollback would break it.
#[derive(Clone, Debug, Default)]
pub struct TableCache(VecDeque<Arc<KnownTable>>);

impl TableCache {
    /// Remembers a table; the oldest of eight is forgotten.
    pub fn remember(&mut self, table: Arc<KnownTable>) {
        self.0.retain(|known| known.hash() != table.hash());
        self.0.push_front(table);
        self.0.truncate(Hello::TABLES_MAX);
    }

    /// The table with this hash.
    #[must_use]
    pub fn find(&self, hash: u64) -> Option<Arc<KnownTable>> {
        self.0.iter().find(|known| known.hash() == hash).cloned()
    }

    /// The hashes, newest first.
    #[must_use]
    pub fn hashes(&self) -> Vec<u64> {
        self.0.iter().map(|known| known.hash()).collect()
    }
}
