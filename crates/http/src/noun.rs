//! The operations, one file a noun: a handler translates between HTTP and one use-case, and decides nothing.

mod api_key;
mod audit_log;
mod budget_alert;
mod compute;
mod environment;
mod event;
mod image;
mod invitation;
mod invoice;
mod member;
mod openapi;
mod operation;
mod project;
mod region;
mod sandbox;
mod ssh_key;
mod status;
mod telemetry;
mod token;
mod usage;
mod webhook;
mod workspace;

use crate::endpoint::Endpoint;
use crate::fields::Kind;

/// A member's role.
const ROLE: Kind = Kind::OneOf(&["owner", "admin", "member"]);

/// Every noun's operations.
pub const TABLES: &[&[Endpoint]] = &[
    project::OPERATIONS,
    environment::OPERATIONS,
    budget_alert::OPERATIONS,
    compute::OPERATIONS,
    image::OPERATIONS,
    region::OPERATIONS,
    ssh_key::OPERATIONS,
    operation::OPERATIONS,
    event::OPERATIONS,
    webhook::OPERATIONS,
    api_key::OPERATIONS,
    token::OPERATIONS,
    workspace::OPERATIONS,
    member::OPERATIONS,
    invitation::OPERATIONS,
    invoice::OPERATIONS,
    usage::OPERATIONS,
    telemetry::OPERATIONS,
    audit_log::OPERATIONS,
    status::OPERATIONS,
    sandbox::OPERATIONS,
    openapi::OPERATIONS,
];
