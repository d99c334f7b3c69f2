//! The wire as bytes, written from `spec/` alone: what an attacker who never saw the library has.
//!
//! Nothing here checks anything: wrong lengths, kinds, flags and ids are what it is for. Sums are
//! right unless the caller breaks them.

/// Protocol version 1, lowest and highest.
pub(crate) const PREFACE: [u8; 8] = *b"SWBK\0\x01\0\x01";
pub(crate) const HEAD_BYTES: usize = 16;

pub(crate) const HELLO: u8 = 0x01;
pub(crate) const HELLO_ACK: u8 = 0x02;
pub(crate) const TABLE: u8 = 0x03;
pub(crate) const REQUEST: u8 = 0x10;
pub(crate) const RESPONSE: u8 = 0x11;
pub(crate) const CANCEL: u8 = 0x12;
pub(crate) const PING: u8 = 0x20;
pub(crate) const PONG: u8 = 0x21;
pub(crate) const CLOSE: u8 = 0x23;
/// A kind that nobody knows and everybody skips.
pub(crate) const SKIPPED: u8 = 0x9f;

/// What stands in a frame; `..Shape::of(kind)` for the rest.
#[derive(Clone, Copy)]
pub(crate) struct Shape<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) call: u32,
    pub(crate) fixed: &'a [u8],
    pub(crate) ext: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl Shape<'_> {
    pub(crate) const fn of(kind: u8) -> Self {
        Self { kind, flags: 0, call: 0, fixed: &[], ext: &[], payload: &[] }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let body = [self.fixed, self.ext, self.payload].concat();
        let (body_len, ext_len) = (body.len() + 4, self.ext.len());
        let body_len = u32::try_from(body_len).unwrap();
        let ext_len = u16::try_from(ext_len).unwrap();
        let mut out = head(body_len, self.kind, self.flags, ext_len, self.call).to_vec();
        out.extend_from_slice(&body);
        out.extend_from_slice(&crc(&body).to_be_bytes());
        out
    }
}

/// A header whose own sum is right.
pub(crate) fn head(body_len: u32, kind: u8, flags: u8, ext_len: u16, call: u32) -> [u8; 16] {
    let mut out = [0; HEAD_BYTES];
    out[..4].copy_from_slice(&body_len.to_be_bytes());
    out[4..6].copy_from_slice(&[kind, flags]);
    out[6..8].copy_from_slice(&ext_len.to_be_bytes());
    out[8..12].copy_from_slice(&call.to_be_bytes());
    let sum = crc(&out[..12]);
    out[12..].copy_from_slice(&sum.to_be_bytes());
    out
}

pub(crate) fn tlv(key: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).unwrap();
    [&key.to_be_bytes()[..], &len.to_be_bytes(), value].concat()
}

/// HELLO of a client without peculiarities, with this build.
pub(crate) fn hello_of(build: &[u8]) -> Vec<u8> {
    let ext = [tlv(1, &0x0040_0000_u32.to_be_bytes()), tlv(3, &[1]), tlv(4, build)].concat();
    Shape { ext: &ext, ..Shape::of(HELLO) }.to_bytes()
}

/// A client's first bytes.
pub(crate) fn greeting() -> Vec<u8> {
    [&PREFACE[..], &hello_of(b"attack")].concat()
}

/// A server's first bytes, to a client whose first bytes were `client`: HELLO_ACK, and TABLE unless
/// the client holds it (RT-4).
pub(crate) fn welcome(client: &[u8], methods: &[&str]) -> Vec<u8> {
    let mut rows: Vec<u32> = methods.iter().map(|name| crc(name.as_bytes())).collect();
    rows.sort_unstable();
    let mut table = u16::try_from(rows.len()).unwrap().to_be_bytes().to_vec();
    for method in rows {
        table.extend_from_slice(&method.to_be_bytes());
        table.extend_from_slice(&[0xff, 0xff, 1, 0, 1]);
        table.extend_from_slice(&[0; 8]);
    }
    let hash = fnv(&table).to_be_bytes();
    let ext = [
        tlv(1, &0x0040_0000_u32.to_be_bytes()),
        tlv(2, &1024_u32.to_be_bytes()),
        tlv(3, &[1]),
        tlv(5, &hash),
        tlv(6, &fnv(client).to_be_bytes()),
    ]
    .concat();
    let ack = Shape { ext: &ext, ..Shape::of(HELLO_ACK) }.to_bytes();
    let payload = [&hash[..], &table].concat();
    let table = Shape { payload: &payload, ..Shape::of(TABLE) }.to_bytes();
    let is_known = client.windows(hash.len()).any(|bytes| bytes == hash);
    [&PREFACE[..], &ack, if is_known { &[] } else { &table }].concat()
}

