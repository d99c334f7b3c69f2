//! switchback: methods without macros, bincode, defaults everywhere but for what [`LIMITS`] says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::LazyLock;

use bytes::Bytes;
use switchback::service::{Fingerprint, Raw};
use switchback::{CallError, Channel, Cx, Method, Server, ServerConfig, Stub};
use tokio::task::JoinHandle;

use crate::fault::Fault;
use crate::load::Job;
use crate::message::{Message, Seen};
use crate::peers::Peer;
use crate::serve;
use crate::workload::IDLE_CONNECTIONS;

/// See the file's header.
pub struct ThisPeer;

static ECHO: LazyLock<Stub<Message, Message, Infallible>> =
    LazyLock::new(|| Stub::infallible("bench.Echo/echo", 1, Fingerprint::UNCHECKED));
static BLOB: LazyLock<Stub<Raw, Raw, Infallible>> =
    LazyLock::new(|| Stub::infallible("bench.Echo/blob", 1, Fingerprint::UNCHECKED));

impl Peer for ThisPeer {
    type Client = Channel;

    async fn serve(at: SocketAddr) -> Result<(), Fault> {
        let echo = |_cx: Cx, message: Message| async { Ok::<_, CallError<Infallible>>(message) };
        let blob = |_cx: Cx, body: Raw| async { Ok::<_, CallError<Infallible>>(body) };
        let server = Server::new()
            .method(Method::infallible("bench.Echo/echo", 1, echo))
            .method(Method::infallible("bench.Echo/blob", 1, blob))
            .config(config());
        let server = server.bind(&format!("tcp://{at}")).await?;
        serve::announce(server.url().trim_start_matches("tcp://").parse()?)?;
        server.serve_until(std::future::pending()).await?;
        Ok(())
    }

    async fn connect(server: SocketAddr) -> Result<Channel, Fault> {
        Ok(Channel::connect(&format!("tcp://{server}")).await?)
    }

    async fn echo(client: &Channel, id: u64) -> Result<Seen, Fault> {
        Ok(client.call(&ECHO, Message::new(id)).await?.seen())
    }

    async fn blob(client: &Channel, body: Bytes) -> Result<impl AsRef<[u8]>, Fault> {
        Ok(client.call(&BLOB, Raw(body)).await?.0)
    }

    fn start(client: Channel, job: Job) -> Vec<JoinHandle<Result<(), Fault>>> {
        callers!(Self, client, job)
    }
}

/// What had to be raised, as the table says below.
pub const LIMITS: &str = "bytes in flight on a connection 16 MiB instead of 8 (1 MiB row); \
    connections, and those of one address, 6,000 instead of 1,024 and 128 (idle row)";

fn config() -> ServerConfig {
    let mut config = ServerConfig::default();
    config.in_flight_bytes_max = 16 << 20;
    config.connections_max = IDLE_CONNECTIONS + 1_000;
    config.connections_per_address_max = IDLE_CONNECTIONS + 1_000;
    config
}
