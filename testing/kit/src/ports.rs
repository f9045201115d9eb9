//! Addresses for programs to listen on.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Ports for programs come from below the range out of which the system serves outgoing connections, so that no
/// connection takes one between our look and the program's bind.
const PORTS: std::ops::Range<u16> = 10_000..20_000;

/// A loopback address that nothing listens on.
pub fn free_address() -> Result<SocketAddr> {
    static OFFSET: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run at the same time start at different places.
    let start = u16::try_from(std::process::id() % 100)?.saturating_mul(100);
    for _ in PORTS {
        let offset = start.wrapping_add(OFFSET.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + offset));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port of {PORTS:?} is free")
}
