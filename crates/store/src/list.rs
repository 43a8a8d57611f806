//! Pages of lists: one row more than the page is asked for, so that it is known whether more follow.

use nephos_model::page::{Listed, Page};

use crate::Store;
use crate::batch::Statement;
use crate::error::Result;
use crate::value::Row;

/// Rows to ask for: the page and one more.
pub(crate) fn rows_max(page: &Page) -> i64 {
    i64::from(page.limit) + 1
}

impl Store {
    /// Reads one page and the total in one snapshot.
    pub(crate) async fn page<T>(
        &self,
        rows: Statement,
        total: Statement,
        page: &Page,
        decode: fn(&Row) -> Result<T>,
    ) -> Result<Listed<T>> {
        let mut answers = self.read_all(vec![rows, total]).await?.into_iter();
        let rows = answers.next().unwrap_or_default();
        let total = answers.next().unwrap_or_default().first().map_or(Ok(0), |row| row.int(0))?;
        let limit = page.limit as usize;
        let items = rows.iter().take(limit).map(decode).collect::<Result<Vec<_>>>()?;
        Ok(Listed { items, total, more: rows.len() > limit })
    }

    /// Reads one row, if there is one.
    pub(crate) async fn one<T>(&self, statement: Statement, decode: fn(&Row) -> Result<T>) -> Result<Option<T>> {
        self.read(statement).await?.first().map(decode).transpose()
    }

    /// Reads all rows of a list that is bounded by its statement.
    pub(crate) async fn all<T>(&self, statement: Statement, decode: fn(&Row) -> Result<T>) -> Result<Vec<T>> {
        self.read(statement).await?.iter().map(decode).collect()
    }
}
