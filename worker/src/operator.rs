//! `worker quarantine`: the commands with which operators inspect and resolve held payments and refunds.
//!
//! Data goes to stdout, messages to stderr. The four commands that write require a name and a reason, and have a dry run.
#![expect(clippy::doc_markdown, reason = "the comments on options are the text of --help")]

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::SecondsFormat;
use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use shared::merchants_file::MerchantsFile;

use crate::batch::message::Message;
use crate::store::operator::{self, ACCEPTABLE, Deed, Filter, Group, Nature, Operator, Row};
use crate::terminal;

/// How long a command waits for a row that a worker is deciding at this moment.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// How many payments `list` shows unless told otherwise.
const LIST_LIMIT: i64 = 50;

/// What to do with held payments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List open and waiting callbacks, oldest first; repeats of one payment or refund are one line
    List(Selection),
    /// Show one row with its evidence, its message and the current order
    Show {
        /// A row's id, as `list` prints it
        id: i64,
        /// Print the callback's body too, with everything escaped that a terminal would act on: it names the payer
        #[arg(long)]
        body: bool,
        /// Print the exact bytes of the body and nothing else, for a file or another program
        #[arg(long, conflicts_with_all = ["body", "json"])]
        raw: bool,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Have callbacks decided again, as if they had just arrived; workers do it within a second or two. A resolved row can be
    /// replayed by its id
    Replay(Change),
    /// Accept a callback that contradicts what is on record (ambiguous_signature, refund_id_mismatch, refund_state_conflict),
    /// after you have checked it in WeChat Pay's portal
    Accept(Change),
    /// Close a row that you have dealt with, for example by paying the money back. A callback that has not been decided cannot be
    /// closed: replay or abandon it
    Resolve(Change),
    /// Give up a callback that has not been decided; the ledger records it, and a later report of the same is decided anew
    Abandon(Change),
}

/// Which payments.
#[derive(Debug, Args)]
pub struct Selection {
    /// Only this reason, as in amount_mismatch
    #[arg(long)]
    reason: Option<String>,
    /// Only this out_trade_no
    #[arg(long)]
    order: Option<String>,
    /// At most this many payments, oldest first (default: 50 for `list`, no limit for changes)
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    limit: Option<i64>,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Which payments, who changes them and why.
#[derive(Debug, Args)]
pub struct Change {
    /// Ids of rows, as `list` prints them; repeats of the same callback are included
    #[arg(required_unless_present_any = ["reason", "order"])]
    ids: Vec<i64>,
    #[command(flatten)]
    selection: Selection,
    /// Your name, kept with the row
    #[arg(long)]
    by: String,
    /// Your reason, kept with the row
    #[arg(long)]
    why: String,
    /// Show what would be changed, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs one command.
///
/// # Errors
/// When the database is unavailable or no row has the id.
pub async fn run(
    mut conn: AsyncPgConnection,
    command: Command,
    wait_limit: Duration,
    merchants: Option<&MerchantsFile>,
) -> anyhow::Result<()> {
    conn.batch_execute(&format!("SET lock_timeout = {}", LOCK_TIMEOUT.as_millis())).await?;
    match command {
        Command::List(selection) => {
            let groups = operator::groups(&mut conn, &selection.filter(Vec::new(), LIST_LIMIT)).await?;
            print_groups(&groups, selection.json)
        }
        Command::Show { id, body, raw, json } => {
            let row =
                operator::row(&mut conn, id).await?.with_context(|| format!("there is no quarantine row {id}"))?;
            if raw { print_raw(&row) } else { print_row(&row, &opened(&row, merchants), body, json) }
        }
        Command::Replay(change) => {
            change.run(&mut conn, Deed::Replay(wait_limit), "will be decided again by the next sweep").await
        }
        Command::Accept(change) => {
            change.run(&mut conn, Deed::Accept(wait_limit), "will be accepted by the next sweep").await
        }
        Command::Resolve(change) => change.run(&mut conn, Deed::Resolve, "resolved").await,
        Command::Abandon(change) => change.run(&mut conn, Deed::Abandon, "abandoned").await,
    }
}

impl Selection {
    fn filter(&self, ids: Vec<i64>, limit: i64) -> Filter {
        Filter {
            ids,
            reason: self.reason.clone(),
            order: self.order.clone(),
            resolved: false,
            limit: self.limit.unwrap_or(limit),
        }
    }
}

/// Names that our programs write as `resolved_by`; an operator may not use them.
const PROGRAMS: [&str; 8] = ["sweeper", "refund", "worker", "ingest", "relay", "countersign", "console", "inquirer"];
/// The longest name and reason that are kept, in characters.
const TEXT_CHARS_MAX: usize = 500;

impl Change {
    async fn run(self, conn: &mut AsyncPgConnection, deed: Deed, done: &str) -> anyhow::Result<()> {
        self.check()?;
        let groups = self.groups(conn, deed).await?;
        for group in &groups {
            check_deed(deed, group)?;
        }
        if self.dry_run {
            eprintln!("dry run: {} rows of {} payments would be changed", row_ids(&groups).len(), groups.len());
        } else {
            let operator = Operator { by: self.by.trim(), why: self.why.trim() };
            let changed = operator::change(conn, &groups, operator, deed).await?;
            eprintln!("{changed} rows of {} payments {done}", groups.len());
            let left = row_ids(&groups).len().saturating_sub(changed);
            if left > 0 {
                eprintln!("{left} rows were decided in the meantime and are unchanged: list them again");
            }
        }
        print_groups(&groups, self.selection.json)
    }

