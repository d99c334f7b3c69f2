//! `testing::Faults`: each fault does what it says, to a stream and to real connections above it.

use std::io::ErrorKind as Io;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::{Duration, Instant};

use switchback::testing::Faults;
use switchback::transport::{Accept, Address, Connect, MemAcceptor, MemConnector, Stream};
use switchback::{Channel, Code, Cx, Disposition, ErrorKind, Method, Server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Join};

use crate::pieces::many;
use crate::support::{
    Answer, Gate, Plain, assert_status, echo, echo_stub, now, plain, run, settle,
};

type End = Join<Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>>;

fn end(stream: Stream) -> End {
    let (reader, writer) = stream.into_halves();
    tokio::io::join(reader, writer)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The client's end, which has the faults, and the server's, which has not.
async fn ends(faults: &Faults) -> (End, End) {
    let acceptor = MemAcceptor::bind(&Address::parse("mem://").unwrap()).unwrap();
    let connector = faults.connector(MemConnector::new(acceptor.local_addr()));
    let near = connector.connect().await.unwrap();
    (end(near), end(acceptor.accept().await.unwrap()))
}

/// Reads until the end or an error, and says how many bytes each read gave.
async fn reads(from: &mut End) -> (Vec<usize>, Option<Io>) {
    let (mut sizes, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        let read = tokio::time::timeout(ms(60_000), from.read(&mut buf)).await;
        match read.expect("more bytes, or an end") {
            Ok(0) => return (sizes, None),
            Ok(bytes) => sizes.push(bytes),
            Err(error) => return (sizes, Some(error.kind())),
        }
    }
}

fn assert_near(time: Duration, wanted: Duration) {
    let late = time.checked_sub(wanted).unwrap_or_else(|| panic!("{time:?} is before {wanted:?}"));
    assert!(late <= ms(15), "{time:?} is long after {wanted:?}");
}

/// Bytes arrive after the latency of their way and in order, also when nobody polls the end that
/// wrote them; connecting takes the latencies of both. Shown by both ways with one of its own.
#[tokio::test(start_paused = true)]
async fn latency_is_of_each_way() {
    let faults = Faults::seeded(1);
    faults.change(|plan| {
        plan.to_server.latency = ms(300);
        plan.to_client.latency = ms(50);
    });
    let begun = now();
    let (mut near, mut far) = ends(&faults).await;
    assert_near(now() - begun, ms(350));

    let begun = now();
    near.write_all(b"one").await.unwrap();
    tokio::time::sleep(ms(100)).await;
    near.write_all(b"two").await.unwrap();
    let mut got = [0; 3];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"one");
    assert_near(now() - begun, ms(300));
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"two");
    assert_near(now() - begun, ms(400));

    let begun = now();
    far.write_all(b"six").await.unwrap();
    near.read_exact(&mut got).await.unwrap();
    assert_near(now() - begun, ms(50));
    let begun = now();
    near.shutdown().await.unwrap();
    assert_eq!(far.read(&mut got).await.unwrap(), 0);
    assert_near(now() - begun, ms(300));
}

/// A narrow way takes its time, and what is sent meanwhile waits its turn; the other way is free.
#[tokio::test(start_paused = true)]
async fn bandwidth_is_a_rate() {
    let faults = Faults::seeded(1);
    faults.change(|plan| plan.to_server.bytes_per_second = NonZeroU32::new(10_000));
    let (mut near, mut far) = ends(&faults).await;
    let begun = now();
    near.write_all(&[7; 50_000]).await.unwrap();
    far.write_all(&[7; 50_000]).await.unwrap();
    near.read_exact(&mut [0; 50_000]).await.unwrap();
    assert_near(now() - begun, ms(0));

    far.read_exact(&mut [0; 25_000]).await.unwrap();
    assert_near(now() - begun, ms(2500));
    far.read_exact(&mut [0; 25_000]).await.unwrap();
    assert_near(now() - begun, ms(5000));
}

/// Both ways of 500 bytes, in the sizes in which they are read. In a runtime of its own: how tasks
/// take turns depends on how many turns there were.
fn sizes(seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    let run = async move {
        let faults = Faults::seeded(seed);
        faults.change(|plan| {
            plan.to_server.piece_bytes_max = NonZeroUsize::new(5);
            plan.to_client.piece_bytes_max = NonZeroUsize::new(3);
        });
        let (mut near, mut far) = ends(&faults).await;
        let reading = tokio::spawn(async move { (reads(&mut far).await.0, far) });
        near.write_all(&[1; 500]).await.unwrap();
        near.shutdown().await.unwrap();
        let (at_server, mut far) = reading.await.unwrap();
        let reading = tokio::spawn(async move { reads(&mut near).await.0 });
        far.write_all(&[2; 500]).await.unwrap();
        far.shutdown().await.unwrap();
        (reading.await.unwrap(), at_server)
    };
    // A task, since a runtime's own future has its turn among tasks only now and then.
    runtime.block_on(async { tokio::spawn(run).await.unwrap() })
}

