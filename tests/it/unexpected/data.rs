//! `spec/vectors/unexpected.json` as values: conversations to be held with a side under test.
//!
//! Its shape is described in `spec/vectors/README.md`; what this does not know is an error, so
//! that no part of a case is passed over.

use std::time::Duration;

use serde::Deserialize;
use switchback::proto::{ConductLimits, KeepaliveLimits};

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Suite {
    #[serde(rename = "methods")]
    _methods: Vec<serde_json::Value>,
    pub(crate) limits: Vec<Limits>,
    begin: Vec<Begin>,
    /// Shows that the connection goes on.
    pub(crate) open: Vec<Step>,
    pub(crate) cases: Vec<Case>,
}

/// What the side under test is configured with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) frame_bytes_max: u32,
    pub(crate) window_connection: u32,
    pub(crate) handshake_timeout_ms: u64,
    pub(crate) calls_max: u32,
    pub(crate) frame_timeout_ms: u64,
    pub(crate) write_timeout_ms: u64,
    pub(crate) idle_timeout_ms: u64,
    silence_ms: u64,
    patience_ms: u64,
    pings: u32,
    idle_frames: u32,
    errors: u32,
    cancel_window: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    side: Side,
    begin: String,
    steps: Vec<Step>,
}

/// Who is under test.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Client,
    Server,
}

/// One row of `spec/unexpected.md`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) id: String,
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "rule")]
    _rule: Vec<String>,
    server: Against,
    client: Against,
}

/// What is done to one side, or why nothing can be.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Against {
    None {
        #[serde(rename = "none")]
        _why: String,
    },
    Held(Held),
}

/// A conversation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Held {
    pub(crate) begin: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) then: Then,
    /// How the call of a client under test may end; absent: it has been given up.
    pub(crate) call: Option<Vec<Outcome>>,
    #[serde(default)]
    needs: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Step {
    Caller {
        #[serde(rename = "caller")]
        _cancels: String,
    },
    EndOfInput {
        #[serde(rename = "end_of_input")]
        _is_so: bool,
    },
    Expect(Expect),
    Send {
        send: String,
        #[serde(default = "once")]
        times: usize,
    },
    Subject {
        #[serde(rename = "subject")]
        _drains: String,
    },
    Wait {
        wait_ms: u64,
    },
}

/// What comes next from the side under test; an absent field is not compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) expect: String,
    /// Also right if it does not come.
    #[serde(default)]
    pub(crate) optional: bool,
    pub(crate) call: Option<u32>,
    pub(crate) status: Option<String>,
    pub(crate) disposition: Option<String>,
    pub(crate) payload: Option<String>,
    /// Of the TLVs: the key that must be there, and its value.
    pub(crate) tlv: Option<(u16, String)>,
    pub(crate) opaque: Option<String>,
    /// Of a GOAWAY.
    pub(crate) last_call: Option<u32>,
    /// Of a CREDIT.
    pub(crate) bytes: Option<u32>,
    /// So many of them.
    #[serde(default = "once")]
    pub(crate) times: usize,
    /// PONGs that may come before it.
    #[serde(default)]
    pub(crate) after: Vec<String>,
}

/// How the conversation ends.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Then {
    Close {
        close: String,
        last_call: Option<u32>,
        /// Kinds of frames that may come before it.
        #[serde(default)]
        passed: Vec<String>,
    },
    End {
        #[serde(rename = "end")]
        _is_so: bool,
        /// The same; the last one may be cut.
        #[serde(default)]
        passed: Vec<String>,
    },
    Open {
        #[serde(rename = "open")]
        _is_so: bool,
    },
}

/// What a caller is told.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outcome {
    pub(crate) status: String,
    pub(crate) disposition: Option<String>,
    pub(crate) payload: Option<String>,
}

impl Suite {
    pub(crate) fn read() -> Self {
        serde_json::from_value(Self::text()).unwrap()
    }

    /// The file with another value at a place of one case.
    pub(crate) fn changed(id: &str, pointer: &str, value: &str) -> Self {
        let mut text = Self::text();
        let cases = text["cases"].as_array_mut().unwrap();
        cases.retain(|case| case["id"] == id);
        *cases[0].pointer_mut(pointer).unwrap() = serde_json::from_str(value).unwrap();
        serde_json::from_value(text).unwrap()
    }

    fn text() -> serde_json::Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/vectors/unexpected.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// How a conversation with this side gets to where it `begin`s.
    pub(crate) fn opening(&self, side: Side, begin: &str) -> &[Step] {
        let is_it = |found: &&Begin| found.side == side && found.begin == begin;
        let found = self.begin.iter().find(is_it);
        &found.unwrap_or_else(|| panic!("no beginning {begin:?} for a {side:?}")).steps
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.status)?;
        [&self.disposition, &self.payload]
            .into_iter()
            .flatten()
            .try_for_each(|part| write!(f, " {part}"))
    }
}

impl Case {
    /// What is done to this side, if there is anything.
    pub(crate) const fn held(&self, side: Side) -> Option<&Held> {
        let against = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        match against {
            Against::Held(held) => Some(held),
            Against::None { .. } => None,
        }
    }
}

impl Held {
    /// Whether it takes this for granted.
    pub(crate) fn needs(&self, what: &str) -> bool {
        self.needs.iter().any(|need| need == what)
    }

    /// Bytes that are sent, about.
    pub(crate) fn sent_bytes(&self) -> usize {
        let zeros = |send: &str| -> usize {
            let parts = send.split("{zeros ").skip(1);
            parts.filter_map(|part| part.split('}').next()?.parse::<usize>().ok()).sum()
        };
        let sent = self.steps.iter().map(|step| match step {
            Step::Send { send, times } => (send.len() / 2 + zeros(send)) * times,
            _ => 0,
        });
        sent.sum()
    }

    /// Whether time has to pass for it, or must not.
    pub(crate) fn takes_time(&self) -> bool {
        self.needs("at_once")
            || self.steps.iter().any(|step| match step {
                Step::Wait { .. } => true,
                Step::Expect(expect) => expect.expect == "nothing",
                _ => false,
            })
    }
}

impl Limits {
    pub(crate) const fn keepalive(&self) -> KeepaliveLimits {
        KeepaliveLimits {
            silence: Duration::from_millis(self.silence_ms),
            patience: Duration::from_millis(self.patience_ms),
        }
    }

    pub(crate) fn conduct(&self) -> ConductLimits {
        let mut conduct = ConductLimits::default();
        conduct.pings = self.pings;
        conduct.idle_frames = self.idle_frames;
        conduct.errors = self.errors;
        conduct.cancel_window = self.cancel_window;
        conduct
    }
}

const fn once() -> usize {
    1
}
