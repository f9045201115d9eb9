//! A batch from the broker: which of its messages are new, and one transaction for all of them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use chrono::DateTime;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use shared::messaging::envelope::{MCH_ID, content_id};
use uuid::Uuid;

use crate::apply::{ApplyError, LookUp, Part, RACES_MAX, Rules, decide_and_write};
use crate::message::Message;
use crate::outcome::Outcome;
use crate::store::notifications;
use crate::store::orders::Locked;

/// Decides the messages that the ledger does not have yet, in one transaction; returns their outcomes.
///
/// # Errors
/// Nothing was written.
pub async fn apply(
    conn: &mut AsyncPgConnection,
    messages: &[Message],
    rules: Rules<'_>,
    locked: Locked,
) -> Result<Vec<Outcome>, ApplyError> {
    let mut fresh = distinct(messages);
    // Only a message that was delivered before can be in the ledger, so others need no look-up.
    if fresh.iter().any(|message| message.redelivered) {
        let (redelivered, first): (Vec<_>, Vec<_>) = fresh.into_iter().partition(|message| message.redelivered);
        fresh = first;
        fresh.extend(unknown(conn, redelivered).await?);
    }
    let mut races = 0;
    let mut look_up = LookUp::WhereOrdersChanged;
    loop {
        match transact(conn, &fresh, rules, locked, look_up).await {
            Err(error) if error.is_race() && races < RACES_MAX => {
                races = races.saturating_add(1);
                look_up = LookUp::Every;
                // An ingest or an operator published the same message twice: rare enough to pay for it only then.
                if matches!(error, ApplyError::LedgerDiffers) {
                    fresh = unknown(conn, fresh).await?;
                }
            }
            result => return result,
        }
    }
}

/// Each message once. One that has the id of another, but says something else, gets an id of its own: it may be the genuine
/// one.
fn distinct(messages: &[Message]) -> Vec<Cow<'_, Message>> {
    let mut seen: HashMap<Uuid, &Message> = HashMap::with_capacity(messages.len());
    let mut distinct = Vec::with_capacity(messages.len());
    for message in messages {
        match seen.get(&message.id) {
            None => {
                seen.insert(message.id, message);
                distinct.push(Cow::Borrowed(message));
            }
            Some(first) if first.says_the_same_as(message) => {}
            Some(_) => distinct.push(Cow::Owned(renamed(message))),
        }
    }
    let mut ids = HashSet::with_capacity(distinct.len());
    distinct.retain(|message| ids.insert(message.id));
    distinct
}

/// Those of the messages that the ledger does not have. A message whose id the ledger has with different content gets a new id.
///
/// # Errors
/// When the database is unavailable.
pub async fn unknown<'a>(
    conn: &mut AsyncPgConnection,
    messages: Vec<Cow<'a, Message>>,
) -> Result<Vec<Cow<'a, Message>>, ApplyError> {
    let known = notifications::known(conn, messages.iter().map(AsRef::as_ref)).await?;
    let (mut unknown, mut renamed_ones) = (Vec::with_capacity(messages.len()), Vec::new());
    for message in messages {
        match known.get(&message.id) {
            None => unknown.push(message),
            Some(content) if content.is_of(&message) => {}
            Some(_) => renamed_ones.push(Cow::Owned(renamed(&message))),
        }
    }
    if !renamed_ones.is_empty() {
        let known = notifications::known(conn, renamed_ones.iter().map(AsRef::as_ref)).await?;
        renamed_ones.retain(|message| !known.contains_key(&message.id));
        let mut ids = HashSet::new();
        renamed_ones.retain(|message| ids.insert(message.id));
        unknown.extend(renamed_ones);
    }
    Ok(unknown)
}

/// The message under an id made of what it says. It has no time of receipt then.
fn renamed(message: &Message) -> Message {
    let header = |name: &str| message.headers.get(name).map(String::as_str);
    let id = content_id(header("type"), header(MCH_ID), &message.body);
    tracing::warn!(was = %message.id, %id, "a message reused the id of another message with different content; it is recorded under a new id");
    Message { id, received_at: DateTime::UNIX_EPOCH, ..message.clone() }
}

async fn transact(
    conn: &mut AsyncPgConnection,
    messages: &[Cow<'_, Message>],
    rules: Rules<'_>,
    locked: Locked,
    look_up: LookUp,
) -> Result<Vec<Outcome>, ApplyError> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let parts = messages.iter().flat_map(|message| Part::new_of(message, rules)).collect();
    conn.transaction(async |conn| decide_and_write(conn, parts, rules, locked, look_up).await).await
}
