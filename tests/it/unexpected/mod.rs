//! `spec/unexpected.md`, held against our own server and client: whatever a peer does wrong, the
//! side under test does what the table says, and nobody else notices.
//!
//! The cases are data (`spec/vectors/unexpected.json`), so that other peers can be asked the same.
//! Beside every case others make calls, and must not fail; a client's own call ends exactly once,
//! and says the truth about its execution.

mod data;
mod subject;
mod talk;

use std::time::Duration;

use crate::raw::Raw;
use crate::support::settle;
use crate::unexpected::data::{Side, Suite};
use crate::unexpected::subject::{Wire, hold};

/// Lets so much time pass, on the paused clock.
async fn elapse(wait: Duration) {
    settle().await;
    tokio::time::advance(wait).await;
    settle().await;
}

/// Holds every case that suits, and reports all that fail.
async fn hold_all(suite: &Suite, side: Side, wire: Wire) {
    let (mut held, mut failures) = (0, Vec::new());
    for case in &suite.cases {
        let Some(conversation) = case.held(side) else { continue };
        if wire == Wire::Tcp && conversation.takes_time() {
            continue;
        }
        held += 1;
        if let Err(failure) = hold(suite, case, side, wire).await {
            failures.push(failure);
        }
    }
    assert!(failures.is_empty(), "{} of {held}:\n{}", failures.len(), failures.join("\n"));
    assert!(held >= 100, "{held} cases were held");
}

/// Every row against a server, in memory, while another client of it makes calls.
#[tokio::test(start_paused = true)]
async fn a_server_does_what_the_table_says() {
    hold_all(&Suite::read(), Side::Server, Wire::Memory).await;
}

/// FR-6: the same with bytes that arrive one at a time.
#[tokio::test(start_paused = true)]
async fn fr_6_a_server_does_so_however_the_bytes_are_cut() {
    hold_all(&Suite::read(), Side::Server, Wire::Bytes).await;
}

/// LD-3: the same over TCP, where closing with unread input would destroy a CLOSE. What takes time
/// is left to the paused clock.
#[tokio::test]
async fn ld_3_a_server_does_so_over_tcp() {
    hold_all(&Suite::read(), Side::Server, Wire::Tcp).await;
}

/// Every row against a client with a call under way, in memory, with another client beside it.
#[tokio::test(start_paused = true)]
async fn a_client_does_what_the_table_says() {
    hold_all(&Suite::read(), Side::Client, Wire::Memory).await;
}

/// FR-6: the same with bytes that arrive one at a time.
#[tokio::test(start_paused = true)]
async fn fr_6_a_client_does_so_however_the_bytes_are_cut() {
    hold_all(&Suite::read(), Side::Client, Wire::Bytes).await;
}

/// A row that says something else than what happens fails, in words that show both. Shown by an
/// expectation changed in each place where one can be.
#[tokio::test(start_paused = true)]
async fn a_wrong_row_is_seen() {
    for (changes, side) in [(WRONG_OF_SERVERS, Side::Server), (WRONG_OF_CLIENTS, Side::Client)] {
        for (id, place, value, wanted) in changes {
            let suite = Suite::changed(id, place, value);
            let result = hold(&suite, &suite.cases[0], side, Wire::Memory).await;
            let failure = result.expect_err(id);
            assert!(failure.starts_with(id) && failure.contains(wanted), "{failure}");
        }
    }
}

/// A row, a place in it, what is written there instead, and what must be said then.
type Wrong = (&'static str, &'static str, &'static str, &'static str);

const WRONG_OF_SERVERS: &[Wrong] = &[
    (
        "UX101",
        "/server/then/close",
        r#""BODY_CRC""#,
        "UX101 against server: expected CLOSE BODY_CRC with last_call 0, \
         got CLOSE HEAD_CRC with last_call 0",
    ),
    (
        "UX101",
        "/server/then",
        r#"{"open": true}"#,
        "it does not go on: expected PONG 676f206f6e3f2e2e, got CLOSE HEAD_CRC",
    ),
    (
        "UX109",
        "/server/then/last_call",
        "3",
        "expected CLOSE HEAD_CRC with last_call 3, got CLOSE HEAD_CRC with last_call 1",
    ),
    (
        "UX134",
        "/server/then",
        r#"{"end": true}"#,
        "expected the end without a word, got nothing for 20 s",
    ),
    (
        "UX219",
        "/server/steps/1/expect",
        r#""preface""#,
        "expected a preface, got the end after 0 of 8 bytes",
    ),
    (
        "UX311",
        "/server/steps/1/status",
        r#""OVERLOADED""#,
        "expected RESPONSE 1 OVERLOADED NOT_PROCESSED, got RESPONSE 1 UNKNOWN_METHOD",
    ),
    (
        "UX312",
        "/server/steps/1/tlv",
        r#"[3, "0002"]"#,
        "TLV 3 = 0002, got RESPONSE 1 UNSUPPORTED_VERSION NOT_PROCESSED payload \"\" TLVs",
    ),
    ("UX411", "/server/then", r#"{"close": "PROTOCOL"}"#, "expected CLOSE PROTOCOL, got the end"),
    (
        "UX621",
        "/server/steps/1/times",
        "102",
        "expected RESPONSE UNKNOWN_METHOD NOT_PROCESSED, got CLOSE TOO_MANY_ERRORS",
    ),
    ("UX629", "/server/steps/0/times", "251", "got CLOSE TOO_MANY_CANCELS with last_call 501"),
    ("UX657", "/server/steps/5/last_call", "3", "expected GOAWAY 3, got Goaway(Goaway"),
    ("UX861", "/server/steps/2/bytes", "32767", "expected CREDIT 32767, got Credit(32768)"),
    ("UX678", "/server/steps/1/wait_ms", "100000", "expected CLOSE IDLE with last_call 0, got not"),
];

const WRONG_OF_CLIENTS: &[Wrong] = &[
    (
        "UX101",
        "/client/then/close",
        r#""BODY_CRC""#,
        "UX101 against client: expected CLOSE BODY_CRC with last_call 0, got CLOSE HEAD_CRC",
    ),
    (
        "UX101",
        "/client/call/0/disposition",
        r#""NOT_PROCESSED""#,
        "the call to end as CONNECTION_LOST NOT_PROCESSED, got CONNECTION_LOST MAYBE",
    ),
    ("UX134", "/client/call/0/payload", r#""08""#, "the call to end as OK 08, got OK 07"),
    ("UX611", "/client/steps/0/times", "4", "TOO_MANY_PINGS with last_call 0, got the end"),
    ("UX646", "/client/steps/2/send", r#""""#, "the call to end as CONNECTION_LOST NOT_PROCESSED"),
    ("UX675", "/client/steps/1/expect", r#""PONG""#, "expected PONG, got the end"),
    (
        "UX401",
        "/client/steps/1/send",
        r#""""#,
        "expected the call to end as OK 07, got CONNECTION_LOST",
    ),
];
