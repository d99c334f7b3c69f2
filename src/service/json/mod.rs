//! Codec 3: JSON, for people and for other languages (PL-11 to PL-14).

mod format;
mod path;
mod strict;

pub(crate) use format::{decode, encode};
