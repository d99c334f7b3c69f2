//! Frames made by hand, right or wrong, and the two algorithms written down once more.
//!
//! Nothing here uses the encoder under test: a mistake on both sides must not cancel out.

/// A frame in parts, each of which a test may spoil.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) call: u32,
    pub(crate) fixed: Vec<u8>,
    pub(crate) ext: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// In place of the right ones.
    pub(crate) body_len: Option<u32>,
    pub(crate) ext_len: Option<u16>,
}

impl Parts {
    /// A sound frame of the least content, for any kind.
    pub(crate) fn sound(kind: u8) -> Self {
        let fixed = match kind {
            REQUEST => vec![0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 39, 16, 0, 0, 0, 0],
            RESPONSE => vec![0, 0, 2, 1],
            CREDIT => vec![0, 0, 0, 1],
            CLOSE => vec![0; 6],
            GOAWAY => vec![0; 10],
            _ => Vec::new(),
        };
        let ext = match kind {
            HELLO => [tlv(1, &[0, 1, 0, 0]), tlv(3, &[1])].concat(),
            HELLO_ACK => {
                let numbers = [tlv(1, &[0, 1, 0, 0]), tlv(2, &[0, 0, 0, 1]), tlv(3, &[1])];
                [numbers.concat(), tlv(5, &[0; 8]), tlv(6, &[0; 8])].concat()
            }
            _ => Vec::new(),
        };
        let payload = match kind {
            PING | PONG => vec![7; 8],
            TABLE | TABLE_UPDATE => [&fnv64(&[0, 0]).to_be_bytes()[..], &[0, 0]].concat(),
            _ => Vec::new(),
        };
        let call = u32::from(matches!(kind, REQUEST | RESPONSE | CANCEL | DATA));
        // A DATA asks for nothing otherwise, and a client takes no other.
        let flags = if kind == DATA { MORE } else { 0 };
        Self { kind, flags, call, fixed, ext, payload, body_len: None, ext_len: None }
    }

    pub(crate) fn call(mut self, call: u32) -> Self {
        self.call = call;
        self
    }

    pub(crate) fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    pub(crate) fn fixed(mut self, fixed: &[u8]) -> Self {
        self.fixed = fixed.to_vec();
        self
    }

    pub(crate) fn ext(mut self, ext: &[u8]) -> Self {
        self.ext = ext.to_vec();
        self
    }

    pub(crate) fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    pub(crate) fn body_len(mut self, body_len: u32) -> Self {
        self.body_len = Some(body_len);
        self
    }

    pub(crate) fn ext_len(mut self, ext_len: u16) -> Self {
        self.ext_len = Some(ext_len);
        self
    }

    /// The whole frame, with both CRCs right.
    pub(crate) fn build(&self) -> Vec<u8> {
        let body = [&self.fixed[..], &self.ext, &self.payload].concat();
        let body_len = u32::try_from(body.len() + 4).expect("test frames are small");
        let ext_len = u16::try_from(self.ext.len()).expect("test TLVs are small");
        let mut out = self.body_len.unwrap_or(body_len).to_be_bytes().to_vec();
        out.extend([self.kind, self.flags]);
        out.extend(self.ext_len.unwrap_or(ext_len).to_be_bytes());
        out.extend(self.call.to_be_bytes());
        out.extend(crc32(&out).to_be_bytes());
        out.extend(&body);
        out.extend(crc32(&body).to_be_bytes());
        out
    }
}

/// `key:2 len:2 value`.
pub(crate) fn tlv(key: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).expect("test values are small");
    [&key.to_be_bytes()[..], &len.to_be_bytes(), value].concat()
}

/// As spec/01-framing.md, 1.5 has it.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// As spec/01-framing.md, 1.5 has it.
pub(crate) fn fnv64(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

pub(crate) const HELLO: u8 = 0x01;
pub(crate) const HELLO_ACK: u8 = 0x02;
pub(crate) const TABLE: u8 = 0x03;
pub(crate) const TABLE_UPDATE: u8 = 0x04;
pub(crate) const REQUEST: u8 = 0x10;
pub(crate) const RESPONSE: u8 = 0x11;
pub(crate) const CANCEL: u8 = 0x12;
pub(crate) const DATA: u8 = 0x13;
pub(crate) const CREDIT: u8 = 0x14;
pub(crate) const PING: u8 = 0x20;
pub(crate) const PONG: u8 = 0x21;
pub(crate) const GOAWAY: u8 = 0x22;
pub(crate) const CLOSE: u8 = 0x23;
/// Every kind of version 1.
pub(crate) const KINDS: [u8; 13] = [
    HELLO,
    HELLO_ACK,
    TABLE,
    TABLE_UPDATE,
    REQUEST,
    RESPONSE,
    CANCEL,
    DATA,
    CREDIT,
    PING,
    PONG,
    GOAWAY,
    CLOSE,
];
/// The flag of a REQUEST and of DATA.
pub(crate) const MORE: u8 = 0x80;

/// The check values of the specification hold for what the tests compute themselves.
#[test]
fn the_algorithms_have_their_check_values() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    assert_eq!(crc32(b""), 0);
    assert_eq!(fnv64(b"foobar"), 0x8594_4171_f739_67e8);
    assert_eq!(switchback::util::fnv64(b"foobar"), 0x8594_4171_f739_67e8);
}
