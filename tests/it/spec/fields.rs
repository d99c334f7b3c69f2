//! Frames as the vectors describe them: fields to bytes and bytes to fields.

use serde_json::{Map, Value, json};
use switchback::wire::{CallId, Close, CloseReason, Code, Disposition, Frame, Hello, HelloAck};
use switchback::wire::{Data, Flags, append_credit, append_data_head};
use switchback::wire::{
    Goaway, Kind, MethodId, RawFrame, Request, RequestFields, Response, TablePayload,
};
use switchback::wire::{Tlvs, append_control, begin_request, begin_response, finish_frame};
use switchback::wire::{push_tlv, request_keys, response_keys, seal_frame};

use crate::spec::{hash, hex, number, text, unhex};

/// What a frame says, in the form of the vectors.
pub(crate) fn describe(raw: &RawFrame<'_>, frame: &Frame<'_>) -> Value {
    let mut fields = match frame {
        Frame::Hello(hello) => describe_hello(hello),
        Frame::HelloAck(ack) => describe_ack(ack),
        Frame::Table(table) => json!({"kind": "TABLE", "payload_hex": hex(&table.to_bytes())}),
        Frame::TableUpdate(table) => {
            json!({"kind": "TABLE_UPDATE", "payload_hex": hex(&table.to_bytes())})
        }
        Frame::Request(request) => describe_request(request),
        Frame::Response(response) => describe_response(response),
        Frame::Cancel(_) => json!({"kind": "CANCEL"}),
        Frame::Ping(opaque) => json!({"kind": "PING", "opaque_hex": hex(opaque)}),
        Frame::Pong(opaque) => json!({"kind": "PONG", "opaque_hex": hex(opaque)}),
        Frame::Close(Close { reason, last_call, detail }) => json!({
            "kind": "CLOSE", "reason": reason.0, "last_call": last_call.0, "detail": detail,
        }),
        Frame::Goaway(Goaway { last_call, reason, grace_ms }) => json!({
            "kind": "GOAWAY", "last_call": last_call.0, "reason": reason.0, "grace_ms": grace_ms,
        }),
        Frame::Data(Data { has_more, payload, .. }) => {
            with_more(json!({"kind": "DATA", "payload_hex": hex(payload)}), *has_more)
        }
        Frame::Credit(bytes) => json!({"kind": "CREDIT", "bytes": bytes}),
        Frame::Skipped(kind) => {
            json!({"kind": "SKIPPED", "code": kind.0, "body_hex": hex(raw.body)})
        }
    };
    fields["call"] = raw.head.call.0.into();
    fields
}

fn describe_hello(hello: &Hello) -> Value {
    let Hello { frame_bytes_max, codecs, build, tables, window_connection } = hello;
    let mut fields = json!({"kind": "HELLO", "frame_bytes_max": frame_bytes_max, "codecs": codecs});
    if !build.is_empty() {
        fields["build"] = build.as_str().into();
    }
    if !tables.is_empty() {
        fields["tables"] = tables.iter().map(|hash| format!("{hash:016x}")).collect();
    }
    if let Some(bytes) = window_connection {
        fields["window_connection"] = (*bytes).into();
    }
    fields
}

fn describe_ack(ack: &HelloAck) -> Value {
    let mut fields = json!({
        "kind": "HELLO_ACK",
        "frame_bytes_max": ack.frame_bytes_max,
        "calls_max": ack.calls_max,
        "codecs": ack.codecs,
        "tables": [format!("{:016x}", ack.table)],
        "transcript": format!("{:016x}", ack.transcript),
    });
    if !ack.build.is_empty() {
        fields["build"] = ack.build.as_str().into();
    }
    if ack.has_fallback {
        fields["fallback"] = true.into();
    }
    if let Some(bytes) = ack.window_connection {
        fields["window_connection"] = bytes.into();
    }
    fields
}

/// A flag that is not set is not named.
fn with_more(mut fields: Value, has_more: bool) -> Value {
    if has_more {
        fields["more"] = true.into();
    }
    fields
}

fn describe_request(request: &Request<'_>) -> Value {
    let fields = json!({
        "kind": "REQUEST",
        "method": request.method.0,
        "version": request.version,
        "codec": request.codec,
        "attempt": request.attempt_priority >> 4,
        "priority": request.attempt_priority & 3,
        "timeout_ms": request.timeout_ms,
        "fingerprint": request.fingerprint,
        "metadata": metadata(request.ext, request_keys::METADATA),
        "payload_hex": hex(request.payload),
    });
    with_more(fields, request.flags.has_more())
}

