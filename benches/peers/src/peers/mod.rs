//! The peers: each is one file, one line in the list below, and a feature if it needs crates.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::caller::Job;
use crate::fault::Fault;
use crate::message::Seen;

/// One way to make calls over TCP on loopback, with TCP_NODELAY, as its users would at best.
///
/// Its futures need not be `Send`: everything here runs inside a `LocalSet` on the thread that
/// blocks on the runtime; what a peer spawns with `tokio::spawn` runs on the workers.
pub trait Peer: Sized + 'static {
    /// What the reader of the table must know: limits that were raised, and what is unlike the
    /// other peers.
    const NOTE: &'static str = "";

    /// The crates whose versions the report names.
    const CRATES: &'static [&'static str] = &[];

    /// One connection; clones share it.
    type Client: Clone + 'static;

    /// Serves at this address until the process ends. Announces where it listens, by
    /// [`serve::bind`](crate::serve::bind) or [`serve::announce`](crate::serve::announce).
    fn serve(at: SocketAddr) -> impl Future<Output = Result<(), Fault>>;

    /// Connects; the connection is of no other client.
    fn connect(server: SocketAddr) -> impl Future<Output = Result<Self::Client, Fault>>;

    /// Sends the message of this id, gets it back, and tells what it saw of it.
    fn echo(client: &Self::Client, id: u64) -> impl Future<Output = Result<Seen, Fault>>;

    /// Sends a body of at most 1 MiB and gets it back.
    fn blob(
        client: &Self::Client,
        body: Bytes,
    ) -> impl Future<Output = Result<impl AsRef<[u8]>, Fault>>;

    /// Sends a body of 1 MiB and gets a short answer. For the peers of the workload `4+up`.
    fn upload(_: &Self::Client, _: Bytes) -> impl Future<Output = Result<(), Fault>> {
        async { Err(Fault::new("has no upload".to_owned())) }
    }

    /// Calls a handler that takes [`LATE_HANDLER`](crate::caller::LATE_HANDLER) and gives it less;
    /// fails unless the call times out. For the peers of the workload `late`.
    fn late(_: &Self::Client, _: Duration) -> impl Future<Output = Result<(), Fault>> {
        async { Err(Fault::new("has no late call".to_owned())) }
    }

    /// Starts the callers of one connection: [`callers!`] for a client that may change threads,
    /// [`local_callers!`] for one that may not.
    fn start(client: Self::Client, job: Job) -> Vec<JoinHandle<Result<(), Fault>>>;
}

/// Something to be done with a peer whose name is known only when the program runs.
pub trait Visit {
    type Out;

    fn visit<P: Peer>(self) -> impl Future<Output = Self::Out>;
}

/// Callers as tasks of the runtime, for [`Peer::start`].
macro_rules! callers {
    ($peer:ty, $client:expr, $job:expr) => {
        $crate::caller::each($job, |caller| {
            tokio::spawn($crate::caller::call::<$peer>($client.clone(), caller))
        })
    };
}

/// Callers as tasks of the one thread that has the client, for [`Peer::start`].
#[allow(unused_macros, reason = "a build may be without the peers whose clients are not Send")]
macro_rules! local_callers {
    ($peer:ty, $client:expr, $job:expr) => {
        $crate::caller::each($job, |caller| {
            tokio::task::spawn_local($crate::caller::call::<$peer>($client.clone(), caller))
        })
    };
}

macro_rules! peers {
    ($($(#[$cfg:meta])? $module:ident,)+) => {
        $($(#[$cfg])? pub mod $module;)+

        /// The peers that this program was built with, in the order of the table.
        pub const NAMES: &[&str] = &[$($(#[$cfg])? stringify!($module),)+];

        /// Does `visit` with the peer of this name.
        ///
        /// # Errors
        /// If this program was built without it.
        pub async fn visit<V: Visit>(name: &str, visit: V) -> Result<V::Out, Fault> {
            match name {
                $($(#[$cfg])? stringify!($module) => {
                    Ok(visit.visit::<$module::ThisPeer>().await)
                })+
                _ => Err(unknown(name)),
            }
        }
    };
}

peers! {
    switchback,
    limit,
    #[cfg(feature = "raw")] raw,
    #[cfg(feature = "tarpc")] tarpc,
    #[cfg(feature = "tonic")] tonic,
    #[cfg(feature = "volo")] volo,
    #[cfg(feature = "capnp")] capnp,
    #[cfg(feature = "ttrpc")] ttrpc,
}

/// What the report says about a peer, beside its numbers.
#[derive(Clone, Copy, Debug)]
pub struct About {
    pub note: &'static str,
    pub crates: &'static [&'static str],
}

/// Asks a peer for its [`About`].
pub struct Ask;

impl Visit for Ask {
    type Out = About;

    async fn visit<P: Peer>(self) -> About {
        About { note: P::NOTE, crates: P::CRATES }
    }
}

/// The fault of a name that no peer has.
pub fn unknown(name: &str) -> Fault {
    let names = NAMES.join(", ");
    Fault::new(format!("no peer `{name}` in this build; there are {names}"))
}
