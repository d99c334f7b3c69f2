//! What travels: the same message and the same bodies with every peer.
//!
//! Invariants: an answer is checked before it counts. A peer whose messages are types of its own
//! fills them from [`NAME`] and [`TAGS`] and hands back what it saw.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;

/// The name in every message: 16 bytes.
pub const NAME: &str = "sixteen bytes...";
/// The tags in every message; of several lengths as varints.
pub const TAGS: [u32; 8] = [1, 20, 300, 4_000, 50_000, 600_000, 7_000_000, 80_000_000];

/// The message of the small calls, for peers that carry types of serde's.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Message {
    pub id: u64,
    pub name: String,
    pub tags: Vec<u32>,
}

impl Message {
    /// The message of this id.
    pub fn new(id: u64) -> Self {
        Self { id, name: NAME.to_owned(), tags: TAGS.to_vec() }
    }

    /// What is checked of it.
    pub fn seen(&self) -> Seen {
        Seen { id: self.id, name_bytes: self.name.len(), tags: self.tags.len() }
    }
}

/// What a caller saw of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    pub id: u64,
    pub name_bytes: usize,
    pub tags: usize,
}

impl Seen {
    /// Whether it is the echo of the message of this id.
    ///
    /// # Errors
    /// A fault that names both if it is not.
    pub fn check(self, id: u64) -> Result<(), Fault> {
        let expected = Self { id, name_bytes: NAME.len(), tags: TAGS.len() };
        if self == expected {
            return Ok(());
        }
        Err(Fault::new(format!("answered {self:?} instead of {expected:?}")))
    }
}

/// A body of so many bytes that begins and ends with the number of who sends it.
pub fn body(bytes: usize, number: u64) -> Bytes {
    let mut body = vec![0_u8; bytes];
    for (at, byte) in body.iter_mut().enumerate() {
        *byte = (at % 251) as u8;
    }
    body[..8].copy_from_slice(&number.to_be_bytes());
    body[bytes - 8..].copy_from_slice(&number.to_be_bytes());
    body.into()
}

/// Whether an echoed body is the one that was sent. Ends and length alone: comparing a MiB would
/// be a tenth of the call.
///
/// # Errors
/// A fault that says what differs.
pub fn check_body(sent: &[u8], echoed: &[u8]) -> Result<(), Fault> {
    if sent.len() != echoed.len() {
        let (sent, echoed) = (sent.len(), echoed.len());
        return Err(Fault::new(format!("sent a body of {sent} bytes, got {echoed}")));
    }
    let last = sent.len() - 8..;
    if sent[..8] != echoed[..8] || sent[last.clone()] != echoed[last] {
        return Err(Fault::new("got the body of somebody else".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another id, a shorter name, a missing tag: each is refused, the echo itself is not.
    #[test]
    fn a_wrong_answer_is_refused() {
        let good = Message::new(7);
        assert!(good.seen().check(7).is_ok());
        assert!(good.seen().check(8).is_err());
        assert!(Message { name: "short".to_owned(), ..good.clone() }.seen().check(7).is_err());
        assert!(Message { tags: vec![1], ..good }.seen().check(7).is_err());
    }

    /// A body of another caller and a cut one are refused.
    #[test]
    fn a_wrong_body_is_refused() {
        let sent = body(1024, 3);
        assert!(check_body(&sent, &sent.clone()).is_ok());
        assert!(check_body(&sent, &body(1024, 4)).is_err());
        assert!(check_body(&sent, &sent[..1023]).is_err());
    }
}
