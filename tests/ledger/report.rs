//! The verdict: what was counted, what was broken, and how a person or a program reads it.
//!
//! Invariants: every violation is counted, the first `KEPT_EACH` of each invariant are kept as
//! text, so that a flood of one kind does not hide another; at most `KEPT_MAX` in all.

use std::collections::BTreeMap;
use std::fmt;

/// The key of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The client that made it.
    pub client: u64,
    /// Its number there.
    pub seq: u64,
}

/// What must hold. In the order in which it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// One final outcome per call, by its deadline and 50 ms.
    L1,
    /// An answer comes from an execution that finished so.
    L2,
    /// A method that is not idempotent runs at most once.
    L3,
    /// What the client says about execution is true.
    L4,
    /// Attempts run at most once each, and there are no more of them than allowed.
    L5,
    /// A drain loses no call.
    L6,
    /// Nothing starts after its deadline.
    L7,
    /// When all is over, nothing is left.
    L9,
    /// An answer reaches the call that it is for, from the handler that was asked.
    L10,
    /// What runs was asked for.
    Unissued,
    /// Effects come after causes: else the times above prove nothing.
    Clock,
    /// The logs are whole and agree with themselves.
    Log,
}

/// One thing that must not have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What it breaks.
    pub invariant: Invariant,
    /// The call that it happened to, if it was one.
    pub call: Option<Call>,
    /// What happened, in words.
    pub text: String,
}

/// What the checker found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Logs of clients that were read.
    pub clients: u64,
    /// Logs of servers that were read.
    pub servers: u64,
    /// Logs that were not closed in good order: their process was killed.
    pub torn: u64,
    /// Clients that were killed, and their logs say so.
    pub crashed: u64,
    /// Calls issued.
    pub calls: u64,
    /// Of these, calls that handlers made.
    pub nested: u64,
    /// Final outcomes `ok`.
    pub ok: u64,
    /// All other final outcomes, by their text.
    pub errors: BTreeMap<String, u64>,
    /// Handlers started.
    pub executions: u64,
    /// Handlers that were started and have no end in the log. No violation of itself.
    pub unfinished: u64,
    /// Handlers whose future was dropped before its end.
    pub dropped: u64,
    /// Calls without an outcome, since their client was killed first. No violation of itself.
    pub open: u64,
    /// Of these, calls whose handlers were started.
    pub open_ran: u64,
    /// Calls without an outcome (L1).
    pub lost: u64,
    /// Calls with more than one outcome (L1).
    pub doubled: u64,
    /// Outcomes that came too late (L1).
    pub late: u64,
    /// How often each invariant was broken; those that held are not in it.
    pub broken: BTreeMap<Invariant, u64>,
    /// The first violations of each invariant, at most 100 in all.
    pub violations: Vec<Violation>,
}

impl Verdict {
    /// Counts a violation and keeps it if there is room. The text is only made if kept.
    pub(super) fn report(
        &mut self,
        invariant: Invariant,
        call: Option<Call>,
        text: impl FnOnce() -> String,
    ) {
        let count = self.broken.entry(invariant).or_default();
        *count += 1;
        if *count <= KEPT_EACH {
            self.violations.push(Violation { invariant, call, text: text() });
        }
    }

    /// Whether every invariant held. Says nothing about how much was judged: look at `calls`.
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }

    /// How often this invariant was broken.
    pub fn count(&self, invariant: Invariant) -> u64 {
        self.broken.get(&invariant).copied().unwrap_or(0)
    }

    /// The verdict as one JSON object.
    pub fn to_json(&self) -> String {
        let counts = [
            ("clients", self.clients),
            ("servers", self.servers),
            ("torn", self.torn),
            ("crashed", self.crashed),
            ("calls", self.calls),
            ("nested", self.nested),
            ("ok", self.ok),
            ("executions", self.executions),
            ("unfinished", self.unfinished),
            ("dropped", self.dropped),
            ("open", self.open),
            ("open_ran", self.open_ran),
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("late", self.late),
        ];
        let counts: Vec<_> = counts.iter().map(|(name, n)| format!("\"{name}\":{n}")).collect();
        let errors: Vec<_> =
            self.errors.iter().map(|(name, n)| format!("{}:{n}", quoted(name))).collect();
        let broken: Vec<_> =
            INVARIANTS.iter().map(|i| format!("\"{}\":{}", i.as_str(), self.count(*i))).collect();
        let violations: Vec<_> = self.violations.iter().map(Violation::to_json).collect();
        format!(
            "{{\"clean\":{},{},\"errors\":{{{}}},\"broken\":{{{}}},\"violations\":[{}]}}",
            self.is_clean(),
            counts.join(","),
            errors.join(","),
            broken.join(","),
            violations.join(","),
        )
    }
}

