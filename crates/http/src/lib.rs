//! The two HTTP surfaces over one core.
//!
//! This crate owns everything between a socket and a use-case: the order in which a request is decided, parsing,
//! rendering, the endpoint table and what derives from it. It decides nothing about resources; that is control's.

pub mod budget;
pub mod fields;
pub mod json;
pub mod query;
pub mod reply;
pub mod surface;
