//! The client half of the command line: speaks the public API (the Platform surface) and nothing else.

pub mod api;
pub mod budget_alert;
pub mod command;
pub mod invoice;
mod operation;
mod people;
mod resolve;
mod run;
mod ssh;
pub mod telemetry;
mod terminal;
pub mod webhook;

pub use run::run;
