//! Which part of the orders goes which way. Pure: shares and a seed in, one scenario per order out.
//!
//! Shares are met exactly (rounded up, so that each scenario asked for occurs), and only the order is drawn.

use clap::Args;
use rand::Rng;
use rand::seq::SliceRandom;

/// What happens to one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scenario {
    /// Paid and notified once.
    Plain,
    /// Notified again after SUCCESS, as the same bytes or signed afresh.
    Repeats,
    /// Notified several times at the same instant.
    ConcurrentRepeats,
    /// Somebody without the key claims that it was paid; in every second case the real payment follows.
    Forgery,
    /// Correctly signed, another amount.
    WrongAmount,
    /// Correctly signed, another currency.
    WrongCurrency,
    /// Correctly signed, another shop of the institution, or none.
    WrongSubMchId,
    /// Correctly signed, for an order that never existed.
    UnknownOrder,
    /// The shop commits the order two seconds after its callback.
    LateOrder,
    /// Paid twice, by two transactions.
    SecondTransaction,
    /// Paid after the shop had closed the order.
    ClosedOrder,
    /// The callback says that the payment failed.
    NotSuccessful,
    /// Refunded in one go.
    FullRefund,
    /// Refunded in parts that add up to everything.
    PartialRefunds,
    /// A part is refunded.
    PartOnly,
    /// The refund's callback comes before the payment's.
    RefundFirst,
    /// The refund gets stuck at first, then succeeds or is closed.
    AbnormalThenEnd,
    /// The refund is closed.
    RefundClosed,
    /// Somebody without the key claims that it was refunded.
    ForgedRefund,
    /// Another sum is refunded than the shop had asked for.
    WrongRefundAmount,
    /// More is refunded than was paid.
    RefundTooMuch,
    /// Paid twice, and the second payment is refunded.
    SurplusRefunded,
    /// Paid twice, and a part of the second payment is refunded; in every second case the rest follows.
    SurplusPartRefunded,
    /// Another amount is paid, and refunded.
    RefusedRefunded,
    /// Two shops of one institution use the same order number.
    SameNumber,
    /// An event of API v3 that is about no order.
    NoOrder,
}

impl Scenario {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 26] = [
        Self::Plain,
        Self::Repeats,
        Self::ConcurrentRepeats,
        Self::Forgery,
        Self::WrongAmount,
        Self::WrongCurrency,
        Self::WrongSubMchId,
        Self::UnknownOrder,
        Self::LateOrder,
        Self::SecondTransaction,
        Self::ClosedOrder,
        Self::NotSuccessful,
        Self::FullRefund,
        Self::PartialRefunds,
        Self::PartOnly,
        Self::RefundFirst,
        Self::AbnormalThenEnd,
        Self::RefundClosed,
        Self::ForgedRefund,
        Self::WrongRefundAmount,
        Self::RefundTooMuch,
        Self::SurplusRefunded,
        Self::SurplusPartRefunded,
        Self::RefusedRefunded,
        Self::SameNumber,
        Self::NoOrder,
    ];

    /// The name in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Repeats => "repeats",
            Self::ConcurrentRepeats => "concurrent repeats",
            Self::Forgery => "forgeries",
            Self::WrongAmount => "wrong amount",
            Self::WrongCurrency => "wrong currency",
            Self::WrongSubMchId => "wrong sub-merchant",
            Self::UnknownOrder => "unknown order",
            Self::LateOrder => "order appears later",
            Self::SecondTransaction => "second transaction",
            Self::ClosedOrder => "closed order",
            Self::NotSuccessful => "payment failed",
            Self::FullRefund => "full refund",
            Self::PartialRefunds => "partial refunds",
            Self::PartOnly => "part refunded",
            Self::RefundFirst => "refund first",
            Self::AbnormalThenEnd => "refund stuck at first",
            Self::RefundClosed => "refund closed",
            Self::ForgedRefund => "forged refund",
            Self::WrongRefundAmount => "wrong refund amount",
            Self::RefundTooMuch => "refund too much",
            Self::SurplusRefunded => "surplus refunded",
            Self::SurplusPartRefunded => "surplus part refunded",
            Self::RefusedRefunded => "wrong amount refunded",
            Self::SameNumber => "two shops, one number",
            Self::NoOrder => "about no order",
        }
    }

    /// The smallest order with which it makes sense.
    #[must_use]
    pub fn least_amount(self) -> i64 {
        match self {
            Self::PartialRefunds | Self::PartOnly | Self::SurplusPartRefunded => 2,
            _ => 1,
        }
    }
}

