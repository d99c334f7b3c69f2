//! The built-in services of `spec/10-builtin.md`: health, reflection, counters.
//!
//! Ordinary methods over ordinary types, which a server adds when it is told to
//! ([`Server::health`](crate::Server::health) and its kin) and which any client may call: through
//! the clients here, or as methods like others. A server that adds none has none of it.
//!
//! Invariants: an answer fits the smallest frame a client may ask for, in every codec (BI-2); what
//! is asked for is read from the live table at that moment, and kept nowhere.

mod counters;
mod health;
mod reflection;

pub use counters::{
    AfterVersion, CloseCount, CountersPage, Latency, ListenerCount, MethodCount, ReadCounters,
    RefusalCount, ServerCount,
};
pub use health::{CheckHealth, Health, HealthError, HealthState, ServingState};
pub use reflection::{
    DescribeMethod, DescribedMethod, ListMethods, ListedMethod, ListedVersion, MethodsPage,
    NotDescribed, RunMode,
};

pub(crate) use counters::{COUNTERS_READ, counters_method};
pub(crate) use health::{HEALTH_CHECK, Unfit, health_method};
pub(crate) use reflection::{REFLECTION_DESCRIBE, REFLECTION_LIST, reflection_methods};
