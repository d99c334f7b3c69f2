//! The victim: a client that means well, one call every few milliseconds, whatever else happens.
//!
//! Calls do not wait for each other, so that a server that stalls is seen by every call that
//! falls into the stall, not by one.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use switchback::service::Fingerprint;
use switchback::transport::{Connect, Stream};
use switchback::{Channel, Error, Stub};
use tokio::net::TcpSocket;
use tokio::sync::watch;

use crate::role::ECHO;
use crate::time::now;

static STUB: LazyLock<Stub<u64, u64, Infallible>> =
    LazyLock::new(|| Stub::infallible(ECHO, 1, Fingerprint::UNCHECKED));

/// Connects from 127.0.0.2, which no attacker uses.
struct FromTwo(SocketAddr);

impl Connect for FromTwo {
    fn connect(&self) -> Pin<Box<dyn Future<Output = Result<Stream, Error>> + Send + '_>> {
        Box::pin(async {
            let connect = async {
                let socket = TcpSocket::new_v4()?;
                socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())?;
                let stream = socket.connect(self.0).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            };
            let lost = |error: std::io::Error| {
                let (address, error) = (self.address(), error.to_string());
                Error::from(switchback::ErrorKind::Connect { address, error })
            };
            let (reader, writer) = connect.await.map_err(lost)?.into_split();
            Ok(Stream::new(reader, writer, self.address()))
        })
    }

    fn address(&self) -> String {
        self.0.to_string()
    }
}

/// How the victim's calls went: `Err` has the status as text.
type Samples = Arc<Mutex<Vec<Result<Duration, String>>>>;

/// A victim at work.
pub(crate) struct Victim {
    samples: Samples,
    stop: watch::Sender<bool>,
}

/// What a phase did to the victim.
#[derive(Clone, Debug, Default)]
pub(crate) struct Harm {
    pub(crate) calls: usize,
    pub(crate) errors: usize,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
    pub(crate) first_error: String,
}

impl Victim {
    /// Connects and starts to call, once in every `period`. On a tokio runtime.
    pub(crate) async fn start(address: SocketAddr, period: Duration) -> Self {
        let channel = channel(address);
        channel.ready().await.unwrap();
        let (samples, (stop, stopped)) = (Samples::default(), watch::channel(false));
        drop(tokio::spawn(call_on(channel, Arc::clone(&samples), stopped, period)));
        Self { samples, stop }
    }

    /// What happened since the last time.
    pub(crate) fn take(&self) -> Harm {
        let harm = self.look();
        self.samples.lock().unwrap().drain(..harm.calls);
        harm
    }

    /// [`Victim::take`], to be told again.
    pub(crate) fn look(&self) -> Harm {
        let samples = self.samples.lock().unwrap().clone();
        let mut harm = Harm { calls: samples.len(), ..Harm::default() };
        let mut times = Vec::new();
        for sample in samples {
            match sample {
                Ok(time) => times.push(time),
                Err(error) => {
                    harm.errors += 1;
                    harm.first_error = if harm.errors == 1 { error } else { harm.first_error };
                }
            }
        }
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len().saturating_sub(1) * percent / 100).copied();
        [harm.p50, harm.p99, harm.max] =
            [50, 99, 100].map(|percent| at(percent).unwrap_or_default());
        harm
    }

    pub(crate) fn stop(&self) {
        let _ = self.stop.send(true);
    }
}

/// How often a victim calls, unless its row is short.
pub(crate) const PERIOD: Duration = Duration::from_millis(10);

/// Connects anew and makes one call: whether newcomers are served.
pub(crate) async fn newcomer(address: SocketAddr) -> Result<(), String> {
    one_call(&channel(address)).await.map(|_| ())
}

fn channel(address: SocketAddr) -> Channel {
    Channel::builder().transport(FromTwo(address)).unwrap()
}

async fn one_call(channel: &Channel) -> Result<Duration, String> {
    let start = now();
    match channel.call(&STUB, 7).timeout(Duration::from_secs(2)).await {
        Ok(7) => Ok(now() - start),
        other => Err(format!("{other:?}")),
    }
}

async fn call_on(
    channel: Channel,
    samples: Samples,
    mut stopped: watch::Receiver<bool>,
    period: Duration,
) {
    let mut tick = tokio::time::interval(period);
    while !*stopped.borrow_and_update() {
        tick.tick().await;
        let (channel, samples) = (channel.clone(), Arc::clone(&samples));
        drop(tokio::spawn(async move {
            let sample = one_call(&channel).await;
            samples.lock().unwrap().push(sample);
        }));
    }
}
