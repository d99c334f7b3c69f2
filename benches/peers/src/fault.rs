//! What went wrong, as a line for whoever runs the bench.
//!
//! Why no enum: nobody acts on it but a reader; every fault ends the run with a non-zero exit.

use std::fmt;

/// A line that says what failed. Every error becomes one, with its causes.
#[derive(Debug)]
pub struct Fault(String);

impl Fault {
    /// A fault of this text.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The same fault, told where it happened.
    #[must_use]
    pub fn at(self, place: &str) -> Self {
        Self(format!("{place}: {}", self.0))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        Self(text)
    }
}
