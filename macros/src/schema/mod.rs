//! `#[derive(Schema)]`: calls on a `SchemaWriter` that follow what serde's derive would write.
//!
//! Invariants: names are serde's, raw identifiers without `r#`; positions are those of the source,
//! less what is skipped both ways; generated code names only `::switchback::__private`.
//! Why not serde_derive_internals: the few attributes that change a name or an order are read in
//! less code than it takes to follow that crate's versions.

mod attributes;
mod bounds;
mod case;
mod expand;

pub(crate) use expand::expand;
