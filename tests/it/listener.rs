//! The listener: errors of `accept`, limits on connections, and their counters.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use switchback::server::{ListenerHandle, ListenerStats};
use switchback::transport::{Accept, Address, Stream};
use switchback::{Code, Server, ServerConfig};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

use crate::raw::{Ask, Raw};
use crate::support::{MEM_BYTES, Tcp, echo, log_to, now, run, settle};

/// Accepts what it is given, errors as they are; when nothing is left, as `then` says.
struct Scripted {
    given: tokio::sync::Mutex<mpsc::UnboundedReceiver<io::Result<Stream>>>,
    /// When each `accept` began.
    asked_at: Arc<Mutex<Vec<Instant>>>,
}

/// Where a test gives connections to the server that listens.
struct Door {
    give: mpsc::UnboundedSender<io::Result<Stream>>,
    asked_at: Arc<Mutex<Vec<Instant>>>,
    listener: ListenerHandle,
    tcp: Tcp,
}

impl Accept for Scripted {
    fn accept(&self) -> Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + '_>> {
        Box::pin(async {
            self.asked_at.lock().unwrap().push(now());
            match self.given.lock().await.recv().await {
                Some(given) => given,
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> Address {
        Address::parse("tcp://127.0.0.1:1").unwrap()
    }
}

/// A server with an echo, whose connections are given by the test.
fn door(config: ServerConfig) -> Door {
    let (give, given) = mpsc::unbounded_channel();
    let (given, asked_at) = (tokio::sync::Mutex::new(given), Arc::default());
    let acceptor = Scripted { given, asked_at: Arc::clone(&asked_at) };
    let server = Server::new().config(config).method(echo()).listen(acceptor).unwrap();
    let listener = server.listener();
    Door { give, asked_at, listener, tcp: run(server) }
}

impl Door {
    fn fail(&self, errno: i32) {
        self.give.send(Err(io::Error::from_raw_os_error(errno))).unwrap();
    }

    /// A client at this address, which has said nothing yet.
    fn connect(&self, ip: Option<IpAddr>) -> Raw {
        let (raw, stream) = Raw::pair(MEM_BYTES);
        let stream = ip.into_iter().fold(stream, Stream::with_ip);
        self.give.send(Ok(stream)).unwrap();
        raw
    }

    /// A client that has said HELLO and been answered.
    async fn greet(&self, ip: Option<IpAddr>) -> Raw {
        let mut raw = self.connect(ip);
        raw.greet_server().await;
        raw
    }

    fn stats(&self) -> ListenerStats {
        self.listener.stats()
    }
}

fn config(edit: impl FnOnce(&mut ServerConfig)) -> ServerConfig {
    let mut config = ServerConfig::default();
    edit(&mut config);
    config
}

fn ip(last: u8) -> Option<IpAddr> {
    Some(Ipv4Addr::new(10, 0, 0, last).into())
}

/// That the connection lives.
async fn assert_answers(raw: &mut Raw, call: u32) {
    raw.ask(Ask::new(call, "it.Echo/echo")).await;
    assert_eq!(raw.reply().await.status, Code::OK);
}

/// That it was closed, and that not a byte was said before (HS-2).
async fn assert_closed_unsaid(raw: &mut Raw) {
    assert_eq!(raw.rest().await, [0; 0]);
}

/// Linux's numbers, and whether the next `accept` waits: those of the system as a whole, and what
/// nobody expects; not those of one connection.
#[cfg(target_os = "linux")]
const ERRORS: [(&str, i32, bool); 17] = [
    ("EPERM", 1, false),
    ("EINTR", 4, false),
    ("EBADF", 9, true),
    ("EAGAIN", 11, false),
    ("ENOMEM", 12, true),
    ("EACCES", 13, false),
    ("EFAULT", 14, true),
    ("EINVAL", 22, true),
    ("ENFILE", 23, true),
    ("EMFILE", 24, true),
    ("ENETDOWN", 100, false),
    ("ENETUNREACH", 101, false),
    ("ECONNABORTED", 103, false),
    ("ECONNRESET", 104, false),
    ("ENOBUFS", 105, true),
    ("ETIMEDOUT", 110, false),
    ("EHOSTUNREACH", 113, false),
];

/// No error of `accept` ends the server: a client that comes after it is served, at once where
/// the error was of another connection, after 5 ms where the system has run out of something; and
/// a connection from before is unharmed. Shown by each errno, on a clock that stands still.
#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn every_error_of_accept_is_survived() {
    let door = door(ServerConfig::default());
    let mut old = door.greet(None).await;

    for (n, (name, errno, waits)) in (0..).zip(ERRORS) {
        let before = now();
        door.fail(errno);
        let mut new = door.greet(None).await;
        let wait = now() - before;

        assert_answers(&mut new, 1).await;
        assert_answers(&mut old, 2 * n + 1).await;
        assert_eq!(door.stats().accept_errors, u64::from(n) + 1, "{name}");
        let is_right = if waits { (5..=6).contains(&wait.as_millis()) } else { wait.is_zero() };
        assert!(is_right, "{name} waited {wait:?}");
    }
}

/// Exhaustion that lasts is waited for longer each time, from 5 ms to a second, and the first
/// connection after it makes the next wait short again. Shown by the times of twelve calls.
#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn the_wait_doubles_to_a_second() {
    let door = door(ServerConfig::default());

    for _ in 0..10 {
        door.fail(24);
    }
    let _client = door.greet(None).await;
    door.fail(24);
    let _client = door.greet(None).await;

    let at = door.asked_at.lock().unwrap().clone();
    let waits: Vec<u128> = at.windows(2).map(|at| (at[1] - at[0]).as_millis()).collect();
    let wanted = [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 0, 5, 0];
    assert_eq!(waits.len(), wanted.len(), "{waits:?}");
    for (wait, wanted) in waits.iter().zip(wanted) {
        assert!((wanted..=wanted + 1).contains(wait), "{waits:?}");
    }
}

/// A client that makes connections only to break them holds nobody up, and a transport that does
/// nothing but fail burns no core: one error in 128 is waited for, 5 ms, never longer. Shown by
/// 1,280 of them before a client.
#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn broken_connections_hold_nobody_up() {
    let door = door(ServerConfig::default());
    let before = now();

