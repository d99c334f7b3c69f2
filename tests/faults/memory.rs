//! F10: bodies for which there is no memory, at a server and at a client whose address space is
//! limited as `ulimit -v` does: what does not fit is refused, and the process lives.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use switchback::{Channel, ClientConfig, Code, Disposition, Status};

use crate::child::{ServerSpec, role};
use crate::measure::{beside, run, say};
use crate::role::{AT, BYTES, LARGE, LARGE_BYTES_MAX, echo, hold, measure, peer};

/// What a process may have. A part of it is code, libraries and stacks.
const SPACE_MIB: usize = 160;
const MIB: usize = 1 << 20;
const S: Duration = Duration::from_secs(1);

fn limited() -> Vec<String> {
    // One arena: the others would only reserve address space.
    let space = format!("--as={}", SPACE_MIB * MIB);
    ["env", "MALLOC_ARENA_MAX=1", "prlimit", &space].map(str::to_owned).to_vec()
}

/// A server of 160 MiB: a request of 180 MiB is refused at the piece that has no room, one of 100
/// MiB before it is decoded, an answer of 100 MiB instead of being sent; all on one connection,
/// which lives. A client beside it notices nothing, and what fits is served.
#[test]
fn a_server_refuses_what_it_has_no_memory_for() {
    let _beside = beside();
    let mut spec = ServerSpec::at("tcp://127.0.0.1:0");
    (spec.within, spec.env) = (limited(), vec![(LARGE.to_owned(), "1".to_owned())]);
    let mut server = spec.start();
    run(async {
        let mut config = ClientConfig::default();
        config.frame_bytes_max = LARGE_BYTES_MAX;
        let bad = Channel::builder().config(config).connect(&server.url).await.unwrap();
        let victim = Channel::connect(&server.url).await.unwrap();
        let calling = tokio::spawn(async move {
            for n in 0.. {
                assert_eq!(victim.call(echo(), n).await, Ok(n), "beside them");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let whence = bad.call(peer(), ()).await.unwrap();
        for (mib, why) in [(180, "no memory for"), (100, "no memory for 2097")] {
            let text = "x".repeat(mib * MIB);
            let refused = bad.call(measure(), text).timeout(S * 60).await.unwrap_err();
            expect(refused.status().unwrap(), Code::OVERLOADED, Disposition::NotProcessed, why);
        }
        let answer = bad.call(hold(), (0, 100 * MIB as u64)).timeout(S * 60).await.unwrap_err();
        let why = "no memory for 1048";
        expect(answer.status().unwrap(), Code::INTERNAL, Disposition::Processed, why);

        let fits = bad.call(measure(), "x".repeat(20 * MIB)).timeout(S * 60).await;
        assert_eq!(fits, Ok(20 * MIB as u64));
        assert_eq!(bad.call(peer(), ()).await, Ok(whence), "it is the same connection");
        assert!(!calling.is_finished(), "{:?}", calling.await);
        calling.abort();
    });
    server.kill();
}

fn expect(status: &Status, code: Code, disposition: Disposition, why: &str) {
    say(&format!("F10 at the server: {status:?}"));
    assert_eq!((status.code(), status.disposition()), (code, disposition), "{status:?}");
    assert!(status.message().contains(why), "{status:?}");
}

/// A client of 160 MiB: of an answer of 180 MiB not all pieces fit, nor does what one of 100 MiB
/// decodes to. Both calls end with what is known, and the client goes on.
#[test]
fn a_client_outlives_what_it_has_no_memory_for() {
    let _beside = beside();
    let server = ServerSpec::at("tcp://127.0.0.1:0").start();
    for mib in [180, 100] {
        let mut client = role(&limited(), "role::ask_for_much");
        client.env(AT, &server.url).env(BYTES, (mib * MIB).to_string());
        let mut client = client.stdin(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(client.stdout.take().unwrap()).lines();
        let said: Vec<String> = lines
            .map(Result::unwrap)
            .filter(|line| line.starts_with("MUCH") || line.starts_with("LITTLE"))
            .collect();
        let ended = client.wait().unwrap();
        say(&format!("F10 at the client: {mib} MiB: {said:?}"));
        assert!(ended.success(), "{ended}: {said:?}");
        let [much, little] = &said[..] else { panic!("{said:?}") };
        assert!(much.contains("BAD_RESPONSE") && much.contains("no memory"), "{much}");
        assert_eq!(little, "LITTLE Ok(7)");
    }
}
