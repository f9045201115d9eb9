//! The broker's addresses, and one attempt to reach one of them.
//!
//! A password is in memory and on the wire, never in a log, an error or a `Debug`. It leaves this machine unencrypted only if
//! the URL allows it (`?plain=yes`). Retries are up to the caller: lapin's own recovery stays off, because it keeps
//! outstanding confirms pending for as long as the broker is unavailable.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, ErrorKind};

use crate::process::loopback::is_loopback;

/// How long one attempt may take, from TCP to an open connection. lapin has no limit of its own, and an abandoned attempt
/// leaves a thread behind until the broker answers or dies: callers therefore make one attempt at a time and back off.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long closing a connection properly may take. A blocked or dead broker never answers.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A silent broker is detected after twice this time. RabbitMQ's own default would take two minutes.
const HEARTBEAT_SECONDS: u16 = 10;

/// `AMQP_URLS`: one or more nodes of the same broker, comma separated. Never empty.
#[derive(Clone)]
pub struct AmqpUrls {
    first: AMQPUri,
    others: Vec<AMQPUri>,
}

/// Why a text is not a usable list of AMQP URLs. Shows at most a host, never the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("URL {position}: {problem}")]
pub struct AmqpUrlsError {
    /// Which of the URLs, from 1.
    position: usize,
    problem: Cow<'static, str>,
}

impl FromStr for AmqpUrls {
    type Err = AmqpUrlsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut urls = text.split(',').enumerate().map(|(at, url)| {
            parse(url.trim()).map_err(|problem| AmqpUrlsError { position: at.saturating_add(1), problem })
        });
        let first = urls.next().unwrap_or(Err(AmqpUrlsError { position: 1, problem: "is missing".into() }))?;
        Ok(Self { first, others: urls.collect::<Result<_, _>>()? })
    }
}

impl AmqpUrls {
    /// The URL for this attempt: each attempt uses the next one.
    fn pick(&self, attempt: usize) -> &AMQPUri {
        let all = self.others.len().saturating_add(1);
        let at = attempt.checked_rem(all).unwrap_or_default();
        at.checked_sub(1).and_then(|at| self.others.get(at)).unwrap_or(&self.first)
    }

    /// The addresses without users and passwords, for messages.
    #[must_use]
    pub fn hosts(&self) -> String {
        let hosts: Vec<_> = self.all().map(host_and_port).collect();
        hosts.join(", ")
    }

    /// Logs the hosts other than this machine to which connections are not encrypted. To be called once, at the start.
    pub fn warn_of_plain(&self) {
        for uri in self.all().filter(|uri| leaves_unencrypted(uri)) {
            tracing::warn!(
                broker = host_and_port(uri),
                "AMQP_URLS says plain=yes: the connection to this broker is not encrypted, so the password is sent in clear text"
            );
        }
    }

    fn all(&self) -> impl Iterator<Item = &AMQPUri> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl fmt::Debug for AmqpUrls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AmqpUrls({})", self.hosts())
    }
}

/// Returns only texts of our own: a parser's may quote the part that it did not understand, which may be a password.
fn parse(url: &str) -> Result<AMQPUri, Cow<'static, str>> {
    let rest = url.strip_prefix("amqp://").or_else(|| url.strip_prefix("amqps://"));
    let rest = rest.ok_or("must begin with amqp:// or amqps://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if rest.matches('@').count() > 1 || (rest.contains('@') && !authority.contains('@')) {
        // The apparent host may be a part of the password.
        return Err(NOT_A_URL.into());
    }
    if host.is_empty() || host.starts_with(':') {
        return Err("names no host".into());
    }
    if host.starts_with('[') {
        // The parser below would silently take it for localhost.
        return Err("an IPv6 address is not supported here; use a host name".into());
    }
    let (url, may_be_plain) = without_plain(url)?;
    let mut uri = AMQPUri::from_str(&url).map_err(|_| NOT_A_URL)?;
    let encrypted = uri.scheme == AMQPScheme::AMQPS;
    if encrypted && may_be_plain {
        return Err(format!(
            "{}: plain=yes belongs to amqp://, and amqps:// is encrypted: leave one of them out",
            host_and_port(&uri)
        )
        .into());
    }
    if leaves_unencrypted(&uri) && !may_be_plain {
        return Err(format!(
            "{} is not this machine, and amqp:// encrypts nothing, the password included: write amqps://, or append ?plain=yes \
             if the network is private",
            host_and_port(&uri)
        )
        .into());
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    Ok(uri)
}

