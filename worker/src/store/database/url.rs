//! Reads `DATABASE_URL`, above all its settings for TLS.
//!
//! The words are libpq's, with two differences, both stricter: off this machine a URL that says nothing is refused instead of
//! being taken for `prefer`, and `require` checks the server's certificate as `verify-full` does.

use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use shared::process::loopback::is_loopback;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::tls::TlsError;

/// What a URL comes to.
#[derive(Debug)]
pub(super) struct Target {
    pub config: Config,
    pub encryption: Encryption,
    /// The hosts that are not this machine, for messages.
    pub remote: Vec<String>,
}

/// How a connection is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Encryption {
    /// Not at all.
    Plain,
    /// TLS.
    Tls { check: Check, roots: Roots },
}

/// What the server's certificate must prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// `verify-full`, `require`: it leads to one of the roots, and names the host of the URL.
    ChainAndName,
    /// `verify-ca`: it leads to one of the roots.
    Chain,
}

/// Whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// Those that this machine trusts.
    Machine,
    /// `sslrootcert`: those of a PEM file, and no others.
    File(PathBuf),
}

/// Why `DATABASE_URL` was rejected. Shows a host or the name of a file at most, never the URL: it has a password in it.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    /// Not a PostgreSQL URL.
    #[error(
        "is not a PostgreSQL URL (postgres://user:password@host:5432/database?sslmode=verify-full), or has reserved characters that are not percent-encoded"
    )]
    Malformed,
    /// What follows the question mark cannot be used.
    #[error("has a parameter after the ? that is not known, or whose value is wrong")]
    Parameters,
    /// Off this machine, and nothing is said about TLS.
    #[error(
        "{host} is not this machine, and the URL does not say whether the connection is encrypted: append sslmode=verify-full (or verify-ca), or sslmode=disable if the network is private"
    )]
    Silent {
        /// Where it leads.
        host: String,
    },
    /// `prefer` or `allow`.
    #[error(
        "sslmode={mode} continues without encryption when the server at {host} says that it has no TLS: write sslmode=verify-full (or verify-ca), or sslmode=disable if no encryption is wanted"
    )]
    FallsBack {
        /// Which of the two.
        mode: &'static str,
        /// Where it leads.
        host: String,
    },
    /// Another value of `sslmode`.
    #[error("has an unknown sslmode: it is one of verify-full, require (the same here), verify-ca and disable, once")]
    Mode,
    /// `sslrootcert` without TLS.
    #[error("has an sslrootcert, which needs sslmode=verify-full, require or verify-ca")]
    UnusedRoots,
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Reads a URL.
///
/// # Errors
/// When it is not one, or would send a password unencrypted without saying so.
pub(super) fn parse(url: &str) -> Result<Target, DatabaseUrlError> {
    let Parts { address, sslmode, sslrootcert, others } = take_apart(url)?;
    // What tokio-postgres knows of sslmode is set below.
    let config = Config::from_str(&format!("{address}?{}", others.join("&"))).map_err(|_| {
        if Config::from_str(address).is_ok() { DatabaseUrlError::Parameters } else { DatabaseUrlError::Malformed }
    })?;
    let remote = remote_hosts(&config);
    if config.get_hosts().is_empty() {
        return Err(DatabaseUrlError::Malformed);
    }
    let host = || remote.first().cloned().unwrap_or_else(|| "this machine".to_owned());
    let check = match sslmode.as_deref() {
        None if remote.is_empty() => None,
        None => return Err(DatabaseUrlError::Silent { host: host() }),
        Some("disable") => None,
        Some("require" | "verify-full") => Some(Check::ChainAndName),
        Some("verify-ca") => Some(Check::Chain),
        Some("prefer") => return Err(DatabaseUrlError::FallsBack { mode: "prefer", host: host() }),
        Some("allow") => return Err(DatabaseUrlError::FallsBack { mode: "allow", host: host() }),
        Some(_) => return Err(DatabaseUrlError::Mode),
    };
    let encryption = match (check, sslrootcert) {
        (None, None) => Encryption::Plain,
        (None, Some(_)) => return Err(DatabaseUrlError::UnusedRoots),
        (Some(check), None) => Encryption::Tls { check, roots: Roots::Machine },
        // As in libpq from PostgreSQL 16 on.
        (Some(check), Some(file)) if file == "system" => Encryption::Tls { check, roots: Roots::Machine },
        (Some(check), Some(file)) => Encryption::Tls { check, roots: Roots::File(file.into()) },
    };
    let mut config = config;
    config.ssl_mode(if encryption == Encryption::Plain { SslMode::Disable } else { SslMode::Require });
    Ok(Target { config, encryption, remote })
}

