//! `switchback call`: one call, JSON in and JSON out.
//!
//! Invariants: numbers go through as they were written, to the last digit, because nobody here
//! turns them into floats; standard output has the response and nothing else.

use std::io::Read as _;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use switchback::service::{RawRequest, RawResponse, SchemaTree};
use switchback::{Code, Codec, Status};

use crate::args::{CallArgs, RequestArgs};
use crate::example::example;
use crate::failure::Failure;
use crate::method::Target;
use crate::output::{Answer, clean, pretty};
use crate::remote::Remote;
use crate::validate::validate;

/// Calls, and prints what comes back.
pub(crate) async fn run(args: &CallArgs, text: Option<String>) -> Result<Answer, Failure> {
    let args = &args.request;
    let remote = Remote::connect(&args.of.server).await?;
    let target = Target::find(&remote, &args.of.method, args.version).await?;
    let request = request(args, &target, text)?;
    let what = what(args, &target);
    let response = remote.channel().call_raw(request).await;
    let response = response.map_err(|status| refused(&remote.address, &what, &status))?;
    let RawResponse { is_app_error, ref payload, .. } = response;
    let at = if is_app_error { 2 } else { 1 };
    let tree = target.types.as_ref().map(|types| &types[at]);
    let value = json_of(payload, tree).map_err(|error| {
        Failure::server(&format!("the answer of {what} is no JSON, though it says so: {error}"))
    })?;
    if is_app_error {
        return Err(Failure::app(&what, value));
    }
    let text = match tree {
        Some(tree) if *tree == raw() => clean(&String::from_utf8_lossy(payload)),
        _ => pretty(value.get()),
    };
    let metadata = response.metadata.iter().map(|(name, value)| Pair {
        name: name.to_owned(),
        value: String::from_utf8_lossy(value).into_owned(),
    });
    let json = Answer::json(&Document {
        method: &args.of.method,
        version: target.version.version,
        response: &value,
        metadata: metadata.collect(),
    })?;
    Ok(Answer::good(format!("{text}\n"), json))
}

/// What the arguments say that is sent: the text itself, a file's, or standard input's.
pub(crate) fn text(args: &RequestArgs) -> Result<Option<String>, Failure> {
    let Some(given) = &args.request else { return Ok(None) };
    let (place, source): (&str, Box<dyn std::io::Read>) = match given.strip_prefix('@') {
        Some(path) => {
            let file = std::fs::File::open(path);
            let file = file.map_err(|error| Failure::usage(&format!("{path}: {error}")))?;
            (path, Box::new(file))
        }
        None if given == "-" => ("standard input", Box::new(std::io::stdin())),
        None => return Ok(Some(given.clone())),
    };
    let mut text = String::new();
    let read = source.take(REQUEST_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::usage(&format!("{place}: {error}")))?;
    if text.len() as u64 > REQUEST_BYTES_MAX {
        let what = format!("{place}: a request of more than {REQUEST_BYTES_MAX} bytes");
        return Err(Failure::usage(&what));
    }
    Ok(Some(text))
}

/// The request, checked as far as the types are known.
pub(crate) fn request(
    args: &RequestArgs,
    target: &Target,
    text: Option<String>,
) -> Result<RawRequest, Failure> {
    let tree = target.types.as_ref().map(|[request, ..]| request);
    let text = match text {
        Some(text) => text,
        None => nothing(args, tree)?,
    };
    if !args.unchecked && tree.is_none_or(|tree| *tree != raw()) {
        let value: Value = serde_json::from_str(&text).map_err(|error| {
            let hint = "put the JSON into single quotes, or into a file and write @file";
            Failure::usage(&format!("the request is no JSON: {error}")).do_this(Some(hint))
        })?;
        if let Some(Err(what)) = tree.map(|tree| validate(&value, tree)) {
            let hint = format!(
                "`switchback describe` shows the types of version {}; --unchecked sends it anyway",
                target.version.version
            );
            let what = clean(&format!("the request does not fit, {what}"));
            return Err(Failure::usage(&what).do_this(Some(&hint)));
        }
    }
    let payload = match tree {
        Some(SchemaTree::WithRaw(_)) if !args.unchecked => with_no_bytes(&text),
        _ => text.into_bytes(),
    };
    let (id, version) = (target.method.id, target.version.version);
    let mut request = RawRequest::new(id, version, Codec::JSON.id(), payload);
    request.fingerprint = if args.unchecked { 0 } else { target.folded() };
    request.idempotent = target.version.idempotent == Some(true);
    request.timeout = Some(args.of.server.timeout);
    for (name, value) in &args.metadata {
        let pushed = request.metadata.try_push(name, value.as_bytes());
        pushed.map_err(|status| Failure::usage(status.message()))?;
    }
    Ok(request)
}

