//! A listening socket for a server to which many clients connect at once.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// How many connections may wait to be accepted; the kernel caps it at `net.core.somaxconn`. Beyond it the kernel drops the
/// attempt, and the client retries only after a full second: too long for a proxy that reopens its connections. The standard
/// library asks for 128.
const WAITING_MAX: i32 = 4096;

/// Listens on `addr`.
///
/// # Errors
/// The address is in use, not this machine's, or not permitted.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    // Like the standard library: a restart does not wait until the last run's connections have timed out.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(WAITING_MAX)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_of_connections_does_not_wait_to_be_accepted() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addr = listener.local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&addr, Duration::from_millis(500)).map_err(|error| error.kind());
        // None of them is accepted.
        let burst: Vec<_> = (0..300).map(connect).collect();
        let refused = burst.iter().filter(|connected| connected.is_err()).count();
        assert_eq!(refused, 0, "connections refused of 300; is net.core.somaxconn that small?");
    }
}
