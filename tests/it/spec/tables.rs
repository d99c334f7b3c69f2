//! `tables.json` and `names.json`: tables, their changes, and the version that a client takes.

use proptest::prelude::*;
use std::sync::Arc;
use switchback::proto::{KnownTable, TableCache, VersionChoice};
use switchback::wire::{Decoder, Frame, Kind, MethodId, MethodRow, TablePayload, append_control};

use crate::spec::bytes::{Parts, TABLE, TABLE_UPDATE, fnv64};
use crate::spec::peers::table;
use crate::spec::peers::{Client, PREFACE, Server, ack_for, client_limits, reason, server_limits};
use crate::spec::{hash, hex, list, number, text, unhex, vectors};

fn named(vectors: &serde_json::Value, name: &str) -> TablePayload {
    let vector = list(vectors, "tables").iter().find(|vector| text(vector, "name") == name);
    TablePayload::parse(&unhex(&vector.expect("a table of the file")["payload_hex"]))
        .expect("a valid table")
}

fn known(table: &TablePayload) -> KnownTable {
    KnownTable::new(table.clone()).expect("its hash is right")
}

/// A frame of a table's kind with any payload.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    Parts::sound(kind).payload(payload).build()
}

/// The id of a method is the CRC-32 of its name.
#[test]
fn rt_1_method_ids_are_the_crc_of_their_names() {
    for vector in vectors("names.json").as_array().expect("a list") {
        assert_eq!(MethodId::of(text(vector, "name")).0, number::<u32>(&vector["method"]));
    }
}

/// Every table decodes to its methods, has the hash of its bytes, and encodes to them again.
#[test]
fn rt_3_tables_in_both_directions() {
    for vector in list(&vectors("tables.json"), "tables") {
        let (name, payload) = (text(vector, "name"), unhex(&vector["payload_hex"]));
        let parsed = TablePayload::parse(&payload).expect(name);
        assert_eq!(parsed.hash, hash(&vector["hash"]), "{name}");
        assert_eq!(hex(&parsed.to_bytes()), text(vector, "payload_hex"), "{name}");
        assert_eq!(known(&parsed).hash(), fnv64(&payload[8..]), "{name}");
        let methods = vector["methods"].as_array().expect("a list");
        assert_eq!(parsed.rows.len(), methods.len(), "{name}");
        for (row, method) in parsed.rows.iter().zip(methods) {
            assert_eq!(row.method.0, number::<u32>(&method["method"]));
            assert_eq!(row.ceiling, number::<u16>(&method["ceiling"]));
            let versions = row.versions.iter().map(|version| {
                serde_json::json!({
                    "version": version.version,
                    "fingerprint": format!("{:016x}", version.fingerprint),
                })
            });
            assert_eq!(versions.collect::<serde_json::Value>(), method["versions"], "{name}");
        }
    }
}

/// Every update makes its table out of the one before, and is what a server sends for that.
#[test]
fn rt_5_updates_in_both_directions() {
    let vectors = vectors("tables.json");
    for vector in list(&vectors, "updates") {
        let (name, payload) = (text(vector, "name"), unhex(&vector["payload_hex"]));
        let before = named(&vectors, text(vector, "before"));
        let after = named(&vectors, text(vector, "after"));

        let mut client = Client::open(&before);
        assert_eq!(client.feed(&frame(TABLE_UPDATE, &payload)), Ok(vec!["table".into()]), "{name}");
        assert_eq!(client.connection.table().map(|table| &**table), Some(&known(&after)), "{name}");

        let sent: Vec<Vec<u8>> =
            after.updates_from(&before).iter().map(TablePayload::to_bytes).collect();
        if before == after {
            assert_eq!(sent, [b""; 0], "nothing to say");
        } else {
            assert_eq!(sent, [payload], "{name}");
        }
    }
}

/// Every invalid table closes with its reason, whether it comes first or as a change.
#[test]
fn rt_3_refuses_invalid_tables_with_their_reason() {
    let vectors = vectors("tables.json");
    for vector in list(&vectors, "invalid") {
        let (name, payload) = (text(vector, "name"), unhex(&vector["payload_hex"]));
        let result = if text(vector, "kind") == "TABLE" {
            // HELLO_ACK names the hash that the payload does: nothing else is wrong.
            let mut announced = table(&[]);
            announced.hash = payload.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            Client::accepted(&announced).feed(&frame(TABLE, &payload))
        } else {
            let before = named(&vectors, text(vector, "before"));
            Client::open(&before).feed(&frame(TABLE_UPDATE, &payload))
        };
        assert_eq!(reason(result), text(vector, "error"), "{name}");
    }
}

