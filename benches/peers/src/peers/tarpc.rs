//! tarpc with bincode over its serde transport, a task for each request as its examples have it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::client::RpcError;
use tarpc::{client, context, serde_transport, server};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::codec::LengthDelimitedCodec;

use crate::fault::Fault;
use crate::caller::{Job, LATE_HANDLER};
use crate::message::{Message, Seen};
use crate::peers::Peer;
use crate::serve;

/// See the file's header.
pub struct ThisPeer;

#[tarpc::service]
pub trait Echo {
    async fn echo(message: Message) -> Message;
    async fn blob(body: Bytes) -> Bytes;
    async fn upload(body: Bytes) -> u64;
    async fn late(id: u64) -> u64;
}

#[derive(Clone)]
struct Echoing;

impl Echo for Echoing {
    async fn echo(self, _: context::Context, message: Message) -> Message {
        message
    }

    async fn blob(self, _: context::Context, body: Bytes) -> Bytes {
        body
    }

    async fn upload(self, _: context::Context, body: Bytes) -> u64 {
        body.len() as u64
    }

    async fn late(self, _: context::Context, id: u64) -> u64 {
        tokio::time::sleep(LATE_HANDLER).await;
        id
    }
}

impl Peer for ThisPeer {
    const NOTE: &'static str = "raised: pending requests and responses 1,024 instead of 100";

    const CRATES: &'static [&'static str] = &["tarpc"];

    type Client = EchoClient;

    async fn serve(at: SocketAddr) -> Result<(), Fault> {
        let listener = serve::bind(at).await?;
        let config = server::Config { pending_response_buffer: QUEUED_MAX };
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let framed = LengthDelimitedCodec::builder().new_framed(stream);
            let channel =
                BaseChannel::new(config.clone(), serde_transport::new(framed, Bincode::default()));
            tokio::spawn(channel.execute(Echoing.serve()).for_each(|response| async {
                tokio::spawn(response);
            }));
        }
    }

    async fn connect(server: SocketAddr) -> Result<EchoClient, Fault> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let framed = LengthDelimitedCodec::builder().new_framed(stream);
        let transport = serde_transport::new(framed, Bincode::default());
        let mut config = client::Config::default();
        config.pending_request_buffer = QUEUED_MAX;
        Ok(EchoClient::new(config, transport).spawn())
    }

    async fn echo(client: &EchoClient, id: u64) -> Result<Seen, Fault> {
        Ok(client.echo(context::current(), Message::new(id)).await?.seen())
    }

    async fn blob(client: &EchoClient, body: Bytes) -> Result<impl AsRef<[u8]>, Fault> {
        Ok(client.blob(context::current(), body).await?)
    }

    async fn upload(client: &EchoClient, body: Bytes) -> Result<(), Fault> {
        client.upload(context::current(), body).await?;
        Ok(())
    }

    async fn late(client: &EchoClient, timeout: Duration) -> Result<(), Fault> {
        let mut context = context::current();
        context.deadline = Instant::now() + timeout;
        match client.late(context, 0).await {
            Err(RpcError::DeadlineExceeded) => Ok(()),
            Err(other) => Err(other.into()),
            Ok(_) => Err(Fault::new("a late call was answered".to_owned())),
        }
    }

    fn start(client: EchoClient, job: Job) -> Vec<JoinHandle<Result<(), Fault>>> {
        callers!(Self, client, job)
    }
}

/// Raised from 100: as many as there are calls in flight.
const QUEUED_MAX: usize = 1_024;