    for _ in 0..1280 {
        door.fail(103);
    }
    let _client = door.greet(None).await;

    let wait = now() - before;
    assert!((50..=60).contains(&wait.as_millis()), "{wait:?}");
}

/// Never waits, never lets a client in.
struct Broken;

impl Accept for Broken {
    fn accept(&self) -> Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + '_>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionAborted.into())))
    }

    fn local_addr(&self) -> Address {
        Address::parse("tcp://127.0.0.1:1").unwrap()
    }
}

/// A shutdown is seen although `accept` is never pending.
#[tokio::test(start_paused = true)]
async fn a_shutdown_is_seen_between_errors() {
    let tcp = run(Server::new().method(echo()).listen(Broken).unwrap());
    settle().await;

    tcp.stop.send(()).unwrap();

    assert_eq!(tcp.drained.await.unwrap().unwrap().connections, 0);
}

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What this file's tests of the log rest on: a line of code that another test's thread came to
/// first is heard of all the same. Shown by a thread that listens to nothing.
#[test]
fn a_line_that_others_came_to_first_is_logged() {
    fn say() {
        tracing::warn!("said");
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let _log = log_to(tracing_subscriber::fmt().with_writer(move || writer.clone()).finish());

    std::thread::spawn(say).join().unwrap();
    say();

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("said"), "{text:?}");
}

/// A flood of connections writes ten lines a second, errors and refusals together, and says how
/// many were left out. Shown by 500 refusals and 500 errors, and one more a second later.
#[tokio::test(start_paused = true)]
async fn the_log_is_bounded() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    let _log = log_to(log.finish());
    let door = door(config(|config| config.connections_per_address_max = 1));
    let _first = door.greet(ip(1)).await;

    for _ in 0..500 {
        drop(door.connect(ip(1)));
        door.give.send(Err(io::ErrorKind::ConnectionAborted.into())).unwrap();
    }
    let _other = door.greet(ip(2)).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    drop(door.connect(ip(1)));
    settle().await;

    assert_eq!(door.stats().refused_per_address, 501);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let lines: VecDeque<&str> = text.lines().collect();
    assert_eq!(lines.len(), 11, "{text}");
    assert!(lines[10].contains("PerAddress") && lines[10].contains("unsaid=990"), "{text}");
}