fn describe_response(response: &Response<'_>) -> Value {
    let mut fields = json!({
        "kind": "RESPONSE",
        "status": response.status.as_u16(),
        "disposition": response.disposition.as_u8(),
        "codec": response.codec,
        "metadata": metadata(response.ext, response_keys::METADATA),
        "payload_hex": hex(response.payload),
    });
    for tlv in Tlvs::new(response.ext) {
        let number = || tlv.value.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        match tlv.key {
            response_keys::MESSAGE => {
                let message = std::str::from_utf8(tlv.value).expect("checked by the decoder");
                fields["message"] = message.into();
            }
            response_keys::RETRY_AFTER_MS => fields["retry_after_ms"] = number().into(),
            response_keys::VERSIONS => {
                let (versions, _) = tlv.value.as_chunks::<2>();
                let versions = versions.iter().map(|version| u16::from_be_bytes(*version));
                fields["versions"] = versions.collect();
            }
            response_keys::CODECS => fields["codecs"] = json!(tlv.value),
            response_keys::FINGERPRINT => fields["fingerprint"] = number().into(),
            response_keys::LIMIT => fields["limit"] = number().into(),
            response_keys::VALUE => fields["value"] = number().into(),
            _ => {}
        }
    }
    fields
}

fn metadata(ext: &[u8], key: u16) -> Value {
    let entries = Tlvs::new(ext).filter(|tlv| tlv.key == key).map(|tlv| {
        let (name, value) = tlv.value[1..].split_at(usize::from(tlv.value[0]));
        let name = std::str::from_utf8(name).expect("checked by the decoder");
        json!({"name": name, "value_hex": hex(value)})
    });
    entries.collect()
}

/// The bytes that a sender writes for what a vector describes.
pub(crate) fn encode(fields: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let call = CallId(number(&fields["call"]));
    let payload = fields.get("payload_hex").map(unhex).unwrap_or_default();
    let opaque = || unhex(&fields["opaque_hex"]);
    match text(fields, "kind") {
        "HELLO" => append_control(&mut out, Kind::HELLO, call, &hello(fields).to_ext(), &[]),
        "HELLO_ACK" => append_control(&mut out, Kind::HELLO_ACK, call, &ack(fields).to_ext(), &[]),
        "TABLE" => append_control(&mut out, Kind::TABLE, call, &[], &again(&payload)),
        "TABLE_UPDATE" => append_control(&mut out, Kind::TABLE_UPDATE, call, &[], &again(&payload)),
        "REQUEST" => encode_request(fields, call, &payload, &mut out),
        "RESPONSE" => encode_response(fields, call, &payload, &mut out),
        "CANCEL" => append_control(&mut out, Kind::CANCEL, call, &[], &[]),
        "DATA" => {
            let flags = if has_more(fields) { Flags::MORE } else { Flags::NONE };
            append_data_head(&mut out, call, payload.len().try_into().expect("a piece"), flags);
            out.extend_from_slice(&payload);
            out.extend_from_slice(&crc32fast::hash(&payload).to_be_bytes());
        }
        "CREDIT" => append_credit(&mut out, number(&fields["bytes"])),
        "PING" => append_control(&mut out, Kind::PING, call, &[], &opaque()),
        "PONG" => append_control(&mut out, Kind::PONG, call, &[], &opaque()),
        "GOAWAY" => {
            let last_call = CallId(number(&fields["last_call"]));
            let reason = CloseReason(number(&fields["reason"]));
            let grace_ms = number(&fields["grace_ms"]);
            Goaway { last_call, reason, grace_ms }.append(&mut out);
        }
        "CLOSE" => {
            let reason = CloseReason(number(&fields["reason"]));
            let last_call = CallId(number(&fields["last_call"]));
            Close { reason, last_call, detail: text(fields, "detail") }.append(&mut out);
        }
        kind => panic!("{kind} is not sent in version 1"),
    }
    out
}

fn again(payload: &[u8]) -> Vec<u8> {
    TablePayload::parse(payload).expect("a table of a valid vector").to_bytes()
}

fn hello(fields: &Value) -> Hello {
    Hello {
        frame_bytes_max: number(&fields["frame_bytes_max"]),
        codecs: numbers(&fields["codecs"]),
        build: fields.get("build").and_then(Value::as_str).unwrap_or_default().to_owned(),
        tables: tables(fields),
        window_connection: fields.get("window_connection").map(number),
    }
}

