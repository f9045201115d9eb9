//! The operator's commands on held rows. What may be done to a row is asked of the worker's own code.

use worker::store::operator::{ACCEPTABLE, Nature};

use crate::inline_vec::InlineVec;
use crate::mutation::Mutation;
use crate::protocol::{Next, Protocol};
use crate::rows::{Asked, Disposition, Held, HeldState, Outcome, Row};
use crate::scenario::{Content, Deed};
use crate::state::{Item, MESSAGES, PARTS, State};
use crate::step::Step;

/// Rows that a command means.
type Group = InlineVec<Item, { MESSAGES * PARTS }>;

impl Protocol {
    /// What the operator can do.
    pub fn operator_steps(&self, state: &State, next: &mut Next) {
        if state.deeds_left == 0 {
            return;
        }
        for (item, row) in state.database.items() {
            for deed in self.scenario.commands.iter().copied().filter(|deed| self.may(*deed, row)) {
                let group = self.group(state, item);
                // A command waits for rows that the sweeper has locked, and then sees what it has made of them.
                if group.iter().any(|item| Self::is_swept(state, item)) {
                    continue;
                }
                next.step(state, Step::Command { deed, item }, |state| {
                    state.deeds_left -= 1;
                    group.iter().for_each(|item| self.command(state, deed, item));
                });
            }
        }
    }

    /// Whether the command takes a row.
    fn may(&self, deed: Deed, row: Row) -> bool {
        let Some(held) = row.held else { return false };
        let nature = Nature::from_reason(held.reason.name());
        match deed {
            // What was applied stays in the ledger as applied.
            Deed::Replay => row.outcome != Outcome::Applied || self.mutation == Mutation::AppliedReplayed,
            Deed::Accept => held.is_unresolved() && ACCEPTABLE.contains(&held.reason.name()),
            Deed::Resolve => {
                held.is_unresolved() && (nature == Nature::ForPeople || self.mutation == Mutation::ResolveClosesWork)
            }
            Deed::Abandon => held.is_unresolved() && nature == Nature::Work,
        }
    }

    /// The row, and those that are unresolved, say the same and are held for the same reason.
    fn group(&self, state: &State, first: Item) -> Group {
        let (content, reason) = (self.content(state, first), state.database.held(first).map(|held| held.reason));
        let is_alike = |item: Item, held: Held| {
            held.is_unresolved() && Some(held.reason) == reason && self.content(state, item) == content
        };
        let rows = state.database.items();
        let is_meant = |item: Item, row: Row| item == first || row.held.is_some_and(|held| is_alike(item, held));
        rows.filter(|(item, row)| is_meant(*item, *row)).map(|(item, _)| item).collect()
    }

    fn command(&self, state: &mut State, deed: Deed, item: Item) {
        let content = self.content(state, item);
        let Some(row) = state.database.row_mut(item) else { return };
        let Some(held) = &mut row.held else { return };
        (row.outcome, held.state, held.asked) = match deed {
            Deed::Replay => (Outcome::Waiting, HeldState::Waiting, Asked::ByReplay),
            Deed::Accept => (Outcome::Waiting, HeldState::Waiting, Asked::ByAcceptance),
            Deed::Resolve => (Outcome::Quarantined, HeldState::ResolvedByOperator, Asked::ByReport),
            Deed::Abandon => (Outcome::Abandoned, HeldState::ResolvedByOperator, Asked::ByReport),
        };
        if let (Mutation::ReturnedByResolve, Deed::Resolve, Some(Content::Payment { order, transaction })) =
            (self.mutation, deed, content)
            && let Some(payment) = &mut state.database.payments[usize::from(transaction)][usize::from(order)]
        {
            payment.disposition = Disposition::Returned;
        }
    }
}
