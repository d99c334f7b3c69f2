//! The built-in services that a server was told to have, and what they read of it.

use std::sync::{Arc, Weak};

use crate::builtin::{CloseCount, Health, ListenerCount, RefusalCount, ServerCount};
use crate::builtin::{counters_method, health_method, reflection_methods};
use crate::driver::ServerTotals;
use crate::server::ListenerHandle;
use crate::server::connections::Connections;
use crate::service::{Dispatch, RouteError};

/// Which ones; none by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct BuiltIn {
    pub(crate) health: Option<Health>,
    pub(crate) reflection: bool,
    pub(crate) counters: bool,
}

impl BuiltIn {
    /// Adds their methods (BI-1).
    pub(crate) fn install(
        &self,
        dispatch: &Dispatch,
        totals: &Arc<ServerTotals>,
        connections: &Arc<Connections>,
    ) -> Result<(), RouteError> {
        // The table holds these methods: if they held it too, it would never be dropped.
        let table = || dispatch.downgrade();
        if let Some(health) = &self.health {
            dispatch.install(health_method(health.clone(), table()))?;
        }
        if self.reflection {
            for method in reflection_methods(table()) {
                dispatch.install(method)?;
            }
        }
        if self.counters {
            let (totals, connections) = (Arc::clone(totals), Arc::downgrade(connections));
            let count = move || count(&totals, &connections);
            dispatch.install(counters_method(table(), count))?;
        }
        Ok(())
    }
}

/// `connections` are gone where nothing listens: a single stream is served.
fn count(totals: &ServerTotals, connections: &Weak<Connections>) -> ServerCount {
    let load = totals.load();
    let refusal = |(code, count): &(crate::wire::Code, u64)| RefusalCount {
        code: code.as_u16(),
        count: *count,
    };
    let close = |(reason, count): &(crate::wire::CloseReason, u64)| CloseCount {
        reason: reason.0,
        count: *count,
    };
    let listener = connections.upgrade().map(|connections| {
        let stats = ListenerHandle(connections).stats();
        ListenerCount {
            accepted: stats.accepted,
            open: stats.open as u64,
            handshaking: stats.handshaking as u64,
            refused_full: stats.refused_full,
            refused_per_address: stats.refused_per_address,
            displaced: stats.displaced,
            accept_errors: stats.accept_errors,
        }
    });
    ServerCount {
        calls: load.calls as u64,
        bytes: load.bytes as u64,
        overloads: load.overloads,
        panics: load.panics,
        refusals: load.refusals.iter().map(refusal).collect(),
        closes: load.closes.iter().map(close).collect(),
        lost: load.lost,
        listener,
    }
}