/// The fixed fields of a REQUEST in version 1, in bincode, with a minute of time.
pub(crate) fn request_fields(method: &str) -> Vec<u8> {
    let mut fixed = crc(method.as_bytes()).to_be_bytes().to_vec();
    fixed.extend_from_slice(&[0, 1, 1, 0]);
    fixed.extend_from_slice(&60_000_u32.to_be_bytes());
    fixed.extend_from_slice(&[0; 4]);
    fixed
}

pub(crate) fn request(call: u32, method: &str, payload: &[u8]) -> Vec<u8> {
    request_with(call, method, &[], payload)
}

/// A REQUEST with these TLVs.
pub(crate) fn request_with(call: u32, method: &str, ext: &[u8], payload: &[u8]) -> Vec<u8> {
    let fixed = request_fields(method);
    Shape { call, fixed: &fixed, ext, payload, ..Shape::of(REQUEST) }.to_bytes()
}

/// A RESPONSE: OK, PROCESSED, in bincode.
pub(crate) fn response(call: u32, ext: &[u8], payload: &[u8]) -> Vec<u8> {
    let fixed = [0, 0, 2, 1];
    Shape { call, fixed: &fixed, ext, payload, ..Shape::of(RESPONSE) }.to_bytes()
}

pub(crate) fn cancel(call: u32) -> Vec<u8> {
    Shape { call, ..Shape::of(CANCEL) }.to_bytes()
}

pub(crate) fn ping(n: u64) -> Vec<u8> {
    Shape { payload: &n.to_be_bytes(), ..Shape::of(PING) }.to_bytes()
}

/// A CLOSE with reason NORMAL.
pub(crate) fn close(detail: &[u8]) -> Vec<u8> {
    Shape { fixed: &[0; 6], payload: detail, ..Shape::of(CLOSE) }.to_bytes()
}

/// A metadata entry (CA-10).
pub(crate) fn metadata(name: &[u8], value: &[u8]) -> Vec<u8> {
    let len = u8::try_from(name.len()).unwrap();
    tlv(16, &[&[len][..], name, value].concat())
}

/// A number in bincode's variable encoding.
pub(crate) fn number(n: u64) -> Vec<u8> {
    match (u8::try_from(n), u16::try_from(n), u32::try_from(n)) {
        (Ok(n @ ..=250), ..) => vec![n],
        (_, Ok(n), _) => [&[251][..], &n.to_le_bytes()].concat(),
        (.., Ok(n)) => [&[252][..], &n.to_le_bytes()].concat(),
        _ => [&[253][..], &n.to_le_bytes()].concat(),
    }
}

/// A text of this many bytes.
pub(crate) fn text(len: usize) -> Vec<u8> {
    let mut out = number(len as u64);
    out.resize(out.len() + len, b'x');
    out
}

/// CRC-32 of 1.5, by the table of one byte.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0_u8;
        loop {
            let (mut sum, mut bit) = (u32::from_be_bytes([0, 0, 0, byte]), 0);
            while bit < 8 {
                sum = (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 };
                bit += 1;
            }
            table[byte as usize] = sum;
            if byte == u8::MAX {
                break table;
            }
            byte += 1;
        }
    };
    let add = |sum: u32, byte: &u8| (sum >> 8) ^ TABLE[usize::from(sum.to_le_bytes()[0] ^ byte)];
    !bytes.iter().fold(!0, add)
}

/// FNV-1a 64 of 1.5.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, add)
}

/// The check values of the specification: an attacker with wrong sums attacks nothing.
#[test]
fn the_sums_are_those_of_the_specification() {
    assert_eq!((crc(b"123456789"), crc(b"")), (0xcbf4_3926, 0));
    assert_eq!((fnv(b""), fnv(b"foobar")), (0xcbf2_9ce4_8422_2325, 0x8594_4171_f739_67e8));
}