/// A URL without the parameters that are read here: tokio-postgres refuses most of their values.
struct Parts<'a> {
    address: &'a str,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    others: Vec<&'a str>,
}

fn take_apart(url: &str) -> Result<Parts<'_>, DatabaseUrlError> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let rest = rest.ok_or(DatabaseUrlError::Malformed)?;
    // tokio-postgres takes everything up to the first @ for user and password, a question mark too.
    let place = rest.split_once('@').map_or(rest, |(_user, place)| place);
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    if place.contains('@') {
        // What looks like the host may be a part of the password.
        return Err(DatabaseUrlError::Malformed);
    }
    let address = url.strip_suffix(query).map_or(url, |address| address.strip_suffix('?').unwrap_or(address));
    let mut parts = Parts { address, sslmode: None, sslrootcert: None, others: Vec::new() };
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').ok_or(DatabaseUrlError::Parameters)?;
        let ours = match name {
            "sslmode" => &mut parts.sslmode,
            "sslrootcert" => &mut parts.sslrootcert,
            _ => {
                parts.others.push(parameter);
                continue;
            }
        };
        let value = percent_decode_str(value).decode_utf8().map_err(|_| DatabaseUrlError::Parameters)?;
        if ours.replace(value.into_owned()).is_some() {
            return Err(DatabaseUrlError::Mode);
        }
    }
    Ok(parts)
}

