//! The nouns of nephos: identifiers, states, roles, scopes, faults and the clock.
//!
//! Pure values and decisions only. Deliberately not here: async runtimes, SQL, HTTP and serialization; how a value
//! looks on the wire is the business of the HTTP surfaces.

pub mod api_key;
pub mod audit;
pub mod budget_alert;
pub mod clock;
pub mod compute;
pub mod email;
pub mod entropy;
pub mod event;
pub mod fault;
pub mod id;
pub mod image;
pub mod invitation;
pub mod key;
pub mod label;
pub mod metric;
pub mod name;
pub mod operation;
pub mod page;
pub mod price;
pub mod project;
pub mod region;
pub mod role;
pub mod sandbox;
pub mod scope;
pub mod session;
pub mod size;
pub mod ssh_key;
pub mod telemetry;
pub mod tenant;
pub mod trace;
pub mod webhook;
pub mod workspace;

pub use clock::{Clock, Timestamp};
pub use entropy::Entropy;
pub use fault::{Code, Detail, Fault, Place};
