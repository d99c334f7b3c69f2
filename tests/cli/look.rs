//! `list`, `describe`, `health`, and what holds for every command: addresses, usage, pipes.

use std::io::Write as _;
use std::net::TcpListener;

use crate::program::{program, ran};
use crate::served::{bank, double, math, opaque, silent};

/// Services and methods by name, with versions and counts. A whole screen.
#[test]
fn list_shows_services_and_versions() {
    let served = math([double::<u64>(1), double::<u64>(3)]);
    let screen = ran(&["list", &served.url]).ended(0);
    let expected = "\
ADDRESS: 3 methods

demo.Math
  double    versions 1, 3

switchback.Reflection
  describe  version 1; idempotent
  list      version 1; idempotent
";
    assert_eq!(screen.replace(&served.url, "ADDRESS"), expected);

    let served = bank();
    let screen = ran(&["list", &served.url]).ended(0);
    assert!(screen.contains("\n  transfer  version 1; calls: 0\n"), "{screen}");
    let json = ran(&["list", &served.url, "--json"]).json(0);
    let methods = json["methods"].as_array().unwrap();
    let count = methods.iter().find(|method| method["name"] == "bank.Ledger/count").unwrap();
    assert_eq!(count["versions"][0]["idempotent"], true);
    assert_eq!(count["versions"][0]["calls"], 0);
    assert_eq!(count["versions"][0]["fingerprint"].as_str().unwrap().len(), 16);
    assert_eq!(json["reflection"], true);
}

/// Without reflection there are still numbers, versions and a note; a name finds its number.
#[test]
fn a_server_without_reflection_is_listed_by_number() {
    let served = silent();
    let screen = ran(&["list", &served.url]).ended(0);
    assert!(screen.contains("no reflection") && screen.contains("(names not known)"), "{screen}");
    let id = switchback::wire::MethodId::of("bank.Ledger/count").to_string();
    assert!(screen.contains(&format!("\n  {id}  version 1\n")), "{screen}");
    let screen = ran(&["describe", &served.url, "bank.Ledger/count"]).ended(0);
    assert!(screen.contains("types not known"), "{screen}");
    let tree = r#"{"name":"a","children":[]}"#;
    assert_eq!(ran(&["call", &served.url, "bank.Ledger/count", tree]).ended(0), "1\n");
    ran(&["call", &served.url, "bank.Ledger/nothing", "1"])
        .failed(4, &["looked for by its number"]);
    ran(&["check", &served.url, "--lock", "/nonexistent/lock"]).failed(4, &["no reflection"]);
    ran(&["health", &served.url]).failed(4, &["no health service", "Server::health"]);
}

