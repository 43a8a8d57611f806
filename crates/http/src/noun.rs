//! The operations, one file a noun: a handler translates between HTTP and one use-case, and decides nothing.

mod api_key;
mod compute;
mod environment;
mod event;
mod image;
mod openapi;
mod operation;
mod project;
mod region;
mod ssh_key;
mod usage;
mod workspace;

use crate::endpoint::Endpoint;

/// Every noun's operations.
pub const TABLES: &[&[Endpoint]] = &[
    project::OPERATIONS,
    environment::OPERATIONS,
    compute::OPERATIONS,
    image::OPERATIONS,
    region::OPERATIONS,
    ssh_key::OPERATIONS,
    operation::OPERATIONS,
    event::OPERATIONS,
    api_key::OPERATIONS,
    workspace::OPERATIONS,
    usage::OPERATIONS,
    openapi::OPERATIONS,
];
