//! What happened in a simulation: a hash of all of it, and on request a line for each event.
//!
//! Invariant: everything that chance or time decides goes through here, so that two runs with one
//! hash are one run. The text is made only when it is shown.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A trace; shared by everything in one simulation.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: AtomicU64,
    events: AtomicU64,
    /// Lines go here, if they are wanted at all.
    shown: Option<Mutex<std::io::LineWriter<std::io::Stderr>>>,
}

impl Trace {
    /// A trace that is only hashed, or one that is shown too. Not with `eprintln`: the lines of a
    /// replay are wanted whether the test fails or not, and that would be kept back.
    pub(crate) fn new(is_shown: bool) -> Self {
        let shown = is_shown.then(|| Mutex::new(std::io::LineWriter::new(std::io::stderr())));
        Self { hash: AtomicU64::new(0xcbf2_9ce4_8422_2325), events: AtomicU64::new(0), shown }
    }

    /// Something happened: `what` and `numbers` are hashed, `text` tells it.
    pub(crate) fn note(
        &self,
        now_us: u64,
        what: &'static str,
        numbers: [u64; 3],
        text: impl FnOnce() -> String,
    ) {
        // One thread runs a simulation: these are cells that may be shared.
        let mut hash = self.hash.load(Ordering::Relaxed);
        let [a, b, c] = numbers;
        let kind = u64::from(what.as_bytes()[0]) << 8 | u64::try_from(what.len()).unwrap();
        for number in [now_us, kind, a, b, c] {
            hash = (hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        self.hash.store(hash, Ordering::Relaxed);
        self.events.fetch_add(1, Ordering::Relaxed);
        if let Some(shown) = &self.shown {
            let (ms, us) = (now_us / 1000, now_us % 1000);
            let line = format!("{ms:>7}.{us:03} ms  {what:<8} {}\n", text());
            shown.lock().unwrap().write_all(line.as_bytes()).unwrap();
        }
    }

    /// The hash of everything so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.load(Ordering::Relaxed)
    }

    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}
