//! The network: listeners, and who may connect to them. Its connections are in `link`.
//!
//! Invariants: a connection is refused when nobody listens; a listener that goes resets what
//! waits in its queue; every end of a connection that is open is counted until it is dropped.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use switchback::ErrorKind;
use switchback::transport::{Accept, Accepting, Address, Connect, Connecting, Stream};

use crate::executor::{Executor, ProcessId};
use crate::link::{Link, Side};
use crate::random::Random;
use crate::tap::Tap;
use crate::weather::Weather;

/// The network. Clones are handles to it.
#[derive(Clone)]
pub(crate) struct Net(Arc<Shared>);

struct Shared {
    executor: Executor,
    tap: Tap,
    state: Mutex<State>,
}

struct State {
    random: Random,
    weather: Weather,
    ports: BTreeMap<u16, Port>,
    links: Vec<Arc<Link>>,
    next_link: u64,
    next_listener: u64,
}

/// What is known of an address, whether somebody listens or not.
#[derive(Default)]
struct Port {
    /// The newest is last, and gets whoever connects; the others empty their queues.
    listeners: Vec<Listener>,
    refuses_until_us: u64,
    swallows_until_us: u64,
    /// In percent, of accepts.
    errors: u64,
}

struct Listener {
    id: u64,
    process: ProcessId,
    queue: VecDeque<Stream>,
    waker: Option<Waker>,
}

/// A way to a port, for a channel.
pub(crate) struct Connector {
    net: Net,
    process: ProcessId,
    port: u16,
}

/// A listening port, for a server.
pub(crate) struct Acceptor {
    net: Net,
    id: u64,
    port: u16,
}

impl Net {
    pub(crate) fn new(executor: &Executor, random: Random, weather: Weather, tap: Tap) -> Self {
        let state = Mutex::new(State {
            random,
            weather,
            ports: BTreeMap::new(),
            links: Vec::new(),
            next_link: 1,
            next_listener: 1,
        });
        Self(Arc::new(Shared { executor: executor.clone(), tap, state }))
    }

    /// Listens; whoever connects from now on comes here, not to who listened before.
    pub(crate) fn listen(&self, process: ProcessId, port: u16) -> Acceptor {
        let mut state = self.0.state.lock().unwrap();
        let id = state.next_listener;
        state.next_listener += 1;
        let listener = Listener { id, process, queue: VecDeque::new(), waker: None };
        state.ports.entry(port).or_default().listeners.push(listener);
        drop(state);
        Acceptor { net: self.clone(), id, port }
    }

    /// Nobody listens any more at a port that a killed process had.
    pub(crate) fn unlisten(&self, process: ProcessId) {
        let mut state = self.0.state.lock().unwrap();
        let ports = state.ports.values_mut();
        let of_it = |port: &mut Port| port.take(|known| known.process == process);
        let gone: Vec<Listener> = ports.filter_map(of_it).collect();
        drop(state);
        drop(gone);
    }

    pub(crate) fn connector(&self, process: ProcessId, port: u16) -> Connector {
        Connector { net: self.clone(), process, port }
    }

    /// Connections to this port are refused for so long.
    pub(crate) fn refuse(&self, port: u16, for_us: u64) {
        let until_us = self.0.executor.now_us() + for_us;
        self.port(port, |port| port.refuses_until_us = until_us);
    }

    /// Attempts to connect to this port get no answer for so long.
    pub(crate) fn swallow(&self, port: u16, for_us: u64) {
        let until_us = self.0.executor.now_us() + for_us;
        self.port(port, |port| port.swallows_until_us = until_us);
    }

    /// So many of a hundred accepts fail at this port.
    pub(crate) fn fail_accepts(&self, port: u16, percent: u64) {
        self.port(port, |port| port.errors = percent);
    }

    /// All is well from now on: nothing is refused, held, lost or slow. A connection whose other
    /// end is gone stays so, unless its end is told.
    pub(crate) fn heal(&self, tells: bool) {
        let mut state = self.0.state.lock().unwrap();
        for port in state.ports.values_mut() {
            (port.refuses_until_us, port.swallows_until_us, port.errors) = (0, 0, 0);
        }
        state.weather = state.weather.fair();
        drop(state);
        for link in self.links() {
            link.heal(tells);
        }
    }

