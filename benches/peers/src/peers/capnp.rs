//! capnp-rpc, two parties over tokio's sockets; the code is made from `schema/echo.capnp`, which
//! needs the `capnp` compiler (Debian: `capnproto`).
//!
//! Nothing of it is `Send`: whatever the runtime, all of a process runs on the one thread that has
//! the `LocalSet`. Answers are read in place, as Cap'n Proto has it: no owned message
//! is made.

use std::net::SocketAddr;
use std::rc::Rc;

use ::capnp::Error;
use ::capnp::capability::Response;
use bytes::Bytes;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use capnp_rpc::{RpcSystem, new_client};
use futures_util::io::{AsyncReadExt, BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::caller::Job;
use crate::fault::Fault;
use crate::message::{NAME, Seen, TAGS};
use crate::peers::Peer;
use crate::peers::capnp::echo_capnp::echo;
use crate::serve;

/// See the file's header.
pub struct ThisPeer;

#[allow(warnings, clippy::all, reason = "generated code")]
mod echo_capnp {
    include!(concat!(env!("OUT_DIR"), "/echo_capnp.rs"));
}

struct Echoing;

impl echo::Server for Echoing {
    async fn echo(
        self: Rc<Self>,
        params: echo::EchoParams,
        mut results: echo::EchoResults,
    ) -> Result<(), Error> {
        results.get().set_message(params.get()?.get_message()?)
    }

    async fn blob(
        self: Rc<Self>,
        params: echo::BlobParams,
        mut results: echo::BlobResults,
    ) -> Result<(), Error> {
        results.get().set_content(params.get()?.get_content()?);
        Ok(())
    }
}

/// One side of a connection, buffered as the crate's own examples have it.
fn system(
    stream: TcpStream,
    side: Side,
    served: Option<echo::Client>,
) -> Result<RpcSystem<Side>, Fault> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.compat().split();
    let (reader, writer) = (BufReader::new(reader), BufWriter::new(writer));
    let network = VatNetwork::new(reader, writer, side, Default::default());
    Ok(RpcSystem::new(Box::new(network), served.map(|served| served.client)))
}

/// A body as it came, inside its message.
struct Content(Response<echo::blob_results::Owned>);

impl AsRef<[u8]> for Content {
    /// Empty if the message is broken; who compares it with what was sent sees that.
    fn as_ref(&self) -> &[u8] {
        self.0.get().and_then(|results| results.get_content()).unwrap_or_default()
    }
}

impl Peer for ThisPeer {
    const NOTE: &'static str = "nothing of it is Send: on mt2 too all of a process runs on one \
        thread; answers are read in place, not decoded";

    const CRATES: &'static [&'static str] = &["capnp-rpc"];

    type Client = echo::Client;

    async fn serve(at: SocketAddr) -> Result<(), Fault> {
        let listener = serve::bind(at).await?;
        let echoing: echo::Client = new_client(Echoing);
        loop {
            let (stream, _) = listener.accept().await?;
            spawn_local(system(stream, Side::Server, Some(echoing.clone()))?);
        }
    }

    async fn connect(server: SocketAddr) -> Result<Self::Client, Fault> {
        let stream = TcpStream::connect(server).await?;
        let mut system = system(stream, Side::Client, None)?;
        let client = system.bootstrap(Side::Server);
        spawn_local(system);
        Ok(client)
    }

    async fn echo(client: &Self::Client, id: u64) -> Result<Seen, Fault> {
        let mut request = client.echo_request();
        let mut message = request.get().init_message();
        message.set_id(id);
        message.set_name(NAME);
        message.set_tags(&TAGS[..])?;
        let response = request.send().promise.await?;
        let echoed = response.get()?.get_message()?;
        let name_bytes = echoed.get_name()?.to_str()?.len();
        Ok(Seen { id: echoed.get_id(), name_bytes, tags: echoed.get_tags()?.len() as usize })
    }

    async fn blob(client: &Self::Client, body: Bytes) -> Result<impl AsRef<[u8]>, Fault> {
        let mut request = client.blob_request();
        request.get().set_content(&body);
        Ok(Content(request.send().promise.await?))
    }

    fn start(client: Self::Client, job: Job) -> Vec<JoinHandle<Result<(), Fault>>> {
        local_callers!(Self, client, job)
    }
}