/// Pieces are no larger than what was said, on both ways, and nothing is lost; how large they are
/// depends on the seed alone.
#[test]
fn pieces_are_drawn_from_the_seed() {
    let (at_client, at_server) = sizes(4);
    for (sizes, max) in [(&at_client, 3), (&at_server, 5)] {
        assert_eq!(sizes.iter().sum::<usize>(), 500);
        assert_eq!(sizes.iter().max(), Some(&max), "{sizes:?}");
        assert!(sizes.contains(&1));
    }
    assert_eq!(sizes(4), (at_client.clone(), at_server.clone()));
    assert_ne!(sizes(5), (at_client, at_server));
}

/// A cut after so many bytes lets through that many and no more, on either way. Shown by 0, 1 and
/// 1,000 bytes of 2,000.
#[tokio::test(start_paused = true)]
async fn a_connection_is_cut_after_so_many_bytes() {
    for bytes in [0_usize, 1, 1000] {
        let faults = Faults::seeded(1);
        let (mut near, mut far) = ends(&faults).await;
        faults.change(|plan| plan.to_server.cut_after_bytes = Some(bytes as u64));
        drop(near.write_all(&[1; 2000]).await);
        let (sizes, end) = reads(&mut far).await;
        assert_eq!((sizes.iter().sum::<usize>(), end), (bytes, None));
        assert_eq!(near.write(b"more").await.unwrap_err().kind(), Io::ConnectionReset);

        faults.heal();
        let (mut near, mut far) = ends(&faults).await;
        faults.change(|plan| plan.to_client.cut_after_bytes = Some(bytes as u64));
        drop(far.write_all(&[1; 2000]).await);
        let (sizes, end) = reads(&mut near).await;
        assert_eq!((sizes.iter().sum::<usize>(), end), (bytes, Some(Io::ConnectionReset)));
        settle().await;
        assert_eq!(faults.open(), 0);
    }
}

/// Nothing arrives in a blackhole, not even the end; it holds 4 MiB, then the writer waits; when it
/// is over everything arrives in its order.
#[tokio::test(start_paused = true)]
async fn a_blackhole_holds_what_it_is_given() {
    let faults = Faults::seeded(1);
    let (mut near, mut far) = ends(&faults).await;
    faults.change(|plan| plan.to_server.is_blackhole = true);
    let chunk: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();

    let mut sent = 0;
    while let Ok(bytes) = tokio::time::timeout(ms(100), near.write(&chunk)).await {
        // Only whole chunks are taken, so that the far end knows what to expect.
        assert_eq!(bytes.unwrap(), chunk.len());
        sent += 1;
    }
    let held = sent * chunk.len();
    assert!((4 << 20..=(4 << 20) + 3 * chunk.len()).contains(&held), "{held}");
    far.write_all(b"the other way is open").await.unwrap();
    near.read_exact(&mut [0; 21]).await.unwrap();
    near.shutdown().await.unwrap();
    assert!(tokio::time::timeout(ms(60_000), far.read_u8()).await.is_err());

    faults.heal();
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), held);
    assert!(got.chunks(chunk.len()).all(|got| got == chunk));

    let (mut near, mut far) = ends(&faults).await;
    faults.change(|plan| plan.to_server.is_blackhole = true);
    near.shutdown().await.unwrap();
    assert!(tokio::time::timeout(ms(60_000), far.read_u8()).await.is_err(), "not even the end");
}

/// What passes through the worst that is legal: pieces, jitter, a narrow way.
async fn assert_calls_survive(faults: &Faults, channel: &Channel, piece_bytes_max: usize) {
    faults.change(|plan| {
        for way in [&mut plan.to_server, &mut plan.to_client] {
            way.piece_bytes_max = NonZeroUsize::new(piece_bytes_max);
            way.jitter = ms(3);
            way.bytes_per_second = NonZeroU32::new(4_000_000);
        }
    });
    let stub: Plain<Vec<u8>, Vec<u8>> = plain("it.Bytes/back");
    let calls: Vec<_> = (0..60_u8)
        .map(|n| tokio::spawn(channel.call(stub, vec![n; usize::from(n) * piece_bytes_max])))
        .collect();
    for (n, call) in (0..).zip(calls) {
        let back = call.await.unwrap().unwrap();
        assert!(
            back == vec![n; usize::from(n) * piece_bytes_max],
            "call {n}: {} bytes",
            back.len()
        );
    }
    assert_eq!((faults.begun(), faults.open()), (1, 1));
}

