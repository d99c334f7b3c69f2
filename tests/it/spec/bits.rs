//! Damage on the way: whichever bits of a frame flip, it is noticed.

use proptest::prelude::*;
use switchback::wire::{DecodeError, Decoder};

use crate::spec::bytes::{KINDS, Parts, REQUEST};

/// What is found in a damaged frame; a wait for more bytes would stall the connection.
fn damage(bytes: &[u8]) -> DecodeError {
    match Decoder::new(u32::MAX).decode(bytes) {
        Err(error) => error,
        Ok(None) => panic!("waits for more bytes"),
        Ok(Some(_)) => panic!("takes the damaged frame"),
    }
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// Every one of the 512 single and 130,816 double flips in a frame of 64 bytes is found, and by
/// the CRC of the part that it is in: the header's first.
#[test]
fn fr_3_fr_5_find_every_flip_of_one_or_two_bits() {
    let mut frame = Parts::sound(REQUEST).payload(&[0x5a; 28]).build();
    assert_eq!(frame.len(), 64);
    let bits = frame.len() * 8;
    for first in 0..bits {
        flip(&mut frame, first);
        for second in first..bits {
            if second != first {
                flip(&mut frame, second);
            }
            match damage(&frame) {
                DecodeError::HeadCrc { .. } if first < 128 => {}
                DecodeError::BodyCrc { .. } if first >= 128 => {}
                error => panic!("bits {first} and {second}: {error}"),
            }
            if second != first {
                flip(&mut frame, second);
            }
        }
        flip(&mut frame, first);
    }
    assert!(Decoder::new(u32::MAX).decode(&frame).is_ok_and(|found| found.is_some()));
}

proptest! {
    /// One flipped bit is found in a frame of any kind and size.
    #[test]
    fn fr_5_finds_one_flipped_bit_anywhere(
        kind in proptest::sample::select(&KINDS[..]),
        payload in proptest::collection::vec(any::<u8>(), 0..2000),
        at in any::<proptest::sample::Index>(),
    ) {
        let mut frame = Parts::sound(kind).payload(&payload).build();
        let bit = at.index(frame.len() * 8);
        flip(&mut frame, bit);
        let found = damage(&frame).close_reason().name();
        prop_assert_eq!(found, Some(if bit < 128 { "HEAD_CRC" } else { "BODY_CRC" }));
    }

    /// A run of up to 32 damaged bits in the body is found: what the CRC-32 guarantees.
    #[test]
    fn fr_5_finds_bursts(
        payload in proptest::collection::vec(any::<u8>(), 8..500),
        at in any::<proptest::sample::Index>(),
        burst in 1_u32..,
    ) {
        let mut frame = Parts::sound(REQUEST).payload(&payload).build();
        let begin = 128 + at.index((frame.len() - 16 - 4) * 8);
        for bit in (0..32).filter(|bit| burst >> bit & 1 == 1) {
            flip(&mut frame, begin + bit);
        }
        prop_assert_eq!(damage(&frame).close_reason().name(), Some("BODY_CRC"));
    }

    /// No bytes at all make a decoder panic or take more than it was given.
    #[test]
    fn any_bytes_are_decoded_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        kind in any::<u8>(),
        flags in any::<u8>(),
        call in any::<u32>(),
        fixed in 0_usize..20,
        ext_len in 0_u16..40,
    ) {
        let (fixed, rest) = bytes.split_at(fixed.min(bytes.len()));
        let parts = Parts::sound(kind).flags(flags).call(call).fixed(fixed).ext(&[]).payload(rest);
        for frame in [bytes.clone(), parts.ext_len(ext_len).build()] {
            if let Ok(Some((raw, used))) = Decoder::new(u32::MAX).decode(&frame) {
                prop_assert!(used <= frame.len());
                if let Ok(switchback::wire::Frame::Request(request)) =
                    switchback::wire::Frame::parse(raw)
                {
                    let _ = request.check_ext();
                }
            }
        }
    }
}
