//! RESPONSE: status, disposition, and what they carry; and the ends of calls with a connection.

use proptest::prelude::*;
use switchback::wire::{CallId, Close, CloseReason, Code, Decoder, Disposition, EXT_BYTES_MAX};
use switchback::wire::{Frame, FrameTooLarge, MethodId, RequestFields, begin_request};
use switchback::wire::{begin_response, finish_frame, push_tlv, seal_frame};

use crate::spec::bytes::{Parts, RESPONSE, tlv};
use crate::spec::frames::{Seen, read};

fn seen(fixed: [u8; 4], ext: &[u8], payload: &[u8]) -> Seen {
    read(&Parts::sound(RESPONSE).fixed(&fixed).ext(ext).payload(payload).build(), 65_536, [])
}

/// Every number below 0x8000 is kept as it is, named or not.
#[test]
fn st_1_numbers_that_are_not_known_are_kept() {
    for number in [2, 15, 16, 31, 45, 1000, 0x7fff_u16] {
        let [high, low] = number.to_be_bytes();
        let Seen::Frame(fields, _) = seen([high, low, 2, 0], &[], &[]) else {
            panic!("status {number} is not taken");
        };
        assert_eq!(fields["status"], number);
        let code = Code::from_u16(number);
        assert_eq!(code.as_u16(), number);
        let expected = code.name().map_or_else(|| format!("status {number}"), str::to_owned);
        assert_eq!(code.to_string(), expected);
    }
    assert_eq!(Code::from_u16(16).name(), None);
    assert_eq!((Code::DATA_LOSS.as_u16(), Code::BAD_METADATA.as_u16()), (43, 15));
}

/// Numbers from 0x8000 up never travel.
#[test]
fn st_2_refuses_local_statuses() {
    for number in [0x8000_u16, 0x8001, 0x8002, 0x8003, 0x8004, 0xffff] {
        let [high, low] = number.to_be_bytes();
        assert_eq!(seen([high, low, 1, 0], &[], &[]), Seen::Closed("MALFORMED"));
        assert!(Code::from_u16(number).is_local());
    }
}

/// There are three dispositions; any other value closes.
#[test]
fn st_3_refuses_unknown_dispositions() {
    for value in 0..=u8::MAX {
        let known = matches!(seen([0, 0, value, 1], &[], &[]), Seen::Frame(..));
        assert_eq!(known, value <= 2);
        assert_eq!(Disposition::from_u8(value).map(Disposition::as_u8), known.then_some(value));
    }
}

/// Each response key is taken with any status.
#[test]
fn st_4_takes_every_key_with_any_status() {
    let texts = [tlv(1, b"why"), tlv(2, &[0, 0, 0, 9]), tlv(3, &[0, 1, 0, 2]), tlv(4, &[1, 2])];
    let numbers = [tlv(5, &[1; 4]), tlv(6, &[2; 8]), tlv(7, &[3; 8]), tlv(16, b"\x01kv")];
    let ext = [texts.concat(), numbers.concat()].concat();
    for status in (0..=44_u16).chain([0x7fff]) {
        let [high, low] = status.to_be_bytes();
        let Seen::Frame(fields, _) = seen([high, low, 0, 0], &ext, &[]) else {
            panic!("status {status} with every key");
        };
        assert_eq!(fields["versions"], serde_json::json!([1, 2]));
        assert_eq!(fields["value"], 0x0303_0303_0303_0303_u64);
    }
}

/// Only OK and APP carry a payload; with any other status the codec is sent as 0, not judged.
#[test]
fn ca_6_only_ok_and_app_carry_a_payload() {
    for status in 0..=64_u16 {
        let [high, low] = status.to_be_bytes();
        let with_payload = seen([high, low, 2, 1], &[], b"x");
        let code = Code::from_u16(status);
        let mut out = Vec::new();
        let start = begin_response(&mut out, code, Disposition::Processed, 9);
        finish_frame(&mut out, start, 0, 65_536).expect("small");
        if status <= 1 {
            assert!(matches!(with_payload, Seen::Frame(..)));
            assert_eq!(out[19], 9);
        } else {
            assert_eq!(with_payload, Seen::Closed("MALFORMED"));
            assert_eq!(out[19], 0);
            assert!(matches!(seen([high, low, 2, 9], &[], &[]), Seen::Frame(..)));
        }
    }
}

