//! F4: bytes that come and go in pieces. Wherever a read or a write is cut, the result is the same.
//!
//! ```text
//!   one cut     at every byte of what is read, and of what is written
//!   two cuts    every pair within the first 64 bytes, where prefaces and headers are
//! ```
//!
//! At a cut the stream would block once, so that the rest finds the reader with a partial frame
//! and the writer with a rest.

use std::io;

use crate::conversation::{ClientRun, Conversation, ServerRun, play_client, play_server, sorted};
use crate::scripted::{Fault, Half, How, Other, Script};

/// Bytes in which every pair of cuts is tried.
const PAIRS_BYTES: usize = 64;

/// Every cut of so many bytes: single ones anywhere, pairs at the beginning.
fn cuts(bytes: usize) -> impl Iterator<Item = Vec<usize>> {
    let pairs = (1..PAIRS_BYTES).flat_map(|a| (a + 1..=PAIRS_BYTES).map(move |b| vec![a, b]));
    (1..bytes).map(|at| vec![at]).chain(pairs)
}

fn with(script: &Script, half: Half, cuts: Vec<usize>) -> Script {
    match half {
        Half::Read => Script { read_cuts: cuts, ..script.clone() },
        Half::Write => Script { write_cuts: cuts, ..script.clone() },
    }
}

/// Our client makes six calls; cut wherever, it writes the same and its calls end alike.
#[tokio::test(start_paused = true)]
async fn a_client_does_not_see_where_bytes_are_cut() {
    let whole = Conversation::new().await;
    let wanted = format!("{:?}", play_client(&whole.client).await.calls);
    assert!(wanted.contains("Ok(\"answers\")") && wanted.contains("NOT_FOUND"), "{wanted}");
    let mut runs = 0;
    for (half, bytes) in [(Half::Read, whole.client_reads()), (Half::Write, whole.client_bytes)] {
        for cuts in cuts(bytes) {
            let mut script = with(&whole.client, half, cuts.clone());
            script.closes_after = Some(whole.client_bytes);

            let ClientRun { calls, played, took } = play_client(&script).await;
            played.until_written(whole.client_bytes).await;

            assert_eq!(format!("{calls:?}"), wanted, "{half:?} cut at {cuts:?}");
            assert_eq!(sorted(&played.written()), whole.client_frames, "{half:?} {cuts:?}");
            assert!(took.is_zero(), "{half:?} cut at {cuts:?}: {took:?}");
            runs += 1;
        }
    }
    assert!(runs > 700 + 2 * 2016, "{runs}");
}

/// Our server reads ten frames; cut wherever, it starts as many handlers and writes the same.
#[tokio::test(start_paused = true)]
async fn a_server_does_not_see_where_bytes_are_cut() {
    let whole = Conversation::new().await;
    assert!(whole.server_frames.len() >= 9, "{:?}", whole.server_frames);
    let mut runs = 0;
    for (half, bytes) in [(Half::Read, whole.server_reads()), (Half::Write, whole.server_bytes)] {
        for cuts in cuts(bytes) {
            let script = with(&whole.server, half, cuts.clone());

            let ServerRun { played, started, served, gate } = play_server(&script).await;
            played.until_written(whole.server_bytes).await;
            served.abort();

            assert_eq!(sorted(&played.written()), whole.server_frames, "{half:?} {cuts:?}");
            assert_eq!((started, gate.left.get()), (5, 1), "{half:?} cut at {cuts:?}");
            runs += 1;
        }
    }
    assert!(runs > 700 + 2 * 2016, "{runs}");
}

/// A stream that takes nothing, ever, is an error: the connection ends at once, after one poll of
/// it, and is not asked again and again. Shown at every write of both sides.
#[tokio::test(start_paused = true)]
async fn a_write_of_nothing_is_an_error() {
    let whole = Conversation::new().await;
    let mut runs = 0;
    for at in 0.. {
        let how = How::Zero;
        let fault = Fault { half: Half::Write, at, how, other: Other::Hangs };
        let cuts = crate::conversation::cuts_of(&play_server(&whole.server).await.played.written());
        let script = Script { fault: Some(fault), write_cuts: cuts, ..whole.server.clone() };
        let run = play_server(&script).await;
        if run.played.moves(Half::Write) < at || run.played.polls_after_fault(Half::Write) == 0 {
            run.served.abort();
            break;
        }
        let error = run.served.await.unwrap().to_string();
        assert!(error.contains(&io::Error::from(io::ErrorKind::WriteZero).to_string()), "{error}");
        assert_eq!(run.played.polls_after_fault(Half::Write), 1, "write {at}");
        runs += 1;
    }
    assert!(runs >= 10, "{runs}");
    let cuts = whole.requests.iter().map(|request| request.start + 5).collect::<Vec<_>>();
    for at in 0..=cuts.len() {
        let fault = Fault { half: Half::Write, at, how: How::Zero, other: Other::Hangs };
        let script =
            Script { fault: Some(fault), write_cuts: cuts.clone(), ..whole.client.clone() };
        let run = play_client(&script).await;
        assert_eq!(run.played.polls_after_fault(Half::Write), 1, "write {at}");
        assert!(run.took.is_zero() && run.calls.iter().any(Result::is_err), "write {at}");
    }
}
