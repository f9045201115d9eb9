//! The links between programs and servers. Each goes through its own proxy, which can cut it, hold it, or silently drop its
//! traffic.

use anyhow::{Context, Result};
use kit::proxy::Proxy;
use url::Url;

use crate::config::Place;

pub const INGESTS: usize = 2;
pub const WORKERS: usize = 3;

/// All links.
pub struct Links {
    ingest_to_broker: Vec<Link>,
    worker_to_broker: Vec<Link>,
    worker_to_database: Vec<Link>,
}

/// One program's links to all nodes of one server.
pub struct Link(Vec<(Proxy, Url)>);

impl Links {
    /// Puts proxies between everything.
    pub async fn make(place: &Place) -> Result<Self> {
        let database = place.worker_database_url.clone().context("WORKER_DATABASE_URL is not set")?;
        Ok(Self {
            ingest_to_broker: links(INGESTS, &place.ingest_amqp_urls).await?,
            worker_to_broker: links(WORKERS, &place.worker_amqp_urls).await?,
            worker_to_database: links(WORKERS, &[database]).await?,
        })
    }

    /// An ingest's link to the broker.
    pub fn ingest_to_broker(&self, pick: usize) -> Result<&Link> {
        choose(&self.ingest_to_broker, pick)
    }

    /// A worker's link to the broker.
    pub fn worker_to_broker(&self, pick: usize) -> Result<&Link> {
        choose(&self.worker_to_broker, pick)
    }

    /// A worker's link to the database.
    pub fn worker_to_database(&self, pick: usize) -> Result<&Link> {
        choose(&self.worker_to_database, pick)
    }

    /// All workers' links to the broker.
    #[must_use]
    pub fn workers_to_broker(&self) -> &[Link] {
        &self.worker_to_broker
    }

    /// All workers' links to the database.
    #[must_use]
    pub fn workers_to_database(&self) -> &[Link] {
        &self.worker_to_database
    }
}

impl Link {
    /// One proxy for each of `urls`.
    async fn to(urls: &[Url]) -> Result<Self> {
        let mut ways = Vec::with_capacity(urls.len());
        for url in urls {
            let proxy = Proxy::in_front_of(url).await?;
            let url = proxy.rewrite(url)?;
            ways.push((proxy, url));
        }
        Ok(Self(ways))
    }

    /// The program's URLs, comma-separated. Each program begins with a different node, as behind a load balancer.
    #[must_use]
    pub fn urls(&self, first: usize) -> String {
        let urls: Vec<&str> = self
            .0
            .iter()
            .cycle()
            .skip(first % self.0.len().max(1))
            .take(self.0.len())
            .map(|(_, url)| url.as_str())
            .collect();
        urls.join(",")
    }

    /// Does the same to every proxy.
    pub fn all(&self, switch: impl Fn(&Proxy)) {
        self.0.iter().for_each(|(proxy, _)| switch(proxy));
    }

    /// How many bytes are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.iter().map(|(proxy, _)| proxy.held()).sum()
    }
}

async fn links(programs: usize, urls: &[Url]) -> Result<Vec<Link>> {
    let mut links = Vec::with_capacity(programs);
    for _ in 0..programs {
        links.push(Link::to(urls).await?);
    }
    Ok(links)
}

fn choose(links: &[Link], pick: usize) -> Result<&Link> {
    links.get(pick % links.len().max(1)).context("there is no link")
}
