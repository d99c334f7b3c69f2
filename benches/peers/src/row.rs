//! What was measured: rows of rounds, and ratios taken round by round.

use crate::load::Round;
use crate::runtime::Flavour;
use crate::workload::Workload;

/// One peer in one workload on one runtime, over all rounds.
#[derive(Clone, Debug)]
pub struct Row {
    pub peer: String,
    pub workload: Workload,
    pub flavour: Flavour,
    pub rounds: Vec<Round>,
    /// A round in which allocations were counted; the other numbers of it are not used.
    pub counted: Option<Round>,
}

/// A figure of every round: the median, and how far they are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// Of these figures; none of none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (first, last) = (figures.first()?, figures.last()?);
        let middle = figures.len() / 2;
        let median = match figures.len() % 2 {
            0 => f64::midpoint(figures[middle - 1], figures[middle]),
            _ => figures[middle],
        };
        Some(Self { min: *first, median, max: *last })
    }
}

impl Row {
    /// A figure of all its rounds.
    ///
    /// # Panics
    /// If it has no round.
    pub fn spread(&self, what: impl Fn(&Round) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(what)).expect("a row is made with its rounds")
    }

    /// The median of a figure.
    pub fn median(&self, what: impl Fn(&Round) -> f64) -> f64 {
        self.spread(what).median
    }

    /// The server's memory for a connection, if that was measured.
    pub fn kib_per_connection(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|round| round.kib_per_connection))
    }

    /// This row's figure over that of another, round by round.
    pub fn ratio(&self, other: &Self, what: impl Fn(&Round) -> f64) -> Spread {
        let pairs = self.rounds.iter().zip(&other.rounds);
        Spread::of(pairs.map(|(mine, other)| what(mine) / what(other))).expect("as above")
    }
}

/// The row of this peer, workload and runtime.
pub fn find<'a>(rows: &'a [Row], peer: &str, workload: &str, flavour: Flavour) -> Option<&'a Row> {
    rows.iter()
        .find(|row| row.peer == peer && row.workload.name == workload && row.flavour == flavour)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(peer: &str, rates: &[f64]) -> Row {
        let rounds = rates.iter().map(|&rate| Round { rate, ..Round::default() }).collect();
        let workload = Workload::named("64").expect("listed");
        Row { peer: peer.to_owned(), workload, flavour: Flavour::Ct, rounds, counted: None }
    }

    /// The middle of an odd number, the mean of the two middle ones of an even number.
    #[test]
    fn the_median_is_the_middle() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());

        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(spread(&[]), None);
    }

    /// A machine that gets slower from round to round does not change the ratio.
    #[test]
    fn ratios_are_taken_round_by_round() {
        let ratio = row("a", &[10.0, 8.0, 2.0]).ratio(&row("b", &[5.0, 4.0, 1.0]), |r| r.rate);

        assert_eq!(ratio, Spread { min: 2.0, median: 2.0, max: 2.0 });
    }
}
