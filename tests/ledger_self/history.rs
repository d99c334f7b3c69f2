//! Random clean histories, as text, and the tools to change their lines.
//!
//! They are written by the real writers, then taken apart into lines, so that a mutation knows
//! nothing of the checker's types: it changes words, as a bug would change the log.

use std::io;

use crate::ledger::{
    Answer, Attempt, ClientLog, Disposition, End, How, Issue, Memory, Outcome, Rules, ServerLog,
    Start, Verdict, check_bytes,
};

/// All logs of one run.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) logs: Vec<Log>,
}

/// One log as lines.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    header: String,
    /// The records, without header and stop.
    pub(crate) lines: Vec<Vec<String>>,
    pub(crate) is_client: bool,
    pub(crate) id: u64,
    /// Whether it ends in a stop record; else in half a line.
    pub(crate) is_closed: bool,
}

/// Where a line is: log and line.
pub(crate) type Place = (usize, usize);

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough to choose with.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl History {
    /// A clean run: several clients and servers, some of the servers killed, all outcomes.
    pub(crate) fn random(random: &mut Random) -> io::Result<Self> {
        let mut run = Run::begin(random);
        for _ in 0..30 + random.below(40) {
            run.call(random)?;
        }
        let mut logs = Vec::new();
        for (log, bytes, id) in run.clients {
            log.close()?;
            logs.push(Log::of(&bytes, true, id));
        }
        for server in run.servers {
            if !server.is_killed {
                server.log.close()?;
            }
            logs.push(Log::of(&server.bytes, false, server.instance));
        }
        let mut history = Self { logs };
        history.end_out_of_order(random);
        Ok(history)
    }

    /// The verdict over the logs as they are now; the stop records are made to fit.
    pub(crate) fn judge(&self) -> io::Result<Verdict> {
        self.judge_with(0)
    }

    /// The same, while so many records of the first log have vanished that its stop counts.
    pub(crate) fn judge_with(&self, vanished: usize) -> io::Result<Verdict> {
        let mut texts = Vec::new();
        for (i, log) in self.logs.iter().enumerate() {
            texts.push(log.text(if i == 0 { vanished } else { 0 }));
        }
        let logs: Vec<_> = texts.iter().map(|text| ("log", text.as_bytes())).collect();
        check_bytes(&logs, &Rules::REAL)
    }

    /// One of the lines that fit, at random.
    pub(crate) fn pick(
        &self,
        random: &mut Random,
        fits: impl Fn(&Log, &[String]) -> bool,
    ) -> Option<Place> {
        let mut places = Vec::new();
        for (i, log) in self.logs.iter().enumerate() {
            let lines = log.lines.iter().enumerate();
            places.extend(lines.filter(|(_, line)| fits(log, line)).map(|(j, _)| (i, j)));
        }
        if places.is_empty() { None } else { Some(places[random.index(places.len())]) }
    }

    /// The first line that fits.
    pub(crate) fn find(&self, fits: impl Fn(&Log, &[String]) -> bool) -> Option<Place> {
        let logs = self.logs.iter().enumerate();
        let mut places = logs.flat_map(|(i, log)| (0..log.lines.len()).map(move |j| (i, j)));
        places.find(|&(i, j)| fits(&self.logs[i], &self.logs[i].lines[j]))
    }

    /// The issue of a call.
    pub(crate) fn issue_of(&self, client: u64, seq: &str) -> Option<Place> {
        self.find(|log, line| {
            log.is_client && log.id == client && line[0] == "issue" && line[1] == seq
        })
    }

    pub(crate) fn line(&self, (log, line): Place) -> &[String] {
        &self.logs[log].lines[line]
    }

    pub(crate) fn number(&self, place: Place, word: usize) -> u64 {
        self.line(place)[word].parse().expect("the word is a number")
    }

    pub(crate) fn set(&mut self, (log, line): Place, word: usize, to: impl ToString) {
        self.logs[log].lines[line][word] = to.to_string();
    }

    pub(crate) fn remove(&mut self, (log, line): Place) -> Vec<String> {
        self.logs[log].lines.remove(line)
    }

    pub(crate) fn insert(&mut self, (log, line): Place, words: Vec<String>) {
        self.logs[log].lines.insert(line, words);
    }

    /// Outcomes come in any order: moves some to later places.
    fn end_out_of_order(&mut self, random: &mut Random) {
        for log in self.logs.iter_mut().filter(|log| log.is_client) {
            for from in 0..log.lines.len() {
                if log.lines[from][0] == "end" && random.one_in(3) {
                    let end = log.lines.remove(from);
                    let to = from + random.index(log.lines.len() - from + 1);
                    log.lines.insert(to, end);
                }
            }
        }
    }
}

