//! Frames and payloads, in nanoseconds: encode, decode, checks.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};
use switchback::Codec;
use switchback::service::DecodeLimits;
use switchback::wire::{CallId, Decoder, Frame, MethodId, RequestFields};
use switchback::wire::{begin_request, finish_frame, seal_frame};

/// About 50 bytes encoded: an id, a name of 16 bytes, eight tags.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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

fn payloads(c: &mut Criterion) {
    let message = Message {
        id: 1 << 40,
        name: "sixteen bytes...".to_owned(),
        tags: vec![1, 2, 3, 4, 5, 6, 7, 8],
    };
    let (limits, mut out) = (DecodeLimits::default(), Vec::new());
    let mut group = c.benchmark_group("payload/bincode");
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            Codec::BINCODE.encode(black_box(&message), &mut out).expect("sound");
        });
    });
    out.clear();
    Codec::BINCODE.encode(&message, &mut out).expect("sound");
    group.bench_function("decode", |b| {
        b.iter(|| Codec::BINCODE.decode::<Message>(black_box(&out), &limits).expect("sound"));
    });
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

criterion_group!(benches, frames, payloads);
criterion_main!(benches);
