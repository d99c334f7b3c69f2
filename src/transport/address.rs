//! Addresses are URLs: `tcp://host:port`, `unix:///path`, `mem://name`.
//!
//! Every build reads all of them; whether it has the transport is asked when one is used, so that
//! turning a feature on never changes what an address means.
//!
//! Invariant: a plaintext address that leaves the host is refused unless the user said that the
//! network is trusted. Whether a name is loopback is asked of the resolved addresses, not of the
//! name; `unix://` and `mem://` never leave the host.

use crate::error::{Error, ErrorKind};

/// A parsed address.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Address {
    /// A name in this process, known to nobody outside: for tests, and for services side by side.
    Mem {
        /// 1 to 64 of `A-Z a-z 0-9 . _ -`; none lets the system choose when binding.
        name: String,
    },
    /// Plaintext TCP: `host:port`, IPv6 hosts in brackets.
    Tcp {
        /// Name or number, without brackets.
        host: String,
        /// 0 to 65,535; 0 lets the system choose when binding.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// An absolute path, or `@name` in Linux's abstract namespace; at most
        /// [`SOCKET_PATH_BYTES_MAX`] bytes. Taken as it is: no `%20` is decoded.
        path: String,
    },
}

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`ErrorKind::Address`], [`ErrorKind::SocketPathTooLong`].
    pub fn parse(address: &str) -> Result<Self, Error> {
        let Some((scheme, rest)) = address.split_once("://") else {
            return Err(bad(address, "expected a URL such as tcp://127.0.0.1:7400"));
        };
        match scheme {
            "mem" => parse_mem(rest).map_err(|why| bad(address, why)),
            "tcp" => parse_tcp(rest).map_err(|why| bad(address, why)),
            "unix" => {
                check_path(rest)?;
                Ok(Self::Unix { path: rest.to_owned() })
            }
            _ => Err(bad(address, "the schemes are tcp://, unix:// and mem://")),
        }
    }
}

fn parse_mem(name: &str) -> Result<Address, &'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.len() > MEM_NAME_BYTES_MAX || !name.bytes().all(is_allowed) {
        return Err("a name in memory is at most 64 of A-Z a-z 0-9 . _ -");
    }
    Ok(Address::Mem { name: name.to_owned() })
}

fn parse_tcp(rest: &str) -> Result<Address, &'static str> {
    // A bracket at the end is that of an IPv6 address, whose colons are no port's.
    let split = rest.rsplit_once(':').filter(|_| !rest.ends_with(']'));
    let Some((host, port)) = split else {
        return Err("the port is missing");
    };
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or("the bracket is not closed")?,
        None if host.contains(':') => {
            return Err("an IPv6 address needs brackets, as in tcp://[::1]:7400");
        }
        None => host,
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    let port = port.parse().map_err(|_| "the port is not a number from 0 to 65535")?;
    Ok(Address::Tcp { host: host.to_owned(), port })
}

/// Whether a socket can have this path.
pub(crate) fn check_path(path: &str) -> Result<(), Error> {
    let why = match path.strip_prefix('@') {
        Some(_) if !cfg!(target_os = "linux") => "names that begin with @ exist on Linux only",
        Some("") => "the name behind the @ is missing",
        None if !path.starts_with('/') => {
            "the path is not absolute: write three slashes, as in unix:///run/app.sock"
        }
        None if path.ends_with('/') => "the path is a folder's: name the socket in it",
        _ if path.contains('\0') => "a path has no zero byte",
        _ if path.len() > SOCKET_PATH_BYTES_MAX => {
            let (path, bytes, max) = (path.to_owned(), path.len(), SOCKET_PATH_BYTES_MAX);
            return Err(ErrorKind::SocketPathTooLong { path, bytes, max }.into());
        }
        _ => return Ok(()),
    };
    Err(bad(&format!("unix://{path}"), why))
}

pub(crate) fn bad(address: &str, why: &'static str) -> Error {
    ErrorKind::Address { address: address.to_owned(), why }.into()
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mem { name } => write!(f, "mem://{name}"),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Unix { path } => write!(f, "unix://{path}"),
        }
    }
}

/// Bytes that fit into the address of a Unix socket, the zero at their end apart: 108 on Linux, 104
/// on the BSDs and macOS.
pub const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// Of a name in memory: enough for a test's own, and for a line of a log.
const MEM_NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// An address survives being printed and read again; each kind of nonsense is named.
    #[test]
    fn addresses_are_urls() {
        for good in [
            "tcp://127.0.0.1:7400",
            "tcp://[::1]:0",
            "tcp://db.example:65535",
            "unix:///run/app.sock",
            "unix:///run/my app/ä%20.sock",
            "mem://bank.Ledger_2-a",
            "mem://",
        ] {
            assert_eq!(Address::parse(good).unwrap().to_string(), good);
        }
        for (bad, why) in [
            ("127.0.0.1:7400", "expected a URL"),
            ("http://127.0.0.1:7400", "the schemes are"),
            ("tcp://[::1]", "port is missing"),
            ("tcp://127.0.0.1", "port is missing"),
            ("tcp://127.0.0.1:70000", "not a number"),
            ("tcp://::1:7400", "brackets"),
            ("tcp://[::1:7400", "not closed"),
            ("tcp://:7400", "host is missing"),
            ("unix://run/app.sock", "not absolute"),
            ("unix://", "not absolute"),
            ("unix:///run/", "a folder's"),
            ("unix:///run/a\0b", "zero byte"),
            ("mem://a b", "at most 64 of"),
            ("mem://a/b", "at most 64 of"),
        ] {
            let error = Address::parse(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    /// The limits of names, at their most and one above; the error names the value and the limit.
    #[test]
    fn names_have_limits() {
        let name = "n".repeat(MEM_NAME_BYTES_MAX);
        assert!(Address::parse(&format!("mem://{name}")).is_ok());
        assert!(Address::parse(&format!("mem://{name}n")).is_err());

        let path = format!("/{}", "p".repeat(SOCKET_PATH_BYTES_MAX - 1));
        assert!(Address::parse(&format!("unix://{path}")).is_ok());
        let error = Address::parse(&format!("unix://{path}p")).unwrap_err();
        let ErrorKind::SocketPathTooLong { bytes, max, .. } = error.kind() else {
            panic!("{error}");
        };
        assert_eq!((*bytes, *max), (SOCKET_PATH_BYTES_MAX + 1, SOCKET_PATH_BYTES_MAX));
    }

    /// Names without a file are Linux's own.
    #[cfg(target_os = "linux")]
    #[test]
    fn abstract_names_begin_with_an_at() {
        assert_eq!(Address::parse("unix://@app").unwrap().to_string(), "unix://@app");
        let error = Address::parse("unix://@").unwrap_err().to_string();
        assert!(error.contains("behind the @"), "{error}");
    }
}
