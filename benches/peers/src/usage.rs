//! What a process has used up to now, and how a server tells its client.
//!
//! A server answers on a second socket, from a thread of its own that sleeps otherwise, so that
//! the load can read both processes at the same moments without a word on the measured socket.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::alloc;
use crate::fault::Fault;

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

/// Two readings of both processes, and the time between them.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub seconds: f64,
    pub client: [Usage; 2],
    pub server: [Usage; 2],
}

/// Reads both processes at `from` and at `until`. Blocks its thread.
///
/// # Errors
/// If the server does not answer.
pub fn watch(mut server: Asked, from: Instant, until: Instant) -> Result<Span, Fault> {
    let mut read = |at: Instant| -> Result<_, Fault> {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        let server = server.usage()?;
        Ok((Instant::now(), Usage::of_this_process(), server))
    };
    let (began, client_before, server_before) = read(from)?;
    let (ended, client_after, server_after) = read(until)?;
    Ok(Span {
        seconds: (ended - began).as_secs_f64(),
        client: [client_before, client_after],
        server: [server_before, server_after],
    })
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
