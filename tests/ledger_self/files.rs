//! Logs as files: torn, empty, foreign, malformed; and a process that is really killed.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::ledger::{
    Answer, ClientLog, Disposition, End, How, Invariant, Issue, Outcome, Rules, ServerLog, Start,
    Verdict, check, check_bytes,
};

/// What the writers write to files is what the checker reads.
#[test]
fn files_written_by_the_writers_are_clean() -> io::Result<()> {
    let dir = Dir::new("clean")?;
    let client = ClientLog::create(&dir.file("client"), 1)?;
    let server = ServerLog::create(&dir.file("server"), 2)?;
    for seq in 0..2000 {
        client.issue(issue(seq))?;
        let nonce = server.start(start(1, seq))?;
        server.finish(nonce, How::Ok, 1_000_200)?;
        client.end(answered(seq, nonce))?;
    }
    client.close()?;
    server.close()?;

    let verdict = check(&[dir.file("client"), dir.file("server")])?;

    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.calls, verdict.ok, verdict.executions), (2000, 2000, 2000));
    assert_eq!((verdict.torn, verdict.unfinished), (0, 0));
    Ok(())
}

/// A log is one run of one process: neither an old file nor a closed log is written to.
#[test]
fn logs_are_neither_continued_nor_reopened() -> io::Result<()> {
    let dir = Dir::new("reopened")?;
    let server = ServerLog::create(&dir.file("server"), 2)?;
    server.close()?;

    let again = ServerLog::create(&dir.file("server"), 2).map_err(|error| error.kind());
    assert_eq!(again.err(), Some(io::ErrorKind::AlreadyExists));
    assert!(server.start(start(1, 1)).is_err());
    assert!(server.close().is_err());
    let too_high = ServerLog::create(&dir.file("other"), 1 << 24).map_err(|error| error.kind());
    assert_eq!(too_high.err(), Some(io::ErrorKind::InvalidInput));
    Ok(())
}

/// Names that would break a line apart are written as one word.
#[test]
fn names_stay_one_word() -> io::Result<()> {
    let (client, bytes) = ClientLog::in_memory(1);
    client.issue(Issue { method: "a b\nstop 0", ..issue(1) })?;
    let failed = Outcome::Failed("lost the\tconnection");
    client.end(End { outcome: failed, ..ended(1, Disposition::Maybe) })?;
    client.issue(Issue { method: "", ..issue(2) })?;
    client.end(End { outcome: Outcome::App(&"x".repeat(5000)), ..ended(2, Disposition::Maybe) })?;
    client.close()?;

    let verdict = check_bytes(&[("client", &bytes.bytes())], &Rules::REAL)?;

    assert_eq!(verdict.errors.get("failed:lost_the_connection"), Some(&1));
    assert_eq!(verdict.calls, 2);
    Ok(())
}

/// Wherever a kill cuts a server's log, it is read as far as it goes, and counted as torn.
#[test]
fn a_torn_server_log_is_tolerated_at_every_byte() -> io::Result<()> {
    let (client, client_bytes) = ClientLog::in_memory(1);
    let (server, server_bytes) = ServerLog::in_memory(2);
    let unknown = End { outcome: Outcome::Unknown, ..ended(1, Disposition::Maybe) };
    client.issue(issue(1))?;
    client.end(unknown)?;
    client.close()?;
    let nonce = server.start(start(1, 1))?;
    server.finish(nonce, How::Ok, 1_000_200)?;
    server.close()?;
    let (client, server) = (client_bytes.bytes(), server_bytes.bytes());
    let start_ends = server.windows(5).position(|w| w == b"finis").expect("it finished");
    let finish_ends = server.windows(5).position(|w| w == b"stop ").expect("it was closed");

    for cut in 0..=server.len() {
        let verdict = check_bytes(&[("c", &client), ("s", &server[..cut])], &Rules::REAL)?;

        assert!(verdict.is_clean(), "cut at {cut}: {verdict}");
        assert_eq!(verdict.torn, u64::from(cut < server.len()), "cut at {cut}");
        assert_eq!(verdict.executions, u64::from(cut >= start_ends), "cut at {cut}");
        let unfinished = u64::from(cut >= start_ends && cut < finish_ends);
        assert_eq!(verdict.unfinished, unfinished, "cut at {cut}");
    }
    Ok(())
}