/// The largest table there may be fits into the smallest limit; one version more is refused.
#[test]
fn rt_3_the_largest_table_fits_65536_bytes() {
    let rows = |versions: &'static [u16]| {
        let methods: Vec<(u32, u16, &[u16])> = (0..2048).map(|id| (id, 65_535, versions)).collect();
        table(&methods)
    };
    let largest = rows(&[1, 2]);
    let mut out = Vec::new();
    let payload = largest.to_bytes();
    append_control(&mut out, Kind::TABLE, switchback::wire::CallId(0), &[], &payload);
    let (raw, _) = Decoder::new(65_536).decode(&out).expect("it fits").expect("it is whole");
    assert_eq!(Frame::parse(raw), Ok(Frame::Table(largest.clone())));

    let mut more = largest;
    more.rows[0].versions = table(&[(0, 65_535, &[1, 2, 3])]).rows[0].versions.clone();
    more.hash = fnv64(&more.to_bytes()[8..]);
    let mut client = Client::accepted(&more);
    assert_eq!(reason(client.feed(&frame(TABLE, &more.to_bytes()))), "MALFORMED");
}

/// TABLE is sent unless HELLO named the current hash; then the client has it with HELLO_ACK.
#[test]
fn rt_4_the_table_is_sent_unless_the_client_has_it() {
    let (old, new) = (table(&[(9, 65_535, &[1])]), table(&[(9, 65_535, &[1, 2])]));
    for (held, is_sent) in [(&old, true), (&new, false)] {
        let mut cache = TableCache::default();
        cache.remember(Arc::new(known(held)));
        let mut client = Client::new(client_limits(), cache);
        let mut server = Server::new(server_limits(), new.clone());
        server.feed(&client.out).expect("a sound client");

        let seen = client.feed(&server.out).expect("a sound server");

        let expected: &[&str] =
            if is_sent { &["preface", "accepted", "table"] } else { &["preface", "accepted"] };
        assert_eq!(seen, expected);
        assert_eq!(client.connection.table().map(|table| &**table), Some(&known(&new)));
        assert_eq!(reason(client.feed(&frame(TABLE, &new.to_bytes()))), "PROTOCOL");
    }
}

/// A sound table that is not the one which HELLO_ACK named closes with TABLE.
#[test]
fn rt_4_refuses_a_table_that_was_not_announced() {
    let (named, other) = (table(&[(9, 65_535, &[1])]), table(&[(9, 65_535, &[1, 2])]));
    let mut client = Client::accepted(&named);
    assert_eq!(reason(client.feed(&frame(TABLE, &other.to_bytes()))), "TABLE");
}

/// A hash that HELLO did not name is announced, even of a table that looks like one of the cache.
#[test]
fn rt_4_hello_names_at_most_eight_tables_newest_first() {
    let tables: Vec<TablePayload> = (1..=9).map(|id| table(&[(id, 65_535, &[1])])).collect();
    let mut cache = TableCache::default();
    for table in &tables {
        cache.remember(Arc::new(known(table)));
    }
    cache.remember(Arc::new(known(&tables[4])));
    let order = [4, 8, 7, 6, 5, 3, 2, 1].map(|at: usize| tables[at].hash);
    assert_eq!(cache.hashes(), order);
    let mut client = Client::new(client_limits(), cache);
    let ack = ack_for(&client, tables[0].hash);
    client.feed(&[&PREFACE[..], &ack.build()].concat()).expect("a sound server");
    assert!(client.connection.table().is_none(), "the oldest was forgotten");
}

/// A removed method that was not there stays away, and its ceiling is not judged.
#[test]
fn rt_5_removing_what_is_not_there_changes_nothing() {
    let before = table(&[(9, 65_535, &[1])]);
    let row = |id| MethodRow { method: MethodId(id), ceiling: 77, versions: Vec::new() };
    let update = TablePayload { hash: before.hash, rows: vec![row(3), row(11)] };
    let mut client = Client::open(&before);
    assert_eq!(client.feed(&frame(TABLE_UPDATE, &update.to_bytes())), Ok(vec!["table".into()]));
    assert_eq!(client.connection.table().map(|table| &**table), Some(&known(&before)));
}

/// A change that makes a table too large closes with MALFORMED, though its hash is right.
#[test]
fn rt_5_refuses_a_result_over_the_limits() {
    let methods = |range: std::ops::Range<u32>| {
        let rows: Vec<(u32, u16, &[u16])> = range.map(|id| (id, 65_535, &[1][..])).collect();
        table(&rows)
    };
    let mut client = Client::open(&methods(0..2048));
    let mut update = methods(2048..2049);
    update.hash = methods(0..2049).hash;
    assert_eq!(reason(client.feed(&frame(TABLE_UPDATE, &update.to_bytes()))), "MALFORMED");
}