/// The share of each scenario, in percent of the orders; what is left is plain.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Mix, in percent of the orders (what is left is paid and notified once)")]
pub struct Mix {
    /// Notified again after SUCCESS
    #[arg(long, default_value = "10", value_name = "PERCENT", value_parser = percent())]
    pub repeats: u8,
    /// Notified several times at the same instant
    #[arg(long, default_value = "5", value_name = "PERCENT", value_parser = percent())]
    pub concurrent_repeats: u8,
    /// Forged: wrong key, amount altered after signing, no signature
    #[arg(long, default_value = "6", value_name = "PERCENT", value_parser = percent())]
    pub forgeries: u8,
    /// Another amount, correctly signed
    #[arg(long, default_value = "2", value_name = "PERCENT", value_parser = percent())]
    pub wrong_amount: u8,
    /// Another currency, correctly signed
    #[arg(long, default_value = "1", value_name = "PERCENT", value_parser = percent())]
    pub wrong_currency: u8,
    /// Another sub-merchant, correctly signed
    #[arg(long, default_value = "1", value_name = "PERCENT", value_parser = percent())]
    pub wrong_sub_mch_id: u8,
    /// An order that never existed
    #[arg(long, default_value = "1", value_name = "PERCENT", value_parser = percent())]
    pub unknown_order: u8,
    /// An order that the shop commits two seconds after its callback
    #[arg(long, default_value = "2", value_name = "PERCENT", value_parser = percent())]
    pub late_order: u8,
    /// A second transaction for an order that is paid already
    #[arg(long, default_value = "2", value_name = "PERCENT", value_parser = percent())]
    pub second_transaction: u8,
    /// A payment of an order that the shop had closed
    #[arg(long, default_value = "1", value_name = "PERCENT", value_parser = percent())]
    pub closed_order: u8,
    /// A payment that failed
    #[arg(long, default_value = "2", value_name = "PERCENT", value_parser = percent())]
    pub not_successful: u8,
    /// Refunded in one go
    #[arg(long, default_value = "4", value_name = "PERCENT", value_parser = percent())]
    pub full_refund: u8,
    /// Refunded in parts that add up
    #[arg(long, default_value = "4", value_name = "PERCENT", value_parser = percent())]
    pub partial_refunds: u8,
    /// A part refunded
    #[arg(long, default_value = "2", value_name = "PERCENT", value_parser = percent())]
    pub part_only: u8,
    /// The refund notified before the payment
    #[arg(long, default_value = "2", value_name = "PERCENT", value_parser = percent())]
    pub refund_first: u8,
    /// The refund stuck at first
    #[arg(long, default_value = "2", value_name = "PERCENT", value_parser = percent())]
    pub abnormal_then_end: u8,
    /// The refund closed
    #[arg(long, default_value = "1", value_name = "PERCENT", value_parser = percent())]
    pub refund_closed: u8,
    /// A forged refund
    #[arg(long, default_value = "1", value_name = "PERCENT", value_parser = percent())]
    pub forged_refund: u8,
    /// Another sum refunded than asked for
    #[arg(long, default_value = "1", value_name = "PERCENT", value_parser = percent())]
    pub wrong_refund_amount: u8,
    /// More refunded than was paid
    #[arg(long, default_value = "1", value_name = "PERCENT", value_parser = percent())]
    pub refund_too_much: u8,
    /// Paid twice, the second payment refunded
    #[arg(long, default_value = "2", value_name = "PERCENT", value_parser = percent())]
    pub surplus_refunded: u8,
    /// Paid twice, the second payment refunded in part
    #[arg(long, default_value = "1", value_name = "PERCENT", value_parser = percent())]
    pub surplus_part_refunded: u8,
    /// Another amount paid, and refunded
    #[arg(long, default_value = "1", value_name = "PERCENT", value_parser = percent())]
    pub refused_refunded: u8,
    /// Two shops of one institution that use the same order number
    #[arg(long, default_value = "1", value_name = "PERCENT", value_parser = percent())]
    pub same_number: u8,
    /// Events of API v3 that are about no order (plain payments in v2)
    #[arg(long, default_value = "2", value_name = "PERCENT", value_parser = percent())]
    pub no_order: u8,
    /// Of all orders, notified by API v3 where the merchant has the keys for it; the others by v2
    #[arg(long, default_value = "50", value_name = "PERCENT", value_parser = percent())]
    pub v3: u8,
}

fn percent() -> clap::builder::RangedI64ValueParser<u8> {
    clap::value_parser!(u8).range(0..=100)
}

impl Mix {
    fn shares(&self) -> [(Scenario, u8); 25] {
        [
            (Scenario::Repeats, self.repeats),
            (Scenario::ConcurrentRepeats, self.concurrent_repeats),
            (Scenario::Forgery, self.forgeries),
            (Scenario::WrongAmount, self.wrong_amount),
            (Scenario::WrongCurrency, self.wrong_currency),
            (Scenario::WrongSubMchId, self.wrong_sub_mch_id),
            (Scenario::UnknownOrder, self.unknown_order),
            (Scenario::LateOrder, self.late_order),
            (Scenario::SecondTransaction, self.second_transaction),
            (Scenario::ClosedOrder, self.closed_order),
            (Scenario::NotSuccessful, self.not_successful),
            (Scenario::FullRefund, self.full_refund),
            (Scenario::PartialRefunds, self.partial_refunds),
            (Scenario::PartOnly, self.part_only),
            (Scenario::RefundFirst, self.refund_first),
            (Scenario::AbnormalThenEnd, self.abnormal_then_end),
            (Scenario::RefundClosed, self.refund_closed),
            (Scenario::ForgedRefund, self.forged_refund),
            (Scenario::WrongRefundAmount, self.wrong_refund_amount),
            (Scenario::RefundTooMuch, self.refund_too_much),
            (Scenario::SurplusRefunded, self.surplus_refunded),
            (Scenario::SurplusPartRefunded, self.surplus_part_refunded),
            (Scenario::RefusedRefunded, self.refused_refunded),
            (Scenario::SameNumber, self.same_number),
            (Scenario::NoOrder, self.no_order),
        ]
    }

    /// The sum of the shares; above 100 the mix makes no sense.
    #[must_use]
    pub fn total_percent(&self) -> u32 {
        self.shares().iter().map(|&(_, share)| u32::from(share)).sum()
    }

    /// One scenario for each of `orders` orders.
    pub fn draw(&self, orders: usize, rng: &mut impl Rng) -> Vec<Scenario> {
        let mut drawn = Vec::with_capacity(orders);
        for (scenario, share) in self.shares() {
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
    use clap::{Args, FromArgMatches};
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
        for scenario in Scenario::ALL {
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
