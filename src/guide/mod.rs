//! Guides: the pages of `docs/`, with their code compiled and run by the tests.
//!
//! | you want to | read |
//! |---|---|
//! | change a method that others call | [`evolving`] |
//! | know what to do about a failure | [`errors`] |
//! | stop or replace a server | [`shutdown`] |
//! | test what you build on it | [`testing`] |
//! | put code around every call: tokens, limits, traces | [`interceptors`] |
//! | see what is going on | [`metrics`] |
//! | decide whether this is for you | [`choosing`], [`comparison`] |
//! | come from another crate | [`from_tarpc`], [`from_tonic`] |
//! | know where it runs | [`platforms`] |
//!
//! Only in the documentation; no code. A page's links are defined twice, here for these pages and
//! at its own end for whoever reads the file: the first definition counts.

/// What may change in a contract, how, and what tells you in time.
///
#[cfg_attr(feature = "contract", doc = "[`Contract`]: crate::service::Contract")]
#[doc = include_str!("links.md")]
#[cfg_attr(feature = "contract", doc = include_str!("../../docs/evolving.md"))]
#[cfg_attr(not(feature = "contract"), doc = "This page is there with the feature `contract`.")]
pub mod evolving {}

/// What a failure says, and what is tried again.
///
#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/errors.md")]
pub mod errors {}

/// How a server leaves without losing a call.
///
#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/shutdown.md")]
pub mod shutdown {}

/// Mocks, servers in memory, faults of a network, and hours that take no time.
///
#[doc = include_str!("links.md")]
#[cfg_attr(feature = "testing", doc = include_str!("../../docs/testing.md"))]
#[cfg_attr(not(feature = "testing"), doc = "This page is there with the feature `testing`.")]
pub mod testing {}

/// Code around every call: three points, their order, what goes along; traces; tower.
///
#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/interceptors.md")]
pub mod interceptors {}

/// Every metric by name, unit and meaning.
///
#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/metrics.md")]
pub mod metrics {}

/// RPC, REST or a message queue?
///
#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/choosing.md")]
pub mod choosing {}

/// Beside tarpc, tonic, volo, capnp-rpc and ttrpc: what was measured, what was read where.
///
#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/comparison.md")]
pub mod comparison {}

/// What you know from tarpc, and what it is called here.
///
#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/from-tarpc.md")]
pub mod from_tarpc {}

/// What you know from tonic, and what it is called here.
///
#[cfg_attr(feature = "protobuf", doc = "[`Proto`]: crate::service::Proto")]
#[cfg_attr(not(feature = "protobuf"), doc = "[`Proto`]: mod@crate::service")]
#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/from-tonic.md")]
pub mod from_tonic {}

/// What was built where, and what was tested.
///
#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/platforms.md")]
pub mod platforms {}