/// With `hostaddr` that is where it goes, whatever the host is called.
fn remote_hosts(config: &Config) -> Vec<String> {
    if !config.get_hostaddrs().is_empty() {
        let addresses = config.get_hostaddrs().iter().map(ToString::to_string);
        return addresses.filter(|address| !is_loopback(address)).collect();
    }
    let name = |host: &Host| match host {
        Host::Tcp(name) if !is_loopback(name) => Some(name.clone()),
        Host::Tcp(_) | Host::Unix(_) => None,
    };
    config.get_hosts().iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(check: Check, file: Option<&str>) -> Encryption {
        Encryption::Tls { check, roots: file.map_or(Roots::Machine, |file| Roots::File(file.into())) }
    }

    #[test]
    fn what_a_url_says_about_tls_is_what_happens() {
        use Check::{Chain, ChainAndName};
        for (address, remote) in [
            ("localhost", false),
            ("127.0.0.1:5432", false),
            ("127.9.9.9", false),
            ("[::1]:5432", false),
            ("%2Frun%2Fpostgresql", false),
            ("db.example.com", true),
            ("10.0.0.1:6432", true),
            ("[2001:db8::1]:5432", true),
            ("127.0.0.1:1,db.example.com:2", true),
        ] {
            let url = |query: &str| format!("postgres://u:hunter2@{address}/d{query}");
            for (query, encryption) in [
                ("?sslmode=disable", Encryption::Plain),
                ("?sslmode=require", tls(ChainAndName, None)),
                ("?sslmode=verify-full", tls(ChainAndName, None)),
                ("?sslmode=verify-ca", tls(Chain, None)),
                ("?sslmode=verify-ca&sslrootcert=/etc/a%20b.pem", tls(Chain, Some("/etc/a b.pem"))),
                ("?sslrootcert=ca.pem&sslmode=require&application_name=x", tls(ChainAndName, Some("ca.pem"))),
                ("?sslrootcert=system&sslmode=verify-full", tls(ChainAndName, None)),
            ] {
                let target = parse(&url(query)).unwrap_or_else(|error| panic!("{address}{query}: {error}"));
                assert_eq!(target.encryption, encryption, "{address}{query}");
                assert_eq!(!target.remote.is_empty(), remote, "{address}{query}");
                let mode = if encryption == Encryption::Plain { SslMode::Disable } else { SslMode::Require };
                assert_eq!(target.config.get_ssl_mode(), mode, "{address}{query}");
            }
            for query in ["?sslmode=prefer", "?sslmode=allow"] {
                let error = parse(&url(query)).unwrap_err();
                assert!(matches!(error, DatabaseUrlError::FallsBack { .. }), "{address}{query}: {error}");
            }
            for query in ["", "?application_name=x"] {
                match parse(&url(query)) {
                    Ok(target) if !remote => assert_eq!(target.encryption, Encryption::Plain, "{address}{query}"),
                    Err(DatabaseUrlError::Silent { .. }) if remote => {}
                    other => panic!("{address}{query}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn an_address_decides_and_not_the_name_that_it_is_given() {
        let target = |url: &str| parse(url).map(|target| target.remote);
        assert_eq!(target("postgres://u@db.example.com/d?hostaddr=127.0.0.1").unwrap(), [""; 0]);
        assert!(
            matches!(target("postgres://u@localhost/d?hostaddr=10.0.0.1"), Err(DatabaseUrlError::Silent { host }) if host == "10.0.0.1")
        );
        assert!(matches!(target("postgres:///d?host=db.example.com"), Err(DatabaseUrlError::Silent { .. })));
    }

    #[test]
    fn a_refusal_says_what_to_write_and_never_the_password() {
        for (url, parts) in [
            (
                "postgres://u:hunter2@db.example.com/d",
                &["db.example.com ", "sslmode=verify-full", "sslmode=disable"][..],
            ),
            (
                "postgres://u:hunter2@db.example.com/d?sslmode=prefer",
                &["prefer", "db.example.com ", "sslmode=verify-full"],
            ),
            ("postgres://u:hunter2@localhost/d?sslmode=allow", &["allow", "this machine ", "sslmode=disable"]),
            ("postgres://u:hunter2@h/d?sslmode=hunter2", &["verify-ca"]),
            ("postgres://u:hunter2@h/d?sslmode=disable&sslmode=disable", &["once"]),
            ("postgres://u:hunter2@h/d?sslmode=disable&sslrootcert=hunter2", &["sslrootcert"]),
            ("postgres://u:hunter2@localhost/d?sslrootcert=hunter2", &["sslrootcert"]),
            ("postgres://u:hunter2@h/d?sslmode", &["parameter"]),
            ("postgres://u:hunter2@h/d?sslmode=disable&hunter2=1", &["parameter"]),
            ("postgres://u:hunter2@h/d?sslmode=disable&port=hunter2", &["parameter"]),
            ("postgres://u:x@hunter2@h/d", &["percent-encoded"]),
            ("postgres://u:x@y/hunter2@h/d?sslmode=disable", &["percent-encoded"]),
            ("postgres://u:hunter2@h:port/d?sslmode=disable", &["not a PostgreSQL URL"]),
            ("postgres://", &["not a PostgreSQL URL"]),
            ("mysql://u:hunter2@h/d", &["not a PostgreSQL URL"]),
            ("host=h password=hunter2", &["not a PostgreSQL URL"]),
        ] {
            let error = parse(url).expect_err(url);
            let said = error.to_string();
            assert!(parts.iter().all(|part| said.contains(part)), "{url}: {said}");
            assert!(!format!("{said} {error:?}").contains("hunter2"), "{url}: {said}");
        }
    }

    #[test]
    fn a_password_may_have_any_character_that_is_encoded() {
        let target = parse("postgres://u:a%40b%2Fc%3Fsslmode%3Ddisable@localhost/d").unwrap();
        assert_eq!(target.config.get_password(), Some(&b"a@b/c?sslmode=disable"[..]));
    }
}
