//! Buffers that are used again.
//!
//! A message of 1 MiB needs as much memory each time, and the system's allocator gives so much back
//! to the kernel when it is freed: to get it again, page by page, is a quarter of what such a call
//! costs. Here it is kept for the next. So are the buffers of connections that write much at one
//! moment and nothing at the next.
//!
//! Invariants: each pool keeps no more than its limit, in the whole process, and nothing when there
//! is no memory for something else; what a buffer held, nobody sees again.
//! Why one for the process: a buffer is filled on one thread and dropped on another.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Buffers of messages that come in pieces.
pub(crate) static LONG: Pool = Pool::new(16 * 1024, 8 * 1024 * 1024);
/// Buffers of connections' output.
pub(crate) static OUTPUT: Pool = Pool::new(1024, 1024 * 1024);

/// What is not in use.
pub(crate) struct Pool {
    kept: Mutex<Kept>,
    /// A smaller buffer is not worth the lock.
    buffer_bytes_min: usize,
    bytes_max: usize,
}

struct Kept {
    buffers: Vec<Vec<u8>>,
    /// All their capacities.
    bytes: usize,
}

/// A buffer of a long message on loan: given back when the last one who reads it is done.
struct Loan(Vec<u8>);

impl Pool {
    const fn new(buffer_bytes_min: usize, bytes_max: usize) -> Self {
        let kept = Mutex::new(Kept { buffers: Vec::new(), bytes: 0 });
        Self { kept, buffer_bytes_min, bytes_max }
    }

    /// An empty buffer, with more or less room.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut kept = self.lock();
        let buffer = kept.buffers.pop().unwrap_or_default();
        kept.bytes -= buffer.capacity();
        buffer
    }

    /// Gives a buffer back.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if bytes < self.buffer_bytes_min {
            return;
        }
        buffer.clear();
        let mut kept = self.lock();
        if kept.bytes + bytes <= self.bytes_max {
            kept.bytes += bytes;
            kept.buffers.push(buffer);
        }
    }

    fn clear(&self) {
        let mut kept = self.lock();
        let buffers = std::mem::take(&mut kept.buffers);
        kept.bytes = 0;
        drop((kept, buffers));
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a buffer of a long message holds; it is given back when nobody has that any more.
pub(crate) fn into_bytes(buffer: Vec<u8>) -> Bytes {
    Bytes::from_owner(Loan(buffer))
}

/// Gives everything back to the system.
#[cold]
pub(crate) fn clear() {
    LONG.clear();
    OUTPUT.clear();
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        LONG.give(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Never is more kept than may be, nor what is too small.
    #[test]
    fn buffers_are_kept_up_to_a_limit() {
        let pool = Pool::new(1000, 50_000);
        assert_eq!(pool.take().capacity(), 0);
        for _ in 0..100 {
            pool.give(vec![7; 4000]);
            pool.give(vec![7; 999]);
        }
        let taken: Vec<Vec<u8>> =
            std::iter::repeat_with(|| pool.take()).take_while(|b| b.capacity() > 0).collect();
        assert_eq!(taken.len(), 12);
        assert!(taken.iter().all(|buffer| buffer.is_empty() && buffer.capacity() == 4000));
        pool.give(vec![7; 4000]);
        pool.clear();
        assert_eq!(pool.take().capacity(), 0);
    }

    /// What was lent comes back when its last reader is gone.
    #[test]
    fn what_was_lent_comes_back() {
        let bytes = into_bytes(vec![7; 123_457]);
        let tail = bytes.slice(123_000..);
        drop(bytes);
        assert_eq!(tail[..], [7; 457]);
        drop(tail);
        let mut taken = std::iter::repeat_with(|| LONG.take()).take_while(|b| b.capacity() > 0);
        assert!(taken.any(|buffer| buffer.is_empty() && buffer.capacity() == 123_457));
    }
}
