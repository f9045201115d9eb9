//! Spoilt on purpose: what is known of refused payments is inferred from held rows, as it was before payments were facts.

use crate::decide::{Came, ChangedRefund, Write};
use crate::mutation::Mutation;
use crate::protocol::Protocol;
use crate::rows::{Disposition, HeldState, Outcome, Payment, Refund, Row};
use crate::scenario::Content;
use crate::state::{Items, State};

impl Protocol {
    /// Whether the protocol has this bug.
    #[must_use]
    pub fn infers(&self) -> bool {
        matches!(self.mutation, Mutation::SettledByReason | Mutation::ReturnedInferred)
    }

    /// Whether the held rows tell of the payment. One that the order accepted is known by the order.
    #[must_use]
    pub fn is_inferred(&self, state: &State, transaction: u8, order: u8, payment: Payment) -> bool {
        let tells = |row: Row| {
            let held = row.held.filter(|held| held.state != HeldState::ResolvedByOperator);
            held.is_some_and(|held| held.reason.is_of_refused_payment())
        };
        payment.disposition == Disposition::Accepted || self.rows_of(state, transaction, order).any(tells)
    }

    /// Whether there is a held row on which the payment can be noted as returned.
    #[must_use]
    pub fn may_note(&self, before: &State, transaction: u8, order: u8, now: Payment) -> bool {
        let is_new = before.database.payments[usize::from(transaction)][usize::from(order)].is_none();
        is_new || self.is_inferred(before, transaction, order, now)
    }

    /// A refund of a payment whose row an operator has resolved is a duplicate: the money has gone, and nothing notes it.
    #[must_use]
    pub fn without_settled_refunds(&self, state: &State, items: Items, mut write: Write) -> Write {
        let parts: Vec<_> = items.iter().filter_map(|item| self.content(state, item)).collect();
        for (came, content) in write.came.iter_mut().zip(parts) {
            let Content::Refund { order, transaction, number, amount, end } = content else { continue };
            let mut rows = self.rows_of(state, transaction, order).filter_map(|row| row.held);
            if came.outcome == Outcome::Waiting && rows.any(|held| held.state == HeldState::ResolvedByOperator) {
                *came = Came { outcome: Outcome::Duplicate, reason: None };
                let now = Refund { order, transaction, amount, end };
                write.refunds[usize::from(number)] = Some(ChangedRefund { was: None, now });
            }
        }
        write
    }

    /// The rows of the messages that report this payment of this order.
    fn rows_of(&self, state: &State, transaction: u8, order: u8) -> impl Iterator<Item = Row> {
        let is_of = move |content| content == Content::Payment { order, transaction };
        let own = |(item, _): &(_, Row)| self.content(state, *item).is_some_and(is_of);
        state.database.items().filter(own).map(|(_, row)| row).collect::<Vec<_>>().into_iter()
    }
}