impl Log {
    fn of(bytes: &Memory, is_client: bool, id: u64) -> Self {
        let text = String::from_utf8(bytes.bytes()).expect("ledgers are text");
        let mut lines: Vec<Vec<String>> =
            text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect();
        let header = lines.remove(0).join(" ");
        let is_closed = lines.pop_if(|line| line[0] == "stop").is_some();
        Self { header, lines, is_client, id, is_closed }
    }

    fn text(&self, vanished: usize) -> String {
        let lines: String = self.lines.iter().map(|line| line.join(" ") + "\n").collect();
        let header = &self.header;
        match self.is_closed {
            true => format!("{header}\n{lines}stop {}\n", self.lines.len() + vanished),
            false => format!("{header}\n{lines}start 12345 6"),
        }
    }
}

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        let len = u64::try_from(len).expect("a length fits in 64 bits");
        usize::try_from(self.below(len)).expect("below a usize")
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A run while it is made up.
struct Run {
    clients: Vec<(ClientLog, Memory, u64)>,
    servers: Vec<Server>,
    seq: u64,
    now_us: u64,
    /// Whether the call being made up has run.
    has_run: bool,
}

struct Server {
    log: ServerLog,
    bytes: Memory,
    instance: u64,
    is_killed: bool,
}

/// The call that is being made up.
#[derive(Clone, Copy)]
struct Call {
    client: u64,
    seq: u64,
    method: &'static str,
    version: u16,
    deadline_at_us: u64,
}

impl Run {
    fn begin(random: &mut Random) -> Self {
        let clients = (0..1 + random.below(3)).map(|i| {
            let (log, bytes) = ClientLog::in_memory(10 + i);
            (log, bytes, 10 + i)
        });
        let clients = clients.collect();
        let servers = (0..1 + random.below(4)).map(|i| {
            let (log, bytes) = ServerLog::in_memory(1 + i);
            // The first lives, so that there is one to answer.
            Server { log, bytes, instance: 1 + i, is_killed: i > 0 && random.one_in(2) }
        });
        Self { clients, servers: servers.collect(), seq: 0, now_us: 10_000_000, has_run: false }
    }