    /// Connections with an end that is still in use, oldest first.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        let mut state = self.0.state.lock().unwrap();
        state.links.retain(|link| link.is_open());
        state.links.clone()
    }

    fn port(&self, port: u16, change: impl FnOnce(&mut Port)) {
        change(self.0.state.lock().unwrap().ports.entry(port).or_default());
    }

    /// What an attempt to connect comes to: `None` means that nothing ever answers it.
    fn connect(&self, process: ProcessId, port: u16) -> Option<io::Result<Stream>> {
        let executor = &self.0.executor;
        let now_us = executor.now_us();
        let mut state = self.0.state.lock().unwrap();
        let State { random, weather, ports, links, next_link, .. } = &mut *state;
        let known = ports.entry(port).or_default();
        if now_us < known.swallows_until_us {
            executor.note("swallow", [port.into(), 0, 0], || format!("a connect to {port}"));
            return None;
        }
        let listener = known.listeners.last_mut().filter(|_| now_us >= known.refuses_until_us);
        let Some(listener) = listener else {
            executor.note("refuse", [port.into(), 0, 0], || format!("a connect to {port}"));
            return Some(Err(io::ErrorKind::ConnectionRefused.into()));
        };
        let id = *next_link;
        *next_link += 1;
        let processes = [process, listener.process];
        let link =
            Link::new(executor, id, processes, weather.clone(), (random.fork(), self.0.tap.ear()));
        executor.note("connect", [id, process.0, listener.process.0], || {
            let (client, server) = (process.0, listener.process.0);
            format!("link {id} from process {client} to {port}, process {server}")
        });
        let stream = |side| {
            let (reader, writer) = Link::halves(&link, side);
            Stream::new(reader, writer, format!("link {id}"))
        };
        let (client_end, server_end) = (stream(Side::Client), stream(Side::Server));
        links.push(link);
        listener.queue.push_back(server_end);
        // A busy server does not come at once, and may be told to stop meanwhile.
        let at_us = now_us + random.between(0, weather.latency_us_max);
        let waker = listener.waker.take();
        drop(state);
        if let Some(waker) = waker {
            executor.wake_at(at_us, waker);
        }
        Some(Ok(client_end))
    }

    fn delay_us(&self) -> u64 {
        let mut state = self.0.state.lock().unwrap();
        let State { random, weather, .. } = &mut *state;
        weather.round_trip_us(random)
    }
}

impl Port {
    fn take(&mut self, is_it: impl Fn(&Listener) -> bool) -> Option<Listener> {
        let at = self.listeners.iter().position(is_it)?;
        Some(self.listeners.remove(at))
    }
}

impl Connect for Connector {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            self.net.0.executor.sleep_us(self.net.delay_us()).await;
            match self.net.connect(self.process, self.port) {
                Some(Ok(stream)) => Ok(stream),
                Some(Err(_)) => Err(ErrorKind::Refused { address: self.address() }.into()),
                None => std::future::pending().await,
            }
        })
    }

    fn address(&self) -> String {
        format!("sim://{}", self.port)
    }
}

impl Acceptor {
    fn poll_accept(&self, waker: &Waker) -> Poll<io::Result<Stream>> {
        let mut state = self.net.0.state.lock().unwrap();
        let State { random, ports, .. } = &mut *state;
        let Some(port) = ports.get_mut(&self.port) else { return Poll::Pending };
        let errors = port.errors;
        let Some(listener) = port.listeners.iter_mut().find(|known| known.id == self.id) else {
            return Poll::Pending; // Its process is killed.
        };
        if listener.queue.is_empty() {
            listener.waker = Some(waker.clone());
            return Poll::Pending;
        }
        if random.percent(errors) {
            let kinds = [io::ErrorKind::ConnectionAborted, io::ErrorKind::Other];
            return Poll::Ready(Err(random.pick(&kinds).into()));
        }
        listener.queue.pop_front().map_or(Poll::Pending, |stream| Poll::Ready(Ok(stream)))
    }
}

impl Accept for Acceptor {
    fn accept(&self) -> Accepting<'_> {
        Box::pin(std::future::poll_fn(|cx| self.poll_accept(cx.waker())))
    }

    fn local_addr(&self) -> Address {
        Address::Tcp { host: String::from("sim"), port: self.port }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let mut state = self.net.0.state.lock().unwrap();
        let port = state.ports.get_mut(&self.port);
        let gone = port.and_then(|port| port.take(|known| known.id == self.id));
        drop(state);
        drop(gone);
    }
}
