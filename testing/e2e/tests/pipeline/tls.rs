//! TLS to PostgreSQL: which certificates a worker believes, by what `DATABASE_URL` says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use kit::TestResult;
use kit::database::Database;
use kit::program::{Finished, Launch};
use kit::servers::Servers;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use url::Url;

#[tokio::test]
async fn a_certificate_is_believed_as_far_as_the_url_says() -> TestResult {
    let database = Database::create(&Servers::from_environment()?).await?;
    let port = encrypt(database.url()).await?;
    let (ours, another) = (key("database-ca.crt.pem"), key("another-ca.crt.pem"));
    // The certificate is one for `localhost`.
    for (host, mode, authority, believed) in [
        ("localhost", "verify-full", Some(&ours), true),
        ("localhost", "require", Some(&ours), true),
        ("localhost", "verify-ca", Some(&ours), true),
        ("127.0.0.1", "verify-full", Some(&ours), false),
        ("127.0.0.1", "require", Some(&ours), false),
        ("127.0.0.1", "verify-ca", Some(&ours), true),
        ("localhost", "verify-full", Some(&another), false),
        ("localhost", "verify-ca", Some(&another), false),
        ("localhost", "verify-full", None, false),
        ("localhost", "verify-ca", None, false),
    ] {
        let file = authority.map(|file| format!("&sslrootcert={}", file.display())).unwrap_or_default();
        let listed = list(&database, &format!("{host}:{port}"), &format!("sslmode={mode}{file}")).await?;
        let said = format!("{host} {mode} {authority:?}: {listed:?}");
        assert_eq!(listed.code, Some(i32::from(!believed)), "{said}");
        assert!(believed || listed.stderr.contains("certificate"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_without_tls_is_not_talked_to_when_the_url_asks_for_it() -> TestResult {
    let database = Database::create(&Servers::from_environment()?).await?;
    let address = format!("127.0.0.1:{}", database.url().port().unwrap_or(5432));
    let ours = key("database-ca.crt.pem");
    for mode in ["require", "verify-ca", "verify-full"] {
        let query = format!("sslmode={mode}&sslrootcert={}", ours.display());
        let listed = list(&database, &address, &query).await?;
        assert_eq!(listed.code, Some(1), "{mode}: {listed:?}");
        assert!(listed.stderr.contains("TLS"), "{mode}: {listed:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_file_without_certificates_is_named() -> TestResult {
    let database = Database::create(&Servers::from_environment()?).await?;
    for file in [key("no-such-file.pem"), key("database.pem")] {
        let query = format!("sslmode=verify-full&sslrootcert={}", file.display());
        let listed = list(&database, "localhost:1", &query).await?;
        assert_eq!(listed.code, Some(64), "{listed:?}");
        assert!(listed.stderr.starts_with("DATABASE_URL: sslrootcert="), "{listed:?}");
        assert!(listed.stderr.contains(&file.display().to_string()), "{listed:?}");
    }
    Ok(())
}

/// The shortest way through the database and out again.
async fn list(database: &Database, address: &str, query: &str) -> Result<Finished> {
    let url = database.worker_url();
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    let url = format!("postgres://{user}:{password}@{address}{}?{query}", url.path());
    Launch::new("worker").arguments(&["quarantine", "list"]).env("DATABASE_URL", &url).finish().await
}

/// PostgreSQL with a certificate for `localhost`: takes TLS as PostgreSQL does and passes on what is in it. Its port.
async fn encrypt(server: Url) -> Result<u16> {
    let certificates = CertificateDer::pem_file_iter(key("database.crt.pem"))?.collect::<Result<Vec<_>, _>>()?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, PrivateKeyDer::from_pem_file(key("database.pem"))?)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A client that does not believe the certificate hangs up.
            tokio::spawn(pass_on(client, acceptor.clone(), server.clone()));
        }
    });
    Ok(port)
}

async fn pass_on(mut client: TcpStream, acceptor: TlsAcceptor, server: Url) -> Result<()> {
    // PostgreSQL's SSLRequest is 8 bytes long; S says yes.
    client.read_exact(&mut [0; 8]).await?;
    client.write_all(b"S").await?;
    let mut client = acceptor.accept(client).await?;
    let host = server.host_str().context("a host")?;
    let mut server = TcpStream::connect((host, server.port().unwrap_or(5432))).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

fn key(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("keys").join(name)
}
