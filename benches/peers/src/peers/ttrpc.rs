//! ttrpc with rust-protobuf; the code is made from `schema/echo.proto`, without protoc.
//!
//! Its largest message is fixed at 4 MiB, so that nothing is raised for the bodies. Its own
//! `tcp://` addresses leave TCP_NODELAY off, therefore the sockets are made here.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use ttrpc::context::Context;
use ttrpc::r#async::transport::{Listener, Socket};
use ttrpc::r#async::{Client, Server, TtrpcContext};

use crate::caller::Job;
use crate::fault::Fault;
use crate::message::{NAME, Seen, TAGS};
use crate::peers::Peer;
use crate::peers::ttrpc::generated::{echo, echo_ttrpc};
use crate::serve;

/// See the file's header.
pub struct ThisPeer;

#[allow(warnings, clippy::all, reason = "generated code")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/ttrpc/mod.rs"));
}

struct Echoing;

#[async_trait::async_trait]
impl echo_ttrpc::Echo for Echoing {
    async fn echo(&self, _: &TtrpcContext, message: echo::Message) -> ttrpc::Result<echo::Message> {
        Ok(message)
    }

    async fn blob(&self, _: &TtrpcContext, body: echo::Body) -> ttrpc::Result<echo::Body> {
        Ok(body)
    }
}

impl Peer for ThisPeer {
    const NOTE: &'static str = "no deadlines; its sockets are made by hand, since its own have no \
        TCP_NODELAY";

    const CRATES: &'static [&'static str] = &["ttrpc"];

    type Client = echo_ttrpc::EchoClient;

    async fn serve(at: SocketAddr) -> Result<(), Fault> {
        let accepted = TcpListenerStream::new(serve::bind(at).await?).map(|stream| {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        let mut server = Server::new()
            .add_listener(Listener::new(accepted))
            .register_service(echo_ttrpc::create_echo(Arc::new(Echoing)));
        server.start().await?;
        std::future::pending().await
    }

    async fn connect(server: SocketAddr) -> Result<Self::Client, Fault> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(echo_ttrpc::EchoClient::new(Client::new(Socket::new(stream))))
    }

    async fn echo(client: &Self::Client, id: u64) -> Result<Seen, Fault> {
        let name = NAME.to_owned();
        let message = echo::Message { id, name, tags: TAGS.to_vec(), ..Default::default() };
        let echoed = client.echo(Context::default(), &message).await?;
        Ok(Seen { id: echoed.id, name_bytes: echoed.name.len(), tags: echoed.tags.len() })
    }

    async fn blob(client: &Self::Client, body: Bytes) -> Result<impl AsRef<[u8]>, Fault> {
        let body = echo::Body { content: body, ..Default::default() };
        Ok(client.blob(Context::default(), &body).await?.content)
    }

    fn start(client: Self::Client, job: Job) -> Vec<JoinHandle<Result<(), Fault>>> {
        callers!(Self, client, job)
    }
}
