//! F11: a wall clock that jumps by an hour, there and back, under load: nobody notices.

use std::path::{Path, PathBuf};
use std::time::Duration;

use switchback::{Channel, Code};

use crate::child::ServerSpec;
use crate::measure::{Times, alone, now, run, say, wall};
use crate::role::{clock, echo, hold};

const S: Duration = Duration::from_secs(1);
const HOUR_S: i64 = 3600;

/// Where Debian and others put libfaketime. Without it nothing is shown, and the test fails.
fn library() -> PathBuf {
    const FILE: &str = "faketime/libfaketimeMT.so.1";
    let places =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let found = places.iter().map(|place| Path::new(place).join(FILE)).find(|file| file.exists());
    found.unwrap_or_else(|| {
        panic!("no {FILE} in {places:?}: install libfaketime (Debian: faketime)")
    })
}

/// A server whose wall clock jumps by plus one hour and minus one: no call fails or is slow, calls
/// end at their deadlines, neither before nor long after, and the connection lives.
#[test]
fn a_wall_clock_that_jumps_disturbs_nobody() {
    let _alone = alone();
    let library = library();
    let setting =
        std::env::temp_dir().join(format!("switchback-faults-{}-clock", std::process::id()));
    let set = |offset: &str| {
        let new = setting.with_extension("new");
        std::fs::write(&new, offset).unwrap();
        std::fs::rename(&new, &setting).unwrap(); // Nobody reads half of it.
    };
    set("+0");
    let mut spec = ServerSpec::at("tcp://127.0.0.1:0");
    spec.env = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", setting.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    let server = spec.start();
    run(async {
        let channel = Channel::connect(&server.url).await.unwrap();
        let long = tokio::spawn(channel.call(hold(), (4000, 7)));
        let (mut times, mut ends) = (Vec::new(), Vec::new());
        for offset in [0, HOUR_S, -HOUR_S, 0] {
            set(&format!("{offset:+}"));
            let there = i64::try_from(channel.call(clock(), ()).await.unwrap()).unwrap();
            let here = i64::try_from(wall().as_secs()).unwrap();
            assert!((there - here - offset).abs() <= 2, "the clock did not jump: {there} {here}");
            let begun = now();
            while now() - begun < S * 9 / 10 {
                let asked = now();
                assert_eq!(channel.call(echo(), 1).await, Ok(1));
                times.push(now() - asked);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let asked = now();
            let late = channel.call(hold(), (60_000, 1)).timeout(S / 5).await.unwrap_err();
            ends.push(now() - asked);
            assert_eq!(late.status().unwrap().code(), Code::DEADLINE_EXCEEDED);
        }
        assert_eq!(long.await.unwrap(), Ok("x".repeat(7)), "on the same connection");
        let (times, ends) = (Times::new(times), Times::new(ends));
        say(&format!("F11 +-1 h: calls {times}; deadlines of 200 ms: max {:.1?}", ends.max()));
        assert!(times.percentile(99) < S / 10, "{times}");
        assert!(S / 5 <= ends.percentile(0) && ends.max() < S / 2, "{ends}");
    });
    std::fs::remove_file(&setting).unwrap();
}
