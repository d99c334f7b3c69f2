//! A role as the tests see it: commands, the system's figures, and its log.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A role that runs; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    folder: PathBuf,
    /// What it said first: a server its address.
    pub(crate) first: String,
}

/// What the system says of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) peak_kib: u64,
    pub(crate) rss_kib: u64,
    pub(crate) threads: u64,
    pub(crate) fds: usize,
    pub(crate) cpu_ns: u64,
    /// How long its threads could have run, and others had the cores.
    pub(crate) kept_waiting_ns: u64,
}

impl Process {
    /// Starts a role; `fds_max` is its RLIMIT_NOFILE.
    pub(crate) fn start(role: &str, fds_max: Option<u32>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("attacks-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        let errors = fs::File::create(folder.join("errors")).unwrap();
        let limit = fds_max.map_or_else(String::new, |max| format!("ulimit -n {max}; "));
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limit}exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "role::serve", "--ignored", "--nocapture", "--test-threads=1"])
            .env("ATTACKS_ROLE", role)
            .env("ATTACKS_LOG", folder.join("log"))
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self { child, input, output, folder, first: String::new() };
        process.first = process.line();
        process
    }

    /// Sends a command, gives the answer.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").expect("the role lives");
        self.line()
    }

    /// [`Process::ask`], for an answer with `name=number`s in it.
    pub(crate) fn numbers(&mut self, command: &str) -> BTreeMap<String, u64> {
        let answer = self.ask(command);
        let pairs = answer.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?))).collect()
    }

    pub(crate) fn figures(&self) -> Figures {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(proc.join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let tasks = fs::read_dir(proc.join("task")).unwrap();
        let times = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            let mut times = text.split(' ').map_while(|time| time.parse::<u64>().ok());
            Some((times.next()?, times.next()?))
        });
        let (cpu_ns, kept_waiting_ns) =
            times.fold((0, 0), |sum, time| (sum.0 + time.0, sum.1 + time.1));
        Figures {
            peak_kib: field("VmHWM:"),
            rss_kib: field("VmRSS:"),
            threads: field("Threads:"),
            fds: fs::read_dir(proc.join("fd")).unwrap().count(),
            cpu_ns,
            kept_waiting_ns,
        }
    }

    /// The peak of its memory counts from now on.
    pub(crate) fn reset_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// How its connections ended so far: how many for each reason, `LOST` for those without one.
    pub(crate) fn ends(&mut self) -> BTreeMap<String, u64> {
        let all = self.numbers("stats").into_iter();
        all.filter_map(|(name, n)| Some((name.strip_prefix("end.")?.to_owned(), n))).collect()
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> Vec<u8> {
        fs::read(self.folder.join("log")).unwrap()
    }

    /// What stands on its standard error: panics.
    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("errors")).unwrap()).into_owned()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.output.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "the role ended: {}", self.errors());
            if let Some(said) = line.strip_prefix('@') {
                return said.trim_end().to_owned();
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
