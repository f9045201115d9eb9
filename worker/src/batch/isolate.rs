//! What to do when a batch fails: a bad message is quarantined by itself, a bad database costs time and no message.
//!
//! The ladder, each step only if the one before has failed:
//!
//! 1. The batch as it is, waiting for locked orders.
//! 2. The self-check ([`super::self_check`]): if the database refuses rows that no message brought, it is unavailable, and the
//!    whole batch stays unacknowledged. So an outage never quarantines messages one by one.
//! 3. If a lock may have been the cause: the batch as it is, once more, and the self-check again.
//! 4. The batch without the orders that another session has locked.
//! 5. The batch in halves, down to the messages that fail alone.
//! 6. A message alone: the self-check in the message's own partition and with its own orders, then the message once more. If the
//!    database refuses it again, only the message can be the cause, and it is quarantined.
//!
//! (diesel does not expose SQLSTATEs, so the error alone cannot tell; see `docs/decisions/0003-bad-data-or-bad-database.md`.)

use std::borrow::Cow;
use std::time::{Duration, Instant};

use diesel_async::AsyncConnection;

use super::fresh;
use super::message::{Examined, Message};
use super::outcome::{NotDecided, Outcome};
use super::plan::Part;
use super::self_check::{self_check, self_check_for};
use super::transaction::{self, LookUp, Policy};
use crate::store::orders::OnLocked;
use crate::store::session::{DatabaseUnavailable, Failure, Fault, Session, may_be_a_lock};

/// How often a batch waits for locked orders before it goes on without them. After a table lock has ended, other workers may
/// hold orders of this batch while they wait for the next table; those orders are free in a moment, so waiting pays.
const WAITING_TRIES: u32 = 2;
/// How long a message that failed alone waits for its last attempt: a deadlock is over by then.
const PAUSE_ALONE: Duration = Duration::from_millis(50);

/// Decides and commits a batch from the broker, even if some of its messages fail.
///
/// # Errors
/// When the database is unavailable: call again with the same messages.
pub async fn process(
    session: &mut Session,
    messages: &[Message],
    policy: Policy<'_>,
) -> Result<Vec<Outcome>, DatabaseUnavailable> {
    for tries_left in (0..WAITING_TRIES).rev() {
        let started = Instant::now();
        match attempt(session, messages, policy, OnLocked::Wait).await {
            Ok(outcomes) => return Ok(outcomes),
            Err(Failure::Unavailable(error)) => return Err(error),
            Err(Failure::Fault(Fault { problem, .. })) => {
                tracing::warn!(
                    messages = messages.len(),
                    problem,
                    tries_left,
                    "a batch failed; it is retried once the database has passed its self-check"
                );
            }
        }
        let was_slow = may_be_a_lock(started);
        self_check(session, policy).await?;
        if !was_slow {
            break;
        }
    }
    one_by_one(session, messages, policy).await
}

/// Steps 4 and 5: the batch without locked orders, then in halves, down to the messages that fail alone.
async fn one_by_one(
    session: &mut Session,
    messages: &[Message],
    policy: Policy<'_>,
) -> Result<Vec<Outcome>, DatabaseUnavailable> {
    let mut outcomes = Vec::with_capacity(messages.len());
    let mut left = vec![messages];
    while let Some(some) = left.pop() {
        match (attempt(session, some, policy, OnLocked::Skip).await, some) {
            (Ok(handled), _) => outcomes.extend(handled),
            (Err(Failure::Unavailable(error)), _) => return Err(error),
            (Err(Failure::Fault(_)), []) => {}
            (Err(Failure::Fault(_)), [alone]) => outcomes.extend(process_alone(session, alone, policy).await?),
            (Err(Failure::Fault(_)), many) => {
                let (first, second) = many.split_at(many.len() / 2);
                left.extend([second, first]);
            }
        }
    }
    Ok(outcomes)
}

/// Step 6: a message that has failed alone. If the database refuses it once more, it is quarantined.
async fn process_alone(
    session: &mut Session,
    message: &Message,
    policy: Policy<'_>,
) -> Result<Vec<Outcome>, DatabaseUnavailable> {
    tokio::time::sleep(PAUSE_ALONE).await;
    self_check_for(session, message, policy).await?;
    let started = Instant::now();
    match attempt(session, std::slice::from_ref(message), policy, OnLocked::Skip).await {
        Ok(outcomes) => Ok(outcomes),
        Err(Failure::Unavailable(error)) => Err(error),
        Err(Failure::Fault(Fault { problem, .. })) if may_be_a_lock(started) => {
            // Another session may have locked a table after the self-check.
            self_check(session, policy).await?;
            quarantine_alone(session, message, NotDecided::ForLock(problem), policy).await
        }
        Err(Failure::Fault(Fault { problem, .. })) => {
            quarantine_alone(session, message, NotDecided::RejectedByDatabase(problem), policy).await
        }
    }
}

/// Quarantines a message without reading its order: with the names that it could be decoded to, or without them if the
/// database refuses those.
async fn quarantine_alone(
    session: &mut Session,
    message: &Message,
    why: NotDecided,
    policy: Policy<'_>,
) -> Result<Vec<Outcome>, DatabaseUnavailable> {
    let Some(message) = &unknown(session, message).await? else { return Ok(Vec::new()) };
    let reason = why.reason();
    let names =
        message.authenticate_and_decode_catching_panics(policy.keys).into_iter().next().map(|examined| examined.names);
    let with_names = Examined { names: names.unwrap_or_default(), ..Examined::not_decided(why.clone()) };
    let bare = message.with_essential_headers();
    let mut written = write_held(session, message, with_names, policy).await;
    if let Err(Failure::Fault(_)) = &written {
        written = write_held(session, &bare, Examined::not_decided(why), policy).await;
    }
    let outcomes = written.map_err(|failure| session.into_unavailable(failure))?;
    tracing::error!(id = %message.id, reason, "the database rejected a callback; it is held in quarantine and retried");
    Ok(outcomes)
}

/// The message under the id that its ledger row will have; `None` when the ledger has it already.
async fn unknown<'a>(
    session: &mut Session,
    message: &'a Message,
) -> Result<Option<Cow<'a, Message>>, DatabaseUnavailable> {
    let mut unknown = session.require(async |conn| fresh::unknown(conn, vec![Cow::Borrowed(message)]).await).await?;
    Ok(unknown.pop())
}

async fn write_held(
    session: &mut Session,
    message: &Message,
    examined: Examined<'_>,
    policy: Policy<'_>,
) -> Result<Vec<Outcome>, Failure> {
    let part = Part::held_whole(message, examined);
    session
        .run(async |conn| {
            conn.transaction(async |conn| {
                transaction::decide_and_write(conn, vec![part], policy, OnLocked::Skip, LookUp::Every).await
            })
            .await
        })
        .await
}

async fn attempt(
    session: &mut Session,
    messages: &[Message],
    policy: Policy<'_>,
    on_locked: OnLocked,
) -> Result<Vec<Outcome>, Failure> {
    session.run(async |conn| transaction::apply(conn, messages, policy, on_locked).await).await
}
