//! `switchback.Health`: whether calls of a service are welcome here.
//!
//! Invariant: a service is serving only while the server as a whole is; the whole is not while the
//! server drains, whatever it was told (BI-3).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use switchback_macros::Schema;

use crate::service::{CallError, Cx, Fingerprint, Method, Stub, WeakDispatch};

/// Sets what a server says of its health, also while it serves. Clones are handles to the same.
///
/// ```
/// use switchback::Server;
/// use switchback::builtin::{Health, ServingState};
/// use switchback::client::HealthClient;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let health = Health::new();
/// let server = Server::new().health(health.clone()).bind("mem://").await?;
/// # let channel = switchback::Channel::lazy(&server.url())?;
/// # tokio::spawn(server.serve_until(std::future::pending()));
/// health.set("bank.Ledger", ServingState::NotServing)?; // Its database is gone, say.
///
/// let client = HealthClient::new(channel);
/// assert_eq!(client.check("bank.Ledger").await?.state, ServingState::NotServing);
/// assert_eq!(client.check("").await?.state, ServingState::Serving);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<States>);

/// What is asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct CheckHealth {
    /// The part of a method's name before `/`; empty: the server as a whole.
    pub service: String,
}

/// What is answered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct HealthState {
    /// At this moment.
    pub state: ServingState,
}

/// Whether calls are welcome.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub enum ServingState {
    /// They are.
    Serving,
    /// They are not: the server was told so, or it drains.
    NotServing,
    /// There is no such service here.
    Unknown,
}

/// A state was not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HealthError {
    /// States of more services than a server can have methods.
    #[error("{service:?} is one service too many with a state of its own, at most {max}")]
    TooManyServices {
        /// As given.
        service: String,
        /// The limit.
        max: usize,
    },
}

/// Why a server as a whole is not serving, besides having been told so; each has its own flag, so
/// that the end of one does not end another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unfit {
    /// It drains. A watcher of the executor would be another.
    Draining,
}

#[derive(Debug, Default)]
struct States {
    told: Mutex<BTreeMap<String, ServingState>>,
    is_draining: AtomicBool,
}

impl Health {
    /// Everything that is installed is serving.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether calls of `service` are welcome, of the server as a whole if that is empty.
    /// [`ServingState::Unknown`] takes back what was said: then what the table has is serving.
    ///
    /// # Errors
    /// [`HealthError::TooManyServices`] from 2,049 services with a state of their own on; nothing
    /// is changed.
    pub fn set(&self, service: &str, state: ServingState) -> Result<(), HealthError> {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        if state == ServingState::Unknown {
            told.remove(service);
            return Ok(());
        }
        if told.len() >= SERVICES_MAX && !told.contains_key(service) {
            let (service, max) = (service.to_owned(), SERVICES_MAX);
            return Err(HealthError::TooManyServices { service, max });
        }
        told.insert(service.to_owned(), state);
        Ok(())
    }

    /// What the server answers for `service`, which its table has or not (BI-3).
    #[must_use]
    pub fn state(&self, service: &str, is_installed: bool) -> ServingState {
        let told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = match told.get("") {
            _ if self.0.is_draining.load(Ordering::Acquire) => ServingState::NotServing,
            Some(state) => *state,
            None => ServingState::Serving,
        };
        if service.is_empty() {
            return whole;
        }
        match told.get(service) {
            Some(ServingState::Serving) => whole,
            Some(state) => *state,
            None if is_installed => whole,
            None => ServingState::Unknown,
        }
    }

    pub(crate) fn set_unfit(&self, why: Unfit) {
        match why {
            Unfit::Draining => self.0.is_draining.store(true, Ordering::Release),
        }
    }
}

/// The method of `health`, for the server with this table.
pub(crate) fn health_method(health: Health, dispatch: WeakDispatch) -> Method {
    let check = move |_cx: Cx, request: CheckHealth| {
        let is_installed = dispatch.upgrade().is_some_and(|d| d.has_service(&request.service));
        let state = health.state(&request.service, is_installed);
        std::future::ready(Ok::<_, CallError<Infallible>>(HealthState { state }))
    };
    Method::infallible(CHECK, 1, check)
        .schema::<CheckHealth, HealthState, Infallible>()
        .idempotent()
}

pub(crate) static HEALTH_CHECK: LazyLock<Stub<CheckHealth, HealthState, Infallible>> =
    LazyLock::new(|| {
        let fingerprint = Fingerprint::of_method::<CheckHealth, HealthState, Infallible>();
        Stub::infallible(CHECK, 1, fingerprint).idempotent()
    });

const CHECK: &str = "switchback.Health/check";
/// As many as a table has methods.
const SERVICES_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole outweighs a service, a drain outweighs the whole, and taking a word back restores
    /// what the table says.
    #[test]
    fn bi_3_the_whole_outweighs_its_parts() {
        use ServingState::{NotServing, Serving, Unknown};
        let health = Health::new();
        let states = |health: &Health| {
            [("", false), ("a", true), ("b", true), ("none", false)]
                .map(|(service, is_installed)| health.state(service, is_installed))
        };
        assert_eq!(states(&health), [Serving, Serving, Serving, Unknown]);
        health.set("a", NotServing).unwrap();
        health.set("none", Serving).unwrap();
        assert_eq!(states(&health), [Serving, NotServing, Serving, Serving]);
        health.set("none", Unknown).unwrap();
        health.set("", NotServing).unwrap();
        assert_eq!(states(&health), [NotServing, NotServing, NotServing, Unknown]);
        health.set("", Serving).unwrap();
        health.set("a", Unknown).unwrap();
        assert_eq!(states(&health), [Serving, Serving, Serving, Unknown]);
        health.set_unfit(Unfit::Draining);
        assert_eq!(states(&health), [NotServing, NotServing, NotServing, Unknown]);
    }

    /// The states that were set are bounded; those that are there can be changed all the same.
    #[test]
    fn states_are_bounded() {
        let health = Health::new();
        for n in 0..SERVICES_MAX {
            health.set(&n.to_string(), ServingState::NotServing).unwrap();
        }
        let error = health.set("more", ServingState::NotServing).unwrap_err();
        let (service, max) = ("more".to_owned(), SERVICES_MAX);
        assert_eq!(error, HealthError::TooManyServices { service, max });
        assert_eq!(health.state("more", true), ServingState::Serving);
        health.set("0", ServingState::Serving).unwrap();
        health.set("1", ServingState::Unknown).unwrap();
        health.set("more", ServingState::NotServing).unwrap();
    }
}