impl Invariant {
    /// Its short name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L3 => "L3",
            Self::L4 => "L4",
            Self::L5 => "L5",
            Self::L6 => "L6",
            Self::L7 => "L7",
            Self::L9 => "L9",
            Self::L10 => "L10",
            Self::Unissued => "unissued",
            Self::Clock => "clock",
            Self::Log => "log",
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::L1 => "each call has one outcome, in time",
            Self::L2 => "an answer comes from an execution that finished so",
            Self::L3 => "not idempotent: runs at most once",
            Self::L4 => "what is said about execution is true",
            Self::L5 => "attempts are few, and each runs at most once",
            Self::L6 => "a drain loses no call",
            Self::L7 => "nothing starts after its deadline",
            Self::L9 => "when all is over, nothing is left",
            Self::L10 => "an answer reaches its own call",
            Self::Unissued => "what runs was asked for",
            Self::Clock => "effects come after causes",
            Self::Log => "the logs agree with themselves",
        }
    }
}

impl Violation {
    fn to_json(&self) -> String {
        let call = match self.call {
            Some(call) => format!("{{\"client\":{},\"seq\":{}}}", call.client, call.seq),
            None => String::from("null"),
        };
        let (invariant, text) = (self.invariant.as_str(), quoted(&self.text));
        format!("{{\"invariant\":\"{invariant}\",\"call\":{call},\"text\":{text}}}")
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.client, self.seq)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.call {
            Some(call) => write!(f, "{} call {call}: {}", self.invariant.as_str(), self.text),
            None => write!(f, "{} {}", self.invariant.as_str(), self.text),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u64 = self.broken.values().sum();
        match total {
            0 => writeln!(f, "ledger: clean")?,
            1 => writeln!(f, "ledger: 1 violation")?,
            _ => writeln!(f, "ledger: {total} violations")?,
        }
        let (clients, servers, torn) = (self.clients, self.servers, self.torn);
        writeln!(f, "  logs        {clients} of clients, {servers} of servers, {torn} torn")?;
        writeln!(f, "  calls       {}, {} of them by handlers", self.calls, self.nested)?;
        writeln!(f, "    {:<32} {:>10}", "ok", self.ok)?;
        for (name, n) in &self.errors {
            writeln!(f, "    {name:<32} {n:>10}")?;
        }
        let (lost, doubled, late) = (self.lost, self.doubled, self.late);
        writeln!(f, "  outcomes    {lost} lost, {doubled} doubled, {late} late")?;
        let (crashed, open, open_ran) = (self.crashed, self.open, self.open_ran);
        writeln!(
            f,
            "  crashes     {crashed} of clients, under {open} calls, {open_ran} of which ran"
        )?;
        let (unfinished, dropped) = (self.unfinished, self.dropped);
        writeln!(
            f,
            "  executions  {}, {unfinished} of them unfinished, {dropped} dropped",
            self.executions
        )?;
        writeln!(f, "  invariant                                                     broken")?;
        for invariant in INVARIANTS {
            let (name, meaning) = (invariant.as_str(), invariant.meaning());
            writeln!(f, "    {name:<9}{meaning:<50} {:>8}", self.count(invariant))?;
        }
        let kept = self.violations.len();
        for invariant in INVARIANTS {
            let of_it = self.violations.iter().filter(|v| v.invariant == invariant);
            for violation in of_it.take(SHOWN_EACH) {
                writeln!(f, "  {violation}")?;
            }
        }
        if total > 0 {
            writeln!(f, "  ({total} in all, {kept} kept, at most {SHOWN_EACH} of a kind shown)")?;
        }
        Ok(())
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

const INVARIANTS: [Invariant; 12] = [
    Invariant::L1,
    Invariant::L2,
    Invariant::L3,
    Invariant::L4,
    Invariant::L5,
    Invariant::L6,
    Invariant::L7,
    Invariant::L9,
    Invariant::L10,
    Invariant::Unissued,
    Invariant::Clock,
    Invariant::Log,
];
const KEPT_MAX: u64 = 100;
const KEPT_EACH: u64 = KEPT_MAX / INVARIANTS.len() as u64;
const SHOWN_EACH: usize = 5;
