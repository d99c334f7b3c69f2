//! A connection of bytes over a blocking socket: the attacker's end, client or server.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use switchback::wire::CloseReason;
use tokio::net::TcpSocket;
use tokio::runtime::{Builder, Runtime};

use crate::bytes::{CLOSE, HEAD_BYTES, PREFACE, greeting, welcome};
use crate::time::now;

/// The standard library cannot bind before it connects.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

/// The attacker's end of a connection.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
}

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) kind: u8,
    pub(crate) call: u32,
    pub(crate) body: Vec<u8>,
}

/// How a connection ended, as its attacker saw it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// With a CLOSE frame.
    Close(u16),
    /// Without one.
    Unsaid,
    /// Not at all, within the time that was given.
    Open,
}

impl Raw {
    pub(crate) fn of(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// To a server, from 127.0.0.`from`.
    pub(crate) fn connect(to: SocketAddr, from: u8) -> io::Result<Self> {
        let stream = RUNTIME.block_on(async {
            let socket = TcpSocket::new_v4()?;
            socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into())?;
            socket.connect(to).await?.into_std()
        })?;
        stream.set_nonblocking(false)?;
        Self::of(stream)
    }

    /// To a server that has answered HELLO with HELLO_ACK and its table.
    pub(crate) fn greeted(to: SocketAddr, from: u8) -> io::Result<Self> {
        let mut raw = Self::connect(to, from)?;
        raw.write(&greeting())?;
        raw.read_greeting()?;
        Ok(raw)
    }

    /// Reads what a server says first.
    pub(crate) fn read_greeting(&mut self) -> io::Result<()> {
        let until = now() + SOON;
        self.next(until)?;
        self.next(until).map(drop)
    }

    /// As a server: answers a client's HELLO.
    pub(crate) fn welcome(&mut self, methods: &[&str]) -> io::Result<()> {
        let until = now() + SOON;
        self.fill(PREFACE.len() + HEAD_BYTES, until)?;
        let body_len = word(&self.unread[PREFACE.len()..]);
        let len = PREFACE.len() + HEAD_BYTES + body_len as usize;
        self.fill(len, until)?;
        let hello: Vec<u8> = self.unread.drain(..len).collect();
        self.write(&welcome(&hello, methods))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Writes until the other side takes no more for a while; says how many bytes it took.
    pub(crate) fn flood(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(STUCK))?;
        let mut at = 0;
        while at < bytes.len() {
            match self.stream.write(&bytes[at..]) {
                Ok(written) => at += written,
                Err(error) if is_timeout(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(at)
    }

    /// The next frame, a preface before it aside; an error at the end of the stream, or when it
    /// is too late.
    pub(crate) fn next(&mut self, until: Instant) -> io::Result<Seen> {
        self.fill(HEAD_BYTES, until)?;
        if self.unread.starts_with(&PREFACE) {
            self.unread.drain(..PREFACE.len());
            self.fill(HEAD_BYTES, until)?;
        }
        let body_len = word(&self.unread) as usize;
        self.fill(HEAD_BYTES + body_len, until)?;
        let bytes: Vec<u8> = self.unread.drain(..HEAD_BYTES + body_len).collect();
        let body = bytes[HEAD_BYTES..].to_vec();
        Ok(Seen { kind: bytes[4], call: word(&bytes[8..]), body })
    }

    /// The next RESPONSE: its call, status and disposition.
    pub(crate) fn reply(&mut self) -> io::Result<(u32, u16, u8)> {
        let seen = self.next(now() + SOON)?;
        if seen.kind != crate::bytes::RESPONSE {
            return Err(io::Error::other(format!("expected a response, found {seen:?}")));
        }
        Ok((seen.call, u16::from_be_bytes([seen.body[0], seen.body[1]]), seen.body[2]))
    }

    /// Reads until the connection ends, at most so long: frames before the end are given to
    /// `each`.
    pub(crate) fn end_with(&mut self, wait: Duration, mut each: impl FnMut(&Seen)) -> End {
        let until = now() + wait;
        loop {
            match self.next(until) {
                Ok(seen) if seen.kind == CLOSE => {
                    return End::Close(u16::from_be_bytes([seen.body[0], seen.body[1]]));
                }
                Ok(seen) => each(&seen),
                Err(error) if is_timeout(&error) => return End::Open,
                Err(_) => return End::Unsaid,
            }
        }
    }

    /// [`Raw::end_with`], whatever comes before.
    pub(crate) fn end(&mut self, wait: Duration) -> End {
        self.end_with(wait, |_| ())
    }

    fn fill(&mut self, len: usize, until: Instant) -> io::Result<()> {
        let mut buf = vec![0; 64 * 1024];
        while self.unread.len() < len {
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut buf)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.unread.extend_from_slice(&buf[..read]),
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Close(reason) => write!(f, "{}", CloseReason(*reason)),
            Self::Open => f.write_str("open"),
            Self::Unsaid => f.write_str("closed without a word"),
        }
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// What answers at once has answered by then, on a busy machine too.
const SOON: Duration = Duration::from_secs(5);
/// Who has taken nothing for so long has stopped reading.
const STUCK: Duration = Duration::from_millis(300);
