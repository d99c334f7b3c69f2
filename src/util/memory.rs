//! Room for what a peer's bytes make grow: it is asked for, and may be refused.
//!
//! Why: an allocation that fails elsewhere ends the process, and every call of every peer with it.
//! Here it ends what asked for it.

use crate::util::pool;

/// The system gives no memory for a buffer of so many bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no memory for {bytes} bytes")]
pub(crate) struct OutOfMemory {
    pub(crate) bytes: usize,
}

/// Makes room for `more` bytes: twice as much as there is, as vectors do, or just enough.
#[inline]
pub(crate) fn try_grow(buffer: &mut Vec<u8>, more: usize) -> Result<(), OutOfMemory> {
    if buffer.capacity() - buffer.len() >= more { Ok(()) } else { grow(buffer, more) }
}

#[cold]
fn grow(buffer: &mut Vec<u8>, more: usize) -> Result<(), OutOfMemory> {
    let grown = buffer.try_reserve(more).or_else(|_| {
        pool::clear(); // What is kept for later is needed now.
        buffer.try_reserve_exact(more)
    });
    grown.map_err(|_| OutOfMemory { bytes: buffer.len().saturating_add(more) })
}

/// Whether there is room for so many bytes at this moment. Others may take it in the next.
pub(crate) fn probe(bytes: usize) -> Result<(), OutOfMemory> {
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| OutOfMemory { bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What no machine has is refused, with its size, and the buffer stays as it was. Shown by the
    /// largest size there is, and the largest that any vector may have.
    #[test]
    fn what_is_not_there_is_refused() {
        for more in [usize::MAX, isize::MAX.unsigned_abs() - 3] {
            let mut buffer = vec![1, 2, 3];
            let bytes = more.saturating_add(3);
            assert_eq!(try_grow(&mut buffer, more), Err(OutOfMemory { bytes }));
            assert_eq!(buffer, [1, 2, 3]);
            assert_eq!(probe(more), Err(OutOfMemory { bytes: more }));
        }
        assert_eq!(probe(1), Ok(()));
    }

    /// A buffer has the room that was asked for.
    #[test]
    fn what_is_there_is_given() {
        let mut buffer = Vec::new();
        for more in [0, 1, 100, 5000] {
            assert_eq!(try_grow(&mut buffer, more), Ok(()));
            assert!(buffer.capacity() - buffer.len() >= more);
            buffer.resize(buffer.len() + more, 7);
        }
    }
}
