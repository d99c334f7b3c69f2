//! switchback: methods without macros, bincode, defaults everywhere but for what `NOTE` says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use switchback::service::{Fingerprint, Raw};
use switchback::{CallError, Channel, Code, Cx, Method, Server, ServerConfig, Stub};
use tokio::task::JoinHandle;

use crate::fault::Fault;
use crate::caller::{Job, LATE_HANDLER};
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

static UPLOAD: LazyLock<Stub<Raw, u64, Infallible>> =
    LazyLock::new(|| Stub::infallible("bench.Echo/upload", 1, Fingerprint::UNCHECKED));
static LATE: LazyLock<Stub<u64, u64, Infallible>> =
    LazyLock::new(|| Stub::infallible("bench.Echo/late", 1, Fingerprint::UNCHECKED));

impl Peer for ThisPeer {
    const NOTE: &'static str = "limits raised: bytes in flight on a connection 16 MiB instead of 8 \
        (1 MiB row); connections, and those of one address, 6,000 instead of 1,024 and 128 (idle \
        row)";

    const CRATES: &'static [&'static str] = &["switchback"];

    type Client = Channel;

    async fn serve(at: SocketAddr) -> Result<(), Fault> {
        let echo = |_cx: Cx, message: Message| async { Ok::<_, CallError<Infallible>>(message) };
        let blob = |_cx: Cx, body: Raw| async { Ok::<_, CallError<Infallible>>(body) };
        let upload = |_cx: Cx, body: Raw| async move {
            Ok::<_, CallError<Infallible>>(body.0.len() as u64)
        };
        let late = |_cx: Cx, id: u64| async move {
            tokio::time::sleep(LATE_HANDLER).await;
            Ok::<_, CallError<Infallible>>(id)
        };
        let server = Server::new()
            .method(Method::infallible("bench.Echo/upload", 1, upload))
            .method(Method::infallible("bench.Echo/late", 1, late))
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

    async fn upload(client: &Channel, body: Bytes) -> Result<(), Fault> {
        client.call(&UPLOAD, Raw(body)).await?;
        Ok(())
    }

    async fn late(client: &Channel, timeout: Duration) -> Result<(), Fault> {
        match client.call(&LATE, 0).timeout(timeout).await {
            Err(CallError::Rpc(status)) if status.code() == Code::DEADLINE_EXCEEDED => Ok(()),
            Err(other) => Err(other.into()),
            Ok(_) => Err(Fault::new("a late call was answered".to_owned())),
        }
    }

    fn start(client: Channel, job: Job) -> Vec<JoinHandle<Result<(), Fault>>> {
        callers!(Self, client, job)
    }
}

fn config() -> ServerConfig {
    let mut config = ServerConfig::default();
    config.in_flight_bytes_max = 16 << 20;
    config.connections_max = IDLE_CONNECTIONS + 1_000;
    config.connections_per_address_max = IDLE_CONNECTIONS + 1_000;
    config
}
