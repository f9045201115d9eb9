//! Callbacks, signed before the clock starts, as the bytes of HTTP requests.

use std::sync::Arc;

use kit::callback::Callback;

/// The trace that a message carries: ingest begins one where WeChat Pay sends none.
pub const TRACEPARENT: (&str, &str) = ("traceparent", "00-0192f0c0000070008000000000000001-8000000000000001-00");

/// Callbacks that pay orders, in the order in which they are sent.
#[derive(Debug, Clone)]
pub struct Requests {
    prefix: String,
    bodies: Arc<Vec<Vec<u8>>>,
    posts: Arc<Vec<Vec<u8>>>,
}

impl Requests {
    /// `count` payments of as many orders.
    #[must_use]
    pub fn payments(prefix: &str, count: usize) -> Self {
        let bodies: Vec<Vec<u8>> = (0..count).map(|number| Callback::payment(&order(prefix, number)).body()).collect();
        let posts = bodies.iter().map(|body| request(body)).collect();
        Self { prefix: prefix.to_owned(), bodies: Arc::new(bodies), posts: Arc::new(posts) }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.posts.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.posts.is_empty()
    }

    /// The bytes of one, counted round.
    #[must_use]
    pub fn get(&self, number: usize) -> &[u8] {
        self.posts.get(number % self.len().max(1)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The bodies alone.
    #[must_use]
    pub fn bodies(&self) -> &[Vec<u8>] {
        &self.bodies
    }

    /// The orders that are paid.
    #[must_use]
    pub fn orders(&self) -> Vec<String> {
        (0..self.len()).map(|number| order(&self.prefix, number)).collect()
    }

    /// The order that a request pays.
    #[must_use]
    pub fn order(&self, number: usize) -> String {
        order(&self.prefix, number)
    }
}

fn order(prefix: &str, number: usize) -> String {
    format!("{prefix}-{number}")
}

fn request(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /wechatpay/v2/payment HTTP/1.1\r\nHost: bench\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_round_again() {
        let requests = Requests::payments("x", 20);
        assert_eq!(requests.get(21), requests.get(1));
        assert_ne!(requests.get(2), requests.get(1));
        assert_eq!(requests.orders().last(), Some(&requests.order(19)));
    }
}
