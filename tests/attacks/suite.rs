//! One attack: what is measured around it, what is judged, and its line in the table.
//!
//! A row passes if the attacked side did what the row expects and nobody else felt it: its memory
//! grew within the row's bound; the victim had no error and a p99 within five times that of its
//! idle time, 50 ms (100 in a debug build, where the same work takes many times as long) stretched
//! by what the attacked process was kept off the processors, or three times what another client
//! meets meanwhile at another server (the machine may be busy with other things, and an attack
//! costs processor time); descriptors, threads and tasks are back within
//! 5 s; every connection of the attacker was counted by the reason for its end; no panic; and a
//! log that is short, escaped and bounded.
//!
//! A line reads: id, attack, verdict, what was seen and when, memory taken of what is allowed, the
//! victim (p99 during the attack, idle, and at the other server), what is left after and was
//! before, cost, how the attacker's connections were counted, scale, notes, faults.
//!
//! A row that waits for a defence is run and measured like every other, and says so. When it
//! passes all the same, its test fails until the mark is taken off.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::process::{Figures, Process};
use crate::raw::Raw;
use crate::role::ECHO;
use crate::time::{now, pause};
use crate::victim::{Harm, PERIOD, Victim};

/// An attack as data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// In the catalogue of attacks; `m`: mirrored, a server attacks a client.
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    /// A close reason by name, `closed without a word`, or `open`.
    pub(crate) wants: &'static str,
    /// How much memory the attacked process may take for it.
    pub(crate) growth_kib_max: u64,
    /// The defence that this waits for.
    pub(crate) awaiting: Option<&'static str>,
    /// What is smaller here than in the catalogue.
    pub(crate) scaled: &'static str,
    /// Whether handlers panic, as they are told.
    pub(crate) panics: bool,
}

impl Row {
    /// Memory at most 4 MiB more, nothing awaited, nothing scaled.
    pub(crate) const fn new(id: &'static str, what: &'static str, wants: &'static str) -> Self {
        let (growth_kib_max, awaiting, scaled, panics) = (4 * 1024, None, "", false);
        Self { id, what, wants, growth_kib_max, awaiting, scaled, panics }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// To be compared with what the row wants.
    pub(crate) saw: String,
    /// When that was, from the first byte of the attack.
    pub(crate) after: Duration,
    /// Figures for people.
    pub(crate) note: String,
    /// How the attacked process must have counted the ends of the attacker's connections: how
    /// many for each reason, `LOST` for those without one.
    pub(crate) ends: BTreeMap<String, u64>,
    /// What else went wrong.
    pub(crate) faults: Vec<String>,
}

impl Outcome {
    pub(crate) fn new(saw: impl ToString, since: Instant) -> Self {
        Self { saw: saw.to_string(), after: now() - since, ..Self::default() }
    }

    pub(crate) fn note(mut self, note: String) -> Self {
        self.note = note;
        self
    }

    /// So many of the attacker's connections ended for this reason.
    pub(crate) fn ended(mut self, reason: &str, count: u64) -> Self {
        if count > 0 {
            *self.ends.entry(reason.to_owned()).or_default() += count;
        }
        self
    }

    /// A fault unless `holds`.
    pub(crate) fn check(mut self, holds: bool, fault: impl Into<String>) -> Self {
        if !holds {
            self.faults.push(fault.into());
        }
        self
    }
}

/// Attacks a server; the victim is a client of the same server.
pub(crate) fn attack_server(row: Row, attack: impl FnOnce(&mut Process, SocketAddr) -> Outcome) {
    attack_server_with(row, None, attack);
}

/// [`attack_server`], with so many descriptors for the server.
pub(crate) fn attack_server_with(
    row: Row,
    fds_max: Option<u32>,
    attack: impl FnOnce(&mut Process, SocketAddr) -> Outcome,
) {
    let _alone = alone();
    let mut server = Process::start("server", fds_max);
    let address: SocketAddr = server.first.parse().unwrap();
    let (control, victim) = (Control::start(PERIOD), Victim::start(address, PERIOD));
    let victim = control.runtime.block_on(victim);
    pause(IDLE);
    let (idle, before) = (victim.take(), Before::new(&mut server));
    control.take();
    let outcome = attack(&mut server, address);
    before.last();
    let (harm, elsewhere) = (victim.take(), control.take());
    let after = before.settle(&mut server);
    let still = victim.take();
    let harm = Harm { errors: harm.errors + still.errors, ..harm };
    let connections = server.numbers("stats")["accepted"];
    finish(row, outcome, (&mut server, connections), (&before, &after), [&idle, &harm, &elsewhere]);
    victim.stop(); // Its own end is none of the attack's.
}

/// A client of a server that nobody attacks.
pub(crate) struct Control {
    pub(crate) address: SocketAddr,
    victim: Victim,
    pub(crate) runtime: Runtime,
    _server: Process,
}

impl Control {
    pub(crate) fn start(period: Duration) -> Self {
        let server = Process::start("server", None);
        let address: SocketAddr = server.first.parse().unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let victim = runtime.block_on(Victim::start(address, period));
        Self { address, victim, runtime, _server: server }
    }

