//! The two HTTP surfaces over one core.
//!
//! This crate owns everything between a socket and a use-case: the order in which a request is decided, parsing,
//! rendering, the endpoint table and what derives from it. It decides nothing about resources; that is control's.

pub mod app;
pub mod call;
mod changelog;
pub mod client_address;
mod console;
mod docs;
pub mod endpoint;
pub mod fields;
pub mod handle;
pub mod headers;
mod heads;
mod held;
pub mod json;
pub mod metrics;
pub mod mount;
mod noun;
pub mod openapi;
mod order;
pub mod outgoing;
pub mod query;
pub mod registry;
pub mod reply;
pub mod serve;
pub mod stream;
pub mod surface;
mod terminal;
pub mod websocket;

pub use app::{App, Config, Peer};
pub use client_address::ForwardedHeader;
pub use handle::handle;
pub use heads::try_two_lengths;
pub use registry::Registry;
pub use serve::serve;