    fn check(&self) -> anyhow::Result<()> {
        for (option, value) in [("--by", &self.by), ("--why", &self.why)] {
            if value.trim().is_empty() {
                bail!("{option} must not be empty");
            }
            if value.chars().count() > TEXT_CHARS_MAX {
                bail!("{option} must not be longer than {TEXT_CHARS_MAX} characters");
            }
            if terminal::escape(value) != *value {
                bail!("{option} must not contain control characters");
            }
        }
        if PROGRAMS.iter().any(|name| name.eq_ignore_ascii_case(self.by.trim())) {
            bail!("--by must be your own name: '{}' is the name of a program", self.by.trim());
        }
        Ok(())
    }

    async fn groups(&self, conn: &mut AsyncPgConnection, deed: Deed) -> anyhow::Result<Vec<Group>> {
        let mut filter = self.selection.filter(self.ids.clone(), i64::MAX);
        filter.resolved = matches!(deed, Deed::Replay(_));
        let groups = operator::groups(conn, &filter).await?;
        let found = row_ids(&groups);
        let missing: Vec<String> = self.ids.iter().filter(|id| !found.contains(id)).map(ToString::to_string).collect();
        if !missing.is_empty() {
            let kind = if filter.resolved { "row that is not decided" } else { "unresolved row" };
            bail!("nothing was changed: no {kind} has the id {}", missing.join(", "));
        }
        Ok(groups)
    }
}

/// Whether this may be done to rows that are held for this reason.
fn check_deed(deed: Deed, group: &Group) -> anyhow::Result<()> {
    let (id, reason) = (group.id, &group.reason);
    match (deed, Nature::from_reason(reason)) {
        (Deed::Resolve, Nature::Work) => bail!(
            "nothing was changed: row {id} ({reason}) has not been decided, so it cannot be resolved. Fix the \
             cause and replay it, or give it up with: worker quarantine abandon {id} --by NAME --why REASON"
        ),
        (Deed::Abandon, Nature::ForPeople) => bail!(
            "nothing was changed: row {id} ({reason}) has been decided, so it cannot be abandoned. Close it with: worker quarantine \
             resolve {id} --by NAME --why REASON"
        ),
        (Deed::Accept(_), _) if !ACCEPTABLE.contains(&reason.as_str()) => bail!(
            "nothing was changed: row {id} ({reason}) cannot be accepted. Only {} can; for other reasons fix the cause and replay",
            ACCEPTABLE.join(", ")
        ),
        _ => Ok(()),
    }
}

fn row_ids(groups: &[Group]) -> Vec<i64> {
    groups.iter().flat_map(|group| group.ids.iter().copied()).collect()
}

fn print_groups(groups: &[Group], json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(&groups);
    }
    if groups.is_empty() {
        eprintln!("nothing is waiting or open");
        return Ok(());
    }
    print_line(&table(groups).to_string())
}

fn table(groups: &[Group]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header([
        "ID",
        "STATE",
        "REASON",
        "MERCHANT",
        "ORDER",
        "TRANSACTION",
        "REFUND",
        "PAID",
        "EXPECTED",
        "GOT",
        "TIMES",
        "SINCE",
    ]);
    for group in groups {
        let evidence = |name: &str| match group.detail.get(name) {
            Some(serde_json::Value::String(text)) => text.clone(),
            _ => "-".to_owned(),
        };
        let got = if group.detail.get("problem").is_some() { evidence("problem") } else { evidence("got") };
        let row = [
            group.id.to_string(),
            group.state.clone(),
            group.reason.clone(),
            group.mch_id.clone().unwrap_or_else(|| "-".to_owned()),
            group.out_trade_no.clone().unwrap_or_else(|| "-".to_owned()),
            group.transaction_id.clone().unwrap_or_else(|| "-".to_owned()),
            group.out_refund_no.clone().unwrap_or_else(|| "-".to_owned()),
            group.paid.clone().unwrap_or_else(|| "-".to_owned()),
            evidence("expected"),
            got,
            group.ids.len().to_string(),
            group.first_received_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        ];
        table.add_row(row.map(|cell| terminal::escape(&cell)));
    }
    table
}

/// The callback's opened text, or the reason why it cannot be shown.
fn opened(row: &Row, merchants: Option<&MerchantsFile>) -> String {
    let (Some(headers), Some(body)) = (row.headers.clone(), row.body.clone()) else {
        return "(the body is gone: its month has been dropped from the ledger)".to_owned();
    };
    let Some(merchants) = merchants else {
        return "(set MERCHANTS_FILE to the worker's file to see the opened text)".to_owned();
    };
    let message = Message {
        id: row.notification_id,
        received_at: row.received_at,
        headers: serde_json::from_value(headers).unwrap_or_default(),
        body,
        redelivered: false,
        suspect: false,
    };
    message.reveal(&merchants.keys()).unwrap_or_else(|problem| format!("(cannot be opened: {problem})"))
}

fn print_row(row: &Row, opened: &str, body: bool, json: bool) -> anyhow::Result<()> {
    let mut value = serde_json::to_value(row)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("opened".to_owned(), opened.into());
    }
    let text = row.body.as_deref().map(String::from_utf8_lossy);
    if let (true, Some(fields)) = (body, value.as_object_mut()) {
        fields.insert("body".to_owned(), text.as_deref().into());
    }
    if json {
        return print_json(&value);
    }
    for (name, value) in
        value.as_object().into_iter().flatten().filter(|(name, _)| *name != "body" && *name != "opened")
    {
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::String(text) => print_line(&format!("{name:<20} {}", terminal::escape(text)))?,
            other => print_line(&format!("{name:<20} {}", terminal::escape(&other.to_string())))?,
        }
    }
    print_line(&format!("\n{}", terminal::escape_lines(opened)))?;
    match text {
        Some(text) if body => print_line(&format!("\n{}", terminal::escape_lines(&text))),
        None if body => print_line("\nthe body is gone: its month has been dropped from the ledger"),
        _ => Ok(()),
    }
}

fn print_raw(row: &Row) -> anyhow::Result<()> {
    let body = row.body.as_deref().context("the body is gone: its month has been dropped from the ledger")?;
    match std::io::stdout().write_all(body) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print_line(&terminal::escape_json(&serde_json::to_string_pretty(value)?))
}

/// A reader that closed the pipe (`| head`) is no error.
fn print_line(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

#[cfg(test)]
mod tests;