/// The message as a payload beside which there are no bytes (PL-17).
fn with_no_bytes(text: &str) -> Vec<u8> {
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX); // At most `REQUEST_BYTES_MAX`.
    [&len.to_be_bytes()[..], text.as_bytes()].concat()
}

/// An answer as JSON: raw bytes as a string, a message with bytes beside it as an object of both.
fn json_of(payload: &[u8], tree: Option<&SchemaTree>) -> Result<Box<RawValue>, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let json = match tree {
        Some(tree) if *tree == raw() => Value::from(text(payload)).to_string(),
        Some(SchemaTree::WithRaw(_)) => {
            let (len, rest) = payload.split_first_chunk().ok_or("it has no length in front")?;
            let len = u32::from_be_bytes(*len);
            let parts = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len));
            let (message, bytes) = parts.ok_or_else(|| {
                format!("its message is to have {len} bytes, and {} are there", rest.len())
            })?;
            let message = RawValue::from_string(text(message)).map_err(|e| e.to_string())?;
            format!("{{\"message\":{message},\"bytes\":{}}}", Value::from(text(bytes)))
        }
        _ => text(payload),
    };
    RawValue::from_string(json).map_err(|error| error.to_string())
}

/// `bank.Ledger/transfer version 2`
pub(crate) fn what(args: &RequestArgs, target: &Target) -> String {
    format!("{} version {}", clean(&args.of.method), target.version.version)
}

/// The failure of a raw call; of a codec that is not there it says which are.
pub(crate) fn refused(address: &str, what: &str, status: &Status) -> Failure {
    if status.code() != Code::UNSUPPORTED_CODEC {
        return Failure::call(what, status);
    }
    let codecs: Vec<String> = status.codecs().iter().map(|id| codec_name(*id)).collect();
    let codecs =
        if codecs.is_empty() { "none that it names".to_owned() } else { codecs.join(", ") };
    let message = format!("{} has no JSON codec for {what}, it has {codecs}", clean(address));
    let hint = "build the server with the feature json of switchback, or add Codec::JSON to it";
    Failure { message, ..Failure::call(what, status) }.do_this(Some(hint))
}

/// What is sent when nothing was given, if that will do.
fn nothing(args: &RequestArgs, tree: Option<&SchemaTree>) -> Result<String, Failure> {
    match tree {
        Some(SchemaTree::Atom(word)) if word == "unit" => return Ok("null".to_owned()),
        Some(SchemaTree::Atom(word)) if word == "raw" => return Ok(String::new()),
        Some(SchemaTree::Struct(fields)) if fields.is_empty() => return Ok("{}".to_owned()),
        Some(SchemaTree::WithRaw(message)) => return nothing(args, Some(message)),
        _ => {}
    }
    let example = tree.and_then(example);
    let hint = match example {
        Some(example) => format!("begin with '{}'", clean(&example)),
        None => "write it as JSON after the method".to_owned(),
    };
    let message = format!("{} needs a request", clean(&args.of.method));
    Err(Failure::usage(&message).do_this(Some(&hint)))
}

fn raw() -> SchemaTree {
    SchemaTree::Atom("raw".to_owned())
}

fn codec_name(id: u8) -> String {
    match id {
        1 => "bincode (1)".to_owned(),
        2 => "postcard (2)".to_owned(),
        3 => "JSON (3)".to_owned(),
        4 => "protobuf (4)".to_owned(),
        id => format!("codec {id}"),
    }
}

#[derive(Serialize)]
struct Document<'a> {
    method: &'a str,
    version: u16,
    response: &'a RawValue,
    metadata: Vec<Pair>,
}

#[derive(Serialize)]
struct Pair {
    name: String,
    value: String,
}

/// Sixteen times what a server takes by default.
const REQUEST_BYTES_MAX: u64 = 64 * 1024 * 1024;