    pub(crate) fn take(&self) -> Harm {
        self.victim.take()
    }

    pub(crate) fn look(&self) -> Harm {
        self.victim.look()
    }
}

/// A server that attacks a client. The client's victim calls a healthy server.
pub(crate) struct Evil {
    pub(crate) client: Process,
    listener: TcpListener,
    connections: u64,
}

impl Evil {
    /// Has the client make calls, and answers its hello.
    pub(crate) fn calls(&mut self, count: usize, timeout_ms: usize, bytes: usize) -> Raw {
        self.client.ask(&format!("calls {count} {timeout_ms} {bytes}"));
        self.connection()
    }

    /// The connection that the client makes by itself, for calls it has; answers its hello.
    pub(crate) fn connection(&mut self) -> Raw {
        let mut raw = Raw::of(self.accept()).unwrap();
        raw.welcome(&[ECHO]).unwrap();
        self.connections += 1;
        raw
    }

    /// The client's next connection; it makes none while one that it should have closed is open.
    fn accept(&self) -> TcpStream {
        let until = now() + BACK;
        self.listener.set_nonblocking(true).unwrap();
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    return stream;
                }
                Err(error) => assert!(now() < until, "no new connection: {error}"),
            }
            pause(Duration::from_millis(1));
        }
    }

    /// Calls go over new connections from now on, the first of each with this id.
    pub(crate) fn begin_at(&mut self, first_call: u32) {
        let address = self.listener.local_addr().unwrap();
        self.client.ask(&format!("target {address} {first_call}"));
    }

    /// [`Evil::calls`]: a single one, and its id.
    pub(crate) fn call(&mut self) -> (Raw, u32) {
        let mut raw = self.calls(1, 10_000, 1);
        let call = raw.next(now() + Duration::from_secs(5)).unwrap().call;
        (raw, call)
    }

    /// How the calls ended, once so many have.
    pub(crate) fn outcomes(&mut self, count: usize) -> Vec<String> {
        let (mut all, until) = (Vec::new(), now() + Duration::from_secs(5));
        while all.len() < count && now() < until {
            let said = self.client.ask("outcomes");
            all.extend(said.split(' ').filter(|one| !one.is_empty()).map(str::to_owned));
            pause(LOOK);
        }
        all
    }
}

/// Attacks a client.
pub(crate) fn attack_client(row: Row, attack: impl FnOnce(&mut Evil) -> Outcome) {
    let _alone = alone();
    let control = Control::start(PERIOD);
    let client = Process::start("client", None);
    let listener = TcpListener::bind("127.0.0.3:0").unwrap();
    let mut evil = Evil { client, listener, connections: 0 };
    evil.client.ask(&format!("victim {} {}", control.address, PERIOD.as_millis()));
    evil.begin_at(1);
    pause(IDLE);
    let idle = harm(&mut evil.client, "take");
    let before = Before::new(&mut evil.client);
    control.take();
    let outcome = attack(&mut evil);
    before.last();
    let Evil { mut client, connections, .. } = evil;
    let (harmed, elsewhere) = (harm(&mut client, "take"), control.take());
    let after = before.settle(&mut client);
    let still = harm(&mut client, "take");
    let harmed = Harm { errors: harmed.errors + still.errors, ..harmed };
    finish(
        row,
        outcome,
        (&mut client, connections + 1),
        (&before, &after),
        [&idle, &harmed, &elsewhere],
    );
}

