//! What is printed: screens for people, documents for programs.
//!
//! Invariants: escape codes only on a terminal that has them and when NO_COLOR is not set; text of
//! a server's is cleaned of control characters, which could rewrite a terminal; a reader that has
//! gone away is no error.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use serde::Serialize;

use crate::failure::{Exit, Failure};

/// What a command found out.
#[derive(Debug)]
pub(crate) struct Answer {
    /// For people, with its last line's end.
    pub(crate) text: String,
    /// For programs.
    pub(crate) json: String,
    /// `None`: good.
    pub(crate) exit: Option<Exit>,
}

impl Answer {
    /// An answer that is as good as another.
    pub(crate) const fn good(text: String, json: String) -> Self {
        Self { text, json, exit: None }
    }

    /// A document of the value.
    pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
        let text = serde_json::to_string_pretty(value);
        text.map_err(|error| Failure::here(&format!("the answer has no form as JSON: {error}")))
    }
}

/// Where things are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    is_json: bool,
    /// Whether standard output, and standard error, take escape codes.
    paints: [bool; 2],
    /// Whether standard error is a terminal whose line can be drawn anew.
    pub(crate) is_live: bool,
    /// Whether standard output, and standard error, break lines at their columns.
    folds: [bool; 2],
    /// Of standard output's terminal, or what is usual.
    pub(crate) columns: usize,
}

impl Screen {
    /// Of this process.
    pub(crate) fn new(is_json: bool) -> Self {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_live = io::stderr().is_terminal() && !is_dumb;
        let paints_out = io::stdout().is_terminal() && !is_dumb && !is_plain;
        let columns = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        Self {
            is_json,
            paints: [paints_out, is_live && !is_plain],
            is_live: is_live && !is_json,
            folds: [io::stdout().is_terminal(), io::stderr().is_terminal()],
            columns: columns.unwrap_or(COLUMNS).clamp(COLUMNS_MIN, COLUMNS_MAX),
        }
    }

    /// Whether progress may be told on standard error.
    pub(crate) const fn is_told(&self) -> bool {
        !self.is_json
    }

    /// Something to stand out on standard output.
    pub(crate) fn strong(&self, text: &str) -> String {
        painted(self.paints[0], "1", text)
    }

    /// Something of less weight on standard output.
    pub(crate) fn faint(&self, text: &str) -> String {
        painted(self.paints[0], "2", text)
    }

    /// The text for standard output, with no line that its terminal would break within a word.
    pub(crate) fn fold(&self, text: &str) -> String {
        self.folded(0, text)
    }

    fn folded(&self, output: usize, text: &str) -> String {
        match self.folds[output] {
            true => text.lines().map(|line| fold(line, self.columns) + "\n").collect(),
            false => text.to_owned(),
        }
    }

    /// Prints an answer.
    pub(crate) fn answer(&self, answer: &Answer) -> ExitCode {
        match self.is_json {
            true => print(io::stdout(), &format!("{}\n", answer.json)),
            false => print(io::stdout(), &answer.text),
        }
        answer.exit.map_or(ExitCode::SUCCESS, |exit| ExitCode::from(exit as u8))
    }

    /// Prints a failure: a document on standard output, a text on standard error.
    pub(crate) fn failure(&self, failure: &Failure) -> ExitCode {
        match self.is_json {
            true => print(io::stdout(), &document(failure)),
            false => {
                let mark = painted(self.paints[1], "1;31", "error:");
                print(io::stderr(), &self.folded(1, &failure.screen(&mark)));
            }
        }
        ExitCode::from(failure.exit as u8)
    }

    /// Tells how it goes, on standard error: a line drawn anew, or a line more.
    pub(crate) fn progress(&self, line: &str) {
        if self.is_live {
            // Cut, or a narrow terminal would break it and redraw the wrong half.
            let line: String = line.chars().take(self.columns - 1).collect();
            print(io::stderr(), &format!("\r{line}\x1b[K"));
        } else if self.is_told() {
            print(io::stderr(), &format!("{line}\n"));
        }
    }

