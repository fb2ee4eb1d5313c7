//! Under systemd: the sockets that it has bound, and what it is told.

use std::net::TcpListener;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tracing::warn;

/// What systemd listens on in place of the server.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) lines: Vec<TcpListener>,
    /// Those that are named `web`.
    pub(crate) web: Vec<TcpListener>,
}

impl Sockets {
    /// Takes what was passed to this process; a second time there is nothing. To be called before
    /// there are threads.
    pub(crate) fn take() -> Result<Sockets, String> {
        let mut passed = ListenFd::from_env();
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = Sockets::default();
        for index in 0..passed.len() {
            let name = names.next().unwrap_or_default();
            let listener = passed
                .take_tcp_listener(index)
                .map_err(|error| format!("systemd passes {name:?}, no TCP listener: {error}"))?;
            match name {
                "web" => sockets.web.extend(listener),
                _ => sockets.lines.extend(listener),
            }
        }
        Ok(sockets)
    }

    pub(crate) fn are_passed(&self) -> bool {
        !(self.lines.is_empty() && self.web.is_empty())
    }
}

/// Whether somebody wants to be told.
#[cfg(feature = "tls")]
pub(crate) fn supervises() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// All listen: those who wait for the server can come.
pub(crate) fn tell_ready() {
    tell(NotifyState::Ready);
}

/// The server has begun to stop.
pub(crate) fn tell_stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "cannot tell systemd");
    }
}