/// `take` or `look`: those of [`Victim`], of the victim in a client.
pub(crate) fn harm(client: &mut Process, command: &str) -> Harm {
    let said = client.ask(command);
    let word = |name: &str| {
        let mut words = said.split(' ').filter_map(|word| word.split_once('='));
        words.find(|(found, _)| *found == name).map(|(_, word)| word).unwrap()
    };
    let count = |name| word(name).parse().unwrap();
    let time = |name| Duration::from_micros(word(name).parse().unwrap());
    Harm {
        calls: count("calls"),
        errors: count("errors"),
        p50: time("p50_us"),
        p99: time("p99_us"),
        max: time("max_us"),
        first_error: word("said").to_owned(),
    }
}

/// The attacked process before the attack.
pub(crate) struct Before {
    at: Instant,
    pub(crate) figures: Figures,
    tasks: u64,
    ends: BTreeMap<String, u64>,
}

/// And after it.
pub(crate) struct After {
    pub(crate) figures: Figures,
    tasks: u64,
    peak_kib: u64,
    cpu: Duration,
    stretch: f64,
    lasted: Duration,
}

impl Before {
    pub(crate) fn new(process: &mut Process) -> Self {
        let tasks = process.numbers("stats")["tasks"];
        let ends = process.ends();
        Self { at: now(), figures: process.figures(), tasks, ends }
    }

    /// The victim must have made enough calls to speak of a p99.
    fn last(&self) {
        pause(ATTACK_MIN.saturating_sub(now() - self.at));
    }

    /// How connections ended since then, once `count` of them have, or when `wait` is over.
    pub(crate) fn ends(
        &self,
        process: &mut Process,
        count: u64,
        wait: Duration,
    ) -> BTreeMap<String, u64> {
        let until = now() + wait;
        loop {
            let mut ends = process.ends();
            for (reason, count) in &self.ends {
                *ends.get_mut(reason).expect("a counter does not go away") -= count;
            }
            ends.retain(|_, count| *count > 0);
            if ends.values().sum::<u64>() >= count || now() >= until {
                return ends;
            }
            pause(Duration::from_millis(5));
        }
    }

    /// Waits until everything is back, at most 5 s.
    pub(crate) fn settle(&self, process: &mut Process) -> After {
        let (first, until) = (process.figures(), now() + BACK);
        let lasted = now() - self.at;
        let cpu = Duration::from_nanos(first.cpu_ns.saturating_sub(self.figures.cpu_ns));
        let (peak_kib, stretch) = (first.peak_kib, first.stretch_since(&self.figures));
        loop {
            let (figures, tasks) = (process.figures(), process.numbers("stats")["tasks"]);
            let after = After { figures, tasks, peak_kib, cpu, stretch, lasted };
            if self.is_back(&after) || now() >= until {
                return after;
            }
            pause(LOOK);
        }
    }

    pub(crate) fn is_back(&self, after: &After) -> bool {
        after.figures.fds <= self.figures.fds
            && after.figures.threads <= self.figures.threads
            // A call of the victim may be under way in either.
            && after.tasks <= self.tasks + 2
    }
}

/// How long the victim may wait, where the process had to do with so much less of the processors
/// than it wanted.
pub(crate) fn p99_max(idle: &Harm, elsewhere: &Harm, stretch: f64) -> Duration {
    (idle.p99 * 5).max(elsewhere.p99 * 3).max(P99_MAX.mul_f64(stretch))
}

impl Figures {
    /// How many times as long as on processors of its own the process took for its work since
    /// `before`: the system counts the time that its threads could have run and did not. The client
    /// at another server does not show it: it works little, and who works little is served first.
    pub(crate) fn stretch_since(&self, before: &Self) -> f64 {
        let ran = self.cpu_ns.saturating_sub(before.cpu_ns).max(1);
        let kept_waiting = self.kept_waiting_ns.saturating_sub(before.kept_waiting_ns);
        (1.0 + Duration::from_nanos(kept_waiting).div_duration_f64(Duration::from_nanos(ran)))
            .min(STRETCH_MAX)
    }
}

