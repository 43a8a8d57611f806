//! Budget alerts: what a month may cost, and when somebody wants to hear of it.

use crate::Timestamp;
use crate::id::{BudgetAlertId, ProjectId};

/// Alerts of a workspace at most.
pub const ALERTS_MAX: i64 = 20;
/// Thresholds of an alert at most.
pub const THRESHOLDS_MAX: usize = 10;
/// The highest threshold, in percent of the budget.
pub const THRESHOLD_PERCENT_MAX: i64 = 1_000;
/// The largest budget of a month, in millionths of the currency: a thousand million.
pub const BUDGET_MICROUNITS_MAX: i64 = 1_000_000_000_000_000;
/// What is taken where nothing is said: half, nearly all, and all.
pub const THRESHOLDS_DEFAULT: [i64; 3] = [50, 90, 100];

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetAlert {
    /// Its id.
    pub id: BudgetAlertId,
    /// Its name.
    pub name: String,
    /// The project whose costs it is about; `None`: the whole workspace's.
    pub project_id: Option<ProjectId>,
    /// The budget of a month, in millionths of the currency.
    pub amount_microunits: i64,
    /// In percent of the budget, ascending, each once.
    pub thresholds_percent: Vec<i64>,
    /// Rises with each change.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl BudgetAlert {
    /// The thresholds that `spent` has reached.
    pub fn reached(&self, spent_microunits: i128) -> impl Iterator<Item = i64> + '_ {
        let budget = i128::from(self.amount_microunits);
        let all = self.thresholds_percent.iter().copied();
        all.filter(move |percent| spent_microunits * 100 >= budget * i128::from(*percent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_reached_at_its_very_part() {
        let alert = BudgetAlert {
            id: "bud_01kf0z3t80e5v8x2m7c4q9gj01".parse().unwrap(),
            name: "all".to_owned(),
            project_id: None,
            amount_microunits: 3,
            thresholds_percent: vec![50, 100, 200],
            version: 1,
            created_at: Timestamp::from_secs(0),
            updated_at: Timestamp::from_secs(0),
        };
        let reached = |spent: i128| alert.reached(spent).collect::<Vec<_>>();
        assert_eq!(reached(1), [0_i64; 0]);
        assert_eq!(reached(2), [50]);
        assert_eq!(reached(3), [50, 100]);
        assert_eq!(reached(i128::from(i64::MAX)), [50, 100, 200]);
    }
}
