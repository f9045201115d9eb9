//! `deploy/postgres/roles.sql` as an operator runs it: with psql, as an owner who is no superuser, more than once.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::{env, fs};

use anyhow::{Context, Result};
use kit::TestResult;
use kit::database::{Database, IN_SCHEMA, Role, roles_file};
use kit::program::Launch;
use kit::servers::Servers;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use url::Url;

/// Quotes, a dollar and a backslash: the password goes through a shell, psql and SQL.
const PASSWORD: &str = r#"it's "$HOME" \set"#;

#[tokio::test]
async fn an_owner_who_is_no_superuser_makes_the_workers_role() -> TestResult {
    let shop = Shop::open().await?;
    let migrate = Launch::new("worker").argument("migrate").env("DATABASE_URL", shop.owner_url.as_str());
    let migrated = migrate.finish().await?;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    for time in ["first", "second"] {
        let ran = shop.run_roles(PASSWORD)?;
        assert!(ran.status.success(), "the {time} time: {ran:?}");
        assert!(!String::from_utf8_lossy(&ran.stdout).contains("HOME"), "the password is shown: {ran:?}");
    }
    let worker = shop.connect(PASSWORD).await?;
    worker.batch_execute("UPDATE orders SET state = 'closed'; DELETE FROM order_events").await?;
    let refused = worker.batch_execute("UPDATE notifications SET body = ''").await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    Ok(())
}

#[tokio::test]
async fn a_password_that_is_missing_is_an_error_that_says_where_it_goes() -> TestResult {
    let shop = Shop::open().await?;
    let ran = shop.run_roles("")?;
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(!ran.status.success() && said.contains("COUNTERSIGN_WORKER_PASSWORD"), "{said}");
    assert!(shop.connect("").await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_role_that_may_do_more_than_a_worker_is_refused() -> TestResult {
    let shop = Shop::open().await?;
    shop.database.batch_execute(&format!("CREATE ROLE {} CREATEDB CREATEROLE", shop.worker.name())).await?;
    // From PostgreSQL 16 on, the owner may alter no role without this.
    shop.database
        .batch_execute(&format!("GRANT {} TO {} WITH ADMIN OPTION", shop.worker.name(), shop.owner.name()))
        .await?;
    let ran = shop.run_roles(PASSWORD)?;
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(!ran.status.success() && said.contains("CREATEROLE, CREATEDB"), "{said}");
    Ok(())
}

/// An empty database of an owner who may create roles and nothing else, as managed PostgreSQL has it.
struct Shop {
    database: Database,
    owner_url: Url,
    /// The script with another name for the role, because a role belongs to the whole server.
    script: PathBuf,
    worker: Role,
    owner: Role,
    _checkout: Role,
}

impl Shop {
    async fn open() -> Result<Self> {
        let servers = Servers::from_environment()?;
        let [owner, worker, checkout] = [(); 3].map(|()| Role::reserve(&servers));
        let database = Database::create_empty(&servers).await?;
        let mut owner_url = database.url();
        let name = owner_url.path().trim_start_matches('/').to_owned();
        let (role, password) = (owner.name(), "the-owner-s");
        let make =
            format!("CREATE ROLE {role} LOGIN CREATEROLE PASSWORD '{password}'; ALTER DATABASE {name} OWNER TO {role}");
        database.batch_execute(&make).await?;
        owner_url.set_username(role).and_then(|()| owner_url.set_password(Some(password))).ok().context("a URL")?;
        let script = env::temp_dir().join(format!("roles-{name}.sql"));
        let sql = fs::read_to_string(roles_file())?.replace("countersign_worker", worker.name());
        fs::write(&script, sql.replace("countersign_shop", checkout.name()))?;
        Ok(Self { database, owner_url, script, worker, owner, _checkout: checkout })
    }

    fn run_roles(&self, password: &str) -> Result<Output> {
        let psql = env::var("PSQL").context("PSQL is not set: run the tests through ./dev test")?;
        let url = &self.owner_url;
        Ok(Command::new(psql)
            .args(["--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-f"])
            .arg(&self.script)
            .env("PGHOST", url.host_str().unwrap_or_default())
            .env("PGPORT", url.port().unwrap_or(5432).to_string())
            .env("PGUSER", url.username())
            .env("PGPASSWORD", url.password().unwrap_or_default())
            .env("PGDATABASE", url.path().trim_start_matches('/'))
            .env("COUNTERSIGN_WORKER_PASSWORD", password)
            .output()?)
    }

    async fn connect(&self, password: &str) -> Result<tokio_postgres::Client> {
        let mut config: tokio_postgres::Config = self.database.url().as_str().parse()?;
        config.user(self.worker.name()).password(password).options(IN_SCHEMA);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.script) {
            eprintln!("{}: {error}", self.script.display());
        }
    }
}
