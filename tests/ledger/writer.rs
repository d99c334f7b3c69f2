//! The logs that clients and servers write while they run.
//!
//! Invariants: a server's record is with the operating system when the method returns (one
//! write(2) per line, no fsync), so it survives SIGKILL of the process; a client's records are
//! written in batches, since a client is not killed in the tests. After a failed write nothing
//! more is written: a line after half a line would look like another record.
//!
//! Cost per record: one lock, one formatted line in a reused buffer, for a server one write(2);
//! no allocation.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::{Attempt, End, How, Issue, Parent, Rest, Sent, Start};
use super::text::{Owner, Record};

/// What one client writes.
#[derive(Debug)]
pub struct ClientLog {
    log: Mutex<Log>,
}

/// What one server instance writes.
#[derive(Debug)]
pub struct ServerLog {
    /// The log, and how many executions it has started.
    log: Mutex<(Log, u64)>,
    instance: u64,
}

/// The bytes of a log that is kept in memory, for simulations. Clones share the bytes.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl ClientLog {
    /// Starts the log of client `client` in a new file.
    ///
    /// # Errors
    /// If the file exists already or cannot be written.
    pub fn create(path: &Path, client: u64) -> io::Result<Self> {
        Self::begin(Sink::create(path)?, client, std::process::id())
    }

    /// Starts the log of client `client` in memory.
    pub fn in_memory(client: u64) -> (Self, Memory) {
        let memory = Memory::default();
        let log = Self::begin(Sink::Memory(memory.clone()), client, 0);
        (log.expect("memory takes every write"), memory)
    }

    /// A call is about to be made.
    ///
    /// # Errors
    /// If the log cannot be written or was closed; so for all methods.
    pub fn issue(&self, issue: Issue<'_>) -> io::Result<()> {
        lock(&self.log).put(&Record::Issue(issue))
    }

    /// One attempt of a call has ended.
    ///
    /// # Errors
    /// See [`Self::issue`].
    pub fn attempt(&self, attempt: Attempt<'_>) -> io::Result<()> {
        lock(&self.log).put(&Record::Attempt(attempt))
    }

    /// The call that was issued is made by a handler.
    ///
    /// # Errors
    /// See [`Self::issue`].
    pub fn parent(&self, parent: Parent) -> io::Result<()> {
        lock(&self.log).put(&Record::Parent(parent))
    }

    /// A request was seen on its way.
    ///
    /// # Errors
    /// See [`Self::issue`].
    pub fn sent(&self, sent: Sent) -> io::Result<()> {
        lock(&self.log).put(&Record::Sent(sent))
    }

    /// A call has its final outcome.
    ///
    /// # Errors
    /// See [`Self::issue`].
    pub fn end(&self, end: End<'_>) -> io::Result<()> {
        lock(&self.log).put(&Record::End(end))
    }

    /// Everything is over, and this is what is left.
    ///
    /// # Errors
    /// See [`Self::issue`].
    pub fn rest(&self, rest: Rest) -> io::Result<()> {
        lock(&self.log).put(&Record::Rest(rest))
    }

    /// The client's process was killed; whoever did it writes this. Its calls that are open have
    /// no outcome, and nothing can be written after it.
    ///
    /// # Errors
    /// See [`Self::issue`].
    pub fn crash(&self, at_us: u64) -> io::Result<()> {
        lock(&self.log).crash(at_us)
    }

    /// Hands what was buffered to the operating system.
    ///
    /// # Errors
    /// See [`Self::issue`].
    pub fn flush(&self) -> io::Result<()> {
        lock(&self.log).flush()
    }

    /// Ends the log in good order; nothing can be written after it.
    ///
    /// # Errors
    /// See [`Self::issue`].
    pub fn close(&self) -> io::Result<()> {
        lock(&self.log).close()
    }

    fn begin(sink: Sink, client: u64, pid: u32) -> io::Result<Self> {
        let log = Log::begin(sink, CLIENT_BATCH_BYTES, Owner::Client(client), pid)?;
        Ok(Self { log: Mutex::new(log) })
    }
}

impl ServerLog {
    /// Starts the log of server instance `instance` in a new file. A process that is started
    /// again is another instance.
    ///
    /// # Errors
    /// If the file exists already or cannot be written, or the instance is 2^24 or above.
    pub fn create(path: &Path, instance: u64) -> io::Result<Self> {
        Self::begin(Sink::create(path)?, instance, std::process::id())
    }

    /// Starts the log of server instance `instance` in memory. Dropping it without `close` is
    /// what a kill leaves.
    ///
    /// # Panics
    /// If the instance is 2^24 or above.
    pub fn in_memory(instance: u64) -> (Self, Memory) {
        let memory = Memory::default();
        let log = Self::begin(Sink::Memory(memory.clone()), instance, 0);
        (log.expect("memory takes every write, instances are below 2^24"), memory)
    }

