//! A database per test, copied from a template that is migrated once for each state of `migrations/`.
//!
//! The template's name holds a hash of the SQL, and an advisory lock lets one of many tests make it, so that test
//! binaries may run at the same time and a changed migration is never met half-way.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use tokio_postgres::{Client, NoTls};
use url::Url;

use crate::servers::{Servers, with_path};
use crate::teardown;

/// What `worker migrate` does itself: it makes the schema before the migrations, and the ledger's months after them.
const BEFORE_MIGRATIONS: &str = "CREATE SCHEMA countersign";
const AFTER_MIGRATIONS: &str = "SELECT notifications_make_months(now(), 24)";
/// Tables of a shop, named like ours, in the same database. A statement that writes to one of them by mistake fails.
const OF_THE_SHOP: &str = "
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE EXCEPTION 'this table is the shop''s own'; END$$;
    DO $$
    DECLARE
        name text;
    BEGIN
        FOREACH name IN ARRAY ARRAY['orders', 'payments', 'refunds', 'notifications', 'quarantine', 'order_events', 'relay'] LOOP
            EXECUTE format('CREATE TABLE public.%I (id bigint, mch_id text, out_trade_no text, state text)', name);
            EXECUTE format('GRANT ALL ON public.%I TO PUBLIC', name);
            EXECUTE format('CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON public.%I
                            EXECUTE FUNCTION public.refuse()', name);
        END LOOP;
    END;
    $$";
/// One template is made at a time, under this advisory lock. Any number that nothing else locks would do.
const TEMPLATE_LOCK: i64 = 0x00C0_57E2_516E;

/// A test's own migrated database. Dereferences to an administrator's client, for preparing and asserting.
pub struct Database {
    name: String,
    servers: Servers,
    client: Client,
}

impl Database {
    /// Creates one. It is dropped with the value, even while sessions are connected.
    pub async fn create(servers: &Servers) -> Result<Self> {
        let administrator = connect(&servers.database).await?;
        let template = template(servers, &administrator).await?;
        let name = teardown::fresh_name();
        administrator.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await?;
        let client = connect(&with_path(&servers.database, &name)).await?;
        Ok(Self { name, servers: servers.clone(), client })
    }

    /// An empty database without the schema, for testing the migration itself.
    pub async fn create_empty(servers: &Servers) -> Result<Self> {
        let name = teardown::fresh_name();
        connect(&servers.database).await?.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        let client = connect(&with_path(&servers.database, &name)).await?;
        Ok(Self { name, servers: servers.clone(), client })
    }

    /// Its URL as administrator.
    #[must_use]
    pub fn url(&self) -> Url {
        with_path(&self.servers.database, &self.name)
    }

    /// Its URL with the small rights of a worker.
    #[must_use]
    pub fn worker_url(&self) -> Url {
        with_path(&self.servers.worker_database, &self.name)
    }

    /// Another connection, for locks that a test holds against the worker.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.url()).await
    }
}

impl Deref for Database {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let server = self.servers.database.clone();
        let drop_it = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        teardown::finish(
            "a test's database",
            async move { Ok(connect(&server).await?.batch_execute(&drop_it).await?) },
        );
    }
}

/// A test's own role: a fresh name, and what has that name is dropped with the value. To be made before the databases in which it
/// has rights, because values are dropped last made first.
pub struct Role {
    name: String,
    server: Url,
}

impl Role {
    /// A name that no role has yet.
    #[must_use]
    pub fn reserve(servers: &Servers) -> Self {
        Self { name: teardown::fresh_name(), server: servers.database.clone() }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let (server, drop_it) = (self.server.clone(), format!("DROP ROLE IF EXISTS {}", self.name));
        teardown::finish("a test's role", async move { Ok(connect(&server).await?.batch_execute(&drop_it).await?) });
    }
}

/// The name of the migrated template, made if this is the first test to need it.
async fn template(servers: &Servers, administrator: &Client) -> Result<String> {
    let scripts = scripts(servers)?;
    let digest = hex::encode(Sha256::digest(scripts.join("\n")));
    let name = format!("template_{}", digest.get(..16).unwrap_or(&digest));
    if exists(administrator, &name).await? {
        return Ok(name);
    }
    administrator.execute("SELECT pg_advisory_lock($1)", &[&TEMPLATE_LOCK]).await?;
    if !exists(administrator, &name).await? {
        drop_abandoned(administrator).await?;
        make_template(servers, administrator, &name, &scripts).await?;
    }
    administrator.execute("SELECT pg_advisory_unlock($1)", &[&TEMPLATE_LOCK]).await?;
    Ok(name)
}

/// Renamed into place last, so that no test copies half a template.
async fn make_template(servers: &Servers, administrator: &Client, name: &str, scripts: &[String]) -> Result<()> {
    let unfinished = format!("{name}_unfinished");
    administrator.batch_execute(&format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)")).await?;
    administrator.batch_execute(&format!("CREATE DATABASE {unfinished}")).await?;
    let inside = connect(&with_path(&servers.database, &unfinished)).await?;
    for script in scripts {
        inside.batch_execute(script).await.with_context(|| format!("running {}", excerpt(script)))?;
    }
    drop(inside);
    // The server itself waits a few seconds for our connection to be gone.
    administrator.batch_execute(&format!("ALTER DATABASE {unfinished} RENAME TO {name}")).await?;
    Ok(())
}

/// Everything that makes an empty database one of Countersign's, in order.
fn scripts(servers: &Servers) -> Result<Vec<String>> {
    let root = project();
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root.join("migrations"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    folders.retain(|path| path.is_dir());
    folders.sort();
    let mut scripts = vec![OF_THE_SHOP.to_owned(), BEFORE_MIGRATIONS.to_owned()];
    for folder in folders {
        scripts.push(fs::read_to_string(folder.join("up.sql")).with_context(|| folder.display().to_string())?);
    }
    scripts.push(AFTER_MIGRATIONS.to_owned());
    scripts.push(roles(servers.worker_database.password().unwrap_or_default())?);
    Ok(scripts)
}

/// `deploy/postgres/roles.sql` without what is for psql alone.
fn roles(password: &str) -> Result<String> {
    let script = fs::read_to_string(roles_file())?;
    let sql: Vec<_> = script.lines().filter(|line| !line.starts_with('\\')).collect();
    Ok(sql.join("\n").replace(":'worker_password'", &format!("'{}'", password.replace('\'', "''"))))
}

/// Where `deploy/postgres/roles.sql` is.
#[must_use]
pub fn roles_file() -> PathBuf {
    project().join("deploy/postgres/roles.sql")
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn excerpt(script: &str) -> &str {
    script.lines().next().unwrap_or_default()
}

async fn exists(administrator: &Client, name: &str) -> Result<bool> {
    Ok(administrator.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await?.is_some())
}

async fn drop_abandoned(administrator: &Client) -> Result<()> {
    for row in administrator.query("SELECT datname FROM pg_database", &[]).await? {
        let name: String = row.get(0);
        if teardown::is_abandoned(&name) {
            administrator.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        }
    }
    Ok(())
}

/// The option of a session whose path is the schema of the product, so that tests and rigs need not name it. Without a space,
/// which not every client decodes from a URL.
pub const IN_SCHEMA: &str = "--search_path=countersign";

/// The URL with [`IN_SCHEMA`].
#[must_use]
pub fn in_schema(url: &Url) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair("options", IN_SCHEMA);
    url
}

async fn connect(url: &Url) -> Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(in_schema(url).as_str(), NoTls).await.context("connecting to PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}
