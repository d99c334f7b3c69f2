//! Buffers of long messages, used again.
//!
//! A message of 1 MiB needs as much memory each time, and the system's allocator gives so much back
//! to the kernel when it is freed: to get it again, page by page, is a quarter of what such a call
//! costs. Here it is kept for the next.
//!
//! Invariants: at most `POOL_BYTES_MAX` are kept, in the whole process, and none when there is no
//! memory for something else; what a buffer held, nobody sees again.
//! Why one for the process: a buffer is filled on one thread and dropped on another.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// What is not in use.
static POOL: Mutex<Pool> = Mutex::new(Pool { buffers: Vec::new(), bytes: 0 });

struct Pool {
    buffers: Vec<Vec<u8>>,
    /// All their capacities.
    bytes: usize,
}

/// A buffer on loan: given back when the last one who reads it is done.
struct Loan(Vec<u8>);

/// An empty buffer, with more or less room.
pub(crate) fn take() -> Vec<u8> {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let buffer = pool.buffers.pop().unwrap_or_default();
    pool.bytes -= buffer.capacity();
    buffer
}

/// Gives a buffer back.
pub(crate) fn give(mut buffer: Vec<u8>) {
    let bytes = buffer.capacity();
    if bytes < BUFFER_BYTES_MIN {
        return;
    }
    buffer.clear();
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.bytes + bytes <= POOL_BYTES_MAX {
        pool.bytes += bytes;
        pool.buffers.push(buffer);
    }
}

/// What a buffer holds; it is given back when nobody has that any more.
pub(crate) fn into_bytes(buffer: Vec<u8>) -> Bytes {
    Bytes::from_owner(Loan(buffer))
}

/// Gives everything back to the system.
#[cold]
pub(crate) fn clear() {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let buffers = std::mem::take(&mut pool.buffers);
    pool.bytes = 0;
    drop((pool, buffers));
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.0));
    }
}

/// What is kept for the next messages.
const POOL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A smaller buffer is not worth the lock.
const BUFFER_BYTES_MIN: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// What was lent comes back empty when its last reader is gone, and never is more kept than may
    /// be. One test, for the pool is one.
    #[test]
    fn buffers_come_back_up_to_a_limit() {
        clear();
        let mut buffer = take();
        assert_eq!(buffer.capacity(), 0);
        buffer.resize(100_000, 7);
        let bytes = into_bytes(buffer);
        let tail = bytes.slice(99_000..);
        drop(bytes);
        assert_eq!(tail[..], [7; 1000]);
        drop(tail);
        let back = take();
        assert!(back.is_empty() && back.capacity() >= 100_000);

        give(back);
        for _ in 0..100 {
            give(Vec::with_capacity(1 << 20));
        }
        give(Vec::with_capacity(BUFFER_BYTES_MIN - 1));
        let mut kept = 0;
        loop {
            let buffer = take();
            if buffer.capacity() == 0 {
                break;
            }
            assert!(buffer.capacity() >= BUFFER_BYTES_MIN);
            kept += buffer.capacity();
        }
        assert!(kept <= POOL_BYTES_MAX && kept > POOL_BYTES_MAX - (2 << 20), "{kept}");
    }
}
