//! Listening sockets: bound before anything else is started, so that a taken port stops the start.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result, bail};

use crate::config::{AdminListen, Config};

/// Connections that wait to be accepted at most; the kernel's own limit may be lower.
const BACKLOG: i32 = 1024;

/// The bound sockets.
#[derive(Debug)]
pub struct Listeners {
    /// The API's.
    pub api: TcpListener,
    /// That of metrics and readiness details.
    pub admin: Option<TcpListener>,
}

/// Binds both.
pub fn bind(config: &Config) -> Result<Listeners> {
    let api = bind_one(config.listen, "--listen")?;
    let admin = match config.admin_listen {
        AdminListen::Off => None,
        AdminListen::At(address) => Some(bind_one(address, "--admin-listen")?),
        AdminListen::Auto => {
            let port = if config.listen.port() == 0 { 0 } else { config.listen.port().checked_add(1).unwrap_or(0) };
            Some(bind_one(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port), "--admin-listen")?)
        }
    };
    Ok(Listeners { api, admin })
}

fn bind_one(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let open = || -> rustix::io::Result<TcpListener> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        // A port that only connections of an earlier run still linger on is free.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    match open() {
        Ok(listener) => Ok(listener),
        Err(e) => {
            let error = io::Error::from(e);
            match error.kind() {
                io::ErrorKind::AddrInUse => bail!(
                    "the address {address} is in use by another program; stop it (`ss -ltnp` shows it), or choose another with {flag}"
                ),
                io::ErrorKind::AddrNotAvailable => {
                    bail!("this machine has no address {}; choose another with {flag}", address.ip())
                }
                io::ErrorKind::PermissionDenied => {
                    bail!(
                        "ports below 1024 need a privilege that this user does not have; choose another than {address} with {flag}"
                    )
                }
                _ => Err(error).with_context(|| format!("can't listen at {address}; choose another with {flag}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_the_way_out() {
        let first = bind_one("127.0.0.1:0".parse().unwrap(), "--listen").unwrap();
        let address = first.local_addr().unwrap();
        let error = bind_one(address, "--listen").unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("--listen"), "{error}");
        let error = bind_one("192.0.2.1:0".parse().unwrap(), "--admin-listen").unwrap_err().to_string();
        assert!(error.contains("192.0.2.1") && error.contains("--admin-listen"), "{error}");
    }
}
