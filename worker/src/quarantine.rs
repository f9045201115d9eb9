//! `worker quarantine`: what an operator sees of held payments and refunds and does about them.
//!
//! stdout is data, stderr is talk. The two commands that write want a name and a reason, and can be tried dry.
#![expect(clippy::doc_markdown, reason = "the comments on options are the text of --help")]

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::SecondsFormat;
use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};

use crate::store::operate::{self, Filter, Group, Row};

/// How long a command waits for a row that a worker is deciding at this moment.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '10s'";
/// How many payments `list` shows unless told otherwise.
const LIST_LIMIT: i64 = 50;

/// What to do with held payments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What is open or waiting, oldest first; repeats of one payment or refund are one line
    List(Selection),
    /// One row with its evidence, its message and the order as it is now
    Show {
        /// A row's id, as `list` prints it
        id: i64,
        /// Print the callback's body too: it names the payer
        #[arg(long)]
        body: bool,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Decide again, as if the callbacks had just come; the workers do it within a second or two
    Replay(Change),
    /// Close: you have dealt with it (paid back, corrected by hand, ..)
    Resolve(Change),
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
    /// At most this many payments, oldest first; without it `list` shows 50 and a change takes all that are meant
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    limit: Option<i64>,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Which payments, who changes them and why.
#[derive(Debug, Args)]
pub struct Change {
    /// Rows' ids, as `list` prints them; their repeats go with them
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
    /// Show what would be changed, change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs one command.
///
/// # Errors
/// When the database is away or an id means nothing.
pub async fn run(mut conn: AsyncPgConnection, command: Command, wait_limit: Duration) -> anyhow::Result<()> {
    conn.batch_execute(LOCK_TIMEOUT).await?;
    match command {
        Command::List(selection) => {
            let groups = operate::groups(&mut conn, &selection.filter(Vec::new(), LIST_LIMIT)).await?;
            print_groups(&groups, selection.json)
        }
        Command::Show { id, body, json } => {
            let row = operate::row(&mut conn, id).await?.with_context(|| format!("there is no quarantine row {id}"))?;
            print_row(&row, body, json)
        }
        Command::Replay(change) => {
            let groups = change.groups(&mut conn).await?;
            if !change.dry_run {
                let ids = row_ids(&groups);
                let moved = operate::replay(&mut conn, &ids, &change.by, &change.why, wait_limit).await?;
                eprintln!("{moved} rows of {} payments will be decided again by the next sweep", groups.len());
            }
            change.report(&groups)
        }
        Command::Resolve(change) => {
            let groups = change.groups(&mut conn).await?;
            if !change.dry_run {
                let moved = operate::resolve(&mut conn, &row_ids(&groups), &change.by, &change.why).await?;
                eprintln!("{moved} rows of {} payments resolved", groups.len());
            }
            change.report(&groups)
        }
    }
}

impl Selection {
    fn filter(&self, ids: Vec<i64>, limit: i64) -> Filter {
        Filter { ids, reason: self.reason.clone(), order: self.order.clone(), limit: self.limit.unwrap_or(limit) }
    }
}

impl Change {
    async fn groups(&self, conn: &mut AsyncPgConnection) -> anyhow::Result<Vec<Group>> {
        for (option, value) in [("--by", &self.by), ("--why", &self.why)] {
            if value.trim().is_empty() {
                bail!("{option} must not be empty");
            }
        }
        let groups = operate::groups(conn, &self.selection.filter(self.ids.clone(), i64::MAX)).await?;
        let found = row_ids(&groups);
        let missing: Vec<String> = self.ids.iter().filter(|id| !found.contains(id)).map(ToString::to_string).collect();
        if !missing.is_empty() {
            bail!("nothing was changed: no unresolved row has the id {}", missing.join(", "));
        }
        Ok(groups)
    }

    fn report(&self, groups: &[Group]) -> anyhow::Result<()> {
        if self.dry_run {
            eprintln!("dry run: {} rows of {} payments would be changed", row_ids(groups).len(), groups.len());
        }
        print_groups(groups, self.selection.json)
    }
}

fn row_ids(groups: &[Group]) -> Vec<i64> {
    groups.iter().flat_map(|group| group.ids.iter().copied()).collect()
}

fn print_groups(groups: &[Group], json: bool) -> anyhow::Result<()> {
    if json {
        return print_line(&serde_json::to_string_pretty(groups)?);
    }
    if groups.is_empty() {
        eprintln!("nothing is waiting or open");
        return Ok(());
    }
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
        table.add_row([
            group.id.to_string(),
            group.state.clone(),
            group.reason.clone(),
            group.mch_id.clone().unwrap_or_else(|| "-".to_owned()),
            group.out_trade_no.clone().unwrap_or_else(|| "-".to_owned()),
            group.transaction_id.clone().unwrap_or_else(|| "-".to_owned()),
            group.out_refund_no.clone().unwrap_or_else(|| "-".to_owned()),
            evidence("expected"),
            got,
            group.ids.len().to_string(),
            group.first_received_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        ]);
    }
    print_line(&table.to_string())
}

fn print_row(row: &Row, body: bool, json: bool) -> anyhow::Result<()> {
    let mut value = serde_json::to_value(row)?;
    let text = String::from_utf8_lossy(&row.body);
    if let (true, Some(fields)) = (body, value.as_object_mut()) {
        fields.insert("body".to_owned(), text.as_ref().into());
    }
    if json {
        return print_line(&serde_json::to_string_pretty(&value)?);
    }
    for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| *name != "body") {
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::String(text) => print_line(&format!("{name:<20} {text}"))?,
            other => print_line(&format!("{name:<20} {other}"))?,
        }
    }
    if body { print_line(&format!("\n{text}")) } else { Ok(()) }
}

/// A reader that went away (`| head`) is no error.
fn print_line(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