/// A client is not killed in the tests: an open log of one is a violation, wherever it is cut.
#[test]
fn a_torn_client_log_is_a_violation() -> io::Result<()> {
    let (client, bytes) = ClientLog::in_memory(1);
    client.issue(issue(1))?;
    client.end(End { outcome: Outcome::Unknown, ..ended(1, Disposition::Maybe) })?;
    client.close()?;
    let bytes = bytes.bytes();
    let header = bytes.iter().position(|byte| *byte == b'\n').expect("a header") + 1;

    for cut in header..bytes.len() {
        let verdict = check_bytes(&[("client", &bytes[..cut])], &Rules::REAL)?;
        assert_eq!(verdict.count(Invariant::Log), 1, "cut at {cut}: {verdict}");
    }
    Ok(())
}

/// No bytes, only a header, or no records: nothing to judge, and the counts say so.
#[test]
fn empty_logs_are_clean_and_counted() -> io::Result<()> {
    assert_eq!(check(&[])?, Verdict::default());

    let (client, client_bytes) = ClientLog::in_memory(1);
    client.close()?;
    let (server, server_bytes) = ServerLog::in_memory(2);
    drop(server);
    let logs: [(&str, &[u8]); 3] =
        [("client", &client_bytes.bytes()), ("server", &server_bytes.bytes()), ("nothing", b"")];
    let verdict = check_bytes(&logs, &Rules::REAL)?;

    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.clients, verdict.servers, verdict.torn, verdict.calls), (1, 1, 2, 0));
    Ok(())
}

/// Two logs of one client, or of one server instance, are two processes under one name.
#[test]
fn the_same_owner_twice_is_a_violation() -> io::Result<()> {
    let client = b"switchback-ledger 1 client 1 0\nstop 0\n";
    let server = b"switchback-ledger 1 server 1 0\nstop 0\n";

    let both = check_bytes(&[("a", client), ("b", server)], &Rules::REAL)?;
    assert!(both.is_clean(), "a client and a server may have the same number: {both}");
    for log in [client, server] {
        let twice = check_bytes(&[("a", log), ("b", log)], &Rules::REAL)?;
        assert_eq!(twice.count(Invariant::Log), 1, "{twice}");
    }
    Ok(())
}

/// Whatever is not a record is an error that names the place, never skipped.
#[test]
fn malformed_lines_are_errors() {
    let client = "switchback-ledger 1 client 1 0\n";
    let server = "switchback-ledger 1 server 1 0\n";
    let too_long = format!("{client}issue {}\n", "1".repeat(3000));
    let long_rest = format!("{server}{}", "1".repeat(3000));
    let bad = [
        (1, "hello\n".to_owned()),
        (1, "switchback-ledger 2 client 1 0\n".to_owned()),
        (1, "switchback-ledger 1 proxy 1 0\n".to_owned()),
        (1, "\n".to_owned()),
        (1, "stop 0\n".to_owned()),
        (2, format!("{client}{client}")),
        (2, format!("{client}issue 1 m 1 0 5\n")),
        (2, format!("{client}issue 1 m 1 0 5 6 7\n")),
        (2, format!("{client}issue 1 m 1 2 5 6\n")),
        (2, format!("{client}issue 1 m 70000 0 5 6\n")),
        (2, format!("{client}issue  m 1 0 5 6\n")),
        (2, format!("{client}end 1 fine processed 5 -\n")),
        (2, format!("{client}end 1 ok done 5 -\n")),
        (2, format!("{client}end 1 ok processed 5 1 2 3 4\n")),
        (2, format!("{client}attempt 1 0 x ok processed\n")),
        (2, format!("{client}finish 1 ok 5\n")),
        (2, format!("{server}issue 1 m 1 0 5 6\n")),
        (2, format!("{server}finish 1 well 5\n")),
        (2, format!("{server}finish -1 ok 5\n")),
        (2, format!("{server}stop 1\n")),
        (3, format!("{server}stop 0\nstop 0\n")),
        (3, format!("{server}stop 0\nstop")),
        (2, too_long),
        (2, long_rest),
    ];
    for (line, log) in &bad {
        let error = check_bytes(&[("log", log.as_bytes())], &Rules::REAL)
            .expect_err(&format!("{log:?} was taken"));
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().starts_with(&format!("log:{line}: ")), "{log:?}: {error}");
    }
    let not_utf8 = [server.as_bytes(), b"finish \xff\n"].concat();
    assert!(check_bytes(&[("log", &not_utf8)], &Rules::REAL).is_err());
}

