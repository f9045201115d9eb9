//! Which messages of a batch are new: neither repeated in the batch nor in the ledger already.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use chrono::DateTime;
use diesel_async::AsyncPgConnection;
use shared::messaging::envelope::{MCH_ID, content_id};
use uuid::Uuid;

use super::message::Message;
use crate::store::ledger;
use crate::store::session::TransactionError;

/// Each message once. A message with another's id and different content gets an id of its own, because it may be the genuine
/// one.
pub(super) fn distinct(messages: &[Message]) -> Vec<Cow<'_, Message>> {
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
pub(super) async fn unknown<'a>(
    conn: &mut AsyncPgConnection,
    messages: Vec<Cow<'a, Message>>,
) -> Result<Vec<Cow<'a, Message>>, TransactionError> {
    let known = ledger::known(conn, messages.iter().map(AsRef::as_ref)).await?;
    let (mut unknown, mut renamed_ones) = (Vec::with_capacity(messages.len()), Vec::new());
    for message in messages {
        match known.get(&message.id) {
            None => unknown.push(message),
            Some(content) if content.matches(&message) => {}
            Some(_) => renamed_ones.push(Cow::Owned(renamed(&message))),
        }
    }
    if !renamed_ones.is_empty() {
        let known = ledger::known(conn, renamed_ones.iter().map(AsRef::as_ref)).await?;
        renamed_ones.retain(|message| !known.contains_key(&message.id));
        let mut ids = HashSet::new();
        renamed_ones.retain(|message| ids.insert(message.id));
        unknown.extend(renamed_ones);
    }
    Ok(unknown)
}

/// The message under an id made from its content. Such an id has no time of receipt.
fn renamed(message: &Message) -> Message {
    let header = |name: &str| message.headers.get(name).map(String::as_str);
    let id = content_id(header("type"), header(MCH_ID), &message.body);
    tracing::warn!(was = %message.id, %id, "a message has the id of another message and different content; it is recorded under a new id");
    Message { id, received_at: DateTime::UNIX_EPOCH, ..message.clone() }
}
