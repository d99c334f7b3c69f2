//! One state of the dispatch table: which handler answers which (method, version).
//!
//! Invariants: immutable once made; methods ascend by id and versions within a method, so that a
//! lookup is two binary searches over a few bytes; it always fits one TABLE frame.

use std::sync::Arc;

use crate::service::{Method, MethodCounters, RouteError};
use crate::wire::{MethodId, MethodRow, TablePayload, VersionRow, table_hash};

/// A table that never changes; [`crate::service::Dispatch`] swaps whole ones.
#[derive(Debug)]
pub(crate) struct Routes {
    methods: Vec<RoutedMethod>,
    /// Serves what is not in the table.
    fallback: Option<Arc<Entry>>,
    /// Shared with the connections that were told it; they must not hold the handlers.
    payload: Arc<TablePayload>,
}

/// All versions of one method.
#[derive(Clone, Debug)]
pub(crate) struct RoutedMethod {
    pub(crate) id: MethodId,
    pub(crate) name: Arc<str>,
    pub(crate) ceiling: u16,
    pub(crate) entries: Vec<Arc<Entry>>,
}

/// One handler as installed. Calls that outlive their read batch hold it, and so does every
/// batch through its table: it is dropped when the last of them has ended, never before.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) method: Method,
    pub(crate) counters: Arc<MethodCounters>,
    /// Told when this entry is dropped.
    pub(crate) retirement: crate::service::retire::DrainSignal,
}

/// What a lookup found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lookup<'a> {
    Found(&'a Arc<Entry>),
    /// The method is there, not in this version, or above the ceiling.
    Version(&'a RoutedMethod),
    /// The method is not there, but somebody serves what is not (CA-17).
    Fallback(&'a Arc<Entry>),
    Unknown,
}

impl Routes {
    pub(crate) fn new(
        methods: Vec<RoutedMethod>,
        fallback: Option<Arc<Entry>>,
    ) -> Result<Self, RouteError> {
        let versions: usize = methods.iter().map(|method| method.entries.len()).sum();
        let (methods_max, versions_max) = (TablePayload::METHODS_MAX, TablePayload::VERSIONS_MAX);
        if methods.len() > methods_max {
            return Err(RouteError::TooManyMethods { methods: methods.len(), max: methods_max });
        }
        if versions > versions_max {
            return Err(RouteError::TooManyVersions { versions, max: versions_max });
        }
        let rows: Vec<MethodRow> = methods.iter().map(RoutedMethod::row).collect();
        let payload = Arc::new(TablePayload { hash: table_hash(&rows), rows });
        Ok(Self { methods, fallback, payload })
    }

    /// The handler for a request: checks 6 and 7 of CA-3 (CA-4, RT-8).
    pub(crate) fn lookup(&self, id: MethodId, version: u16) -> Lookup<'_> {
        let Some(method) = self.method(id) else {
            return self.fallback.as_ref().map_or(Lookup::Unknown, Lookup::Fallback);
        };
        if version > method.ceiling {
            return Lookup::Version(method);
        }
        match method.entries.binary_search_by_key(&version, |entry| entry.method.version) {
            Ok(at) => Lookup::Found(&method.entries[at]),
            Err(_) => Lookup::Version(method),
        }
    }

    pub(crate) fn method(&self, id: MethodId) -> Option<&RoutedMethod> {
        let at = self.methods.binary_search_by_key(&id, |method| method.id).ok()?;
        Some(&self.methods[at])
    }

    pub(crate) fn methods(&self) -> &[RoutedMethod] {
        &self.methods
    }

    pub(crate) const fn fallback(&self) -> Option<&Arc<Entry>> {
        self.fallback.as_ref()
    }

    /// The table as peers are told it.
    pub(crate) const fn payload(&self) -> &Arc<TablePayload> {
        &self.payload
    }
}

impl RoutedMethod {
    /// The versions that may be called now, ascending (CA-4).
    pub(crate) fn callable(&self) -> Vec<u16> {
        let versions = self.entries.iter().map(|entry| entry.method.version);
        versions.filter(|version| *version <= self.ceiling).collect()
    }

    fn row(&self) -> MethodRow {
        let row = |entry: &Arc<Entry>| VersionRow {
            version: entry.method.version,
            fingerprint: entry.method.fingerprint.as_u64(),
        };
        let versions = self.entries.iter().map(row).collect();
        MethodRow { method: self.id, ceiling: self.ceiling, versions }
    }
}
