//! `mem://`: names within the process, and time that takes none.

use std::time::Duration;

use switchback::transport::{Accept, Address, Connect, MemAcceptor, MemConnector};
use switchback::{Channel, ClientConfig, Code, Disposition, ErrorKind, Server};

use crate::support::{Gate, Plain, assert_status, echo, echo_stub, now, plain, run, settle};

fn address(name: &str) -> Address {
    Address::parse(&format!("mem://{name}")).unwrap()
}

/// A name has one listener, is refused when it has none, and is free again when that is gone; names
/// that the process chooses differ.
#[tokio::test]
async fn a_name_has_one_listener() {
    let taken = address("it.mem.one");
    let first = MemAcceptor::bind(&taken).unwrap();
    let error = MemAcceptor::bind(&taken).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::AddressInUse { address } if address == "mem://it.mem.one")
    );
    let (one, other) =
        (MemAcceptor::bind(&address("")).unwrap(), MemAcceptor::bind(&address("")).unwrap());
    assert_ne!(one.local_addr(), other.local_addr());
    drop(first);
    let error = MemConnector::new(taken.clone()).connect().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused { .. }), "{error}");
    MemAcceptor::bind(&taken).unwrap();

    let error = MemConnector::new(address("")).connect().await.unwrap_err();
    assert!(error.to_string().contains("name is missing"), "{error}");
    let tcp = Address::parse("tcp://127.0.0.1:1").unwrap();
    assert!(matches!(MemAcceptor::bind(&tcp).unwrap_err().kind(), ErrorKind::Address { .. }));
}

/// The queue of a listener holds 1,024; one more waits until there is room or its time is over, and
/// all that wait see the end when the listener goes.
#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded() {
    let name = address("it.mem.queue");
    let acceptor = MemAcceptor::bind(&name).unwrap();
    let connector = MemConnector::new(name);
    let mut waiting = Vec::new();
    for _ in 0..1024 {
        waiting.push(connector.connect().await.unwrap());
    }
    let error = Channel::connect("mem://it.mem.queue").await.unwrap_err();
    let ErrorKind::ConnectTimeout { after, .. } = error.kind() else { panic!("{error}") };
    assert_eq!(*after, Duration::from_secs(5));

    let late = tokio::spawn({
        let connector = connector.clone();
        async move { connector.connect().await }
    });
    settle().await;
    assert!(!late.is_finished());
    drop(acceptor.accept().await.unwrap());
    late.await.unwrap().unwrap();

    let too_late = tokio::spawn(async move { connector.connect().await });
    settle().await;
    drop(acceptor);
    let error = too_late.await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused { .. }), "{error}");
}

/// A process has at most 4,096 names; the error names the limit, and nothing is left behind.
#[test]
fn names_are_bounded() {
    let mut bound = Vec::new();
    let error = loop {
        match MemAcceptor::bind(&address("")) {
            Ok(acceptor) => bound.push(acceptor),
            Err(error) => break error,
        }
    };
    assert!(bound.len() <= 4096);
    assert!(error.to_string().contains("4096 names"), "{error}");
    drop(bound);
    MemAcceptor::bind(&address("")).unwrap();
}

/// Waiting takes no time on a paused clock: a deadline of 10 s, the backoff of a server that is
/// away for a minute, and the end of a silent connection. Shown by the wall clock, which moves less
/// than the virtual one by an order of magnitude.
#[tokio::test(start_paused = true)]
async fn waiting_takes_no_time() {
    #[expect(clippy::disallowed_methods, reason = "the wall clock is what is measured")]
    let wall = || std::time::Instant::now();
    let (wall_before, before) = (wall(), now());
    let url = "mem://it.mem.time";
    let gate = Gate::default();
    let stub: Plain<u64, u64> = plain("it.Gate/pass");

    // A deadline.
    let server = run(Server::new().method(gate.method("it.Gate/pass")).bind(url).await.unwrap());
    let channel = Channel::connect(url).await.unwrap();
    let late = channel.call(stub, 1).await;
    assert_status(late, Code::DEADLINE_EXCEEDED, Disposition::Maybe);
    let waited = now() - before;
    assert!((10_000..10_020).contains(&waited.as_millis()), "{waited:?}");

    // A minute without a server.
    server.stop.send(()).unwrap();
    server.drained.await.unwrap().unwrap();
    let patient = channel.call(echo_stub(), 2).wait_for_ready(true);
    let patient = tokio::spawn(patient.timeout(Duration::from_secs(120)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!patient.is_finished());
    let _server = run(Server::new().method(echo()).bind(url).await.unwrap());
    assert_eq!(patient.await.unwrap(), Ok(2));

    // A server that takes the connection and says nothing: HELLO is waited for 5 s.
    let silent = MemAcceptor::bind(&address("it.mem.silent")).unwrap();
    let begun = now();
    let error = Channel::builder()
        .config(ClientConfig::default())
        .connect("mem://it.mem.silent")
        .await
        .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::HandshakeTimeout { .. }), "{error}");
    assert!((5000..5100).contains(&(now() - begun).as_millis()));
    drop(silent);

    let (took, passed) = (wall() - wall_before, now() - before);
    assert!(passed >= Duration::from_secs(75), "{passed:?}");
    assert!(took < passed / 10, "{took:?} for {passed:?}");
}

/// Who waits to be accepted when a server is told to stop is sent away in good order too, however
/// many they are: no call ends unknown. Shown by 200 calls that were sent before anybody accepted.
#[tokio::test(start_paused = true)]
async fn a_full_queue_is_drained_in_good_order() {
    let server = Server::new().method(echo()).bind("mem://").await.unwrap();
    let url = server.url();
    let calls: Vec<_> =
        (0..200).map(|n| tokio::spawn(Channel::lazy(&url).unwrap().call(echo_stub(), n))).collect();
    settle().await;

    server.serve_until(std::future::ready(())).await.unwrap();

    for (n, call) in (0..).zip(calls) {
        match call.await.unwrap() {
            Ok(answer) => assert_eq!(answer, n),
            refused => {
                assert_status(refused, Code::NOT_CONNECTED, Disposition::NotProcessed);
            }
        }
    }
}
