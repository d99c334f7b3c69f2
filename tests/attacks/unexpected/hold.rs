//! Conversations of one row with a process, over sockets: one after another, or many at a time.
//!
//! All that is known of who is under test is an address, and what a role answers to commands; the
//! conversation itself would go as well with anybody else.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::process::Process;
use crate::unexpected::Raw;
use crate::unexpected::data::{Held, Outcome, Side, Step, Suite};
use crate::unexpected::talk::Talk;

/// Who is to be held against a row, and from where.
pub(crate) struct Against<'a> {
    pub(crate) suite: &'a Suite,
    pub(crate) side: Side,
    pub(crate) process: RefCell<&'a mut Process>,
    /// The attacker's end is on 127.0.0.`from`.
    pub(crate) from: u8,
}

impl Against<'_> {
    /// Holds the row `width` times at once; says how many calls the side says it has executed.
    pub(crate) async fn hold(&self, held: &Held, width: usize) -> Result<u64, String> {
        let one = || -> Pin<Box<dyn Future<Output = Result<u64, String>> + '_>> {
            match self.side {
                Side::Client => Box::pin(self.hold_client(held)),
                Side::Server => Box::pin(self.hold_server(held)),
            }
        };
        let mut running: Vec<_> = (0..width).map(|_| one()).collect();
        let mut processed = 0;
        std::future::poll_fn(|cx| {
            let mut failed = None;
            running.retain_mut(|one| match one.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(Ok(count)) => {
                    processed += count;
                    false
                }
                Poll::Ready(Err(failure)) => {
                    failed = Some(failure);
                    false
                }
            });
            match failed {
                Some(failure) => Poll::Ready(Err(failure)),
                None if running.is_empty() => Poll::Ready(Ok(processed)),
                None => Poll::Pending,
            }
        })
        .await
    }

    async fn hold_server(&self, held: &Held) -> Result<u64, String> {
        // Who is drained cannot serve the victim any more.
        let to = if held.needs("drain") { self.ask("door") } else { self.ask("address") };
        let stream = self.connect(to.parse().unwrap()).await.map_err(|e| e.to_string())?;
        let mut talk = Talk::new(Raw::new(stream), Side::Server);
        self.converse(&mut talk, held, "drain").await?;
        Ok(talk.processed as u64)
    }

    async fn hold_client(&self, held: &Held) -> Result<u64, String> {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, self.from), 0)).await.unwrap();
        let caller = self.ask(&format!("call {}", listener.local_addr().unwrap()));
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut talk = Talk::new(Raw::new(stream), Side::Client);
        self.converse(&mut talk, held, &format!("cancel {caller}")).await?;
        if let Some(wanted) = &held.call {
            talk.told(wanted, &outcome(&self.ask(&format!("outcome {caller}"))))?;
        }
        self.ask(&format!("leave {caller}"));
        Ok(0)
    }

    /// The conversation; `act` is what the role is told where a step is its own.
    async fn converse(&self, talk: &mut Talk, held: &Held, act: &str) -> Result<(), String> {
        for step in self.suite.opening(self.side, &held.begin).iter().chain(&held.steps) {
            match step {
                Step::Caller { .. } | Step::Subject { .. } => drop(self.ask(act)),
                step => talk.step(step).await?,
            }
        }
        talk.then(&held.then, &self.suite.open).await
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 0, self.from), 0).into())?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Answered at once: nobody else is kept waiting.
    fn ask(&self, command: &str) -> String {
        self.process.borrow_mut().ask(command)
    }
}

/// An outcome as a caller says it.
fn outcome(said: &str) -> Outcome {
    // The name of a status may be two words.
    let (status, rest) = said.rsplit_once(' ').unwrap_or((said, ""));
    let rest = Some(rest.to_owned());
    let (payload, disposition) = if status == "OK" { (rest, None) } else { (None, rest) };
    Outcome { status: status.to_owned(), disposition, payload }
}
