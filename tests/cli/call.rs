//! `call`: JSON in and out, and everything that may be wrong with it.

use std::io::Write as _;
use std::process::Stdio;

use switchback::service::WithBytes;

use crate::program::{Ran, program, ran};
use crate::served::{bank, double, math, rude};

const TRANSFER: &str = "bank.Ledger/transfer";
const GOOD: &str = r#"{"lines":[{"to":"ann","cents":18446744073709551615}],"note":null,
    "mode":{"Later":{"days":3}}}"#;

/// The response is on standard output, in its order, every digit of its numbers as sent. A whole
/// screen.
#[test]
fn a_call_prints_the_response() {
    let served = bank();
    let expected = r#"{
  "total": 18446744073709551615,
  "largest": 340282366920938463463374607431768211455,
  "by": {
    "mode": "Later { days: 3 }, None",
    "who": "me=you"
  }
}
"#;
    let arguments = ["call", &served.url, TRANSFER, GOOD, "--metadata", "who=me=you"];
    assert_eq!(ran(&arguments).ended(0), expected);

    let arguments = ["call", &served.url, TRANSFER, GOOD, "--json"];
    let output = ran(&arguments).ended(0);
    assert!(output.contains("340282366920938463463374607431768211455"), "{output}");
    let json: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(json["version"], 1);
}