fn ack(fields: &Value) -> HelloAck {
    HelloAck {
        frame_bytes_max: number(&fields["frame_bytes_max"]),
        calls_max: number(&fields["calls_max"]),
        codecs: numbers(&fields["codecs"]),
        build: fields.get("build").and_then(Value::as_str).unwrap_or_default().to_owned(),
        table: tables(fields)[0],
        transcript: hash(&fields["transcript"]),
        has_fallback: fields.get("fallback").is_some(),
        window_connection: fields.get("window_connection").map(number),
    }
}

fn tables(fields: &Value) -> Vec<u64> {
    fields["tables"].as_array().map_or_else(Vec::new, |list| list.iter().map(hash).collect())
}

fn has_more(fields: &Value) -> bool {
    fields.get("more").is_some()
}

fn numbers<T: TryFrom<u64, Error: std::fmt::Debug>>(list: &Value) -> Vec<T> {
    list.as_array().expect("a list of numbers").iter().map(number).collect()
}

fn encode_request(fields: &Value, call: CallId, payload: &[u8], out: &mut Vec<u8>) {
    let (attempt, priority): (u8, u8) = (number(&fields["attempt"]), number(&fields["priority"]));
    let request = RequestFields {
        method: MethodId(number(&fields["method"])),
        version: number(&fields["version"]),
        codec: number(&fields["codec"]),
        attempt_priority: attempt << 4 | priority,
        timeout_ms: number(&fields["timeout_ms"]),
        fingerprint: number(&fields["fingerprint"]),
    };
    let start = begin_request(out, &request);
    if has_more(fields) {
        start.set_more(out);
    }
    let ext_at = out.len();
    push_metadata(fields, request_keys::METADATA, out);
    let ext_len = out.len() - ext_at;
    out.extend_from_slice(payload);
    finish_frame(out, start, ext_len, u32::MAX).expect("a frame of a valid vector");
    seal_frame(&mut out[start.index()..], call);
}

fn encode_response(fields: &Value, call: CallId, payload: &[u8], out: &mut Vec<u8>) {
    let status = Code::from_u16(number(&fields["status"]));
    let disposition = Disposition::from_u8(number(&fields["disposition"])).expect("0, 1 or 2");
    let start = begin_response(out, status, disposition, number(&fields["codec"]));
    let ext_at = out.len();
    let empty = Map::new();
    let known = fields.as_object().unwrap_or(&empty);
    if let Some(message) = known.get("message").and_then(Value::as_str) {
        push_tlv(out, response_keys::MESSAGE, message.as_bytes());
    }
    if let Some(ms) = known.get("retry_after_ms") {
        push_tlv(out, response_keys::RETRY_AFTER_MS, &number::<u32>(ms).to_be_bytes());
    }
    if let Some(versions) = known.get("versions") {
        let versions = numbers::<u16>(versions).into_iter().flat_map(u16::to_be_bytes);
        push_tlv(out, response_keys::VERSIONS, &versions.collect::<Vec<u8>>());
    }
    if let Some(codecs) = known.get("codecs") {
        push_tlv(out, response_keys::CODECS, &numbers::<u8>(codecs));
    }
    if let Some(fingerprint) = known.get("fingerprint") {
        push_tlv(out, response_keys::FINGERPRINT, &number::<u32>(fingerprint).to_be_bytes());
    }
    for (name, key) in [("limit", response_keys::LIMIT), ("value", response_keys::VALUE)] {
        if let Some(bytes) = known.get(name) {
            push_tlv(out, key, &number::<u64>(bytes).to_be_bytes());
        }
    }
    push_metadata(fields, response_keys::METADATA, out);
    let ext_len = out.len() - ext_at;
    out.extend_from_slice(payload);
    finish_frame(out, start, ext_len, u32::MAX).expect("a frame of a valid vector");
    seal_frame(&mut out[start.index()..], call);
}

fn push_metadata(fields: &Value, key: u16, out: &mut Vec<u8>) {
    for entry in fields["metadata"].as_array().expect("a list of entries") {
        let name = text(entry, "name").as_bytes();
        let mut value = vec![u8::try_from(name.len()).expect("names are short")];
        value.extend_from_slice(name);
        value.extend(unhex(&entry["value_hex"]));
        push_tlv(out, key, &value);
    }
}
