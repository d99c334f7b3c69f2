//! What holds over every transport: the same conversations over `tcp://`, `unix://` and `mem://`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use switchback::server::BoundServer;
use switchback::{Channel, Code, Cx, Disposition, ErrorKind, Method, Server};

use crate::support::{
    Answer, Gate, Plain, Tcp, assert_status, echo, echo_stub, leak, plain, run, settle,
};

/// An address to bind for each transport, and what its temporary files hang on.
fn addresses() -> Vec<(String, Option<crate::support::TempDir>)> {
    let mut all = vec![("tcp://127.0.0.1:0".to_owned(), None), ("mem://".to_owned(), None)];
    if cfg!(unix) {
        let dir = crate::support::TempDir::new();
        all.push((format!("unix://{}/it.sock", dir.path().display()), Some(dir)));
    }
    if cfg!(target_os = "linux") {
        // Tests run beside each other, in one name space.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        all.push((format!("unix://@switchback-it-{process}-{number}"), None));
    }
    all
}

async fn bind(url: &str, server: Server) -> BoundServer {
    server.bind(url).await.unwrap_or_else(|error| panic!("{url}: {error}"))
}

async fn serve(url: &str, server: Server) -> Tcp {
    run(bind(url, server).await)
}

/// Small calls and large ones, many at a time, come back as they must. Shown by 96 calls of up to
/// 256 KiB from eight tasks on one connection.
#[tokio::test]
async fn calls_are_answered_over_every_transport() {
    for (url, _dir) in addresses() {
        let back = Method::infallible("it.Bytes/back", 1, |_cx: Cx, bytes: Vec<u8>| async move {
            Answer::Ok(bytes)
        });
        let server = serve(&url, Server::new().method(back)).await;
        let channel = Channel::connect(&server.url).await.unwrap();
        let stub: Plain<Vec<u8>, Vec<u8>> = plain("it.Bytes/back");

        let mut tasks = Vec::new();
        for task in 0..8_u8 {
            let channel = channel.clone();
            tasks.push(tokio::spawn(async move {
                for n in 0..12_usize {
                    let len = if n == 11 { 1 << 18 } else { n * 97 };
                    let bytes = vec![task; len];
                    assert_eq!(channel.call(stub, bytes.clone()).await, Ok(bytes));
                }
            }));
        }
        for task in tasks {
            task.await.unwrap_or_else(|error| panic!("{url}: {error}"));
        }
    }
}

/// A call that is dropped takes its handler along, and one that takes too long ends at its
/// deadline, over every transport. Shown by a handler that waits.
#[tokio::test]
async fn calls_are_taken_back_over_every_transport() {
    for (url, _dir) in addresses() {
        let gate = Gate::default();
        let server = serve(&url, Server::new().method(gate.method("it.Gate/pass"))).await;
        let channel = Channel::connect(&server.url).await.unwrap();
        let stub: Plain<u64, u64> = plain("it.Gate/pass");

        let dropped = tokio::spawn(channel.call(stub, 1));
        gate.entered.reach(1).await;
        dropped.abort();
        gate.left.reach(1).await;
        let late = channel.call(stub, 2).timeout(Duration::from_millis(20)).await;

        assert_status(late, Code::DEADLINE_EXCEEDED, Disposition::Maybe);
        gate.left.reach(2).await;
    }
}

/// A drain finishes what runs, frees the address at once, and a channel finds the next server
/// there, over every transport. Shown by a call that is held across the restart.
#[tokio::test]
async fn servers_drain_and_start_again_over_every_transport() {
    for (url, _dir) in addresses() {
        let gate = Gate::default();
        let old = serve(&url, Server::new().method(gate.method("it.Gate/pass"))).await;
        let channel = Channel::connect(&old.url).await.unwrap();
        let stub: Plain<u64, u64> = plain("it.Gate/pass");
        let running = tokio::spawn(channel.call(stub, 4));
        gate.entered.reach(1).await;
        let taken = Server::new().bind(&old.url).await.unwrap_err();
        assert!(matches!(taken.kind(), ErrorKind::AddressInUse { .. }), "{taken}");

        old.stop.send(()).unwrap();
        let new = loop {
            match Server::new().method(echo()).bind(&old.url).await {
                Ok(server) => break run(server),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::AddressInUse { .. }), "{error}");
                    settle().await; // The old one has not been told yet.
                }
            }
        };
        assert_eq!(new.url, old.url);
        let answered = channel.call(echo_stub(), 5).wait_for_ready(true).await;
        gate.open.notify_one();

        assert_eq!(answered, Ok(5), "{url}");
        assert_eq!(running.await.unwrap(), Ok(4), "{url}");
        old.drained.await.unwrap().unwrap();
    }
}

/// Who serves and who listens nowhere is named. Shown by a call to an address that was given up.
#[tokio::test]
async fn nobody_there_is_refused_over_every_transport() {
    for (url, _dir) in addresses() {
        let address = bind(&url, Server::new()).await.url(); // Dropped at once.
        let error = Channel::connect(&address).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Refused { .. }), "{url}: {error}");
        let call = Channel::lazy(&address).unwrap().call(echo_stub(), 1).await;
        assert_status(call, Code::NOT_CONNECTED, Disposition::NotProcessed);
    }
}

/// A handler is told who calls, by a name that tells two connections apart where the transport
/// does, and by the system's word over Unix sockets alone.
#[tokio::test]
async fn handlers_see_who_calls_over_every_transport() {
    type Who = (String, Option<(u32, u32, Option<u32>)>);
    let stub: Plain<(), Who> = leak(switchback::Stub::infallible(
        "it.Who/who",
        1,
        switchback::service::Fingerprint::UNCHECKED,
    ));
    for (url, _dir) in addresses() {
        let who = Method::infallible("it.Who/who", 1, |cx: Cx, (): ()| async move {
            let peer = cx.peer();
            let credentials = peer.credentials.map(|found| (found.uid, found.gid, found.pid));
            Answer::Ok((peer.address.clone(), credentials))
        });
        let server = serve(&url, Server::new().method(who)).await;
        let channel = Channel::connect(&server.url).await.unwrap();

        let (address, credentials) = channel.call(stub, ()).await.unwrap();

        if url.starts_with("unix:") {
            let (uid, _gid, pid) = credentials.unwrap();
            assert_eq!(pid, Some(std::process::id()));
            assert_eq!(address, format!("unix:uid={uid},pid={}", std::process::id()));
        } else {
            assert_eq!(credentials, None, "{url}");
            let start = if url.starts_with("mem:") {
                format!("{}#", server.url)
            } else {
                "127.".to_owned()
            };
            assert!(address.starts_with(&start), "{address}");
        }
    }
}