/// A change too large for one update is sent as two, each of which the client can check.
#[test]
fn rt_5_sends_a_large_change_as_several_updates() {
    let methods = |range: std::ops::Range<u32>| {
        let rows: Vec<(u32, u16, &[u16])> = range.map(|id| (id, 65_535, &[1, 2][..])).collect();
        table(&rows)
    };
    let (before, after) = (methods(0..2048), methods(1000..3048));
    let updates = after.updates_from(&before);
    assert_eq!(updates.len(), 1, "2000 rows fit one");
    let after = methods(1024..3072);
    assert_eq!(after.updates_from(&before).len(), 1, "2048 rows fit one");
    let after = methods(1025..3073);
    let updates = after.updates_from(&before);
    assert_eq!(updates.len(), 2);

    let mut client = Client::open(&before);
    for update in updates {
        let seen = client.feed(&frame(TABLE_UPDATE, &update.to_bytes()));
        assert_eq!(seen, Ok(vec!["table".into()]));
    }
    assert_eq!(client.connection.table().map(|table| &**table), Some(&known(&after)));
}

/// The client takes the highest version in both sets that is not above the ceiling.
#[test]
fn rt_6_takes_the_highest_callable_version() {
    let vectors = vectors("tables.json");
    for vector in list(&vectors, "choice") {
        let table = known(&named(&vectors, text(vector, "table")));
        let method = MethodId(number(&vector["method"]));
        let own: Vec<u16> =
            vector["client_versions"].as_array().expect("a list").iter().map(number).collect();
        let choice = table.choose(method, own.iter().rev().copied());
        let expected = match (vector["chosen"].as_u64(), table.row(method)) {
            (Some(version), _) => VersionChoice::Version(u16::try_from(version).expect("16 bits")),
            (None, Some(_)) => VersionChoice::NoneInCommon,
            (None, None) => VersionChoice::UnknownMethod,
        };
        assert_eq!(choice, expected, "{vector}");
    }
}

/// A client has no table to choose from until the connection has named one.
#[test]
fn rt_7_there_is_no_table_before_the_server_has_named_it() {
    let table = table(&[(9, 65_535, &[1, 2])]);
    let mut cache = TableCache::default();
    cache.remember(Arc::new(known(&table)));
    assert!(Client::new(client_limits(), cache).connection.table().is_none());
    assert!(Client::accepted(&table).connection.table().is_none());
    assert!(Client::open(&table).connection.table().is_some());
}

/// After a rollback a client chooses from the table that the new connection named, though a newer
/// one is at the front of its cache.
#[test]
fn rt_8_the_connection_says_which_table_is_in_force() {
    let (old, new) = (table(&[(9, 1, &[1, 2])]), table(&[(9, 65_535, &[1, 2])]));
    let mut cache = TableCache::default();
    cache.remember(Arc::new(known(&old)));
    cache.remember(Arc::new(known(&new)));
    let mut client = Client::new(client_limits(), cache);
    let mut server = Server::new(server_limits(), old);
    server.feed(&client.out).expect("a sound client");
    client.feed(&server.out).expect("a sound server");
    let table = client.connection.table().expect("HELLO_ACK named one that it holds");
    assert_eq!(table.choose(MethodId(9), [2, 1].into_iter()), VersionChoice::Version(1));
}

/// Any table of a few methods.
fn any_table() -> impl Strategy<Value = TablePayload> {
    let versions = proptest::collection::btree_set(1_u16..=65_534, 1..6);
    let methods = proptest::collection::btree_map(0_u32..12, (any::<u16>(), versions), 0..8);
    methods.prop_map(|methods| {
        let methods = methods.into_iter().map(|(id, (ceiling, versions))| {
            (id, ceiling, versions.into_iter().collect::<Vec<u16>>())
        });
        let methods: Vec<_> = methods.collect();
        let rows: Vec<_> =
            methods.iter().map(|(id, c, versions)| (*id, *c, &versions[..])).collect();
        table(&rows)
    })
}

proptest! {
    /// Whatever tables a server goes through, its client follows.
    #[test]
    fn rt_5_a_client_follows_every_change(
        tables in proptest::collection::vec(any_table(), 2..6),
    ) {
        let mut client = Client::open(&tables[0]);
        for pair in tables.windows(2) {
            for update in pair[1].updates_from(&pair[0]) {
                let seen = client.feed(&frame(TABLE_UPDATE, &update.to_bytes()));
                prop_assert_eq!(seen, Ok(vec!["table".to_owned()]));
            }
            let table = client.connection.table();
            prop_assert_eq!(table.map(|table| table.hash()), Some(pair[1].hash));
            prop_assert_eq!(TablePayload::parse(&pair[1].to_bytes()), Ok(pair[1].clone()));
        }
    }
}
