//! The one integration binary: whole behaviour, each module one part of it.

mod stuck;
