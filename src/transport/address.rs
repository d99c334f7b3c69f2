//! Addresses are URLs: `tcp://host:port`.
//!
//! Invariant: a plaintext address that is not loopback is refused unless the user said that the
//! network is trusted. Whether a name is loopback is asked of the resolved addresses, not of the
//! name.

use crate::error::{Error, ErrorKind};

/// A parsed address.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Address {
    /// Plaintext TCP: `host:port`, IPv6 hosts in brackets.
    Tcp {
        /// Name or number, without brackets.
        host: String,
        /// 0 to 65,535; 0 lets the system choose when binding.
        port: u16,
    },
}

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`ErrorKind::Address`].
    pub fn parse(address: &str) -> Result<Self, Error> {
        let bad = |why| Error::from(ErrorKind::Address { address: address.to_owned(), why });
        let Some((scheme, rest)) = address.split_once("://") else {
            return Err(bad("expected a URL such as tcp://127.0.0.1:7400"));
        };
        if scheme != "tcp" {
            return Err(bad("the only scheme of this build is tcp://"));
        }
        let Some((host, port)) = rest.rsplit_once(':') else {
            return Err(bad("the port is missing"));
        };
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(|| bad("the bracket is not closed"))?,
            None if host.contains(':') => {
                return Err(bad("an IPv6 address needs brackets, as in tcp://[::1]:7400"));
            }
            None => host,
        };
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        let port = port.parse().map_err(|_| bad("the port is not a number from 0 to 65535"))?;
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Tcp { host, port } = self;
        if host.contains(':') {
            write!(f, "tcp://[{host}]:{port}")
        } else {
            write!(f, "tcp://{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address survives being printed and read again; each kind of nonsense is named.
    #[test]
    fn addresses_are_urls() {
        for good in ["tcp://127.0.0.1:7400", "tcp://[::1]:0", "tcp://db.example:65535"] {
            assert_eq!(Address::parse(good).unwrap().to_string(), good);
        }
        for (bad, why) in [
            ("127.0.0.1:7400", "expected a URL"),
            ("http://127.0.0.1:7400", "only scheme"),
            ("tcp://127.0.0.1", "port is missing"),
            ("tcp://127.0.0.1:70000", "not a number"),
            ("tcp://::1:7400", "brackets"),
            ("tcp://[::1:7400", "not closed"),
            ("tcp://:7400", "host is missing"),
        ] {
            let error = Address::parse(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
