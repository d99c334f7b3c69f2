//! `spec/unexpected.md`, held against our own server and client: whatever a peer does wrong, the
//! side under test does what the table says, and nobody else notices.
//!
//! The cases are data (`spec/vectors/unexpected.json`), so that other peers can be asked the same.
//! Beside every case others make calls, and must not fail; a client's own call ends exactly once,
//! and says the truth about its execution.

mod data;
mod subject;
mod talk;

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