    /// One call with an outcome of a random kind.
    fn call(&mut self, random: &mut Random) -> io::Result<()> {
        let at = random.index(self.clients.len());
        let (method, idempotent) = METHODS[random.index(METHODS.len())];
        self.seq += 1;
        self.has_run = false;
        self.now_us += random.below(500);
        let call = Call {
            client: self.clients[at].2,
            seq: self.seq,
            method,
            version: if random.one_in(2) { 1 } else { 2 },
            deadline_at_us: self.now_us + 5_000 + random.below(50_000),
        };
        self.clients[at].0.issue(Issue {
            seq: call.seq,
            method,
            version: 2,
            idempotent,
            issued_at_us: self.now_us,
            deadline_at_us: call.deadline_at_us,
        })?;
        if idempotent && random.one_in(2) {
            self.first_attempt(random, at, call)?;
        }
        let attempt = u32::from(idempotent);
        let (outcome, disposition, answer) = match random.below(8) {
            0 => (Outcome::Refused, Disposition::NotProcessed, None),
            1 => (Outcome::NotSent, Disposition::NotProcessed, None),
            2 => {
                let answer = self.run(random, call, attempt, Some(How::Err))?;
                let answer = answer.filter(|_| random.one_in(2));
                (Outcome::App("NoFunds"), Disposition::Processed, answer)
            }
            3 => {
                self.may_run(random, call, attempt)?;
                (Outcome::Unknown, Disposition::Maybe, None)
            }
            4 => {
                self.may_run(random, call, attempt)?;
                (Outcome::Deadline, Disposition::Maybe, None)
            }
            5 => {
                self.run(random, call, attempt, Some(How::Panic))?;
                (Outcome::Failed("INTERNAL"), Disposition::Processed, None)
            }
            _ => {
                let answer = self.run(random, call, attempt, Some(How::Ok))?;
                (Outcome::Ok, Disposition::Processed, answer)
            }
        };
        // What ran in the first attempt makes a final "did not run" untrue; see `first_attempt`.
        let has_run = self.has_run;
        let (outcome, disposition) = match disposition {
            Disposition::NotProcessed if has_run => (Outcome::Unknown, Disposition::Maybe),
            Disposition::NotProcessed | Disposition::Maybe | Disposition::Processed => {
                (outcome, disposition)
            }
        };
        let ended_at_us = self.now_us + random.below(1_000);
        self.clients[at].0.end(End { seq: call.seq, outcome, disposition, ended_at_us, answer })
    }

    /// An attempt that a retry follows.
    fn first_attempt(&mut self, random: &mut Random, at: usize, call: Call) -> io::Result<()> {
        let (outcome, disposition) = if random.one_in(2) {
            (Outcome::Refused, Disposition::NotProcessed)
        } else {
            self.may_run(random, call, 0)?;
            (Outcome::Unknown, Disposition::Maybe)
        };
        let server = Some(1);
        let attempt = Attempt { seq: call.seq, attempt: 0, server, outcome, disposition };
        self.clients[at].0.attempt(attempt)
    }

    /// Runs to any end, or not at all.
    fn may_run(&mut self, random: &mut Random, call: Call, attempt: u32) -> io::Result<()> {
        match random.below(4) {
            0 => {}
            1 => drop(self.run(random, call, attempt, None)?),
            2 => drop(self.run(random, call, attempt, Some(How::Dropped))?),
            _ => drop(self.run(random, call, attempt, Some(How::Ok))?),
        }
        Ok(())
    }

    /// One execution; its answer, if it gives one. Without an end, its server is a killed one.
    fn run(
        &mut self,
        random: &mut Random,
        call: Call,
        attempt: u32,
        how: Option<How>,
    ) -> io::Result<Option<Answer>> {
        let killed: Vec<_> = self.servers.iter().filter(|server| server.is_killed).collect();
        let server = match how {
            None if killed.is_empty() => return Ok(None),
            None => killed[random.index(killed.len())],
            Some(_) => &self.servers[random.index(self.servers.len())],
        };
        let Call { client, seq, method, version, deadline_at_us } = call;
        self.has_run = true;
        self.now_us += random.below(1_000);
        let nonce = server.log.start(Start {
            client,
            seq,
            attempt,
            method,
            version,
            started_at_us: self.now_us,
            deadline_at_us: deadline_at_us + random.below(2_000),
        })?;
        if let Some(how) = how {
            self.now_us += random.below(1_000);
            server.log.finish(nonce, how, self.now_us)?;
        }
        Ok(Some(Answer { nonce, client, seq, instance: server.instance, version }))
    }
}

/// Names, and whether they are idempotent.
const METHODS: [(&str, bool); 3] =
    [("bank/pay", false), ("bank/look", true), ("bank/close", false)];
