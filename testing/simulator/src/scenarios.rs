//! The scenarios: the share of the orders that each gets, its flag and its name. Pure: shares and a seed in, one scenario
//! per order out.
//!
//! Shares are met exactly (rounded up, so that each scenario asked for occurs); only their order is random.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};
use rand::Rng;
use rand::seq::SliceRandom;

/// Declares the scenarios. Each has one entry: its flag's help text, its variant, its flag, its default share in percent of
/// the orders, and its name in the report.
macro_rules! scenarios {
    ($(#[doc = $help:literal] $variant:ident $flag:literal $percent:literal $name:literal;)+) => {
        /// What happens to one order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Scenario {
            /// Paid and notified once: the orders that no other scenario gets.
            Plain,
            $(#[doc = $help] $variant,)+
        }

        const ROWS: [Row; [$($flag),+].len()] = [$(
            Row { scenario: Scenario::$variant, flag: $flag, percent: $percent, name: $name, help: $help },
        )+];
    };
}

struct Row {
    scenario: Scenario,
    flag: &'static str,
    percent: &'static str,
    name: &'static str,
    help: &'static str,
}

scenarios! {
    /// Notified again after SUCCESS, with the same bytes or signed afresh
    Repeats "repeats" "10" "repeats";
    /// Notified several times at the same instant
    ConcurrentRepeats "concurrent-repeats" "5" "concurrent repeats";
    /// Forged: wrong key, amount altered after signing, or no signature; for every second order the genuine payment follows
    Forgery "forgeries" "6" "forgeries";
    /// Correctly signed, with the wrong amount
    WrongAmount "wrong-amount" "2" "wrong amount";
    /// Correctly signed, with the wrong currency
    WrongCurrency "wrong-currency" "1" "wrong currency";
    /// Correctly signed, with the wrong sub-merchant or none
    WrongSubMchId "wrong-sub-mch-id" "1" "wrong sub-merchant";
    /// Correctly signed, for an order that never existed
    UnknownOrder "unknown-order" "1" "unknown order";
    /// The shop commits the order two seconds after its callback
    LateOrder "late-order" "2" "order appears later";
    /// Paid twice, by two transactions
    SecondTransaction "second-transaction" "2" "second transaction";
    /// Paid after the shop had closed the order
    ClosedOrder "closed-order" "1" "closed order";
    /// The callback reports that the payment failed
    NotSuccessful "not-successful" "2" "payment failed";
    /// Refunded at once
    FullRefund "full-refund" "4" "full refund";
    /// Refunded in parts that add up to the whole amount
    PartialRefunds "partial-refunds" "4" "partial refunds";
    /// Refunded in part
    PartOnly "part-only" "2" "part refunded";
    /// The refund's callback comes before the payment's
    RefundFirst "refund-first" "2" "refund first";
    /// The refund is stuck (ABNORMAL) at first, then succeeds or is closed
    AbnormalThenEnd "abnormal-then-end" "2" "refund stuck at first";
    /// The refund is closed
    RefundClosed "refund-closed" "1" "refund closed";
    /// A forged callback claims a refund
    ForgedRefund "forged-refund" "1" "forged refund";
    /// A different amount is refunded from the one that the shop asked for
    WrongRefundAmount "wrong-refund-amount" "1" "wrong refund amount";
    /// More is refunded than was paid
    RefundTooMuch "refund-too-much" "1" "refund too much";
    /// Paid twice, and the second payment is refunded
    SurplusRefunded "surplus-refunded" "2" "surplus refunded";
    /// Paid twice, and part of the second payment is refunded; for every second order the rest follows
    SurplusPartRefunded "surplus-part-refunded" "1" "surplus part refunded";
    /// The wrong amount is paid, and refunded
    RefusedRefunded "refused-refunded" "1" "wrong amount refunded";
    /// Two sub-merchants of one institution use the same order number
    SameNumber "same-number" "1" "two shops, one number";
    /// Events of API v3 that concern no order (plain payments in v2)
    NoOrder "no-order" "2" "about no order";
}

impl Scenario {
    /// All of them, in the order of the report.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Plain).chain(ROWS.iter().map(|row| row.scenario))
    }

    /// The name in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        ROWS.iter().find(|row| row.scenario == self).map_or("plain", |row| row.name)
    }

    /// The smallest amount, in the currency's smallest unit, that the scenario can divide.
    #[must_use]
    pub fn least_amount(self) -> i64 {
        match self {
            Self::PartialRefunds | Self::PartOnly | Self::SurplusPartRefunded => 2,
            _ => 1,
        }
    }
}