/// What a server wrote before SIGKILL is there after it, each start and each finish.
#[test]
fn records_survive_a_kill() -> io::Result<()> {
    let dir = Dir::new("killed")?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "files::a_server_that_waits_to_be_killed", "--ignored", "--nocapture"])
        .env(CHILD_LOG, dir.file("server"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().expect("it is piped");
    let ready = BufReader::new(stdout)
        .lines()
        .find(|line| line.as_ref().is_ok_and(|line| line.ends_with(CHILD_READY)));
    child.kill()?;
    child.wait()?;
    assert!(ready.is_some(), "the child ended before it was ready");
    let client = ClientLog::create(&dir.file("client"), 1)?;
    for seq in 0..CHILD_STARTS {
        client.issue(issue(seq))?;
        client.end(End { outcome: Outcome::Unknown, ..ended(seq, Disposition::Maybe) })?;
    }
    client.close()?;

    let verdict = check(&[dir.file("client"), dir.file("server")])?;

    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.executions, verdict.unfinished), (CHILD_STARTS, CHILD_STARTS / 2));
    assert_eq!(verdict.torn, 1);
    Ok(())
}

/// Not a test: the process that [`records_survive_a_kill`] kills.
#[test]
#[ignore = "a child process of another test"]
fn a_server_that_waits_to_be_killed() -> io::Result<()> {
    let Some(path) = std::env::var_os(CHILD_LOG) else {
        return Ok(());
    };
    let server = ServerLog::create(Path::new(&path), 2)?;
    for seq in 0..CHILD_STARTS {
        let nonce = server.start(start(1, seq))?;
        if seq % 2 == 0 {
            server.finish(nonce, How::Ok, 1_000_200)?;
        }
    }
    writeln!(io::stdout(), "{CHILD_READY}")?;
    // Ends when the parent is gone, should it fail before the kill.
    io::stdin().lines().for_each(drop);
    Ok(())
}

fn issue(seq: u64) -> Issue<'static> {
    Issue {
        seq,
        method: "bank/pay",
        version: 1,
        idempotent: false,
        issued_at_us: 1_000_000,
        deadline_at_us: 1_100_000,
    }
}

fn ended(seq: u64, disposition: Disposition) -> End<'static> {
    End { seq, outcome: Outcome::Cancelled, disposition, ended_at_us: 1_000_300, answer: None }
}

fn answered(seq: u64, nonce: u64) -> End<'static> {
    let answer = Answer { nonce, client: 1, seq, instance: 2, version: 1 };
    let ended = ended(seq, Disposition::Processed);
    End { outcome: Outcome::Ok, answer: Some(answer), ..ended }
}

fn start(client: u64, seq: u64) -> Start<'static> {
    Start {
        client,
        seq,
        attempt: 0,
        method: "bank/pay",
        version: 1,
        started_at_us: 1_000_100,
        deadline_at_us: 1_100_100,
    }
}

/// A directory of its own for one test, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> io::Result<Self> {
        let name = format!("ledger-{test}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // A directory that stays behind fails nothing.
        let _left = fs::remove_dir_all(&self.0);
    }
}

const CHILD_LOG: &str = "LEDGER_SELF_CHILD_LOG";
const CHILD_READY: &str = "ready to be killed";
const CHILD_STARTS: u64 = 100;