const NOT_A_URL: &str = "is not an AMQP URL (reserved characters in user, password and vhost must be percent-encoded)";

/// The URL without our own parameter, and whether it says `plain=yes`.
fn without_plain(url: &str) -> Result<(String, bool), Cow<'static, str>> {
    let Some((address, query)) = url.split_once('?') else { return Ok((url.to_owned(), false)) };
    let (ours, others): (Vec<_>, Vec<_>) =
        query.split('&').partition(|parameter| *parameter == "plain" || parameter.starts_with("plain="));
    match ours.as_slice() {
        [] => Ok((url.to_owned(), false)),
        ["plain=yes"] if others.is_empty() => Ok((address.to_owned(), true)),
        ["plain=yes"] => Ok((format!("{address}?{}", others.join("&")), true)),
        _ => Err("plain must be yes, and given once".into()),
    }
}

fn leaves_unencrypted(uri: &AMQPUri) -> bool {
    uri.scheme == AMQPScheme::AMQP && !is_loopback(&uri.authority.host)
}

fn host_and_port(uri: &AMQPUri) -> String {
    format!("{}:{}", uri.authority.host, uri.authority.port)
}

/// Why there is no connection to the broker.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing answered in time.
    #[error("{host} did not answer within {CONNECT_TIMEOUT:?}")]
    TimedOut {
        /// The broker's host and port.
        host: String,
    },
    /// The attempt failed.
    #[error("cannot connect to {host}")]
    Failed {
        /// The broker's host and port.
        host: String,
        /// lapin's error.
        source: Box<lapin::Error>,
    },
    /// The broker does not support publisher confirms, without which nothing may be published.
    #[error("{host} did not enable publisher confirms")]
    NoConfirms {
        /// The broker's host and port.
        host: String,
    },
}

/// One attempt: connects to the URL that `attempt` selects and lets `prepare` open the channels that the caller needs.
pub(super) async fn open<T>(
    urls: &AmqpUrls,
    attempt: usize,
    name: &str,
    prepare: impl AsyncFnOnce(&Connection) -> lapin::Result<T>,
) -> Result<(Connection, T), ConnectError> {
    let uri = urls.pick(attempt);
    let host = host_and_port(uri);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let opening = async {
        let connection = Connection::connect_uri(uri.clone(), properties).await?;
        let prepared = prepare(&connection).await?;
        Ok((connection, prepared))
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(source)) => Err(ConnectError::Failed { host, source: Box::new(source) }),
        Err(_elapsed) => Err(ConnectError::TimedOut { host }),
    }
}

/// Closes the connection, within [`CLOSE_TIMEOUT`]. Unacked messages return to their queues.
pub(super) async fn close(connection: &Connection) {
    let closing = connection.close(200, "closing".into());
    match tokio::time::timeout(CLOSE_TIMEOUT, closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the connection ended before it was closed"),
        Err(_elapsed) => tracing::debug!("the broker did not confirm the close"),
    }
}

