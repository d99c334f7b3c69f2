//! Why a command has no answer: what failed, whose fault it is, what to do, and the exit code.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::value::RawValue;
use switchback::service::Fault;
use switchback::{CallError, Code, Error, ErrorKind, Side, Status};

use crate::output::{clean, pretty};

/// The codes that the program ends with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// The answer is no.
    No = 1,
    /// What was given cannot be used.
    Usage = 2,
    /// No connection.
    NoConnection = 3,
    /// The server refused or failed the call.
    Failed = 4,
    /// By Ctrl-C.
    Interrupted = 130,
}

/// Why there is no answer. As JSON it is `{"error": …}`.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    #[serde(skip)]
    pub(crate) exit: Exit,
    /// A word for programs.
    pub(crate) kind: &'static str,
    /// One sentence, what failed and where.
    pub(crate) message: String,
    /// Who has to act.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<&'static str>,
    /// What they can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    #[serde(flatten)]
    pub(crate) outcome: Option<Box<Outcome>>,
}

/// How a call ended.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// Whether it was executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    disposition: Option<String>,
    /// The method's own error.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_error: Option<Box<RawValue>>,
}

impl Failure {
    fn new(exit: Exit, kind: &'static str, message: String) -> Self {
        Self { exit, kind, message, fault: None, hint: None, outcome: None }
    }

    /// What was given cannot be used.
    pub(crate) fn usage(message: &str) -> Self {
        let failure = Self::new(Exit::Usage, "usage", message.to_owned());
        Self { fault: Some("yours"), ..failure }
    }

    /// The server cannot do what was asked.
    pub(crate) fn server(message: &str) -> Self {
        let failure = Self::new(Exit::Failed, "server", message.to_owned());
        Self { fault: Some("the server's"), ..failure }
    }

    /// The server does not have what was asked for.
    pub(crate) fn unknown(message: &str) -> Self {
        Self { fault: Some("the request's"), ..Self::server(message) }
    }

    /// Something in this program or on this machine.
    pub(crate) fn here(message: &str) -> Self {
        let failure = Self::new(Exit::Usage, "local", message.to_owned());
        Self { fault: Some("this machine's"), ..failure }
    }

    /// By Ctrl-C.
    pub(crate) fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted", "interrupted".to_owned())
    }

    /// The method answered with its own error.
    pub(crate) fn app(what: &str, error: Box<RawValue>) -> Self {
        let message = format!("{what} answered with its own error");
        let outcome = Outcome { app_error: Some(error), ..Outcome::default() };
        Self { outcome: Some(Box::new(outcome)), ..Self::new(Exit::No, "app", message) }
    }

    /// A connection could not be had.
    pub(crate) fn connection(address: &str, error: &Error) -> Self {
        let (exit, kind, hint) = match error.kind() {
            ErrorKind::Address { .. } | ErrorKind::SocketPathTooLong { .. } => {
                (Exit::Usage, "usage", Some("write tcp://127.0.0.1:7400 or unix:///run/it.sock"))
            }
            ErrorKind::InsecureAddress { .. } => (
                Exit::Usage,
                "usage",
                Some("say --insecure if you trust the network between here and there"),
            ),
            ErrorKind::Refused { .. } => (
                Exit::NoConnection,
                "no_connection",
                Some("see whether the server runs, and whether this is its address"),
            ),
            ErrorKind::NotSwitchback { .. } => (
                Exit::NoConnection,
                "no_connection",
                Some("something else listens there: see whether the port is the right one"),
            ),
            ErrorKind::UnknownHost { .. } => {
                (Exit::NoConnection, "no_connection", Some("see whether the name is right"))
            }
            _ => (Exit::NoConnection, "no_connection", None),
        };
        let fault = match error.fault() {
            Side::Here if exit == Exit::Usage => "yours",
            Side::Here => "this machine's",
            Side::Peer => "the server's",
            Side::Between => "the network's, or of either side",
        };
        let error = error.to_string();
        let message = match error.contains(address) {
            true => format!("no connection: {error}"),
            false => format!("no connection to {address}: {error}"),
        };
        let failure = Self::new(exit, kind, clean(&message));
        Self { fault: Some(fault), ..failure }.do_this(hint)
    }

    /// A call failed, other than by the method's own error; `what` names it.
    pub(crate) fn call(what: &str, status: &Status) -> Self {
        let is_connection = matches!(status.code(), Code::NOT_CONNECTED | Code::CONNECTION_LOST);
        let (exit, kind) = match is_connection {
            true => (Exit::NoConnection, "no_connection"),
            false => (Exit::Failed, "refused"),
        };
        let fault = match status.fault() {
            Fault::Client => "the request's",
            Fault::Server => "the server's",
            Fault::Network => "the network's, or of either side",
        };
        let failure = Self::new(exit, kind, clean(&format!("{what} failed: {status}")));
        let outcome = Outcome {
            code: Some(status.code().to_string()),
            disposition: Some(status.disposition().to_string()),
            app_error: None,
        };
        Self { fault: Some(fault), outcome: Some(Box::new(outcome)), ..failure }
            .do_this(advice(status).as_deref())
    }

    /// A call of a built-in service failed; none of them has an error of its own that is not
    /// handled before.
    pub(crate) fn built_in<E: std::fmt::Display>(what: &str, error: &CallError<E>) -> Self {
        match error {
            CallError::App(error) => Self::server(&clean(&format!("{what} failed: {error}"))),
            CallError::Rpc(status) => Self::call(what, status),
        }
    }

    /// Says what to do about it.
    pub(crate) fn do_this(self, hint: Option<&str>) -> Self {
        Self { hint: hint.map(str::to_owned), ..self }
    }

    /// The failure for people, `mark` before it.
    pub(crate) fn screen(&self, mark: &str) -> String {
        let mut text = format!("{mark} {}\n", self.message);
        let outcome = self.outcome.as_ref();
        if let Some(error) = outcome.and_then(|outcome| outcome.app_error.as_ref()) {
            text.push_str(&pretty(error.get()));
            text.push('\n');
        }
        let rows = [("fault", self.fault), ("do", self.hint.as_deref())];
        for (name, row) in rows.into_iter().filter_map(|(name, row)| Some((name, row?))) {
            // Writing to a string does not fail.
            let _written = writeln!(text, "  {name}: {row}");
        }
        text
    }
}

/// What can be done about a status.
fn advice(status: &Status) -> Option<String> {
    let versions = || {
        let versions: Vec<String> = status.versions().iter().map(u16::to_string).collect();
        versions.join(", ")
    };
    match status.code() {
        Code::UNKNOWN_METHOD => Some("`switchback list` shows what it serves".to_owned()),
        Code::UNSUPPORTED_VERSION if status.versions().is_empty() => {
            Some("none of its versions may be called now".to_owned())
        }
        Code::UNSUPPORTED_VERSION => Some(format!("call one of its versions: {}", versions())),
        Code::SCHEMA_MISMATCH => {
            Some("the server's types have changed since they were asked for: try again".to_owned())
        }
        Code::BAD_PAYLOAD => Some("`switchback describe` shows what it takes".to_owned()),
        Code::DEADLINE_EXCEEDED => Some("give it more time with --timeout".to_owned()),
        _ => None,
    }
}
