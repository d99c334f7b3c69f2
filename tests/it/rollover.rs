//! The end of the ids: a channel goes on over a new connection, and loses no call.
//!
//! ```text
//!   64 callers --- channel --- wire (reads along) --- server
//! ```
//!
//! A relay of bytes between the two sides says which ids stood on which connection, and in which
//! order things were said: what neither side can be asked.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use switchback::wire::{CallId, CloseReason, Frame};
use switchback::{Channel, ClientConfig, Server};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::raw::Raw;
use crate::support::{Gate, Plain, echo, echo_stub, plain, tcp};

/// What was said on one connection, in the order in which the relay read it.
#[derive(Debug, Default)]
struct Said {
    asked: Vec<u32>,
    answered: Vec<u32>,
    /// Calls that were answered when the client said farewell, and its reason.
    farewell: Option<(usize, CloseReason)>,
}

/// All connections, in the order in which they were made.
#[derive(Clone, Debug, Default)]
struct Wire(Arc<Mutex<Vec<Said>>>);

impl Wire {
    /// Relays every connection to a listener to the server there; says where it listens.
    async fn before(&self, url: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = format!("tcp://{}", listener.local_addr().unwrap());
        let (wire, address) = (self.clone(), url.trim_start_matches("tcp://").to_owned());
        tokio::spawn(async move {
            loop {
                let (from_client, to_client) = listener.accept().await.unwrap().0.into_split();
                let (from_server, to_server) =
                    TcpStream::connect(&address).await.unwrap().into_split();
                let number = wire.with(|all| {
                    all.push(Said::default());
                    all.len() - 1
                });
                tokio::spawn(wire.clone().relay(number, from_client, to_server));
                tokio::spawn(wire.clone().relay(number, from_server, to_client));
            }
        });
        here
    }

    /// One direction of one connection, to its end, which is passed on when `to` is dropped.
    async fn relay(self, number: usize, from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut from = Raw::new(tokio::io::join(from, tokio::io::sink()));
        let Ok(preface) = from.try_bytes(8).await else { return };
        to.write_all(&preface).await.unwrap();
        while let Ok(Some(frame)) = from.try_next().await {
            self.with(|all| all[number].note(&frame.parse().unwrap()));
            // Whoever has said farewell reads no more.
            if to.write_all(frame.as_bytes()).await.is_err() {
                break;
            }
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<Said>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Said {
    fn note(&mut self, frame: &Frame<'_>) {
        match frame {
            Frame::Request(request) => self.asked.push(request.call.0),
            Frame::Response(response) => self.answered.push(response.call.0),
            Frame::Close(close) if self.farewell.is_none() => {
                self.farewell = Some((self.answered.len(), close.reason));
            }
            _ => {}
        }
    }

    /// No id twice, each answered once, all from `first` on and odd, and no farewell before the
    /// last answer.
    fn check(&self, first: u32) {
        let distinct: BTreeSet<u32> = self.asked.iter().copied().collect();
        assert_eq!(distinct.len(), self.asked.len(), "an id stood for two calls");
        assert!(self.asked.is_sorted(), "ids do not ascend");
        assert!(self.asked.iter().all(|id| *id >= first && id % 2 == 1));
        let answered: BTreeSet<u32> = self.answered.iter().copied().collect();
        assert_eq!((answered.len(), &answered), (self.answered.len(), &distinct));
        if let Some((answered, reason)) = self.farewell {
            assert_eq!((answered, reason), (self.asked.len(), CloseReason::NORMAL));
        }
    }
}

/// `callers` tasks make `calls` calls each, one after the other; all must be answered rightly.
async fn call_all(channel: &Channel, callers: u64, calls: u64) {
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let channel = channel.clone();
        tasks.spawn(async move {
            for n in 0..calls {
                let sent = caller * calls + n;
                assert_eq!(channel.call(echo_stub(), sent).await, Ok(sent));
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

fn beginning_at(first: u32) -> ClientConfig {
    let mut config = ClientConfig::default();
    config.first_call = CallId(first);
    config
}

/// CA-1: when a connection's ids are used up, calls go on over another one; none is lost, none
/// fails, no id stands for two calls, and the old connection ends once its calls have. The method
/// is not idempotent: no retry helps. Shown by 64 callers over TCP, 3,200 calls and 1,000 ids a
/// connection, the last of them 2^32 - 1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ca_1_calls_go_on_when_ids_are_used_up() {
    let (ids, calls) = (1000_usize, 64 * 50_usize);
    let first = u32::MAX - 2 * 999;
    let server = tcp(Server::new().method(echo())).await;
    let wire = Wire::default();
    let url = wire.before(&server.url).await;
    let channel = Channel::builder().config(beginning_at(first)).lazy(&url).unwrap();

    call_all(&channel, 64, 50).await;

    drop(channel);
    server.stop.send(()).unwrap();
    server.drained.await.unwrap().unwrap();
    wire.with(|all| {
        all.iter().for_each(|said| said.check(first));
        assert!(all.len() >= calls / ids, "{} connections", all.len());
        let asked: usize = all.iter().map(|said| said.asked.len()).sum();
        assert_eq!(asked, calls, "a call was sent twice, or not at all");
        let (_, used_up) = all.split_last().unwrap();
        for said in used_up {
            // Ids whose slots are busy are skipped, the last ones too.
            assert!(said.asked.last() > Some(&(u32::MAX - 2 * 64)), "it was left with ids");
            assert!(said.farewell.is_some(), "it did not end");
        }
    });
}

/// CA-1: ids are unsigned. Shown by 64 callers whose calls begin below 2^31 and end above it, on
/// one connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ca_1_ids_pass_the_middle() {
    let first = (1 << 31) - 1001;
    let server = tcp(Server::new().method(echo())).await;
    let wire = Wire::default();
    let url = wire.before(&server.url).await;
    let channel = Channel::builder().config(beginning_at(first)).lazy(&url).unwrap();

    call_all(&channel, 64, 50).await;

    wire.with(|all| {
        assert_eq!(all.len(), 1);
        all[0].check(first);
        assert!(all[0].asked.last() >= Some(&(first + 2 * 3199)));
    });
}

/// CA-1: a connection whose ids are used up is left to the calls that are on it: they are answered
/// there, however many calls the next one has served by then. Shown by the very last id, whose
/// handler waits.
#[tokio::test]
async fn ca_1_a_used_up_connection_serves_its_last_call() {
    let gate = Gate::default();
    let server = tcp(Server::new().method(gate.method("it.Gate/pass")).method(echo())).await;
    let wire = Wire::default();
    let url = wire.before(&server.url).await;
    let channel = Channel::builder().config(beginning_at(u32::MAX)).lazy(&url).unwrap();
    let stub: Plain<u64, u64> = plain("it.Gate/pass");
    let last = tokio::spawn(channel.call(stub, 4));
    gate.entered.reach(1).await;

    for n in 0..10 {
        assert_eq!(channel.call(echo_stub(), n).await, Ok(n));
    }
    wire.with(|all| assert_eq!((all[0].asked.len(), all[0].answered.len()), (1, 0)));
    assert!(!last.is_finished());
    gate.open.notify_one();

    assert_eq!(last.await.unwrap(), Ok(4));
    drop(channel);
    server.stop.send(()).unwrap();
    server.drained.await.unwrap().unwrap();
    wire.with(|all| {
        // One id each, the gate's first of all.
        assert_eq!(all.len(), 11);
        all.iter().for_each(|said| said.check(u32::MAX));
        assert!(all.iter().all(|said| said.farewell.is_some()));
    });
}
