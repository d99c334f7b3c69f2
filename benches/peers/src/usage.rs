//! What a process has used up to now, and how a server tells its client.
//!
//! A server answers on a second socket, from a thread of its own that sleeps otherwise, so that
//! the load can read both processes at the same moments without a word on the measured socket.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::{alloc, caller};

/// Counters of one process, all of them growing but the memory.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Usage {
    /// CPU time of all threads, user and system.
    pub cpu_ns: u64,
    /// Allocations since counting began; 0 if it has not.
    pub allocations: u64,
    /// Proportional set size: memory of its own and its share of what is shared.
    pub pss_kib: u64,
}

impl Usage {
    /// Of this process, without its memory, which takes long to add up.
    pub fn of_this_process() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu_ns = cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64;
        Self { cpu_ns, allocations: alloc::allocations(), pss_kib: 0 }
    }

    /// Of this process, with its memory.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn with_memory() -> Result<Self, Fault> {
        let path = "/proc/self/smaps_rollup";
        let text = std::fs::read_to_string(path).map_err(|error| Fault::from(error).at(path))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
        let pss_kib = kib.ok_or_else(|| Fault::new(format!("{path} has no line `Pss: N kB`")))?;
        Ok(Self { pss_kib, ..Self::of_this_process() })
    }
}

/// What a process used in the measured time, and the calls that ended meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    calls: f64,
    before: Usage,
    after: Usage,
}

impl Used {
    /// Whether there was a call to share it among.
    pub fn is_measured(&self) -> bool {
        self.calls > 0.0
    }

    /// CPU time for a call.
    pub fn cpu_us(&self) -> f64 {
        (self.after.cpu_ns - self.before.cpu_ns) as f64 / 1e3 / self.calls
    }

    /// Allocations for a call.
    pub fn allocations(&self) -> f64 {
        (self.after.allocations - self.before.allocations) as f64 / self.calls
    }
}

/// Reads both processes at `from` and at `until`: the client's use, then the server's. Blocks its
/// thread, which may be late on a busy machine; so the calls are read with the counters instead of
/// being taken from the time between.
///
/// # Errors
/// If the server does not answer.
pub fn watch(mut server: Asked, from: Instant, until: Instant) -> Result<[Used; 2], Fault> {
    let mut read = |at: Instant| -> Result<_, Fault> {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        let asked = caller::ended();
        let server = server.usage()?;
        let answered = caller::ended();
        let client = Usage::of_this_process();
        // When the server read its counters lies between the two.
        Ok([(answered as f64, client), (asked.midpoint(answered) as f64, server)])
    };
    let (before, after) = (read(from)?, read(until)?);
    let used = |side: usize| Used {
        calls: after[side].0 - before[side].0,
        before: before[side].1,
        after: after[side].1,
    };
    Ok([used(0), used(1)])
}

/// Starts the thread that tells what this process has used, and says where it listens.
///
/// # Errors
/// If there is no free port.
pub fn tell() -> Result<SocketAddr, Fault> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who asks and goes away is no matter of the server's.
            std::thread::spawn(move || drop(answer(&stream)));
        }
    });
    Ok(addr)
}

fn answer(stream: &TcpStream) -> Result<(), Fault> {
    stream.set_nodelay(true)?;
    for line in BufReader::new(stream).lines() {
        let usage = match line?.as_str() {
            "memory" => Usage::with_memory()?,
            _ => Usage::of_this_process(),
        };
        let mut text = serde_json::to_string(&usage)?;
        text.push('\n');
        let mut stream = stream;
        stream.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// The asking side of [`tell`].
#[derive(Debug)]
pub struct Asked(BufReader<TcpStream>);

impl Asked {
    /// Connects to where a server tells.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn connect(addr: SocketAddr) -> Result<Self, Fault> {
        let stream = TcpStream::connect(addr)
            .map_err(|error| Fault::from(error).at(&format!("the server's control port {addr}")))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// What the server has used, without its memory.
    ///
    /// # Errors
    /// If it does not answer within 10 s.
    pub fn usage(&mut self) -> Result<Usage, Fault> {
        self.ask("usage")
    }

    /// What the server has used, with its memory.
    ///
    /// # Errors
    /// If it does not answer within 10 s.
    pub fn memory(&mut self) -> Result<Usage, Fault> {
        self.ask("memory")
    }

    fn ask(&mut self, what: &str) -> Result<Usage, Fault> {
        self.0.get_mut().write_all(format!("{what}\n").as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}