    /// A handler is about to run; returns the nonce of this execution, never 0, which the answer
    /// must carry. Call it before the handler's body does anything.
    ///
    /// # Errors
    /// If the log cannot be written or was closed; the handler must not run then.
    pub fn start(&self, start: Start<'_>) -> io::Result<u64> {
        let (log, started) = &mut *lock(&self.log);
        *started += 1;
        let nonce = (self.instance << COUNTER_BITS) | *started;
        log.put(&Record::Start { nonce, start })?;
        Ok(nonce)
    }

    /// An execution has ended. Call it before the answer may leave.
    ///
    /// # Errors
    /// If the log cannot be written or was closed.
    pub fn finish(&self, nonce: u64, how: How, at_us: u64) -> io::Result<()> {
        lock(&self.log).0.put(&Record::Finish { nonce, how, at_us })
    }

    /// Everything is over, and this is what is left.
    ///
    /// # Errors
    /// See [`Self::finish`].
    pub fn rest(&self, rest: Rest) -> io::Result<()> {
        lock(&self.log).0.put(&Record::Rest(rest))
    }

    /// Ends the log in good order; nothing can be written after it.
    ///
    /// # Errors
    /// See [`Self::finish`].
    pub fn close(&self) -> io::Result<()> {
        lock(&self.log).0.close()
    }

    fn begin(sink: Sink, instance: u64, pid: u32) -> io::Result<Self> {
        if instance >= 1 << (u64::BITS - COUNTER_BITS) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "instance above 2^24 - 1"));
        }
        let log = Log::begin(sink, 0, Owner::Server(instance), pid)?;
        Ok(Self { log: Mutex::new((log, 0)), instance })
    }
}

impl Memory {
    /// A copy of what has been written so far.
    pub fn bytes(&self) -> Vec<u8> {
        lock(&self.0).clone()
    }
}

/// One log of either kind.
#[derive(Debug)]
struct Log {
    sink: Sink,
    /// Whole lines that are not yet written.
    buffer: Vec<u8>,
    /// Written once the buffer holds more than this.
    batch_bytes: usize,
    /// Without the header and the stop record.
    records: u64,
    /// False after `close` and after a failed write.
    is_open: bool,
}

impl Log {
    fn begin(sink: Sink, batch_bytes: usize, owner: Owner, pid: u32) -> io::Result<Self> {
        let buffer = Vec::with_capacity(batch_bytes + 512);
        let mut log = Self { sink, buffer, batch_bytes, records: 0, is_open: true };
        Record::Header { owner, pid }.write(&mut log.buffer);
        log.flush()?;
        Ok(log)
    }

    fn put(&mut self, record: &Record<'_>) -> io::Result<()> {
        if !self.is_open {
            return Err(io::Error::other("the ledger was closed, or a write failed before"));
        }
        record.write(&mut self.buffer);
        self.records += 1;
        if self.buffer.len() > self.batch_bytes { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.sink.write_all(&self.buffer);
        self.buffer.clear();
        self.is_open &= written.is_ok();
        written
    }

    fn close(&mut self) -> io::Result<()> {
        let records = self.records;
        self.end(&Record::Stop { records })
    }

    fn crash(&mut self, at_us: u64) -> io::Result<()> {
        let records = self.records;
        self.end(&Record::Crash { records, at_us })
    }

    fn end(&mut self, last: &Record<'_>) -> io::Result<()> {
        self.put(last)?;
        self.flush()?;
        self.is_open = false;
        Ok(())
    }
}

impl Drop for Log {
    /// Writes what is buffered, without a stop record: the checker shall see that it is missing.
    fn drop(&mut self) {
        if self.is_open && !self.buffer.is_empty() {
            // There is nobody left to tell; the missing stop record tells it.
            let _unwritten = self.flush();
        }
    }
}

#[derive(Debug)]
enum Sink {
    File(File),
    Memory(Memory),
}

impl Sink {
    /// A new file: two runs in one log would be two processes under one name.
    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self::File(OpenOptions::new().append(true).create_new(true).open(path)?))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(bytes),
            Self::Memory(memory) => {
                lock(&memory.0).extend_from_slice(bytes);
                Ok(())
            }
        }
    }
}

/// A panic elsewhere does not stop the log: each line is whole or not there.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A nonce is the instance and, below it, a counter: 10^12 executions of 2^24 instances.
const COUNTER_BITS: u32 = 40;
const CLIENT_BATCH_BYTES: usize = 32 * 1024;
