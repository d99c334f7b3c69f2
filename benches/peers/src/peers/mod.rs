//! The peers: each is one file, one line in the list below, and a feature if it needs crates.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::fault::Fault;
use crate::load::Job;
use crate::message::Seen;

/// One way to make calls over TCP on loopback, with TCP_NODELAY, as its users would at best.
///
/// Its futures need not be `Send`: everything here runs inside a `LocalSet` on the thread that
/// blocks on the runtime; what a peer spawns with `tokio::spawn` runs on the workers.
pub trait Peer: Sized + 'static {
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
        $crate::load::each($job, |caller| {
            tokio::spawn($crate::load::call::<$peer>($client.clone(), caller))
        })
    };
}

/// Callers as tasks of the one thread that has the client, for [`Peer::start`].
#[allow(unused_macros, reason = "a build may be without the peers whose clients are not Send")]
macro_rules! local_callers {
    ($peer:ty, $client:expr, $job:expr) => {
        $crate::load::each($job, |caller| {
            tokio::task::spawn_local($crate::load::call::<$peer>($client.clone(), caller))
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

/// The fault of a name that no peer has.
pub fn unknown(name: &str) -> Fault {
    let names = NAMES.join(", ");
    Fault::new(format!("no peer `{name}` in this build; there are {names}"))
}
