//! The server process: serves one peer, says where, and ends when its standard input does.

use std::io::{Read, Write};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::fault::Fault;
use crate::peers::{Peer, Visit};
use crate::usage;

/// Where a server listens, as it says on its standard output.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Listening {
    pub server: SocketAddr,
    pub control: SocketAddr,
}

/// Serves at this address.
#[derive(Clone, Copy, Debug)]
pub struct ServeAt(pub SocketAddr);

impl Visit for ServeAt {
    type Out = Result<(), Fault>;

    async fn visit<P: Peer>(self) -> Self::Out {
        P::serve(self.0).await.map_err(|fault| fault.at(&self.0.to_string()))
    }
}

/// A listener at this address, announced; for peers that take one.
///
/// # Errors
/// If the address is taken.
pub async fn bind(at: SocketAddr) -> Result<TcpListener, Fault> {
    let listener = TcpListener::bind(at).await?;
    announce(listener.local_addr()?)?;
    Ok(listener)
}

/// Says where the server listens; everybody waits for this line.
///
/// # Errors
/// If there is no port for the control socket, or nobody reads.
pub fn announce(server: SocketAddr) -> Result<(), Fault> {
    let line = serde_json::to_string(&Listening { server, control: usage::tell()? })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    end_with_input();
    Ok(())
}

/// A server must not outlive who started it, however that ended.
fn end_with_input() {
    std::thread::spawn(|| {
        let mut nothing = [0; 64];
        while std::io::stdin().read(&mut nothing).is_ok_and(|bytes| bytes > 0) {}
        std::process::exit(0);
    });
}
