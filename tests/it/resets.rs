//! F3: a stream that fails, at every read and at every write of a conversation.
//!
//! Whatever the error, and whether the other direction fails with it or hangs: every call has one
//! outcome, at once, with a disposition that is true; nothing panics, nothing runs on.

use std::io::ErrorKind;

use switchback::{Code, Disposition};

use crate::conversation::{
    CALLS, Called, ClientRun, Conversation, cuts_of, play_client, play_server,
};
use crate::scripted::{Fault, Half, How, Other, Played, Script};

const KINDS: [ErrorKind; 3] =
    [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::TimedOut];

/// Every fault there is in a run with so many reads and writes.
fn faults(whole: &Played) -> Vec<Fault> {
    let mut faults = Vec::new();
    for half in [Half::Read, Half::Write] {
        for at in 0..whole.moves(half) {
            let ends = KINDS.into_iter().map(How::Error);
            let ends = ends.chain((half == Half::Read).then_some(How::Zero));
            for how in ends {
                for other in [Other::Fails, Other::Hangs] {
                    faults.push(Fault { half, at, how, other });
                }
            }
        }
    }
    faults
}

/// LD-5 at every index: a call is answered if its answer was read, NOT_PROCESSED if none of its
/// bytes was taken by the stream, MAYBE otherwise; all at once.
#[tokio::test(start_paused = true)]
async fn ld_5_every_call_has_a_true_outcome_wherever_its_stream_fails() {
    let (whole, script, unbroken) = cut_client().await;
    let faults = faults(&unbroken);
    assert!(faults.len() > 150, "{}", faults.len());
    let mut seen = [0_usize; 3];
    for fault in faults {
        let run = play_client(&Script { fault: Some(fault), ..script.clone() }).await;

        assert!(run.took.is_zero(), "{fault:?}: it took {:?}", run.took);
        judge(&whole, &run, &mut seen);
        assert!(run.played.polls_after_fault(fault.half) <= 2, "{fault:?}: it is polled on");
    }
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}

/// LD-5, LD-12: the same of a stream that takes nothing any more and does not say so: the calls
/// end after ten seconds. Shown at every write.
#[tokio::test(start_paused = true)]
async fn ld_5_every_call_has_a_true_outcome_wherever_its_stream_stalls() {
    let (whole, script, unbroken) = cut_client().await;
    let mut seen = [0_usize; 3];
    for at in 0..unbroken.moves(Half::Write) - 1 {
        let fault = Fault { half: Half::Write, at, how: How::Silence, other: Other::GoesOn };
        let run = play_client(&Script { fault: Some(fault), ..script.clone() }).await;

        // Without an answer to its HELLO, a client waits for that no longer than five.
        let limits = 5_000..10_100;
        let is_through = run.took.is_zero() && run.calls.iter().all(|c| outcome(c) == "answered");
        assert!(is_through || limits.contains(&run.took.as_millis()), "{at}: {:?}", run.took);
        judge(&whole, &run, &mut seen);
    }
    assert!(seen.iter().all(|count| *count >= CALLS), "{seen:?}");
}

/// A conversation whose reads and writes are cut often; its script, and what became of it whole.
async fn cut_client() -> (Conversation, Script, Played) {
    let whole = Conversation::new().await;
    let heard: Vec<u8> = whole.client.says.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let write_cuts = cuts_of(&play_client(&whole.client).await.played.written());
    let script = Script { read_cuts: cuts_of(&heard), write_cuts, ..whole.client.clone() };
    let unbroken = play_client(&script).await.played;
    (whole, script, unbroken)
}

/// Holds each outcome against what was written and read.
fn judge(whole: &Conversation, run: &ClientRun, seen: &mut [usize; 3]) {
    let (written, read) = (run.played.written().len(), run.played.read_bytes());
    for (n, call) in run.calls.iter().enumerate() {
        let (at, wanted) = if read >= whole.answers[n] {
            (0, "answered")
        } else if written <= whole.requests[n].start {
            (1, "NOT_PROCESSED")
        } else {
            (2, "MAYBE")
        };
        seen[at] += 1;
        assert_eq!(outcome(call), wanted, "{:?}, call {n}: {call:?}", run.played.fault());
    }
}

fn outcome(call: &Called) -> &'static str {
    let Err(error) = call else { return "answered" };
    let status = error.status().unwrap();
    match (status.code(), status.disposition()) {
        (Code::NOT_FOUND, Disposition::Processed) => "answered",
        (Code::CONNECTION_LOST | Code::NOT_CONNECTED, Disposition::NotProcessed) => "NOT_PROCESSED",
        (Code::CONNECTION_LOST, Disposition::Maybe) => "MAYBE",
        other => panic!("{other:?}: {status}"),
    }
}

/// LD-6 at every index: our server ends the connection at once, and with it the handler that waits.
#[tokio::test(start_paused = true)]
async fn ld_6_a_server_ends_wherever_its_stream_fails() {
    let whole = Conversation::new().await;
    let run = play_server(&whole.server).await;
    let read_cuts = cuts_of(&whole.server.says[0].1);
    let write_cuts = cuts_of(&run.played.written());
    run.served.abort();
    let script = Script { read_cuts, write_cuts, ..whole.server.clone() };
    let run = play_server(&script).await;
    run.served.abort();
    let faults = faults(&run.played);
    assert!(faults.len() > 200, "{}", faults.len());
    for fault in faults {
        let begun = crate::support::now();
        let run = play_server(&Script { fault: Some(fault), ..script.clone() }).await;

        let error = run.served.await.unwrap();

        assert!(crate::support::now() == begun, "{fault:?}");
        assert!(matches!(error.kind(), switchback::ErrorKind::Lost { .. }), "{fault:?}: {error}");
        crate::support::settle().await;
        assert_eq!(run.gate.left.get(), run.gate.entered.get(), "{fault:?}");
        assert!(run.played.polls_after_fault(fault.half) <= 2, "{fault:?}: it is polled on");
    }
}
