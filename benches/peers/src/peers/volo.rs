//! volo's thrift, multiplexed; the code is made from `schema/echo.thrift`.
//!
//! Its largest frame is 16 MiB, so that nothing is raised for the bodies; it sets TCP_NODELAY
//! itself, on both sides. Its timeout of 1 s for a call is off.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use volo::net::incoming::DefaultIncoming;
use volo_thrift::ServerError;
use volo_thrift::transport::pool;

use crate::caller::Job;
use crate::fault::Fault;
use crate::message::{NAME, Seen, TAGS};
use crate::peers::Peer;
use crate::peers::volo::generated::volo_gen::echo;
use crate::serve;

/// See the file's header.
pub struct ThisPeer;

#[expect(unsafe_code, reason = "generated code, whose buffers are written unchecked")]
#[allow(warnings, clippy::all, reason = "generated code")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/volo_gen.rs"));
}

struct Echoing;

impl echo::Echo for Echoing {
    async fn echo(&self, message: echo::Message) -> Result<echo::Message, ServerError> {
        Ok(message)
    }

    async fn blob(&self, body: echo::Body) -> Result<echo::Body, ServerError> {
        Ok(body)
    }
}

impl Peer for ThisPeer {
    const NOTE: &'static str = "its timeout of 1 s for a call is off; idle connections are kept \
        600 s instead of 15";

    const CRATES: &'static [&'static str] = &["volo-thrift"];

    type Client = echo::EchoClient;

    async fn serve(at: SocketAddr) -> Result<(), Fault> {
        let listener = serve::bind(at).await?;
        let server = echo::EchoServer::new(Echoing).multiplex(true);
        let served = server.run(DefaultIncoming::from(listener)).await;
        served.map_err(|error| Fault::new(error.to_string()))
    }

    /// The connection is opened by the first call. A client has a pool of its own, and in that
    /// one shared connection.
    async fn connect(server: SocketAddr) -> Result<Self::Client, Fault> {
        let client = echo::EchoClientBuilder::new("bench.Echo")
            .address(server)
            .multiplex(true)
            .pool_config(pool::Config::default().timeout(IDLE_MAX))
            .rpc_timeout(None)
            .build();
        Ok(client)
    }

    async fn echo(client: &Self::Client, id: u64) -> Result<Seen, Fault> {
        let message = echo::Message {
            id: id.cast_signed(),
            name: NAME.to_owned().into(),
            tags: TAGS.map(u32::cast_signed).to_vec(),
        };
        let echoed = client.echo(message).await?;
        let id = echoed.id.cast_unsigned();
        Ok(Seen { id, name_bytes: echoed.name.len(), tags: echoed.tags.len() })
    }

    async fn blob(client: &Self::Client, body: Bytes) -> Result<impl AsRef<[u8]>, Fault> {
        Ok(client.blob(echo::Body { content: body }).await?.content)
    }

    fn start(client: Self::Client, job: Job) -> Vec<JoinHandle<Result<(), Fault>>> {
        callers!(Self, client, job)
    }
}

/// Raised from 15 s: the connections of the idle row must still be there for its last call.
const IDLE_MAX: Duration = Duration::from_secs(600);
