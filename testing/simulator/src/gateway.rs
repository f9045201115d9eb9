//! WeChat Pay's side: sends every callback of the plan, retries failures on its schedule, records every answer.
//!
//! One task (the dispatcher) owns the book and decides what is sent next; a line per keep-alive connection makes the
//! requests. So there is no lock, and "several at the same instant" is handed out in one go to as many lines.
//!
//! Reading order: [`schedule`] (when), [`builder`] (bodies ahead), [`mod@connection`] (one connection), then the dispatcher here.

pub mod builder;
pub mod connection;
pub mod schedule;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Context;
use kit::pace::Pace;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use self::builder::Built;
use self::connection::{Answered, Job, Target};
use self::schedule::retry_gap;
use crate::body::SignedRequest;
use crate::plan::{Callback, Checkout, Plan};
use crate::progress::Counters;
use crate::request_log::{Answer, RequestLog};

/// Bodies wait here for a free line, at most about this many; the builder waits when they are enough.
const FRESH_MAX: usize = 512;

/// How a run sends.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Ingests, taken in turn by the lines.
    pub targets: Vec<Target>,
    pub connections: NonZeroUsize,
    /// Requests a second; `None`: flat out.
    pub rate: Option<NonZeroU32>,
    /// Divides WeChat Pay's retry schedule.
    pub retry_compression: NonZeroU32,
}

/// Where the gateway reports what happens.
#[derive(Debug)]
pub struct Hooks {
    /// The order of each callback that is sent before its order is written.
    pub late: mpsc::UnboundedSender<usize>,
    /// Half of the planned requests are sent.
    pub half: oneshot::Sender<()>,
    /// For the progress line.
    pub counters: Arc<Counters>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    First,
    Repeat,
    Retry,
}

/// Something to send at the same instant over different lines.
#[derive(Debug)]
struct Group {
    callback: usize,
    signed: SignedRequest,
    copies: usize,
    why: Why,
}

struct Dispatcher {
    plan: Arc<Plan>,
    log: RequestLog,
    late: mpsc::UnboundedSender<usize>,
    half: Option<oneshot::Sender<()>>,
    counters: Arc<Counters>,
    retry_compression: NonZeroU32,
    lines: Vec<mpsc::Sender<Job>>,
    /// Connections are dealt to this many ingests in turn …
    targets: usize,
    /// … and so are requests: the turn of the next one.
    turn: usize,
    idle: VecDeque<usize>,
    pace: Pace,
    /// There will be no more bodies.
    all_built: bool,
    /// Built, not sent yet.
    fresh: VecDeque<Group>,
    /// To be sent at a time; the number keeps equal times in order.
    planned: BTreeMap<(Instant, u64), Group>,
    next_number: u64,
    /// Held back until the callback in the key is answered SUCCESS.
    held: HashMap<usize, Vec<Group>>,
    /// First sendings and planned repeats, without retries …
    planned_sent: usize,
    /// … and how many of them are half.
    half_of_sends: usize,
}