/// One address takes no more than its share; what it has goes on, another address is served, and
/// a place given back can be taken again. Shown at the limit and one above it; a mapped IPv6
/// address is the IPv4 address it maps; an unknown address is not counted.
#[tokio::test(start_paused = true)]
async fn connections_of_one_address_are_limited() {
    let door = door(config(|config| config.connections_per_address_max = 2));
    let mapped = Some(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into());

    let mut first = door.greet(ip(1)).await;
    let second = door.greet(mapped).await;
    assert_closed_unsaid(&mut door.connect(ip(1))).await;
    assert_closed_unsaid(&mut door.connect(mapped)).await;
    assert_answers(&mut first, 1).await;
    assert_answers(&mut door.greet(ip(2)).await, 1).await;
    for _ in 0..3 {
        assert_answers(&mut door.greet(None).await, 1).await;
    }
    drop(second);
    settle().await;
    assert_answers(&mut door.greet(mapped).await, 1).await;

    let stats = door.stats();
    assert_eq!((stats.accepted, stats.refused_per_address, stats.displaced), (9, 2, 0));
}

/// The same over TCP, where the transport tells the address: 127.0.0.1 is full, 127.0.0.2 is
/// served.
#[tokio::test]
async fn tcp_tells_the_address() {
    let config = config(|config| config.connections_per_address_max = 1);
    let server = Server::new().config(config).method(echo()).bind("tcp://127.0.0.1:0");
    let server = server.await.unwrap();
    let listener = server.listener();
    let tcp = run(server);

    let mut first = Raw::connect(&tcp.url).await;
    first.greet_server().await;
    assert_closed_unsaid(&mut Raw::connect(&tcp.url).await).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let address = tcp.url.trim_start_matches("tcp://").parse().unwrap();
    let mut other = Raw::new(socket.connect(address).await.unwrap());
    other.greet_server().await;

    assert_answers(&mut first, 1).await;
    assert_answers(&mut other, 1).await;
    assert_eq!(listener.stats().refused_per_address, 1);
}

/// A flood that says nothing holds no client up: each newcomer takes the place of the oldest in
/// the handshake, never of one that has said HELLO. Shown at the limit and above it.
#[tokio::test(start_paused = true)]
async fn the_oldest_handshake_makes_room() {
    let door = door(config(|config| config.handshaking_connections_max = 2));

    let mut greeted = door.greet(None).await;
    let mut silent: Vec<Raw> = (0..2).map(|_| door.connect(None)).collect();
    settle().await;
    assert_eq!((door.stats().handshaking, door.stats().displaced), (2, 0));
    let mut newcomer = door.greet(None).await;
    assert_closed_unsaid(&mut silent.remove(0)).await;
    silent[0].greet_server().await; // Slow, but its place was not needed.

    assert_answers(&mut silent[0], 1).await;
    assert_answers(&mut newcomer, 1).await;
    assert_answers(&mut greeted, 1).await;
    let stats = door.stats();
    assert_eq!((stats.handshaking, stats.handshaking_max, stats.displaced), (0, 2, 1));
    assert_eq!((stats.open, stats.open_max), (3, 3));
}

/// When every place is taken, a newcomer takes that of a handshake; if there is none it is closed
/// at once, not left to wait; and those inside go on. Shown with two places; when one is given
/// back, it can be taken.
#[tokio::test(start_paused = true)]
async fn a_full_server_closes_at_once() {
    let door = door(config(|config| config.connections_max = 2));

    let mut first = door.greet(None).await;
    let mut silent = door.connect(None);
    settle().await;
    let mut second = door.greet(None).await;
    assert_closed_unsaid(&mut silent).await;
    assert_closed_unsaid(&mut door.connect(None)).await;
    assert_answers(&mut first, 1).await;
    assert_answers(&mut second, 1).await;
    let stats = door.stats();
    assert_eq!((stats.displaced, stats.refused_full, stats.open_max), (1, 1, 2));
    drop(first);
    settle().await;
    assert_answers(&mut door.greet(None).await, 1).await;

    drop(second);
    door.tcp.stop.send(()).unwrap();
    door.tcp.drained.await.unwrap().unwrap();
    let stats = door.listener.stats();
    assert_eq!((stats.open, stats.handshaking), (0, 0), "{stats:?}");
}
