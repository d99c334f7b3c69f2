//! Buffers of the thread, lent to whoever needs one for a moment.
//!
//! Invariant: a buffer is taken out for its use, so that code run meanwhile, a handler calling
//! another service say, finds none and makes its own; it is put back emptied, and kept only up
//! to a limit.
//! Why per thread: an idle connection then owns no buffers, and a busy thread's stay warm.

use std::cell::Cell;

use bytes::BytesMut;

/// Bytes read from a socket at once: best from 1 to 512 calls in flight, as measured.
pub(crate) const READ_BYTES: usize = 16 * 1024;
/// Bytes read at once while fragments come: some of them whole, so that few bytes of one that is
/// not have to be moved.
pub(crate) const LONG_READ_BYTES: usize = 256 * 1024;
/// Larger buffers are given back to the system.
const KEPT_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static ENCODE: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
    static REPLY: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
    static BATCH: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
    static ANSWER: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
    static READ: Cell<Option<BytesMut>> = const { Cell::new(None) };
    static LONG_READ: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// One frame on its way out.
#[inline]
pub(crate) fn with_encode<T>(f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    with(&ENCODE, f)
}

/// The payload of one answer on its way in.
#[inline]
pub(crate) fn with_reply<T>(f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    with(&REPLY, f)
}

/// The answers of one read batch.
pub(crate) fn with_batch<T>(f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    with(&BATCH, f)
}

/// The answer of one call that outlived its batch.
pub(crate) fn with_answer<T>(f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    with(&ANSWER, f)
}

/// What one read brought; at least `READ_BYTES` fit.
pub(crate) fn with_read<T>(f: impl FnOnce(&mut BytesMut) -> T) -> T {
    let mut buffer = READ.take().unwrap_or_else(|| BytesMut::with_capacity(READ_BYTES));
    let result = f(&mut buffer);
    buffer.clear();
    if buffer.capacity() >= READ_BYTES {
        READ.set(Some(buffer));
    }
    result
}

/// As [`with_read`], of `LONG_READ_BYTES`, with whatever is in them.
pub(crate) fn with_long_read<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    let fresh = || vec![0; LONG_READ_BYTES].into_boxed_slice();
    let mut buffer = LONG_READ.take().unwrap_or_else(fresh);
    let result = f(&mut buffer);
    LONG_READ.set(Some(buffer));
    result
}

#[inline]
fn with<T>(
    cell: &'static std::thread::LocalKey<Cell<Option<Vec<u8>>>>,
    f: impl FnOnce(&mut Vec<u8>) -> T,
) -> T {
    let mut buffer = cell.take().unwrap_or_default();
    let result = f(&mut buffer);
    buffer.clear();
    if buffer.capacity() <= KEPT_BYTES_MAX {
        cell.set(Some(buffer));
    }
    result
}
