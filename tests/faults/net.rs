//! Two network namespaces with a cable between them: what is broken there disturbs nobody.
//!
//! ```text
//!   near 10.77.0.1 ---- veth ---- 10.77.0.2 far
//!   the test itself, again        its server, and the rules that break the network
//! ```
//!
//! Invariant: the namespaces are gone when the test is over, whichever way.

use std::process::{Command, Stdio};

use crate::child::{ServerSpec, role};

/// The name of the far namespace, for the test that runs in the near one.
const FAR: &str = "SWITCHBACK_FAULTS_FAR";
/// Where the server listens.
const SERVER: &str = "tcp://10.77.0.2:0";

/// The far end, as the test in the near namespace has it.
pub(crate) struct Far(String);

struct Pair {
    near: String,
    far: String,
}

/// Runs the rest of a test, `name` of it, in a namespace of its own.
pub(crate) fn in_namespace(name: &str, body: impl FnOnce(Far)) {
    if let Ok(far) = std::env::var(FAR) {
        body(Far(far));
        return;
    }
    let pair = Pair::new().unwrap_or_else(|why| panic!("{name}: {why}"));
    let within = ["ip", "netns", "exec", &pair.near].map(str::to_owned);
    let mut command = role(&within, name);
    command.env(FAR, &pair.far).stdout(Stdio::null());
    let status = command.status().unwrap();
    assert!(status.success(), "{name}, in its namespace: {status}");
}

impl Pair {
    /// A pair, or what is missing here: a test that cannot break the network has not passed.
    fn new() -> Result<Self, String> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = |end: char| format!("sbf{}{end}{number}", std::process::id());
        let pair = Self { near: name('n'), far: name('f') };
        let Self { near, far } = &pair;
        let steps = [
            format!("ip netns add {near}"),
            format!("ip netns add {far}"),
            format!("ip link add veth0 netns {near} type veth peer name veth0 netns {far}"),
            format!("ip -n {near} addr add 10.77.0.1/24 dev veth0"),
            format!("ip -n {far} addr add 10.77.0.2/24 dev veth0"),
            format!("ip -n {near} link set veth0 up"),
            format!("ip -n {far} link set veth0 up"),
            format!("ip -n {far} link set lo up"),
            format!("ip netns exec {far} nft list ruleset"),
        ];
        match steps.iter().find(|step| !sh(step)) {
            None => Ok(pair),
            Some(step) => Err(format!(
                "`{step}` failed: these tests need root or CAP_SYS_ADMIN and CAP_NET_ADMIN, ip and \
                 tc (Debian: iproute2) and nft (nftables)"
            )),
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        sh(&format!("ip netns del {}", self.near));
        sh(&format!("ip netns del {}", self.far));
    }
}

impl Far {
    /// A server there, not started.
    pub(crate) fn server(&self) -> ServerSpec {
        let within = ["ip", "netns", "exec", &self.0].map(str::to_owned).to_vec();
        ServerSpec { within, ..ServerSpec::at(SERVER) }
    }

    /// Runs a command there, which must succeed.
    pub(crate) fn sh(&self, command: &str) {
        let command = format!("ip netns exec {} {command}", self.0);
        assert!(sh(&command), "{command}");
    }

    /// Rules of nft, for what comes in and for what goes out; none: all is as before.
    pub(crate) fn rules(&self, incoming: &[String], outgoing: &[String]) {
        self.sh("nft flush ruleset");
        self.sh("nft add table ip f");
        for (chain, rules) in [("input", incoming), ("output", outgoing)] {
            let hook = format!("{{ type filter hook {chain} priority 0 ; }}");
            self.sh(&format!("nft add chain ip f {chain} {hook}"));
            for rule in rules {
                self.sh(&format!("nft add rule ip f {chain} {rule}"));
            }
        }
    }
}

/// Runs a command of words; says whether it succeeded.
fn sh(command: &str) -> bool {
    let mut words = command.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    let command = command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