    /// Takes the line that is drawn anew away.
    pub(crate) fn progress_end(&self) {
        if self.is_live {
            print(io::stderr(), "\r\x1b[K");
        }
    }
}

/// What clap says, which is help as well as errors; an error as JSON if that was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && wants_json {
        let message = error.to_string();
        let message = message.split("\n\n").next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        return Screen::new(true).failure(&Failure::usage(message));
    }
    // It knows itself where it goes and whether to paint; whoever reads may be gone.
    let _unheard = error.print();
    if error.use_stderr() { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS }
}

/// The text without what a terminal would obey.
pub(crate) fn clean(text: &str) -> String {
    let is_bad = |c: char| c.is_control() && c != '\n';
    text.chars()
        .flat_map(|c| if is_bad(c) { c.escape_unicode().collect() } else { vec![c] })
        .collect()
}

/// JSON with line ends and indents; its strings and numbers stay as they are, to the last digit.
/// What is no JSON comes out cleaned.
pub(crate) fn pretty(json: &str) -> String {
    let (mut out, mut depth, mut in_string) = (String::new(), 0_usize, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        if in_string {
            in_string = c != '"' || is_escaped_quote(&out);
            out.push(c);
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                while chars.peek().is_some_and(|next| next.is_ascii_whitespace()) {
                    chars.next();
                }
                match chars.peek() {
                    Some('}' | ']') => {}
                    _ => {
                        depth += 1;
                        line(&mut out, depth);
                        continue;
                    }
                }
                out.extend(chars.next());
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => {
                in_string = c == '"';
                out.push(c);
            }
        }
    }
    clean(&out)
}

/// Whether a quote that comes now is escaped: an odd number of backslashes stands before it.
fn is_escaped_quote(before: &str) -> bool {
    before.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn document(failure: &Failure) -> String {
    #[derive(Serialize)]
    struct Document<'a> {
        error: &'a Failure,
    }
    let document = serde_json::to_string_pretty(&Document { error: failure });
    // Strings and numbers have a form as JSON.
    document.unwrap_or_else(|_| "{\"error\":{}}".to_owned()) + "\n"
}

/// The line broken at spaces, what goes on indented a little more than its beginning. A word that
/// is too long stays whole: addresses and fingerprints are copied.
fn fold(line: &str, columns: usize) -> String {
    if columns_of(line) <= columns {
        return line.to_owned();
    }
    let indent = line.len() - line.trim_start().len();
    let (mut out, mut at) = (" ".repeat(indent), indent);
    for (number, word) in line.trim_start().split(' ').enumerate() {
        let width = columns_of(word);
        if number > 0 && at + 1 + width > columns {
            out.push_str(&format!("\n{}", " ".repeat(indent + FOLD_INDENT)));
            at = indent + FOLD_INDENT;
        } else if number > 0 {
            out.push(' ');
            at += 1;
        }
        out.push_str(word);
        at += width;
    }
    out
}

/// Without what paints it.
fn columns_of(text: &str) -> usize {
    let mut is_code = false;
    let seen = |c: &char| {
        let was_code = is_code;
        is_code = (is_code && *c != 'm') || *c == '\x1b';
        !was_code && !is_code
    };
    text.chars().filter(seen).count()
}

fn painted(paints: bool, code: &str, text: &str) -> String {
    if paints { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

fn print(mut to: impl io::Write, text: &str) {
    // `| head` has what it wanted; a full disk is told by nobody but the exit code of the shell.
    let _unheard = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// Of the lines that a line is broken into.
const FOLD_INDENT: usize = 2;
/// Where the width is not known.
const COLUMNS: usize = 80;
/// Narrower terminals break lines themselves.
const COLUMNS_MIN: usize = 30;
/// Longer lines are hard to read.
const COLUMNS_MAX: usize = 120;
