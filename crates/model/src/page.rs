//! Pages of lists.

/// Items in one page at most.
pub const LIMIT_MAX: u32 = 100;
/// Items in one page when the client does not say.
pub const LIMIT_DEFAULT: u32 = 20;

/// Which part of a list is wanted. Lists are ordered by id, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where the page starts.
    pub start: Start,
    /// Items at most, 1 to [`LIMIT_MAX`].
    pub limit: u32,
}

/// Where a page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The n-th page of `limit` items, from 1.
    Number(u32),
    /// After this id, which need not exist: constant cost at any depth.
    After(String),
}

impl Page {
    /// Rows before the page.
    pub fn offset(&self) -> i64 {
        match self.start {
            Start::Number(n) => i64::from(n - 1) * i64::from(self.limit),
            Start::After(_) => 0,
        }
    }

    /// The id that the rows come after, or the text that sorts after every id.
    pub fn before(&self) -> &str {
        match &self.start {
            Start::Number(_) => "~",
            Start::After(id) => id,
        }
    }
}

impl Default for Page {
    fn default() -> Self {
        Self { start: Start::Number(1), limit: LIMIT_DEFAULT }
    }
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// How many items match, over all pages.
    pub total: i64,
    /// Whether items follow this page.
    pub more: bool,
}