/// The share of each scenario, in percent of the orders; the rest is plain.
#[derive(Debug, Clone)]
pub struct Mix {
    shares: Vec<(Scenario, u8)>,
    /// The share of the orders that are notified by API v3.
    pub v3: u8,
}

const V3: &str = "v3";

impl Args for Mix {
    fn augment_args(command: Command) -> Command {
        let share = |flag: &'static str, percent: &'static str, help: &'static str| {
            let parser = value_parser!(u8).range(0..=100);
            Arg::new(flag)
                .long(flag)
                .value_name("PERCENT")
                .value_parser(parser)
                .default_value(percent)
                .help(help.trim())
        };
        command
            .next_help_heading("Mix, in percent of the orders (the rest is paid and notified once)")
            .args(ROWS.map(|row| share(row.flag, row.percent, row.help)))
            .arg(share(V3, "50", "Notified by API v3 where the merchant has the keys for it; the others by v2"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Mix {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let share = |flag: &str| matches.get_one(flag).copied().unwrap_or_default();
        Ok(Self { shares: ROWS.iter().map(|row| (row.scenario, share(row.flag))).collect(), v3: share(V3) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Mix {
    /// The sum of the shares. A mix of more than 100 percent is invalid.
    #[must_use]
    pub fn total_percent(&self) -> u32 {
        self.shares.iter().map(|&(_, share)| u32::from(share)).sum()
    }

    /// One scenario for each of `orders` orders.
    pub fn draw(&self, orders: usize, rng: &mut impl Rng) -> Vec<Scenario> {
        let mut drawn = Vec::with_capacity(orders);
        for &(scenario, share) in &self.shares {
            let count = orders.saturating_mul(usize::from(share)).div_ceil(100).min(orders.saturating_sub(drawn.len()));
            drawn.extend(std::iter::repeat_n(scenario, count));
        }
        drawn.resize(orders, Scenario::Plain);
        drawn.shuffle(rng);
        drawn
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    /// The mix that these flags ask for.
    pub(crate) fn mix(arguments: &[&str]) -> Mix {
        let command = Mix::augment_args(clap::Command::new("mix").no_binary_name(true));
        Mix::from_arg_matches(&command.get_matches_from(arguments)).unwrap()
    }

    fn count(drawn: &[Scenario], scenario: Scenario) -> usize {
        drawn.iter().filter(|&&one| one == scenario).count()
    }

    #[test]
    fn every_scenario_occurs_plentifully_by_default() {
        let drawn = mix(&[]).draw(20_000, &mut StdRng::seed_from_u64(1));
        assert_eq!(drawn.len(), 20_000);
        for scenario in Scenario::all() {
            assert!(count(&drawn, scenario) >= 200, "{}", scenario.name());
        }
    }

    #[test]
    fn a_seed_draws_the_same_again() {
        let draw = |seed| mix(&[]).draw(500, &mut StdRng::seed_from_u64(seed));
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn shares_are_exact_and_rounded_up() {
        let drawn = mix(&["--repeats=50", "--forgeries=0"]).draw(101, &mut StdRng::seed_from_u64(1));
        assert_eq!(count(&drawn, Scenario::Repeats), 51);
        assert_eq!(count(&drawn, Scenario::Forgery), 0);
        assert_eq!(count(&drawn, Scenario::ClosedOrder), 2);
    }

    #[test]
    fn a_full_mix_leaves_nothing_plain() {
        let full = mix(&["--repeats=52"]);
        assert_eq!(full.total_percent(), 100);
        assert_eq!(count(&full.draw(1000, &mut StdRng::seed_from_u64(1)), Scenario::Plain), 0);
    }
}
