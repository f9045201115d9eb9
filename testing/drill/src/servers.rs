//! PostgreSQL and the broker's nodes: killed, frozen and started by `./dev _server`, which knows their processes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use kit::database::in_schema;
use kit::http::Response;
use kit::management;
use serde_json::Value;
use tokio::fs::OpenOptions;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};
use url::Url;

use crate::config::Place;

/// The process of PostgreSQL.
pub const POSTGRES: &str = "postgres";
/// How long a call of the management API may take.
const API_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection to PostgreSQL may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The servers that the programs depend on.
pub struct Servers {
    dev: PathBuf,
    log: PathBuf,
    rabbitmqctl: PathBuf,
    database: Url,
    ingest_amqp: Vec<Url>,
    small_disk: PathBuf,
    nodes: Vec<Node>,
}

/// A node of the broker.
#[derive(Debug, Clone)]
pub struct Node {
    /// The name of its process.
    pub process: String,
    /// Its name inside the cluster.
    pub erlang: String,
    management: Url,
}

impl Servers {
    /// Looks at the broker's nodes, which must all be there.
    pub async fn find(place: &Place) -> Result<Self> {
        let mut nodes = Vec::new();
        for (number, management) in (1..).zip(&place.rabbitmq_management_url) {
            let process = if number == 1 { "rabbitmq".to_owned() } else { format!("rabbitmq-{number}") };
            let overview = call(management, Method::GET, "overview?columns=node", Value::Null).await?;
            let erlang = text(&json(&overview)?, "/node")?;
            nodes.push(Node { process, erlang, management: management.clone() });
        }
        Ok(Self {
            dev: place.dev.clone(),
            log: place.drill_dir.join("log/servers.log"),
            rabbitmqctl: place.rabbitmqctl.clone(),
            database: place.database_url.clone().context("DATABASE_URL is not set: run it through ./dev drill")?,
            ingest_amqp: place.ingest_amqp_urls.clone(),
            small_disk: place.small_disk.clone(),
            nodes,
        })
    }

    /// The broker's nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node that leads `queue`.
    pub async fn leader(&self, queue: &str) -> Result<&Node> {
        let found = self.queue(queue).await?;
        let leader = text(&found, "/leader").or_else(|_| text(&found, "/node"))?;
        self.nodes.iter().find(|node| node.erlang == leader).context("the leader is no node of the cluster")
    }

    pub async fn followers(&self, queue: &str) -> Result<Vec<&Node>> {
        let leader = self.leader(queue).await?;
        Ok(self.nodes.iter().filter(|node| node.erlang != leader.erlang).collect())
    }

    /// How many copies of `queue` are up.
    pub async fn copies(&self, queue: &str) -> Result<usize> {
        let found = self.queue(queue).await?;
        Ok(found.pointer("/online").and_then(Value::as_array).map_or(0, Vec::len))
    }

    /// How many messages `queue` holds, in a consumer's hands or not. Some seconds late.
    pub async fn depth(&self, queue: &str) -> Result<u64> {
        let found = self.queue(queue).await?;
        found.pointer("/messages").and_then(Value::as_u64).context("the broker does not count yet")
    }

    async fn queue(&self, queue: &str) -> Result<Value> {
        json(&self.api(Method::GET, &format!("queues/%2f/{queue}"), Value::Null).await?)
    }

    /// A call of the management API, of the first node that answers.
    pub async fn api(&self, method: Method, path: &str, body: Value) -> Result<Response> {
        let mut last = None;
        for node in &self.nodes {
            match call(&node.management, method.clone(), path, body.clone()).await {
                Ok(response) => return Ok(response),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("there is no broker")?)
    }

    /// Kills processes with SIGKILL.
    pub async fn kill(&self, processes: &[&str]) -> Result<()> {
        self.act("kill", processes).await
    }

    /// Starts them and waits until they can do their job.
    pub async fn start(&self, processes: &[&str]) -> Result<()> {
        self.act("start", processes).await
    }

    /// Suspends a process and its children.
    pub async fn freeze(&self, process: &str) -> Result<()> {
        self.act("freeze", &[process]).await
    }

    /// Resumes them.
    pub async fn thaw(&self, process: &str) -> Result<()> {
        self.act("thaw", &[process]).await
    }

    async fn act(&self, verb: &str, processes: &[&str]) -> Result<()> {
        self.dev("_server", verb, processes).await
    }

    async fn dev(&self, what: &str, verb: &str, names: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.dev);
        command.arg(what).arg(verb).args(names);
        self.run(command).await.with_context(|| format!("./dev {what} {verb} {}", names.join(" ")))
    }

    /// Mounts a small file system for PostgreSQL, and says where; `None` where the machine does not allow it.
    pub async fn make_small_disk(&self) -> Option<&Path> {
        self.dev("_disk", "make", &[]).await.ok()?;
        Some(&self.small_disk)
    }

    /// Fills it up.
    pub async fn fill_small_disk(&self) -> Result<()> {
        self.dev("_disk", "fill", &[]).await
    }

    /// Empties it again.
    pub async fn empty_small_disk(&self) -> Result<()> {
        self.dev("_disk", "empty", &[]).await
    }

    /// `rabbitmqctl` about `node`.
    pub async fn rabbitmqctl(&self, node: &Node, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.rabbitmqctl);
        command.args(["--quiet", "--node", &node.erlang]).args(arguments);
        self.run(command).await.with_context(|| format!("rabbitmqctl {}", arguments.join(" ")))
    }

    async fn run(&self, mut command: Command) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).await?.into_std().await;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let status = command.status().await?;
        ensure!(status.success(), "{status}; see {}", self.log.display());
        Ok(())
    }

    /// Where PostgreSQL is, as administrator.
    #[must_use]
    pub fn database_url(&self) -> &Url {
        &self.database
    }

    /// Where the broker's first node is, with the rights of ingest.
    pub fn ingest_amqp(&self) -> Result<&Url> {
        self.ingest_amqp.first().context("INGEST_AMQP_URLS is not set: run it through ./dev drill")
    }

    /// A session of an administrator, past all proxies.
    pub async fn database(&self) -> Result<Client> {
        let url = in_schema(&self.database);
        let connecting = tokio_postgres::connect(url.as_str(), NoTls);
        let (client, connection) = timeout(CONNECT_TIMEOUT, connecting).await.context("PostgreSQL is silent")??;
        tokio::spawn(connection);
        Ok(client)
    }
}

async fn call(management: &Url, method: Method, path: &str, body: Value) -> Result<Response> {
    let calling = management::call(management, method, path, body);
    timeout(API_TIMEOUT, calling).await.context("the management API is silent")?
}

fn json(response: &Response) -> Result<Value> {
    Ok(serde_json::from_slice(&response.body)?)
}

fn text(value: &Value, pointer: &str) -> Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.map(ToOwned::to_owned).with_context(|| format!("the broker does not say {pointer}"))
}
