//! The processes of a run: started from this same program, heard line by line, never left behind.
//!
//! Invariants: a process that ends before it has said its last word is an error with everything
//! it wrote to its standard error; dropping the family kills what is left; so does silence.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::words::{Order, Word};

/// All processes of a run.
#[derive(Debug)]
pub(crate) struct Family {
    members: Vec<Member>,
    sender: mpsc::UnboundedSender<(usize, Heard)>,
    heard: mpsc::UnboundedReceiver<(usize, Heard)>,
    /// One for each output; they end with it or with the family.
    readers: JoinSet<()>,
}

#[derive(Debug)]
struct Member {
    name: String,
    child: Child,
    input: ChildStdin,
    /// Reads its standard error to the end, which comes with the process's own.
    complaints: JoinHandle<String>,
    /// It has said its last word.
    is_done: bool,
    /// Its end was waited for, and was the right one.
    has_ended: bool,
}

#[derive(Debug)]
enum Heard {
    Word(Word),
    Nonsense(String),
    /// It closed its output.
    End,
}

impl Family {
    /// Nobody yet.
    pub(crate) fn new() -> Self {
        let (sender, heard) = mpsc::unbounded_channel();
        Self { members: Vec::new(), sender, heard, readers: JoinSet::new() }
    }

    /// Starts this program once more, in a role; returns the number of the process.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(
        &mut self,
        name: String,
        role: &str,
        task: &impl serde::Serialize,
    ) -> Result<usize, crate::Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role)
            .arg(serde_json::to_string(task)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // The terminal's interrupt is for the director, which then ends its processes.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{name} cannot be started: {error}"))?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let errors = child.stderr.take().ok_or("no standard error")?;
        let number = self.members.len();
        let (is_done, has_ended) = (false, false);
        self.readers.spawn(listen(number, output, self.sender.clone()));
        let complaints = tokio::spawn(note(errors));
        self.members.push(Member { name, child, input, complaints, is_done, has_ended });
        Ok(number)
    }

    /// Gives an order.
    ///
    /// # Errors
    /// If the process is gone.
    pub(crate) async fn tell(&mut self, number: usize, order: Order) -> Result<(), crate::Failure> {
        let mut line = serde_json::to_vec(&order)?;
        line.push(b'\n');
        let written = self.members[number].input.write_all(&line).await;
        match written {
            Ok(()) => Ok(()),
            Err(_) => Err(self.obituary(number).await),
        }
    }

    /// The next word of anyone, and whose it is.
    ///
    /// # Errors
    /// If a process ended too early or nothing was heard for long.
    ///
    /// # Cancellation
    /// Safe; what was not returned is returned next time.
    pub(crate) async fn next(&mut self) -> Result<(usize, Word), crate::Failure> {
        loop {
            let heard = tokio::time::timeout(SILENCE_MAX, self.heard.recv()).await;
            let Ok(Some((number, heard))) = heard else {
                let at_work = self.members.iter().filter(|member| !member.is_done);
                let names: Vec<&str> = at_work.map(|member| member.name.as_str()).collect();
                let names = names.join(", ");
                let text = format!("nothing was heard for {SILENCE_MAX:?} from: {names}");
                return Err(crate::Failure::Stuck(text));
            };
            let member = &mut self.members[number];
            match heard {
                Heard::Word(word) => {
                    member.is_done |= matches!(word, Word::Finished(_) | Word::Stopped(_));
                    return Ok((number, word));
                }
                Heard::End if member.is_done => {}
                Heard::End => return Err(self.obituary(number).await),
                Heard::Nonsense(line) => {
                    return Err(format!("{} said {line:?}", member.name).into());
                }
            }
        }
    }

    /// Waits until all have ended in good order.
    ///
    /// # Errors
    /// If one did not.
    pub(crate) async fn end(mut self) -> Result<(), crate::Failure> {
        for number in 0..self.members.len() {
            self.until_ended(number).await?;
        }
        Ok(())
    }

    /// Waits until a process has ended in good order.
    ///
    /// # Errors
    /// If its exit code is not 0, or it goes on.
    pub(crate) async fn until_ended(&mut self, number: usize) -> Result<(), crate::Failure> {
        if self.members[number].has_ended {
            return Ok(());
        }
        let status = self.wait(number).await?;
        if !status.success() {
            return Err(self.obituary(number).await);
        }
        self.members[number].has_ended = true;
        Ok(())
    }

    /// Kills a process with SIGKILL, and waits until the system has closed what it had open.
    ///
    /// # Errors
    /// If it ended in any other way.
    pub(crate) async fn kill(&mut self, number: usize) -> Result<(), crate::Failure> {
        self.members[number].is_done = true;
        self.members[number].child.start_kill()?;
        let status = self.wait(number).await?;
        if status.signal() != Some(SIGKILL) {
            return Err(self.obituary(number).await);
        }
        self.members[number].has_ended = true;
        Ok(())
    }

    async fn wait(&mut self, number: usize) -> Result<ExitStatus, crate::Failure> {
        let Member { name, child, .. } = &mut self.members[number];
        let ended = tokio::time::timeout(SILENCE_MAX, child.wait()).await;
        Ok(ended.map_err(|_| format!("{name} does not end"))??)
    }

    /// What there is to say of a process that ended too early.
    async fn obituary(&mut self, number: usize) -> crate::Failure {
        let member = &mut self.members[number];
        let how = match tokio::time::timeout(SILENCE_MAX, member.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it closed its output and runs on".to_owned(),
        };
        let said = tokio::time::timeout(SILENCE_MAX, &mut member.complaints).await;
        let said = said.ok().and_then(Result::ok).unwrap_or_default();
        let said = if said.is_empty() { " nothing" } else { said.trim_end() };
        format!("{} ended too early ({how}); on standard error it said:{said}", member.name).into()
    }
}

/// Passes on what a process says, until it closes its output.
async fn listen(
    number: usize,
    output: impl AsyncRead + Unpin,
    sender: mpsc::UnboundedSender<(usize, Heard)>,
) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let heard = serde_json::from_str(&line).map_or(Heard::Nonsense(line), Heard::Word);
        if sender.send((number, heard)).is_err() {
            return;
        }
    }
    // Without a receiver there is no family that could miss it.
    let _unheard = sender.send((number, Heard::End));
}

/// The beginning of what a process writes to its standard error.
async fn note(errors: impl AsyncRead + Unpin) -> String {
    let mut lines = BufReader::new(errors).lines();
    let mut complaints = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if complaints.len() < COMPLAINT_BYTES_MAX {
            complaints.push_str("\n  ");
            complaints.push_str(&line);
        }
    }
    complaints
}

/// Twice the timeout of a call: whoever works says something in that time.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// The same number on every Unix.
const SIGKILL: i32 = 9;
const COMPLAINT_BYTES_MAX: usize = 8192;
