//! Frames, payloads in every codec, fingerprints, in nanoseconds: encode, decode, checks.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};
use switchback::service::{DecodeLimits, Fingerprint, Payload, Raw};
use switchback::wire::{CallId, Decoder, Frame, MethodId, RequestFields};
use switchback::wire::{begin_request, finish_frame, seal_frame};
use switchback::{Codec, Schema};

/// About 50 bytes encoded: an id, a name of 16 bytes, eight tags.
#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
struct Message {
    id: u64,
    name: String,
    tags: Vec<u32>,
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for payload_bytes in [100_usize, 4 * 1024, 64 * 1024] {
        let payload = vec![7; payload_bytes];
        let mut out = Vec::new();
        request(&mut out, &payload);
        group.bench_function(format!("encode request {payload_bytes}"), |b| {
            b.iter(|| {
                out.clear();
                request(&mut out, black_box(&payload));
            });
        });
        group.bench_function(format!("decode request {payload_bytes}"), |b| {
            b.iter(|| {
                let mut decoder = Decoder::new(u32::MAX);
                let frame = decoder.decode(black_box(&out)).expect("sound").expect("whole");
                black_box(Frame::parse(frame.0).expect("sound"));
            });
        });
    }
    group.finish();
}

/// The CRC-32 of a body, both ways.
fn checksum(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for body_bytes in [100_usize, 4 * 1024, 64 * 1024] {
        let body = vec![7; body_bytes];
        group.bench_function(format!("crc32 {body_bytes}"), |b| {
            b.iter(|| crc32fast::hash(black_box(&body)));
        });
    }
    group.finish();
}

fn message() -> Message {
    Message { id: 1 << 40, name: "sixteen bytes...".to_owned(), tags: vec![1, 2, 3, 4, 5, 6, 7, 8] }
}

/// Every codec that this build has, decoding under the default limits.
fn payloads(c: &mut Criterion) {
    for codec in Codec::built_in().iter().filter(|codec| codec.name() != "protobuf") {
        payload_group(c, codec.name(), codec, &message());
    }
    #[cfg(feature = "protobuf")]
    protobuf(c);
    payload_group(c, "raw 50", &Codec::BINCODE, &Raw::from(vec![7; 50]));
}

fn payload_group<T: Payload>(c: &mut Criterion, name: &str, codec: &Codec, message: &T) {
    let (limits, mut out) = (DecodeLimits::default(), Vec::new());
    let mut group = c.benchmark_group(format!("payload/{name}"));
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            black_box(message).encode_payload(codec, &mut out).expect("sound");
        });
    });
    out.clear();
    message.encode_payload(codec, &mut out).expect("sound");
    group.bench_function("decode", |b| {
        b.iter(|| T::decode_payload(codec, black_box(&out), &limits).expect("sound"));
    });
    group.finish();
}

/// The same message as protobuf has it.
#[cfg(feature = "protobuf")]
fn protobuf(c: &mut Criterion) {
    #[derive(Clone, PartialEq, prost::Message)]
    struct ProtoMessage {
        #[prost(uint64, tag = "1")]
        id: u64,
        #[prost(string, tag = "2")]
        name: String,
        #[prost(uint32, repeated, tag = "3")]
        tags: Vec<u32>,
    }

    let Message { id, name, tags } = message();
    let message = switchback::service::Proto(ProtoMessage { id, name, tags });
    payload_group(c, "protobuf", &Codec::PROTOBUF, &message);
}

/// What a generated client does once for each method.
fn fingerprints(c: &mut Criterion) {
    let mut group = c.benchmark_group("fingerprint");
    group.bench_function("of method", |b| {
        b.iter(Fingerprint::of_method::<Message, Vec<Message>, Option<String>>);
    });
    let fingerprint = Fingerprint::of_method::<Message, Vec<Message>, Option<String>>();
    group.bench_function("fold", |b| b.iter(|| black_box(fingerprint).fold()));
    group.finish();
}

fn request(out: &mut Vec<u8>, payload: &[u8]) {
    let fields = RequestFields {
        method: MethodId(0x1234_5678),
        version: 2,
        codec: 1,
        attempt_priority: 0,
        timeout_ms: 10_000,
        fingerprint: 0x9abc_def0,
    };
    let start = begin_request(out, &fields);
    out.extend_from_slice(payload);
    finish_frame(out, start, 0, u32::MAX).expect("small");
    seal_frame(out, CallId(1));
}

criterion_group!(benches, frames, checksum, payloads, fingerprints);
criterion_main!(benches);
