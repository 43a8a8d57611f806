//! What is left of the budgets of a request, in the form that surfaces render.

/// One budget after the request was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Its name, such as `key` or `workspace`.
    pub name: &'static str,
    /// Requests in one window.
    pub limit: u32,
    /// Seconds in one window.
    pub window_s: u32,
    /// Requests that are left now.
    pub remaining: u32,
    /// Seconds until there are more.
    pub reset_s: u32,
    /// The Unix second at which there are more.
    pub reset_at_s: i64,
}

/// The budgets of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Budgets {
    /// Each of them; none when the plan has none.
    pub list: Vec<Budget>,
}