/// A request comes from a file or standard input as well.
#[test]
fn a_request_comes_from_a_file_or_a_pipe() {
    let served = bank();
    let path = std::env::temp_dir().join(format!("switchback-cli-{}.json", std::process::id()));
    std::fs::write(&path, GOOD).unwrap();
    let file = format!("@{}", path.display());
    assert!(ran(&["call", &served.url, TRANSFER, &file]).ended(0).contains("days: 3"));
    std::fs::remove_file(&path).unwrap();
    ran(&["call", &served.url, TRANSFER, &file]).failed(2, &["No such file"]);

    let mut child =
        program(&["call", &served.url, TRANSFER, "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(GOOD.as_bytes()).unwrap();
    assert!(Ran::of(child.wait_with_output().unwrap()).ended(0).contains("days: 3"));
}

/// A server's words are cleaned of what a terminal would obey.
#[test]
fn a_rude_server_does_not_paint_the_terminal() {
    let served = math([rude()]);
    let parts = ["NOT_FOUND (processed): \\u{1b}[31mred\\u{d}\\u{7}\n"];
    ran(&["call", &served.url, "demo.Math/rude", "1"]).failed(4, &parts);
}

/// The method's own error is exit code 1, as JSON on standard error.
#[test]
fn an_own_error_is_exit_code_1() {
    let served = bank();
    let request = r#"{"lines":[{"to":"nobody","cents":1}],"mode":"Now"}"#;
    let parts = ["answered with its own error", "\"NoSuchAccount\": \"\\u001b[31mnobody\""];
    ran(&["call", &served.url, TRANSFER, request]).failed(1, &parts);
    let error = &ran(&["call", &served.url, TRANSFER, request, "--json"]).json(1)["error"];
    assert_eq!(error["kind"], "app");
    assert_eq!(error["app_error"]["NoSuchAccount"], "\u{1b}[31mnobody");
}

/// Wrong JSON is told with the path to the field before it is sent, and in the server's words with
/// a path of the server's if it is sent unchecked.
#[test]
fn wrong_json_is_told_with_its_path() {
    let served = bank();
    let line = |line: &str| format!(r#"{{"lines":[{{"to":"a","cents":1}},{line}],"mode":"Now"}}"#);
    for (request, path, what) in [
        (line(r#"{"to":"a","cents":-1}"#), "$.lines[1].cents", "0 to 18446744073709551615 (u64)"),
        (line(r#"{"to":"a","cents":1.5}"#), "$.lines[1].cents", "found 1.5"),
        (line(r#"{"to":7,"cents":1}"#), "$.lines[1].to", "expected a string, found 7"),
        (line(r#"{"to":"a"}"#), "$.lines[1]", "\"cents\" is missing"),
        (r#"{"lines":{},"mode":"Now"}"#.to_owned(), "$.lines", "expected an array"),
        (r#"{"lines":[],"mode":"Soon"}"#.to_owned(), "$.mode", "expected one of Now, Later, Split"),
        (
            r#"{"lines":[],"mode":{"Later":{"days":256}}}"#.to_owned(),
            "$.mode.Later.days",
            "0 to 255",
        ),
        (
            r#"{"lines":[],"mode":{"Split":[1,2,3]}}"#.to_owned(),
            "$.mode.Split",
            "2 elements, found 3",
        ),
        (r#"{"lines":[],"mode":"Later"}"#.to_owned(), "$.mode", "it has content"),
    ] {
        let local = ran(&["call", &served.url, TRANSFER, &request]);
        local.failed(2, &[&format!("{path}: "), what, "--unchecked"]);
        let sent = ran(&["call", &served.url, TRANSFER, &request, "--unchecked"]);
        sent.failed(4, &["BAD_PAYLOAD (not processed)", ": $", "fault: the request's"]);
    }
    // Below the place where a type holds itself, too.
    let leaf = r#"{"name":"c","children":[{"Leaf":1},{"Leaf":256}]}"#;
    let deep = format!(
        r#"{{"name":"a","children":[{{"Node":{{"name":"b","children":[{{"Node":{leaf}}}]}}}}]}}"#
    );
    let deep = ran(&["call", &served.url, "bank.Ledger/count", &deep]);
    let path = "$.children[0].Node.children[0].Node.children[1].Leaf";
    deep.failed(2, &[&format!("{path}: expected a whole number 0 to 255 (u8), found 256")]);

    // A server skips it; here it is a typing error.
    let misspelt = r#"{"lines":[],"mode":"Now","note_":"x"}"#;
    let parts = ["there is no field \"note_\", there is lines, note, mode"];
    ran(&["call", &served.url, TRANSFER, misspelt]).failed(2, &parts);
    ran(&["call", &served.url, TRANSFER, misspelt, "--unchecked"]).ended(0);

    ran(&["call", &served.url, TRANSFER, "{lines"]).failed(2, &["is no JSON", "line 1 column 2"]);
    ran(&["call", &served.url, TRANSFER]).failed(2, &["needs a request", "begin with '{\"lines\""]);
}

/// A wrong service, method or version is told with what there is.
#[test]
fn a_wrong_name_is_told_with_what_there_is() {
    let served = bank();
    let service = ran(&["call", &served.url, "bank.Leger/transfer", "1"]);
    service.failed(4, &["no service bank.Leger", "its services are bank.Ledger, switchback."]);
    let method = ran(&["call", &served.url, "bank.Ledger/transfr", "1"]);
    method.failed(4, &["no method bank.Ledger/transfr", "bank.Ledger/transfer"]);
    let version = ran(&["call", &served.url, TRANSFER, GOOD, "--version", "2"]);
    version.failed(4, &["no version 2 of bank.Ledger/transfer", "it has version 1"]);
    let name = ran(&["call", &served.url, TRANSFER, GOOD, "--metadata", "Who=me"]);
    name.failed(2, &["metadata name \"Who\""]);
}

/// A call that nobody answers ends by its timeout.
#[test]
fn a_call_ends_by_its_timeout() {
    let served = bank();
    let call = ran(&["call", &served.url, "bank.Ledger/never", "--timeout", "300ms"]);
    call.failed(4, &["DEADLINE_EXCEEDED", "give it more time with --timeout"]);
}

/// A method that takes bytes beside its message is described, and called with the message alone;
/// the answer shows both.
#[test]
fn a_message_goes_without_the_bytes_beside_it() {
    let served = math([double::<WithBytes<Vec<u64>>>(1)]);
    let screen = ran(&["describe", &served.url, "demo.Math/double"]).ended(0);
    assert!(screen.contains("[u64] + raw") && screen.contains("'[0]'"), "{screen}");

    let call = ["call", &served.url, "demo.Math/double"];
    let output = ran(&[&call[..], &["[5, 7]", "--json"]].concat()).json(0);
    assert_eq!(output["response"], serde_json::json!({"message": [5, 7], "bytes": ""}));
    assert!(ran(&[&call[..], &["[5]"]].concat()).ended(0).contains("\"message\""));
    ran(&[&call[..], &["[5, \"x\"]"]].concat()).failed(2, &["$[1]: expected a whole number"]);

    // As it is: what stands here has no length in front, or one of its own.
    let sent = ran(&[&call[..], &["[5]", "--unchecked"]].concat());
    sent.failed(4, &["BAD_PAYLOAD (not processed)"]);
    let whole = "\0\0\0\u{3}[5]and bytes";
    let path = std::env::temp_dir().join(format!("switchback-raw-{}", std::process::id()));
    std::fs::write(&path, whole).unwrap();
    let file = format!("@{}", path.display());
    let output = ran(&[&call[..], &[&file, "--unchecked", "--json"]].concat());
    std::fs::remove_file(&path).unwrap();
    let response = &output.json(0)["response"];
    assert_eq!(*response, serde_json::json!({"message": [5], "bytes": "and bytes"}));
}