/// Whether the broker has no such exchange or queue, or denies this user access to it.
pub(super) fn is_missing_or_forbidden(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND | AMQPSoftError::ACCESSREFUSED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_cycle_through_the_urls() {
        let urls: AmqpUrls = "amqps://a, amqps://b:99/%2f ,amqp://u:p@c/v?heartbeat=3&plain=yes".parse().unwrap();
        let picked: Vec<_> = (0..4).map(|attempt| host_and_port(urls.pick(attempt))).collect();
        assert_eq!(picked, ["a:5671", "b:99", "c:5672", "a:5671"]);
        assert_eq!(urls.pick(0).query.heartbeat, Some(HEARTBEAT_SECONDS));
        assert_eq!(urls.pick(2).query.heartbeat, Some(3));
        assert_eq!(urls.pick(0).vhost, "/");
        assert_eq!(urls.pick(2).vhost, "v");
    }

    #[test]
    fn an_invalid_url_is_rejected_without_showing_it() {
        let bad = [
            "",
            "hunter2",
            "hunter2:hunter2@host",
            "http://user:hunter2@host",
            "amqp://",
            "amqp://user:hunter2@",
            "amqp://user:hunter2@/v",
            "amqp://user:hunter2@host:port",
            "amqp://user:a@hunter2@host?plain=yes",
            "amqp://user:a/b@hunter2",
            "amqp://user:hunter2@[::1]:5672",
            "amqp://user:hunter2@localhost?heartbeat=hunter2",
            "amqp://localhost,",
            "amqp://localhost,hunter2",
        ];
        for text in bad {
            let error = text.parse::<AmqpUrls>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        let urls: AmqpUrls = "amqps://user:hunter2@host:1/%2f".parse().unwrap();
        assert_eq!(format!("{urls:?}"), "AmqpUrls(host:1)");
    }

    #[test]
    fn nothing_leaves_this_machine_unencrypted_unless_the_url_allows_it() {
        // What an operator writes, and the hosts that the log warns about; `None`: the URL is rejected.
        let table: [(&str, Option<&[&str]>); 15] = [
            ("amqp://u:hunter2@localhost/%2f", Some(&[])),
            ("amqp://u:hunter2@127.0.0.1:5672/%2f", Some(&[])),
            ("amqp://u:hunter2@127.1.2.3/%2f?plain=yes", Some(&[])),
            ("amqps://u:hunter2@mq.example.com/%2f", Some(&[])),
            ("amqps://u:hunter2@mq.example.com/%2f?heartbeat=5", Some(&[])),
            ("amqp://u:hunter2@mq.example.com/%2f?plain=yes", Some(&["mq.example.com:5672"])),
            ("amqp://u:hunter2@mq.example.com/%2f?heartbeat=5&plain=yes", Some(&["mq.example.com:5672"])),
            ("amqp://u:hunter2@10.0.0.1/%2f?plain=yes,amqps://u:hunter2@b/%2f", Some(&["10.0.0.1:5672"])),
            ("amqp://u:hunter2@mq.example.com/%2f", None),
            ("amqp://u:hunter2@mq.example.com/%2f?heartbeat=5", None),
            ("amqp://u:hunter2@10.0.0.1:5672/%2f?plain=no", None),
            ("amqp://u:hunter2@10.0.0.1:5672/%2f?plain", None),
            ("amqp://u:hunter2@10.0.0.1:5672/%2f?plain=yes&plain=yes", None),
            ("amqps://u:hunter2@mq.example.com/%2f?plain=yes", None),
            ("amqp://u:hunter2@localhost/%2f,amqp://u:hunter2@mq.example.com/%2f", None),
        ];
        for (text, expected) in table {
            match (text.parse::<AmqpUrls>(), expected) {
                (Ok(urls), Some(warned)) => {
                    let plain: Vec<_> = urls.all().filter(|uri| leaves_unencrypted(uri)).map(host_and_port).collect();
                    assert_eq!(plain, warned, "{text}");
                }
                (Err(error), None) => assert!(!error.to_string().contains("hunter2"), "{error}"),
                (parsed, _) => panic!("{text}: {parsed:?}"),
            }
        }
        let refused =
            "amqp://localhost,amqp://u:hunter2@mq.example.com/%2f".parse::<AmqpUrls>().unwrap_err().to_string();
        for part in ["URL 2: mq.example.com:5672 ", "amqps://", "?plain=yes"] {
            assert!(refused.contains(part), "{refused}");
        }
    }
}
