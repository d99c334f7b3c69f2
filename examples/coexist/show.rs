//! What a person sees while it works: one line that is redrawn, or plain lines in a file.
//!
//! All of it goes to standard error; the result alone is on standard output.

use std::io::{self, IsTerminal as _, Write as _};

/// The place where progress is shown.
#[derive(Debug)]
pub(crate) struct Show {
    is_terminal: bool,
    /// The last step that was told: a percent, or ten where lines cannot be redrawn.
    step: u64,
}

impl Show {
    /// Standard error.
    pub(crate) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), step: 0 }
    }

    /// Something happened.
    pub(crate) fn event(&self, text: &str) {
        self.put(&format!("{}{text}\n", self.erase()));
    }

    /// So many of the calls that were asked for have an outcome.
    pub(crate) fn progress(&mut self, calls: u64, of: u64, phase: &str) {
        let percent = (calls * 100).checked_div(of).unwrap_or(100);
        // A terminal can be slow, and who waits for it is late for the changes.
        let step = if self.is_terminal { percent } else { percent / 10 };
        if step == self.step {
            return;
        }
        self.step = step;
        let (calls, of) = (thousands(calls), thousands(of));
        let end = if self.is_terminal { "" } else { "\n" };
        self.put(&format!("{}{percent:>4} %  {calls} of {of} calls  {phase}{end}", self.erase()));
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        self.put(self.erase());
    }

    const fn erase(&self) -> &'static str {
        if self.is_terminal { "\r\x1b[2K" } else { "" }
    }

    fn put(&self, text: &str) {
        let mut out = io::stderr().lock();
        // If nobody can see it, it is not shown.
        let _unseen = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// A number as people read it: 1,234,567.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time as people read it.
pub(crate) fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        _ => format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000),
    }
}
