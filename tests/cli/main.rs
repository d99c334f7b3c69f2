//! The command line as a user meets it: the real program against real servers, every command, every
//! exit code, every kind of bad input.
//!
//! Invariant: nothing waits for time to pass but where a server is gone or silent on purpose; what
//! must happen in the middle of something waits for a line that the program prints then.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod call;
mod check;
mod look;
mod program;
mod served;
