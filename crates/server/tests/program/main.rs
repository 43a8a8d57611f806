//! The whole program: the real binary, the simulator, folders and loopback ports of its own.
//! Every wait has a bound, and only processes that a test started are ended.

#![allow(clippy::unwrap_used)] // all of it is a test

mod audit;
mod bad_input;
mod life;
mod mail;
mod prices;
mod program;
mod telemetry;
mod terminal;
mod webhook;
mod workspace;