/// Sends everything; returns when the last answer is there and nothing is left to be repeated.
pub async fn send_all(
    plan: Arc<Plan>,
    mut built: mpsc::Receiver<Vec<Built>>,
    settings: &Settings,
    hooks: Hooks,
) -> anyhow::Result<RequestLog> {
    let (answer_sender, mut answers) = mpsc::unbounded_channel();
    let mut dispatcher = Dispatcher::new(plan, settings, hooks);
    let targets = settings.targets.iter().cycle();
    for (number, target) in (0..settings.connections.get()).zip(targets) {
        let (jobs, receiver) = mpsc::channel(1);
        tokio::spawn(connection::run(number, target.clone(), receiver, answer_sender.clone()));
        dispatcher.lines.push(jobs);
        dispatcher.idle.push_back(number);
    }
    drop(answer_sender);

    loop {
        let wake_at = dispatcher.dispatch()?;
        if dispatcher.is_done() {
            return Ok(dispatcher.close());
        }
        let wake = async {
            match wake_at {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answered = answers.recv() => {
                dispatcher.note(answered.context("every connection's task has ended")?);
                while let Ok(answered) = answers.try_recv() {
                    dispatcher.note(answered);
                }
            }
            chunk = built.recv(), if !dispatcher.all_built && dispatcher.fresh.len() < FRESH_MAX => match chunk {
                Some(chunk) => chunk.into_iter().for_each(|built| dispatcher.take_built(built)),
                None => dispatcher.all_built = true,
            },
            () = wake => {}
        }
    }
}

impl Dispatcher {
    fn new(plan: Arc<Plan>, settings: &Settings, hooks: Hooks) -> Self {
        let started = Instant::now();
        let half_of_sends = plan.sends().div_ceil(2);
        Self {
            log: RequestLog::new(plan.callbacks.len(), started),
            plan,
            late: hooks.late,
            half: Some(hooks.half),
            counters: hooks.counters,
            retry_compression: settings.retry_compression,
            lines: Vec::with_capacity(settings.connections.get()),
            targets: settings.targets.len().max(1),
            turn: 0,
            idle: VecDeque::with_capacity(settings.connections.get()),
            pace: Pace::new(settings.rate.map(schedule::interval), started),
            all_built: false,
            fresh: VecDeque::new(),
            planned: BTreeMap::new(),
            next_number: 0,
            held: HashMap::new(),
            planned_sent: 0,
            half_of_sends,
        }
    }

    /// Nothing in flight, nothing to send. What is still held back waits for a callback that never got its SUCCESS.
    fn is_done(&self) -> bool {
        self.all_built && self.idle.len() == self.lines.len() && self.fresh.is_empty() && self.planned.is_empty()
    }

    fn close(mut self) -> RequestLog {
        self.log.sending = self.log.started_at.elapsed();
        self.log
    }

    fn callback(&self, index: usize) -> Option<&Callback> {
        self.plan.callbacks.get(index)
    }

    fn take_built(&mut self, built: Built) {
        let Built { callback: index, signed, sha256 } = built;
        if let Some(record) = self.log.records.get_mut(index) {
            record.body_sha256 = Some(sha256);
        }
        let Some(callback) = self.plan.callbacks.get(index) else { return };
        // More copies than lines would wait for ever.
        let copies = callback.copies.min(self.lines.len());
        let group = Group { callback: index, signed, copies, why: Why::First };
        match callback.after {
            None => self.fresh.push_back(group),
            Some(first) if self.is_accepted(first) => self.plan_at(Instant::now(), group),
            Some(first) => self.held.entry(first).or_default().push(group),
        }
    }

    fn is_accepted(&self, callback: usize) -> bool {
        self.log.records.get(callback).is_some_and(|record| record.accepted > 0)
    }

    fn plan_at(&mut self, at: Instant, group: Group) {
        self.planned.insert((at, self.next_number), group);
        self.next_number = self.next_number.saturating_add(1);
    }

    /// Hands out what is due to free lines. Says when it wants to be called again, besides after every answer.
    fn dispatch(&mut self) -> anyhow::Result<Option<Instant>> {
        loop {
            let now = Instant::now();
            let next_planned = self.planned.first_key_value().map(|((at, _), _)| *at);
            let is_planned_due = next_planned.is_some_and(|at| at <= now);
            let (ready_at, copies) = match (is_planned_due, next_planned, self.fresh.front()) {
                (true, Some(at), _) => (at, self.planned.first_key_value().map_or(1, |(_, group)| group.copies)),
                (_, _, Some(group)) => (self.log.started_at, group.copies),
                (_, at, None) => {
                    // Bodies that come late are the simulator's fault, and no reason to slow down.
                    if self.all_built {
                        self.pace.rest();
                    }
                    return Ok(at);
                }
            };
            let slot = self.pace.slot(ready_at, now);
            if slot > now {
                return Ok(Some(slot));
            }
            if self.idle.len() < copies {
                return Ok(None);
            }
            let planned = if is_planned_due { self.planned.pop_first() } else { None };
            let Some(group) = planned.map(|(_, group)| group).or_else(|| self.fresh.pop_front()) else { continue };
            if group.why == Why::Retry && self.is_accepted(group.callback) {
                continue;
            }
            self.pace.take(slot, group.copies);
            self.send(&group, slot.max(ready_at))?;
        }
    }

    fn send(&mut self, group: &Group, due: Instant) -> anyhow::Result<()> {
        self.tell_late(group.callback);
        if let Some(record) = self.log.records.get_mut(group.callback) {
            record.retry_planned &= group.why != Why::Retry;
            record.sent = record.sent.saturating_add(u64::try_from(group.copies)?);
        }
        for _ in 0..group.copies {
            let line = self.take_line().context("a line was free a moment ago")?;
            let jobs = self.lines.get(line).context("a line that does not exist was free")?;
            let job = Job { callback: group.callback, signed: group.signed.clone(), due };
            jobs.try_send(job).context("a connection's task has ended")?;
            self.counters.sent.fetch_add(1, Ordering::Relaxed);
        }
        if group.why != Why::Retry {
            self.planned_sent = self.planned_sent.saturating_add(group.copies);
            if self.planned_sent >= self.half_of_sends
                && let Some(half) = self.half.take()
            {
                // There is no receiver when no command was given.
                let _unheard = half.send(());
            }
        }
        Ok(())
    }

    /// The line to the ingest whose turn it is that has been idle for longest; any other when it has none: so all get their
    /// share at every moment, also when one answers faster.
    fn take_line(&mut self) -> Option<usize> {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1) % self.targets;
        let place = self.idle.iter().position(|line| line % self.targets == turn).unwrap_or(0);
        self.idle.remove(place)
    }

    /// The first sending of a callback whose order the shop has not written yet starts the shop's delay.
    fn tell_late(&self, callback: usize) {
        let is_first = self.log.records.get(callback).is_some_and(|record| record.sent == 0);
        let order = self.callback(callback).map(|callback| callback.order);
        let is_late =
            |order: &usize| self.plan.orders.get(*order).is_some_and(|order| order.checkout == Checkout::Late);
        if let Some(order) = order.filter(|order| is_first && is_late(order)) {
            // The checkout outlives the gateway.
            let _unheard = self.late.send(order);
        }
    }

    fn note(&mut self, answered: Answered) {
        let Answered { line, job, answer, at } = answered;
        self.idle.push_back(line);
        let is_first_success = answer == Answer::Success && !self.is_accepted(job.callback);
        self.log.note(job.callback, answer, at.saturating_duration_since(job.due), at);
        if answer == Answer::Success {
            self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        } else {
            self.plan_retry(job, at);
            return;
        }
        if is_first_success {
            self.plan_repeats(&job, at);
        }
    }

    /// WeChat Pay resends a callback until it is answered SUCCESS; a forger tries once.
    fn plan_retry(&mut self, job: Job, at: Instant) {
        let is_forged = self.callback(job.callback).is_none_or(|callback| callback.forgery.is_some());
        let Some(record) = self.log.records.get_mut(job.callback) else { return };
        if is_forged || record.accepted > 0 || record.retry_planned {
            return;
        }
        let Some(gap) = retry_gap(record.retries, self.retry_compression) else {
            record.given_up = true;
            return;
        };
        record.retries = record.retries.saturating_add(1);
        record.retry_planned = true;
        self.plan_at(at + gap, Group { callback: job.callback, signed: job.signed, copies: 1, why: Why::Retry });
    }

    /// After SUCCESS: the needless repeats, at the times of the retry schedule, and the callbacks that waited for this.
    fn plan_repeats(&mut self, job: &Job, at: Instant) {
        let repeats = self.callback(job.callback).map_or(0, |callback| callback.repeats);
        let mut due = at;
        for repeat in 0..repeats {
            due += retry_gap(repeat, self.retry_compression).unwrap_or_default();
            let group = Group { callback: job.callback, signed: job.signed.clone(), copies: 1, why: Why::Repeat };
            self.plan_at(due, group);
        }
        for group in self.held.remove(&job.callback).unwrap_or_default() {
            self.plan_at(at, group);
        }
    }
}

#[cfg(test)]
mod tests;
