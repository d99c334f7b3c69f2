//! Bytes to values and back: the frames of the protocol, without state, clock or socket.
//!
//! ```text
//!  0  body_len:4    bytes after the header, body CRC included
//!  4  kind:1        bit 7: may be skipped when unknown
//!  5  flags:1       low 4 may be ignored, high 4 must be understood
//!  6  ext_len:2     bytes of TLVs at the start of the body, after the fixed fields
//!  8  call:4        client odd, server even, 0 = the connection
//! 12  head_crc:4    CRC-32 of bytes 0..12, checked first, always
//! 16  body          fixed fields | TLVs | payload | body_crc:4
//! ```
//!
//! Invariants: no length is believed before the header check matched; nothing is allocated by a
//! declared length; what is decoded borrows the input. All integers are big-endian.
//! Why two checks: a flipped length would otherwise stall the connection and lose its place.
//! The authority is `spec/01-framing.md`.

mod close;
mod cursor;
mod decoder;
mod encode;
mod error;
mod frame;
mod head;
mod hello;
mod preface;
mod skip;
mod status;
mod table;
mod tlv;

pub use close::{Close, CloseReason, Goaway};
pub use decoder::{Decoder, RawFrame};
pub(crate) use encode::push_message;
pub use encode::{
    FrameStart, RequestFields, begin_frame, begin_request, begin_response, finish_frame,
};
pub use encode::{FrameTooLarge, append_control, append_credit, append_data_head, seal_frame};
pub use error::DecodeError;
pub use frame::{Data, Frame, Request, Response};
pub use head::{CallId, Flags, Head, Kind};
pub use hello::{Hello, HelloAck};
pub use preface::{Preface, PrefaceError, VersionRange};
pub use skip::Skip;
pub use status::{Code, Disposition};
pub(crate) use table::table_hash;
pub use table::{MethodId, MethodRow, TableError, TablePayload, VersionRow};
pub(crate) use tlv::is_codec_list;
pub use tlv::{Tlv, TlvError, TlvRule, Tlvs, check_tlvs, push_tlv};
pub use tlv::{request_keys, response_keys};

/// Bytes of every frame's header.
pub const HEAD_BYTES: usize = 16;
/// Bytes of the body's CRC at the end of every frame.
pub const BODY_CRC_BYTES: usize = 4;
/// Bytes of TLVs in one frame, at most (FR-2).
pub const EXT_BYTES_MAX: usize = 8192;
/// `body_len` that every receiver accepts after the handshake, and that a sender keeps to until
/// it knows better (FR-4).
pub const FRAME_BYTES_FLOOR: u32 = 65_536;
/// `body_len` accepted before the peer's HELLO or HELLO_ACK was read (FR-4).
pub const FRAME_BYTES_HANDSHAKE: u32 = 16_384;
/// `body_len` accepted by default.
pub const FRAME_BYTES_DEFAULT: u32 = 4 * 1024 * 1024;
/// Fixed fields of a REQUEST.
pub const REQUEST_FIXED_BYTES: usize = 16;
/// Fixed fields of a RESPONSE.
pub const RESPONSE_FIXED_BYTES: usize = 4;
/// Bytes of one fragment, at most (FL-4).
pub const FRAGMENT_BYTES_MAX: usize = 65_536;
/// A window for fragments is at least this (HS-5).
pub const WINDOW_BYTES_FLOOR: u32 = 65_536;
/// The window for fragments by default.
pub const WINDOW_BYTES_DEFAULT: u32 = 4 * 1024 * 1024;
/// So much of a window is granted again at the latest, if not half of it is less (FL-11): with 10 s
/// for it (LD-12) a link must carry 26 kB a second.
pub const GRANT_BYTES: u32 = 256 * 1024;
/// Codecs in one list, at most (HS-5, ST-4).
pub(crate) const CODECS_MAX: usize = 32;
/// Metadata entries of one request or response, at most (CA-10).
pub const METADATA_ENTRIES_MAX: usize = 64;
/// Bytes of the text of a RESPONSE's message, at most (ST-4).
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// REQUESTs that may be sent before HELLO_ACK was read (HS-8).
pub const EARLY_CALLS_MAX: u32 = 64;
/// A server takes no timeout as longer than this many milliseconds (CA-8).
pub const TIMEOUT_MS_MAX: u32 = 3_600_000;
