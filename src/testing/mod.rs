//! For tests of those who use the crate: no network, no waiting, nothing left to chance.
//!
//! | to have | take |
//! |---|---|
//! | a server without a network | `Server::bind("mem://")` and its `url()`, no feature needed |
//! | a service that answers as the test says | `#[service(name = "…", mock)]`: `LedgerMock` |
//! | a network that is slow, partial, cut or silent | [`Faults`] |
//! | a contract that is kept | [`check_contract`] and `switchback.lock` |
//! | time that takes no time | `#[tokio::test(start_paused = true)]`: everything here runs by it |
//!
//! ```
//! use switchback::Cx;
//!
//! #[switchback::service(name = "demo.Weather", mock)]
//! pub trait Weather {
//!     /// In degrees.
//!     #[rpc(version = 1)]
//!     async fn temperature(&self, cx: &Cx, req: String) -> i32;
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::time::pause(); // In a test: #[tokio::test(start_paused = true)]
//! let mock = WeatherMock::new().temperature(|city| if city == "Oslo" { -4 } else { 21 });
//! let weather = mock.client();
//! assert_eq!(weather.temperature("Oslo".into()).await?, -4);
//! assert_eq!(mock.calls("temperature"), 1);
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here is a model of the crate: mocks and faults stand behind and below the real client,
//! protocol and server, so that versions, limits, deadlines and retries are those of production.
//! `examples/testing.rs` shows all of it around one piece of user's code.

mod contract;
mod faults;
mod link;
pub(crate) mod mock;
mod pipe;
mod plan;

pub use contract::{ContractError, check_contract};
pub use faults::{Faults, FaultyAcceptor, FaultyConnector};
pub use plan::{FaultPlan, WayFaults};