fn bytes_back() -> Method {
    Method::infallible(
        "it.Bytes/back",
        1,
        |_cx: Cx, bytes: Vec<u8>| async move { Answer::Ok(bytes) },
    )
}

/// Calls go through it unharmed, with the faults at the client's end. Shown by 60 calls of up to 59
/// pieces' length, of bytes one by one and of a hundred.
#[tokio::test(start_paused = true)]
async fn calls_survive_what_is_legal() {
    for piece_bytes_max in [1, 2, 100] {
        let faults = Faults::seeded(1);
        let (channel, _server) = behind(&faults, Server::new().method(bytes_back())).await;
        assert_calls_survive(&faults, &channel, piece_bytes_max).await;
    }
}

/// The same over a real socket, with the faults at the server's end.
#[tokio::test]
async fn calls_survive_what_is_legal_over_tcp() {
    let faults = Faults::seeded(1);
    let acceptor = faults.acceptor_at("tcp://127.0.0.1:0").await.unwrap();
    let server = run(Server::new().method(bytes_back()).listen(acceptor).unwrap());
    let channel = Channel::connect(&server.url).await.unwrap();
    assert_calls_survive(&faults, &channel, 100).await;
}

/// A server behind faults, and a channel through them.
async fn behind(faults: &Faults, server: Server) -> (Channel, crate::support::Tcp) {
    let server = run(server.bind("mem://").await.unwrap());
    let connector = faults.connector_to(&server.url).unwrap();
    (Channel::builder().transport(connector).unwrap(), server)
}

/// A cut under a call that runs: nobody knows whether it was executed; the next call finds a new
/// connection.
#[tokio::test(start_paused = true)]
async fn a_cut_is_a_lost_connection() {
    let (gate, faults) = (Gate::default(), Faults::seeded(1));
    let server = Server::new().method(echo()).method(gate.method("it.Gate/pass"));
    let (channel, _server) = behind(&faults, server).await;
    let call = tokio::spawn(channel.call(plain::<u64, u64>("it.Gate/pass"), 1));
    gate.entered.reach(1).await;

    faults.cut();

    assert_status(call.await.unwrap(), Code::CONNECTION_LOST, Disposition::Maybe);
    gate.left.reach(1).await;
    assert_eq!(channel.call(echo_stub(), 2).await, Ok(2));
    assert_eq!((faults.begun(), faults.open()), (2, 1));
    drop(channel);
    settle().await;
    assert_eq!(faults.open(), 0);
}

/// A half-open connection: the server executes, no answer comes, and the client finds out in 10 s
/// instead of its deadline's minute; meanwhile nobody connects. When it is over all is well.
#[tokio::test(start_paused = true)]
async fn a_half_open_connection_is_found() {
    let faults = Faults::seeded(1);
    let (channel, server) = behind(&faults, Server::new().method(echo())).await;
    assert_eq!(channel.call(echo_stub(), 1).await, Ok(1));
    faults.change(|plan| plan.to_client.is_blackhole = true);

    let begun = now();
    let call = channel.call(echo_stub(), 2).timeout(Duration::from_secs(60)).await;
    assert_status(call, Code::CONNECTION_LOST, Disposition::Maybe);
    let after = now() - begun;
    assert!((ms(9_900)..ms(11_000)).contains(&after), "{after:?}");
    assert_eq!(server.dispatch.stats()[0].ok, 2, "the server has answered both");
    let error = Channel::builder()
        .connect_through(&faults, &server.url)
        .await
        .expect_err("nothing comes back");
    assert!(matches!(error.kind(), ErrorKind::ConnectTimeout { .. }), "{error}");

    faults.heal();
    let call = channel.call(echo_stub(), 3).wait_for_ready(true).await;
    assert_eq!(call, Ok(3));
}

/// `connect` over faults, which a builder takes as a transport.
trait ConnectThrough {
    async fn connect_through(self, faults: &Faults, url: &str) -> Result<(), switchback::Error>;
}

impl ConnectThrough for switchback::client::ChannelBuilder {
    async fn connect_through(self, faults: &Faults, url: &str) -> Result<(), switchback::Error> {
        self.transport(faults.connector_to(url)?)?.ready().await
    }
}

