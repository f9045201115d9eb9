//! The shop: commits an order late; reads one, with or without a lock, and saves what it read as pending or closed.
//!
//! A save writes every column, as an ORM does. The database's trigger refuses what would undo a payment.

use crate::database::{Owner, is_legal};
use crate::mutation::Mutation;
use crate::protocol::{Next, Protocol};
use crate::rows::{Order, OrderState};
use crate::state::{Shop, State};
use crate::step::Step;

impl Protocol {
    /// What can happen at the shop.
    pub fn shop_steps(&self, state: &State, next: &mut Next) {
        for (number, _) in (0..).zip(self.scenario.orders) {
            let place = usize::from(number);
            match state.database.orders[place] {
                None => next.step(state, Step::CommitOrder(number), |state| {
                    state.database.orders[place] = Some(PENDING);
                }),
                Some(order) => self.begin_change(state, number, order, next),
            }
        }
        let Shop::Changing { order, as_read, is_locked } = state.shop else { return };
        if self.locked(state, Owner::Shop)[usize::from(order)] {
            return;
        }
        for to in [OrderState::Pending, OrderState::Closed] {
            next.step(state, Step::ShopSaves { order, to }, |state| {
                self.save(state, order, Order { state: to, ..as_read });
                state.shop = Shop::Idle;
            });
        }
        if is_locked {
            next.step(state, Step::ShopRollsBack(order), |state| state.shop = Shop::Idle);
        }
    }

    fn begin_change(&self, state: &State, order: u8, as_read: Order, next: &mut Next) {
        let may_change = matches!(as_read.state, OrderState::Pending | OrderState::Closed);
        if state.shop != Shop::Idle || state.changes_left == 0 || !may_change {
            return;
        }
        let mut begin = |is_locked, step| {
            next.step(state, step, |state| {
                state.changes_left -= 1;
                state.shop = Shop::Changing { order, as_read, is_locked };
            });
        };
        begin(false, Step::ShopReads(order));
        if self.scenario.shop_locks && !self.locked(state, Owner::Shop)[usize::from(order)] {
            begin(true, Step::ShopLocks(order));
        }
    }

    /// What the trigger refuses leaves the order as it is.
    fn save(&self, state: &mut State, order: u8, saved: Order) {
        let row = &mut state.database.orders[usize::from(order)];
        if self.mutation == Mutation::TriggersLeftOut || row.is_some_and(|row| is_legal(row, saved)) {
            *row = Some(saved);
        }
    }
}

/// An order that was just inserted.
pub const PENDING: Order = Order { state: OrderState::Pending, refunded: 0, version: 0 };
