//! `prefaces.json`, and the requirements on the first eight bytes of each side.

use switchback::proto::{Inbound, Input, TableCache, Violation};
use switchback::wire::{Preface, PrefaceError, VersionRange};

use crate::spec::peers::{Client, PREFACE, Server, client_limits, reason, server_limits, table};
use crate::spec::{hex, list, number, text, unhex, vectors};

fn server() -> Server {
    Server::new(server_limits(), table(&[]))
}

/// Every valid preface in both directions, whole and byte by byte.
#[test]
fn valid_prefaces_in_both_directions() {
    for vector in list(&vectors("prefaces.json"), "valid") {
        let bytes = unhex(&vector["hex"]);
        let preface =
            Preface(VersionRange { lo: number(&vector["lo"]), hi: number(&vector["hi"]) });

        assert_eq!(hex(&preface.to_bytes()), text(vector, "hex"));
        assert_eq!(Preface::parse(&bytes), Ok(Some(preface)));
        let mut inbound = Inbound::new(65_536);
        for end in 0..8 {
            assert_eq!(Preface::parse(&bytes[..end]), Ok(None));
            assert_eq!(inbound.next(&bytes[..end]), Ok(None));
        }
        assert_eq!(inbound.next(&bytes), Ok(Some((Input::Preface(preface), 8))));
    }
}

/// Every invalid preface is refused by both sides with its reason, however its bytes are cut.
#[test]
fn invalid_prefaces_are_refused_with_their_reason() {
    for vector in list(&vectors("prefaces.json"), "invalid") {
        let (name, error, bytes) =
            (text(vector, "name"), text(vector, "error"), unhex(&vector["hex"]));
        let parsed = Preface::parse(&bytes);
        match error {
            "INCOMPLETE" => {
                assert_eq!(parsed, Ok(None), "{name}");
                assert_eq!(server().feed(&bytes), Ok(Vec::new()), "{name}");
            }
            error => {
                assert!(parsed.is_err(), "{name}");
                assert_eq!(reason(server().feed(&bytes)), error, "{name}");
                let mut client = Client::new(client_limits(), TableCache::default());
                assert_eq!(reason(client.feed(&bytes)), error, "{name}");
            }
        }
    }
}

/// Both sides choose the version that the vectors name, or none.
#[test]
fn hs_4_both_sides_choose_the_same_version() {
    for vector in list(&vectors("prefaces.json"), "chosen") {
        let range = |side: &str| {
            let preface = Preface::parse(&unhex(&vector[side])).expect("a sound preface");
            preface.expect("a whole preface")
        };
        let (of_client, of_server) = (range("client"), range("server"));
        let expected =
            vector["version"].as_u64().map(|version| u16::try_from(version).expect("16 bits"));
        assert_eq!(of_client.0.choose(of_server.0), expected);
        assert_eq!(of_server.0.choose(of_client.0), expected);

        let mut limits = client_limits();
        limits.versions = of_client.0;
        let mut client = Client::new(limits, TableCache::default());
        let mut limits = server_limits();
        limits.versions = of_server.0;
        let mut server = Server::new(limits, table(&[]));
        let read = server.feed(&client.out[..8]);
        assert_eq!(
            server.out,
            of_server.to_bytes(),
            "a server answers with its preface in any case"
        );
        let answer = client.feed(&server.out);
        if expected.is_some() {
            assert_eq!(
                (read, answer),
                (Ok(vec!["preface".to_owned()]), Ok(vec!["preface".to_owned()]))
            );
        } else {
            assert_eq!((reason(read), reason(answer)), ("NO_COMMON_VERSION", "NO_COMMON_VERSION"));
        }
    }
}

/// A client writes its preface once, then HELLO, before it has read anything; a server writes its
/// preface before anything else.
#[test]
fn hs_1_the_preface_is_sent_once_and_first() {
    let client = Client::new(client_limits(), TableCache::default());
    assert_eq!(client.out[..8], PREFACE);
    assert_eq!(client.out[12], crate::spec::bytes::HELLO);

    let mut server = server();
    server.feed(&client.out).expect("a sound handshake");
    assert_eq!(server.out[..8], PREFACE);
    assert_eq!(server.out.windows(4).filter(|bytes| bytes == b"SWBK").count(), 1);
}

/// A server writes nothing before the whole preface is there, and finds a wrong byte at once.
#[test]
fn hs_2_is_silent_until_the_preface_is_read() {
    for end in 0..8 {
        let mut server = server();
        assert_eq!(server.feed(&PREFACE[..end]), Ok(Vec::new()));
        assert_eq!(server.out, b"", "after {end} bytes");
    }
    for at in 0..4 {
        let mut bytes = PREFACE[..=at].to_vec();
        bytes[at] ^= 0x20;
        let mut server = server();
        let found = server.feed(&bytes);
        assert_eq!(found, Err(Violation::Preface(PrefaceError::NotSwitchback)));
        assert_eq!(server.out, b"", "closes without having written a byte");
    }
}

/// A range that is none closes with MALFORMED; a server sends its own preface before the CLOSE.
#[test]
fn hs_3_a_malformed_range_is_answered_with_the_own_preface() {
    for (lo, hi) in [(0_u16, 1_u16), (0, 0), (2, 1), (65_535, 65_534)] {
        let bytes = [&b"SWBK"[..], &lo.to_be_bytes(), &hi.to_be_bytes()].concat();
        let mut server = server();
        assert_eq!(reason(server.feed(&bytes)), "MALFORMED");
        assert_eq!(server.out, PREFACE);
        let mut client = Client::new(client_limits(), TableCache::default());
        assert_eq!(reason(client.feed(&bytes)), "MALFORMED");
    }
}