/// A short silence costs nothing but time: what was under way arrives, on the same connection.
#[tokio::test(start_paused = true)]
async fn a_short_silence_is_survived() {
    let faults = Faults::seeded(1);
    let (channel, _server) = behind(&faults, Server::new().method(echo())).await;
    assert_eq!(channel.call(echo_stub(), 1).await, Ok(1));
    faults.change(|plan| plan.to_server.is_blackhole = true);
    let call = tokio::spawn(channel.call(echo_stub(), 2));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!call.is_finished());

    faults.heal();

    assert_eq!(call.await.unwrap(), Ok(2));
    assert_eq!(faults.begun(), 1);
}

/// Refusals at both places: a connector is refused, an acceptor closes what it was given; and both
/// serve again after. One who waits in a blackhole is refused too.
#[tokio::test(start_paused = true)]
async fn refusals_begin_and_end() {
    let faults = Faults::seeded(1);
    let (channel, server) = behind(&faults, Server::new().method(echo())).await;
    faults.change(|plan| plan.to_client.is_blackhole = true);
    let waiting = tokio::spawn({
        let connector = faults.connector_to(&server.url).unwrap();
        async move { connector.connect().await.map(drop) }
    });
    settle().await;
    faults.change(|plan| plan.refuses = true);
    let refused = waiting.await.unwrap().unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Refused { .. }), "{refused}");
    let call = channel.call(echo_stub(), 1).await;
    assert_status(call, Code::NOT_CONNECTED, Disposition::NotProcessed);
    faults.heal();
    assert_eq!(channel.call(echo_stub(), 1).wait_for_ready(true).await, Ok(1));

    let closing = Faults::seeded(2);
    let acceptor = closing.acceptor_at("mem://").await.unwrap();
    let server = run(Server::new().method(echo()).listen(acceptor).unwrap());
    closing.change(|plan| plan.refuses = true);
    let error = Channel::connect(&server.url).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Lost { .. }), "{error}");
    assert_eq!(closing.begun(), 1);
    closing.heal();
    assert_eq!(Channel::connect(&server.url).await.unwrap().call(echo_stub(), 2).await, Ok(2));
}

/// A run repeats: the same seed and the same calls take the same virtual time, to the millisecond;
/// another seed takes another.
#[tokio::test(start_paused = true)]
async fn a_run_repeats_from_its_seed() {
    async fn times(seed: u64) -> Vec<Duration> {
        let faults = Faults::seeded(seed);
        faults.change(|plan| {
            plan.to_server.jitter = ms(500);
            plan.to_client.jitter = ms(500);
        });
        let (channel, _server) = behind(&faults, Server::new().method(echo())).await;
        let begun: Instant = now();
        let mut times = Vec::new();
        for n in 0..20 {
            assert_eq!(channel.call(echo_stub(), n).await, Ok(n));
            times.push(now() - begun);
        }
        times
    }
    let first = times(9).await;
    let again = times(9).await;
    for (first, again) in first.iter().zip(&again) {
        // Tokio's timers count whole milliseconds of a clock that began in the middle of one: two
        // ways of 20 calls.
        assert!(first.abs_diff(*again) <= ms(40), "{first:?} and {again:?}");
    }
    let other = times(10).await;
    assert!(first.iter().zip(&other).any(|(first, other)| first.abs_diff(*other) > ms(40)));
}

/// LD-12: a link that is slow is no silence: two answers of 4 MB take 80 s at 100 kB/s, more than
/// a whole window of them is on its way, and credit comes for as much as was taken.
#[tokio::test(start_paused = true)]
async fn ld_12_a_slow_link_is_granted_credit_in_time() {
    let (faults, server) = (Faults::seeded(1), Server::new().method(many()));
    let acceptor = MemAcceptor::bind(&Address::parse("mem://").unwrap()).unwrap();
    let connector = faults.connector(MemConnector::new(acceptor.local_addr()));
    let served = run(server.listen(acceptor).unwrap());
    let channel = Channel::builder().transport(connector).unwrap();
    channel.ready().await.unwrap();
    faults.change(|plan| plan.to_client.bytes_per_second = NonZeroU32::new(100_000));
    let stub: Plain<u16, switchback::service::Raw> = plain("it.Blob/many");
    let begun = now();
    let calls = [(); 2].map(|()| tokio::spawn(channel.call(stub, 4000).timeout(ms(120_000))));
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().0.len(), 4_096_000);
    }
    assert!(now() - begun > ms(80_000), "{:?}", now() - begun);
    drop((channel, served));
}
