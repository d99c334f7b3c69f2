//! Something else at the other end: each is a distinct error that names what was found.

use std::time::Duration;

use switchback::transport::Address;
use switchback::{Channel, ClientConfig, Error, ErrorKind, Router, Server, ServerConfig};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::raw::Raw;
use crate::support::{driven, echo, echo_stub, mem, tcp};

/// What a client says that meets these bytes instead of a server.
async fn meet_server(bytes: &[u8]) -> Error {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let connecting = tokio::spawn(async move { Channel::connect(&url).await });
    let mut raw = Raw::accept(&listener).await;
    raw.client_hello().await;
    raw.write(bytes).await;
    let error = connecting.await.unwrap().unwrap_err();
    assert_eq!(raw.rest().await, [0; 0], "HS-2: closed without a word");
    error
}

/// What a server says that meets these bytes instead of a client, and what it wrote.
async fn meet_client(bytes: &[u8]) -> (Error, Vec<u8>) {
    let (mut raw, _handle, server) =
        driven(Router::new().method(echo()), &ServerConfig::default(), 4096);
    raw.write(bytes).await;
    let error = server.await.unwrap();
    (error, raw.rest().await)
}

/// HS-2: a client that meets HTTP, TLS, SSH or noise says so, with the first bytes. Shown over
/// TCP; a channel to a real server has no fault meanwhile.
#[tokio::test]
async fn hs_2_a_client_names_what_it_met() {
    let victim = tcp(Server::new().method(echo())).await;
    let victim = Channel::connect(&victim.url).await.unwrap();
    for (bytes, wanted) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "switchback but HTTP: it sent \"HTTP/1.1"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "switchback but HTTP/2: it sent"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "switchback but TLS: it sent"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "switchback but SSH: it sent \"SSH-2.0-"),
        (b"hello, who is there?", "does not speak switchback: it sent \"hello, who is th"),
        (b"SWBX", "does not speak switchback: it sent \"SWBX"),
    ] {
        let error = meet_server(bytes).await;

        assert!(matches!(error.kind(), ErrorKind::NotSwitchback { .. }), "{error}");
        assert!(error.to_string().contains(wanted), "{error}");
        assert_eq!(victim.call(echo_stub(), 1).await, Ok(1));
    }
}

/// HS-2: a server that meets HTTP, TLS, SSH or noise writes nothing and closes; its own error
/// names what it met. Shown by each, with a call of another connection in between.
#[tokio::test]
async fn hs_2_a_server_names_what_it_met() {
    let (victim, _, _server) = mem(Server::new().method(echo()));
    for (bytes, wanted) in [
        (&b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"[..], "but HTTP: it sent \"GET / HTTP/1.1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "but HTTP/2: it sent"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "but TLS: it sent"),
        (b"SSH-2.0-client", "but SSH: it sent"),
        (b"\xff\xff\xff\xff\xff", "does not speak switchback: it sent"),
    ] {
        let (error, written) = meet_client(bytes).await;

        assert!(matches!(error.kind(), ErrorKind::NotSwitchback { .. }), "{error}");
        assert!(error.to_string().contains(wanted), "{error}");
        assert_eq!(written, [0; 0]);
        assert_eq!(victim.call(echo_stub(), 1).await, Ok(1));
    }
}

/// A listening server outlives every kind of wrong client. Shown over TCP: noise, an immediate
/// end, half a preface, and then a call on a connection from before and one from after.
#[tokio::test]
async fn a_listener_outlives_wrong_clients() {
    let server = tcp(Server::new().method(echo())).await;
    let before = Channel::connect(&server.url).await.unwrap();

    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"", b"SWB", b"\x16\x03\x01"] {
        let mut raw = Raw::connect(&server.url).await;
        raw.write(bytes).await;
        raw.shutdown().await;
        assert_eq!(raw.rest().await, [0; 0]);
    }

    assert_eq!(before.call(echo_stub(), 1).await, Ok(1));
    let after = Channel::connect(&server.url).await.unwrap();
    assert_eq!(after.call(echo_stub(), 2).await, Ok(2));
}

/// A server that closes at once, and one that stays silent, are told apart. Shown over TCP; the
/// silent one with a limit of 40 ms of real time.
#[tokio::test]
async fn an_immediate_end_and_silence_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let connect = |url: String| -> JoinHandle<Result<Channel, Error>> {
        let mut config = ClientConfig::default();
        config.handshake_timeout = Duration::from_millis(40);
        tokio::spawn(async move { Channel::builder().config(config).connect(&url).await })
    };

    let connecting = connect(url.clone());
    let mut raw = Raw::accept(&listener).await;
    raw.client_hello().await;
    drop(raw);
    let error = connecting.await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Lost { .. }), "{error}");
    assert!(error.to_string().contains("closed it without a word"), "{error}");

    let error = connect(url).await.unwrap().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("did not finish the handshake within 40ms"), "{text}");
}

/// Addresses that cannot be had are errors of their own, which name the address. Shown by a port
/// that nobody listens at, a host that does not exist, a port that is taken, plaintext that is
/// not loopback, and texts that are no address.
#[tokio::test]
async fn addresses_that_cannot_be_had_are_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = format!("tcp://{}", listener.local_addr().unwrap());
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = format!("tcp://{}", free.local_addr().unwrap());
    drop(free);

    let error = Channel::connect(&refused).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused { .. }), "{error}");
    assert!(error.to_string().contains(&refused), "{error}");
    let error = Channel::connect("tcp://no-such-host.invalid:7").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnknownHost { .. }), "{error}");
    assert!(error.to_string().contains("\"no-such-host.invalid\" is not known"), "{error}");
    let error = Server::new().method(echo()).bind(&taken).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::AddressInUse { .. }), "{error}");
    assert!(error.to_string().contains(&taken), "{error}");
    for open in ["tcp://0.0.0.0:0", "tcp://[::]:0"] {
        let error = Server::new().method(echo()).bind(open).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InsecureAddress { .. }), "{error}");
        assert!(error.to_string().contains("insecure_plaintext()"), "{error}");
    }
    let error = Channel::connect("tcp://192.0.2.1:7").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InsecureAddress { .. }), "{error}");
    for bad in ["127.0.0.1:7", "http://127.0.0.1:7", "tcp://127.0.0.1", "tcp://:7", "tcp://x:y"] {
        let error = Channel::lazy(bad).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Address { .. }), "{error}");
        assert!(error.to_string().contains(&format!("{bad:?} is no address")), "{error}");
    }
}

/// Plaintext beyond loopback works where the user says that the network is trusted. Shown by a
/// server at every address and a client that reaches it.
#[tokio::test]
async fn a_trusted_network_may_be_used() {
    let server = Server::new().method(echo()).insecure_plaintext();
    let bound = server.bind("tcp://0.0.0.0:0").await.unwrap();
    let Address::Tcp { port, .. } = bound.local_addr() else { unreachable!("it is TCP") };
    let _server = crate::support::run(bound);

    let url = format!("tcp://0.0.0.0:{port}");
    assert!(Channel::connect(&url).await.is_err());
    let channel = Channel::builder().insecure_plaintext().connect(&url).await.unwrap();
    assert_eq!(channel.call(echo_stub(), 3).await, Ok(3));
}