/// A frame over the receiver's limit, or with more than 8,192 bytes of TLVs, is not made, and
/// leaves nothing behind.
#[test]
fn ca_14_a_frame_that_does_not_fit_is_not_made() {
    let attempt = |ext: usize, payload: usize, max: u32| {
        let mut out = b"before".to_vec();
        let start = begin_response(&mut out, Code::OK, Disposition::Processed, 1);
        if ext > 0 {
            push_tlv(&mut out, 16, &vec![1; ext - 4]);
        }
        out.resize(out.len() + payload, 7);
        let result = finish_frame(&mut out, start, ext, max);
        (result, out.len())
    };
    // body_len is 4 of fixed fields, the payload, and 4 of CRC.
    assert_eq!(attempt(0, 65_528, 65_536), (Ok(()), 6 + 16 + 65_536));
    let too_large = FrameTooLarge { bytes: 65_537, max: 65_536 };
    assert_eq!(attempt(0, 65_529, 65_536), (Err(too_large), 6));
    assert_eq!(attempt(EXT_BYTES_MAX, 0, 65_536).0, Ok(()));
    let too_large = FrameTooLarge { bytes: 8193, max: 8192 };
    assert_eq!(attempt(8193, 0, 65_536), (Err(too_large), 6));
    let too_large = FrameTooLarge { bytes: 65_539, max: 8192 };
    assert_eq!(attempt(65_539, 0, u32::MAX), (Err(too_large), 6));
}

proptest! {
    /// Whatever a REQUEST says is read back as it was.
    #[test]
    fn requests_come_back_as_they_were(
        call in any::<u32>(),
        (method, version, codec, attempt_priority) in any::<(u32, u16, u8, u8)>(),
        (timeout_ms, fingerprint) in any::<(u32, u32)>(),
        entries in proptest::collection::vec(("[a-z0-9_.-]{1,64}", any::<[u8; 5]>()), 0..20),
        payload in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let method = MethodId(method);
        let fields = RequestFields {
            method, version, codec, attempt_priority, timeout_ms, fingerprint,
        };
        let mut out = Vec::new();
        let start = begin_request(&mut out, &fields);
        let ext_at = out.len();
        for (name, value) in &entries {
            let len = u8::try_from(name.len()).expect("at most 64");
            push_tlv(&mut out, 16, &[&[len], name.as_bytes(), value].concat());
        }
        let ext = out[ext_at..].to_vec();
        out.extend(&payload);
        finish_frame(&mut out, start, ext.len(), 65_536).expect("it fits");
        seal_frame(&mut out, CallId(call));

        let (raw, used) = Decoder::new(65_536).decode(&out).expect("sound").expect("whole");
        prop_assert_eq!(used, out.len());
        let Ok(Frame::Request(request)) = Frame::parse(raw) else { panic!("a REQUEST") };
        prop_assert_eq!(request.check_ext(), Ok(()));
        prop_assert_eq!((request.call, request.flags.0), (CallId(call), 0));
        prop_assert_eq!((request.method, request.version, request.codec), (method, version, codec));
        prop_assert_eq!(request.attempt_priority, attempt_priority);
        prop_assert_eq!((request.timeout_ms, request.fingerprint), (timeout_ms, fingerprint));
        prop_assert_eq!((request.ext, request.payload), (&ext[..], &payload[..]));
    }

    /// Whatever a CLOSE says is read back; a detail that is too long is cut between characters.
    #[test]
    fn ld_2_closes_come_back_as_they_were(
        (reason, last_call) in any::<(u16, u32)>(),
        detail in "\\PC{0,300}",
    ) {
        let (reason, last_call) = (CloseReason(reason), CallId(last_call));
        let close = Close { reason, last_call, detail: &detail };
        let mut out = Vec::new();
        close.append(&mut out);
        let (raw, _) = Decoder::new(65_536).decode(&out).expect("sound").expect("whole");
        let Ok(Frame::Close(read)) = Frame::parse(raw) else { panic!("a CLOSE") };
        prop_assert_eq!((read.reason, read.last_call), (close.reason, close.last_call));
        prop_assert!(detail.starts_with(read.detail));
        prop_assert!(read.detail.len() == detail.len() || read.detail.len() > 252);
    }
}
