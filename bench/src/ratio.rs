//! Two sides measured in turn, and the table of their ratios.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

/// Values of one side.
#[derive(Debug, Clone)]
pub struct Values(Vec<f64>);

impl Values {
    /// Sorted values, at least one.
    pub fn new(mut values: Vec<f64>) -> Result<Self> {
        ensure!(!values.is_empty() && values.iter().all(|v| v.is_finite()), "nothing was measured: {values:?}");
        values.sort_by(f64::total_cmp);
        Ok(Self(values))
    }

    /// The median; of an even number the higher of the two in the middle.
    pub fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    /// Median, least and greatest.
    fn text(&self, unit: &str) -> String {
        let last = self.0[self.0.len() - 1];
        format!("{} {unit} ({} to {})", short(self.median()), short(self.0[0]), short(last))
    }
}

/// What a row must reach.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// At least this.
    Least(f64),
    /// At most this.
    Most(f64),
    /// Nothing: the figure explains another one.
    Unset,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub what: &'static str,
    /// The figure that the target is about: a ratio of medians, or the median itself.
    pub figure: f64,
    /// What it must reach.
    pub target: Target,
    /// Ours.
    pub ours: String,
    /// The other side.
    pub theirs: String,
}

impl Row {
    /// The ratio of the medians of two sides.
    pub fn ratio(what: &'static str, unit: &str, [ours, theirs]: &[Values; 2], target: Target) -> Self {
        let figure = ours.median() / theirs.median();
        Self { what, figure, target, ours: ours.text(unit), theirs: theirs.text(unit) }
    }

    /// A figure with no other side.
    pub fn plain(what: &'static str, unit: &str, ours: &Values, target: Target) -> Self {
        Self { what, figure: ours.median(), target, ours: ours.text(unit), theirs: String::new() }
    }

    /// What the table says of the target.
    fn verdict(&self) -> &'static str {
        let holds = match self.target {
            Target::Least(least) => self.figure >= least,
            Target::Most(most) => self.figure <= most,
            Target::Unset => return "",
        };
        if holds { "reached" } else { "MISSED" }
    }
}

/// Measures two sides in turn, A B A B, `rounds` times each.
pub fn alternate(
    rounds: usize,
    mut ours: impl FnMut() -> Result<f64>,
    mut theirs: impl FnMut() -> Result<f64>,
) -> Result<[Values; 2]> {
    let mut values = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        values[0].push(ours()?);
        values[1].push(theirs()?);
    }
    let [ours, theirs] = values;
    Ok([Values::new(ours)?, Values::new(theirs)?])
}

/// The table in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from("| row | figure | target | | nephos | other side |\n|---|---|---|---|---|---|\n");
    for row in rows {
        let target = match row.target {
            Target::Least(least) => format!("≥ {}", short(least)),
            Target::Most(most) => format!("≤ {}", short(most)),
            Target::Unset => String::new(),
        };
        let verdict = row.verdict();
        // Writing into memory can't fail.
        let _ = writeln!(
            text,
            "| {} | {} | {target} | {verdict} | {} | {} |",
            row.what,
            short(row.figure),
            row.ours,
            row.theirs
        );
    }
    text
}

/// A number with three digits that matter.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 0.1 => 2,
        _ => 4,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_compares_medians() {
        let sides = [vec![3.0, 1.0, 2.0], vec![4.0, 4.0, 100.0]].map(|v| Values::new(v).unwrap());
        let row = Row::ratio("r", "/s", &sides, Target::Least(0.5));
        assert_eq!(Row { target: Target::Least(0.51), ..row.clone() }.verdict(), "MISSED");
        assert_eq!(Row { target: Target::Unset, ..row.clone() }.verdict(), "");
        assert_eq!(
            table(&[row]).lines().last(),
            Some("| r | 0.50 | ≥ 0.50 | reached | 2.00 /s (1.00 to 3.00) | 4.00 /s (4.00 to 100) |")
        );
        assert!(Values::new(Vec::new()).is_err());
        assert!(Values::new(vec![f64::NAN]).is_err());
    }
}