/// Types as text, one line where they fit, with an example that the method takes. A whole screen.
#[test]
fn describe_shows_types_and_an_example() {
    let served = bank();
    let screen = ran(&["describe", &served.url, "bank.Ledger/transfer"]).ended(0);
    let json = ran(&["describe", &served.url, "bank.Ledger/transfer", "--json"]).json(0);
    let fingerprint = json["versions"][0]["fingerprint"].as_str().unwrap();
    let expected = "\
bank.Ledger/transfer  id ID

version 1  callable, not known to be idempotent
  request   {
              lines: [{ to: str, cents: u64 }]
              note: Option<str>
              mode: Now | Later { days: u8 } | Split(u8, u8)
            }
  response  { total: u64, largest: u128, by: map<str, str> }
  error     NoSuchAccount(str)
  example   {\"lines\":[{\"to\":\"\",\"cents\":0}],\"note\":\"\",\"mode\":\"Now\"}
  fingerprint PRINT
";
    let id = json["id"].as_str().unwrap();
    assert_eq!(screen.replace(id, "ID").replace(fingerprint, "PRINT"), expected);

    for method in ["bank.Ledger/transfer", "bank.Ledger/count"] {
        let json = ran(&["describe", &served.url, method, "--json", "--version", "1"]).json(0);
        let example = json["versions"][0]["example"].to_string();
        ran(&["call", &served.url, method, &example]).ended(0);
    }
    let screen = ran(&["describe", &served.url, "bank.Ledger/count"]).ended(0);
    assert!(screen.contains("{ name: str, children: [Leaf(u8) | Node(Self(1 out))] }"), "{screen}");
    assert!(screen.contains("none of its own"), "{screen}");
    let missing = ran(&["describe", &served.url, "bank.Ledger/count", "--version", "7"]);
    missing.failed(4, &["no version 7 of bank.Ledger/count", "it has version 1"]);
}

/// Yes, no, and not known are exit codes 0, 1 and 1.
#[test]
fn health_is_an_exit_code() {
    let served = bank();
    let screen = ran(&["health", &served.url]).ended(0);
    assert_eq!(screen, format!("{}: serving\n", served.url));
    assert_eq!(ran(&["health", &served.url, "bank.Ledger"]).ended(0), "bank.Ledger: serving\n");
    let unknown = ran(&["health", &served.url, "bank.Nothing"]).ended(1);
    assert_eq!(unknown, "bank.Nothing: not known to this server\n");
    assert_eq!(ran(&["health", &served.url, "x", "--json"]).json(1)["state"], "Unknown");
}

/// What is no server is told apart: nobody there, somebody else, no address, not to be trusted.
#[test]
fn an_address_without_a_server_says_what_is_there() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("tcp://{free}");
    for command in ["list", "health"] {
        let parts =
            ["error: no connection: nobody listens at tcp://", "fault: the server's", "do: "];
        ran(&[command, &nobody]).failed(3, &parts);
    }
    let error = &ran(&["list", &nobody, "--json"]).json(3)["error"];
    assert_eq!(
        (&error["kind"], &error["fault"]),
        (&"no_connection".into(), &"the server's".into())
    );

    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = http.local_addr().unwrap().to_string();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = http.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    ran(&["list", &address])
        .failed(3, &["does not speak switchback", "HTTP", "do: something else"]);
    serving.join().unwrap();

    ran(&["list", "tcp://127.0.0.1"]).failed(2, &["is no address", "write tcp://127.0.0.1:7400"]);
    ran(&["list", "tcp://192.0.2.1:1"]).failed(2, &["not loopback", "say --insecure"]);
    ran(&["list", "/no/such/socket"])
        .failed(3, &["no connection: nobody listens at unix:///no/such/socket"]);
}

/// A wrong command line is exit code 2 with a usage, as JSON too; help names the exit codes.
#[test]
fn usage_is_exit_code_2() {
    ran(&["list"]).failed(2, &["ADDRESS", "Usage: switchback list"]);
    ran(&["frobnicate"]).failed(2, &["frobnicate"]);
    ran(&["call", "x:1", "no-slash"]).failed(2, &["expected service/method"]);
    ran(&["call", "x:1", "a/b", "--timeout", "3"]).failed(2, &["a number with its unit, 500ms"]);
    ran(&["check", "x:1", "--retire", "a/b"]).failed(2, &["expected service/method:version"]);
    let error = &ran(&["list", "--json"]).json(2)["error"];
    assert_eq!(error["kind"], "usage");
    let help = ran(&["--help"]).ended(0);
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "130 "] {
        assert!(help.contains(&format!("\n  {code}")), "{code} is not in:\n{help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = ran(&["completions", shell]).ended(0);
        assert!(script.contains("switchback") && script.contains("describe"), "{script}");
    }
}

/// A reader that has gone away is no error. Its end of the pipe is closed before anything is
/// written.
#[test]
fn a_broken_pipe_ends_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = program(&["completions", "bash"]).stdout(writer).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
}

/// A method whose types nobody knows is described as that, and a call of it says what is missing.
#[test]
fn a_missing_codec_is_named() {
    let served = math([opaque()]);
    let screen = ran(&["describe", &served.url, "demo.Math/opaque"]).ended(0);
    assert!(screen.contains("types not known"), "{screen}");
    let parts = ["has no JSON codec for demo.Math/opaque version 1, it has", "the feature json"];
    ran(&["call", &served.url, "demo.Math/opaque", "1"]).failed(4, &parts);
    let error = &ran(&["call", &served.url, "demo.Math/opaque", "1", "--json"]).json(4)["error"];
    assert_eq!(error["code"], "UNSUPPORTED_CODEC");
    assert_eq!(error["disposition"], "not processed");
}
