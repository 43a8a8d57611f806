//! Steps 4 and 5 as the order sees them: who calls, and whether the budgets let the request in.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use nephos_control::caller::Caller;
use nephos_model::Fault;
use nephos_model::tenant::Mode;

use crate::budget::Budgets;

/// What a request shows at the gate.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The bearer token.
    pub token: &'a str,
    /// The mode of the base URL.
    pub mode: Mode,
    /// The client's address.
    pub address: IpAddr,
}

/// What a request spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// GET, HEAD and OPTIONS.
    Read,
    /// Everything else.
    Write,
}

/// Who lets requests in.
pub trait Gate: fmt::Debug + Send + Sync {
    /// The caller behind a token, or the 401 that says what is wrong with it, or the 429 of an address that failed too often.
    fn authenticate<'a>(&'a self, shown: Shown<'a>) -> BoxFuture<'a, Result<Arc<Caller>, Fault>>;

    /// Counts a request without a usable credential against its address: its 401, or the 429.
    fn refuse(&self, address: IpAddr, fault: Fault) -> Fault;

    /// Spends the budgets of a surface, all or none: what is left of them, and the 429 when one is spent.
    fn admit(&self, caller: &Caller, surface: &'static str, class: Class) -> (Budgets, Option<Fault>);
}