/// Judges, writes the line, and fails where it must.
fn finish(
    row: Row,
    mut outcome: Outcome,
    (process, connections): (&mut Process, u64),
    (before, after): (&Before, &After),
    [idle, harm, elsewhere]: [&Harm; 3],
) {
    let growth_kib = after.peak_kib.saturating_sub(before.figures.peak_kib);
    let p99_max = p99_max(idle, elsewhere, after.stretch);
    let ends = before.ends(process, outcome.ends.values().sum(), BACK);
    let counted = format!("counted {ends:?}, wanted {:?}", outcome.ends);
    let is_counted = ends == outcome.ends;
    let wants = format!("saw {}, wanted {}", outcome.saw, row.wants);
    outcome = outcome
        .check(process.is_alive(), "the process ended")
        .check(growth_kib <= row.growth_kib_max, "memory grew too much")
        .check(is_counted, counted)
        .check(harm.errors == 0, format!("victim: {}", harm.first_error))
        .check(harm.p99 <= p99_max, "the victim waited too long")
        .check(before.is_back(after), "descriptors, threads or tasks are not back")
        .check(row.panics || !process.errors().contains("panicked"), process.errors());
    if outcome.saw != row.wants {
        outcome.faults.insert(0, wants);
    }
    let (lines, log) = judge_log(&process.log(), after.lasted, connections);
    outcome.faults.extend(log);
    let Outcome { saw, after: when, note, faults, ends } = outcome;
    let ends: Vec<String> = ends.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    let verdict = match (row.awaiting, faults.is_empty()) {
        (None, true) => "pass".to_owned(),
        (None, false) => "FAIL".to_owned(),
        (Some(what), false) => format!("AWAITING {what}"),
        (Some(what), true) => format!("FAIL: passes, no longer awaiting {what}"),
    };
    let (was, is) = (before, after);
    let victim = format!("{}/{} failed, p99 {:.1?}", harm.errors, harm.calls, harm.p99)
        + &format!("/{:.1?}/{:.1?}", idle.p99, elsewhere.p99);
    let back = format!("fds {}/{}", is.figures.fds, was.figures.fds)
        + &format!(" threads {}/{}", is.figures.threads, was.figures.threads)
        + &format!(" tasks {}/{}", is.tasks, was.tasks);
    let cost = format!("cpu {:.1?} of {:.1?}, stretched {:.1}, ", is.cpu, is.lasted, is.stretch)
        + &format!("{lines} log lines");
    let scaled = if row.scaled.is_empty() { "as in the catalogue" } else { row.scaled };
    let line = format!(
        "{:<4} | {} | {verdict} | {saw} after {when:.1?} | +{growth_kib}/{} KiB | {victim} | \
         {back} | {cost} | {} | {scaled} | {note} | {}\n",
        row.id,
        row.what,
        row.growth_kib_max,
        ends.join(", "),
        faults.join("; "),
    );
    // Not by the macros, which the harness keeps to itself: the table is the suite's result.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    assert!(!verdict.starts_with("FAIL"), "{line}");
}

/// How many lines, and what is wrong with them: at most 10 a second for each connection, each
/// at most 1 KiB of printable ASCII.
fn judge_log(log: &[u8], lasted: Duration, connections: u64) -> (usize, Vec<String>) {
    let lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()).collect();
    let mut faults = Vec::new();
    let seconds = lasted.as_secs() + 1;
    if lines.len() as u64 > 10 * seconds * connections {
        faults.push(format!("{} lines of log in {lasted:.1?}", lines.len()));
    }
    if let Some(long) = lines.iter().map(|line| line.len()).max().filter(|len| *len > 1024) {
        faults.push(format!("a line of log has {long} bytes"));
    }
    let is_plain = |byte: &u8| (0x20..0x7f).contains(byte);
    if let Some(line) = lines.iter().find(|line| !line.iter().all(is_plain)) {
        let shown: String = String::from_utf8_lossy(line).chars().take(200).collect();
        faults.push(format!("a line of log is not escaped: {shown:?}"));
    }
    (lines.len(), faults)
}

/// One attack at a time: two would be each other's harm.
pub(crate) fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The victim's time without an attack: 50 calls.
pub(crate) const IDLE: Duration = Duration::from_millis(500);
/// A p99 that is never too long.
const P99_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 50 });
/// A machine that is busier than this has nothing to say about anybody's waiting.
const STRETCH_MAX: f64 = 10.0;
/// An attack is observed at least so long.
const ATTACK_MIN: Duration = Duration::from_millis(300);
/// How long everything may take to be back.
const BACK: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
