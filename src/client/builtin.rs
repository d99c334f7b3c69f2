//! Clients of the built-in services.
//!
//! Invariant: however a server answers, a walk over its pages ends: every page must go on after the
//! one before (BI-2), and there are at most as many as a table may have rows.

use std::convert::Infallible;

use crate::builtin::ReadCounters;
use crate::builtin::{AfterVersion, CheckHealth, CountersPage, DescribeMethod, DescribedMethod};
use crate::builtin::{COUNTERS_READ, HEALTH_CHECK, REFLECTION_DESCRIBE, REFLECTION_LIST};
use crate::builtin::{HealthState, ListMethods, ListedMethod, MethodsPage, NotDescribed};
use crate::client::{Call, Channel};
use crate::service::{CallError, Status};
use crate::wire::{Code, TablePayload};

/// Asks a server how it is.
///
/// ```
/// # async fn run(channel: switchback::Channel) -> Result<(), Box<dyn std::error::Error>> {
/// use switchback::{builtin::ServingState, client::HealthClient};
///
/// let health = HealthClient::new(channel);
/// assert_eq!(health.check("bank.Ledger").await?.state, ServingState::Serving);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct HealthClient(Channel);

/// Asks a server what it serves.
#[derive(Clone, Debug)]
pub struct ReflectionClient(Channel);

/// Asks a server what it has counted.
#[derive(Clone, Debug)]
pub struct CountersClient(Channel);

impl HealthClient {
    /// Over a channel that others may use too.
    #[must_use]
    pub const fn new(channel: Channel) -> Self {
        Self(channel)
    }

    /// Whether calls of `service` are welcome; of the server as a whole, if it is empty.
    ///
    /// # Errors
    /// UNKNOWN_METHOD if the server has no such service, and what may happen to any call.
    pub fn check(&self, service: &str) -> Call<CheckHealth, HealthState, Infallible> {
        self.0.call(&HEALTH_CHECK, CheckHealth { service: service.to_owned() })
    }
}

impl ReflectionClient {
    /// Over a channel that others may use too.
    #[must_use]
    pub const fn new(channel: Channel) -> Self {
        Self(channel)
    }

    /// Some methods, those after the id `after`.
    ///
    /// # Errors
    /// UNKNOWN_METHOD if the server has no such service, and what may happen to any call.
    pub fn page(&self, after: Option<u32>) -> Call<ListMethods, MethodsPage, Infallible> {
        self.0.call(&REFLECTION_LIST, ListMethods { after })
    }

    /// All methods, ascending by id. What is added or taken away meanwhile may be missed.
    ///
    /// # Errors
    /// As [`ReflectionClient::page`]; BAD_RESPONSE if the server's pages do not go on.
    ///
    /// # Cancellation
    /// Dropping the future takes the call for the page at hand back.
    pub async fn methods(&self) -> Result<Vec<ListedMethod>, CallError<Infallible>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(after).await?;
            let keys = page.methods.iter().map(|method| Some(method.id));
            after = last_key(after, keys, page.more)?;
            all.extend(page.methods);
            if !page.more {
                return Ok(all);
            }
            check_rows(all.len(), TablePayload::METHODS_MAX)?;
        }
    }

    /// The contract of one version of a method.
    ///
    /// # Errors
    /// [`NotDescribed`]; UNKNOWN_METHOD if the server has no such service, TOO_LARGE for a text
    /// that is longer than this client's frames may be, and what may happen to any call.
    pub fn describe(
        &self,
        method: &str,
        version: u16,
    ) -> Call<DescribeMethod, DescribedMethod, NotDescribed> {
        let method = method.to_owned();
        self.0.call(&REFLECTION_DESCRIBE, DescribeMethod { method, version })
    }
}

impl CountersClient {
    /// Over a channel that others may use too.
    #[must_use]
    pub const fn new(channel: Channel) -> Self {
        Self(channel)
    }

    /// Counters of some methods, those after `after`, and of the server.
    ///
    /// # Errors
    /// UNKNOWN_METHOD if the server has no such service, and what may happen to any call.
    pub fn page(
        &self,
        after: Option<AfterVersion>,
    ) -> Call<ReadCounters, CountersPage, Infallible> {
        self.0.call(&COUNTERS_READ, ReadCounters { after })
    }

    /// Counters of all methods, ascending by name and version, as one page.
    ///
    /// # Errors
    /// As [`CountersClient::page`]; BAD_RESPONSE if the server's pages do not go on.
    ///
    /// # Cancellation
    /// Dropping the future takes the call for the page at hand back.
    pub async fn read(&self) -> Result<CountersPage, CallError<Infallible>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(after.clone()).await?;
            let key = |row: &crate::builtin::MethodCount| {
                Some(AfterVersion { method: row.name.clone(), version: row.version })
            };
            after = last_key(after, page.methods.iter().map(key), page.more)?;
            all.extend(page.methods);
            if !page.more {
                return Ok(CountersPage { methods: all, ..page });
            }
            check_rows(all.len(), ROWS_MAX)?;
        }
    }
}

/// The key of a page's last row; every row must go on after the one before (BI-2).
fn last_key<K: Ord>(
    mut last: Option<K>,
    keys: impl Iterator<Item = Option<K>>,
    more: bool,
) -> Result<Option<K>, CallError<Infallible>> {
    let mut is_empty = true;
    for key in keys {
        if key <= last {
            return Err(not_in_order("its rows do not ascend"));
        }
        (last, is_empty) = (key, false);
    }
    if more && is_empty {
        return Err(not_in_order("a page without rows says that there are more"));
    }
    Ok(last)
}

fn check_rows(rows: usize, max: usize) -> Result<(), CallError<Infallible>> {
    if rows > max {
        return Err(not_in_order(&format!("{rows} rows and more, at most {max}")));
    }
    Ok(())
}

fn not_in_order(what: &str) -> CallError<Infallible> {
    CallError::Rpc(Status::new(Code::BAD_RESPONSE, format!("the server's pages: {what}")))
}

/// Counters are kept of methods that were installed once, too: no limit of the protocol's, but an
/// end for a server that makes rows up.
const ROWS_MAX: usize = 65_536;
