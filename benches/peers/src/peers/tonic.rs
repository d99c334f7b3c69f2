//! tonic with prost: messages derived by hand, the service from `build.rs`, plaintext HTTP/2 with
//! windows raised for the bodies.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};

use crate::fault::Fault;
use crate::caller::{Job, LATE_HANDLER};
use crate::message::{NAME, Seen, TAGS};
use crate::peers::Peer;
use crate::serve;

/// See the file's header.
pub struct ThisPeer;

/// The message, as protobuf has it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint32, repeated, tag = "3")]
    tags: Vec<u32>,
}

/// The body of the payload rows.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Body {
    #[prost(bytes = "bytes", tag = "1")]
    content: Bytes,
}

mod generated {
    include!(concat!(env!("OUT_DIR"), "/bench.Echo.rs"));
}

struct Echoing;

#[tonic::async_trait]
impl generated::echo_server::Echo for Echoing {
    async fn echo(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn upload(&self, request: Request<Body>) -> Result<Response<Message>, Status> {
        let id = request.into_inner().content.len() as u64;
        Ok(Response::new(Message { id, ..Message::default() }))
    }

    async fn late(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        tokio::time::sleep(LATE_HANDLER).await;
        Ok(Response::new(request.into_inner()))
    }

    async fn blob(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

impl Peer for ThisPeer {
    const NOTE: &'static str = "raised: HTTP/2 windows to 2 MiB a stream and 16 MiB a connection, \
        frames to 256 KiB";

    const CRATES: &'static [&'static str] = &["tonic", "prost"];

    type Client = generated::echo_client::EchoClient<Channel>;

    async fn serve(at: SocketAddr) -> Result<(), Fault> {
        let listener = serve::bind(at).await?;
        let service = generated::echo_server::EchoServer::new(Echoing);
        Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
            .await?;
        Ok(())
    }

    async fn connect(server: SocketAddr) -> Result<Self::Client, Fault> {
        let endpoint = Endpoint::from_shared(format!("http://{server}"))?
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES);
        Ok(generated::echo_client::EchoClient::new(endpoint.connect().await?))
    }

    async fn echo(client: &Self::Client, id: u64) -> Result<Seen, Fault> {
        let message = Message { id, name: NAME.to_owned(), tags: TAGS.to_vec() };
        let echoed = client.clone().echo(message).await?.into_inner();
        Ok(Seen { id: echoed.id, name_bytes: echoed.name.len(), tags: echoed.tags.len() })
    }

    async fn blob(client: &Self::Client, body: Bytes) -> Result<impl AsRef<[u8]>, Fault> {
        Ok(client.clone().blob(Body { content: body }).await?.into_inner().content)
    }

    async fn upload(client: &Self::Client, body: Bytes) -> Result<(), Fault> {
        client.clone().upload(Body { content: body }).await?;
        Ok(())
    }

    async fn late(client: &Self::Client, timeout: Duration) -> Result<(), Fault> {
        let mut request = Request::new(Message::default());
        request.set_timeout(timeout);
        match client.clone().late(request).await {
            Err(status) if matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded) => {
                Ok(())
            }
            Err(other) => Err(other.into()),
            Ok(_) => Err(Fault::new("a late call was answered".to_owned())),
        }
    }

    fn start(client: Self::Client, job: Job) -> Vec<JoinHandle<Result<(), Fault>>> {
        callers!(Self, client, job)
    }
}

/// Room for a body and more, so that no call waits for a window.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// A tenth more MiB/s and a third less CPU than with the default of 16 KiB; more changes nothing.
const FRAME_BYTES: u32 = 256 << 10;
