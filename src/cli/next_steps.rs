//! What a server tells the person who started it: how people come in.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use parlor::Server;
use tracing::info;

use super::log::LogFormat;

pub(crate) fn tell(server: &Server, is_tls: bool, format: LogFormat) {
    let (lines, web) = (server.local_addrs(), server.web_addrs());
    if format == LogFormat::Json {
        for address in lines {
            info!(%address, tls = is_tls, "listening");
        }
        for address in web {
            info!(%address, tls = is_tls, "listening for browsers");
        }
        return;
    }
    let (netcat, scheme) = if is_tls { ("ncat --ssl", "https") } else { ("nc", "http") };
    let mut text = format!("parlor {} is listening.\n", env!("CARGO_PKG_VERSION"));
    for address in lines {
        let port = address.port();
        let (here, elsewhere) = reachable(address.ip());
        // Writing to a String doesn't fail.
        let _ = match here {
            Some(host) => writeln!(text, "  On this machine:     {netcat} {host} {port}"),
            None => Ok(()),
        };
        for host in elsewhere {
            let _ = writeln!(text, "  From the network:    {netcat} {host} {port}");
        }
    }
    text.push_str("  Then type:           CREATE yourname   (or HELP)\n");
    for address in web {
        let (here, elsewhere) = reachable(address.ip());
        for host in here.into_iter().chain(elsewhere) {
            let url = SocketAddr::new(host, address.port());
            let _ = writeln!(text, "  In a browser:        {scheme}://{url}/");
        }
    }
    if lines.iter().chain(web).all(|address| address.ip().is_loopback()) {
        text.push_str("  For others to come:  start it with --public\n");
    }
    text.push_str("  To stop it:          Ctrl-C\n");
    // Nobody may be reading.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// The host for people on this machine, and those for people on the network.
fn reachable(ip: IpAddr) -> (Option<IpAddr>, Vec<IpAddr>) {
    if ip.is_loopback() {
        return (Some(ip), Vec::new());
    }
    if !ip.is_unspecified() {
        return (None, vec![ip]);
    }
    let same_family = network_addresses().filter(|other| ip.is_ipv6() || other.is_ipv4());
    (Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), same_family.collect())
}

/// The addresses under which others on the network know this machine.
pub(crate) fn network_addresses() -> impl Iterator<Item = IpAddr> {
    let of_network = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.into_iter().map(|interface| interface.ip()).filter(of_network)
}
