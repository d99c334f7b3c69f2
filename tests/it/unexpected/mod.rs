//! `spec/unexpected.md`, held against our own server and client: whatever a peer does wrong, the
//! side under test does what the table says, and nobody else notices.
//!
//! The cases are data (`spec/vectors/unexpected.json`), so that other peers can be asked the same.
//! Beside every case others make calls, and must not fail; a client's own call ends exactly once,
//! and says the truth about its execution.

mod data;
mod subject;
mod talk;

use serde_json::json;

use crate::unexpected::data::{Side, Suite};
use crate::unexpected::subject::{Wire, hold};

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
    let (server, client) = (Side::Server, Side::Client);
    let after = json!({ "close": "PROTOCOL" });
    for (side, id, place, value, wanted) in [
        (
            server,
            "UX-101",
            "/server/then/close",
            json!("BODY_CRC"),
            "UX-101 against server: expected CLOSE BODY_CRC with last_call 0, \
          got CLOSE HEAD_CRC with last_call 0",
        ),
        (
            server,
            "UX-109",
            "/server/then/last_call",
            json!(3),
            "UX-109 against server: expected CLOSE HEAD_CRC with last_call 3, \
          got CLOSE HEAD_CRC with last_call 1",
        ),
        (
            server,
            "UX-134",
            "/server/then",
            json!({ "end": true }),
            "UX-134 against server: expected the end without a word, got nothing for 20 s",
        ),
        (
            server,
            "UX-101",
            "/server/then",
            json!({ "open": true }),
            "UX-101 against server: it does not go on: expected PONG 676f206f6e3f2e2e, \
          got CLOSE HEAD_CRC",
        ),
        (
            server,
            "UX-411",
            "/server/then",
            after,
            "UX-411 against server: expected CLOSE PROTOCOL, got the end",
        ),
        (
            server,
            "UX-310",
            "/server/steps/1/status",
            json!("OVERLOADED"),
            "UX-310 against server: expected RESPONSE 1 OVERLOADED NOT_PROCESSED , \
          got RESPONSE 1 UNKNOWN_METHOD NOT_PROCESSED payload \"\"",
        ),
        (
            server,
            "UX-311",
            "/server/steps/1/tlv",
            json!([3, "0002"]),
            "UX-311 against server: expected RESPONSE 1 UNSUPPORTED_VERSION NOT_PROCESSED  \
          TLV 3 = 0002, got RESPONSE 1 UNSUPPORTED_VERSION NOT_PROCESSED payload \"\" TLVs",
        ),
        (
            server,
            "UX-219",
            "/server/steps/1/expect",
            json!("preface"),
            "UX-219 against server: expected a preface, got the end after 0 of 8 bytes",
        ),
        (
            client,
            "UX-101",
            "/client/then/close",
            json!("BODY_CRC"),
            "UX-101 against client: expected CLOSE BODY_CRC with last_call 0, got CLOSE HEAD_CRC",
        ),
        (
            client,
            "UX-101",
            "/client/call/0/disposition",
            json!("NOT_PROCESSED"),
            "UX-101 against client: expected the call to end as [Outcome { status: \
          \"CONNECTION_LOST\", disposition: Some(\"NOT_PROCESSED\"), payload: None }], got \
          Outcome { status: \"CONNECTION_LOST\", disposition: Some(\"MAYBE\")",
        ),
        (
            client,
            "UX-134",
            "/client/call/0/payload",
            json!("08"),
            "UX-134 against client: expected the call to end as",
        ),
        (
            client,
            "UX-401",
            "/client/steps/1/send",
            json!(""),
            "UX-401 against client: the call has no outcome",
        ),
    ] {
        let suite = Suite::changed(id, place, value);
        let result = hold(&suite, &suite.cases[0], side, Wire::Memory).await;
        let failure = result.expect_err(id);
        assert!(failure.starts_with(wanted), "{failure}");
    }
}
