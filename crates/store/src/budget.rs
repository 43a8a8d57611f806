//! Windows of budgets between the orderly end of one process and the start of the next.

use nephos_model::Timestamp;

use crate::error::Result;
use crate::{Store, params, sql};

sql! {
    /// Leaves windows for the next process.
    pub BUDGET_WINDOWS_LEAVE = "INSERT INTO budget_windows (id, windows, saved_at) VALUES ($1, $2, $3)
        ON CONFLICT (id) DO UPDATE SET windows = excluded.windows, saved_at = excluded.saved_at";
    /// Takes all windows that were left, so that nobody else does.
    pub BUDGET_WINDOWS_TAKE = "DELETE FROM budget_windows RETURNING windows";
}

impl Store {
    /// Leaves windows for the next process; `owner` is this one.
    pub async fn leave_windows(&self, owner: &str, windows: Vec<u8>, now: Timestamp) -> Result<()> {
        self.write(BUDGET_WINDOWS_LEAVE.bind(params![owner, windows, now]).into()).await.map(|_| ())
    }

    /// Takes the windows that were left; each is given to one process once.
    pub async fn take_windows(&self) -> Result<Vec<Vec<u8>>> {
        let answers = self.write(BUDGET_WINDOWS_TAKE.bind(params![]).into()).await?;
        answers.iter().flatten().map(|row| row.blob(0).map(<[u8]>::to_vec)).collect()
    }
}
