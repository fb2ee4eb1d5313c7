//! Chat over a Unix socket: whoever may open the file can come, and nobody over the network. Any
//! other stream, such as TLS or a pipe, is attached in the same way.
//!
//! ```text
//! cargo run --example unix_socket /tmp/parlor.sock
//! ```
//!
//! In a second terminal run `nc -U /tmp/parlor.sock` or `socat - UNIX:/tmp/parlor.sock`, and type
//! `JOIN LOBBY yourname`. Ctrl-C or Ctrl-D stops it.

use parlor::{Config, Server};
use tokio::net::UnixListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: unix_socket PATH")?;
    let mut config = Config::default();
    config.listen.clear(); // no TCP
    let server = Server::bind(config)?;
    let listener = UnixListener::bind(&path)?;
    println!("nc -U {}", path.display());

    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(server.attach(stream)), // it goes on by itself
                Err(error) => break error,
            }
        }
    };
    let served = tokio::select! {
        error = accepting => Err(error),
        () = server.clone().serve(stop()) => Ok(()),
    };
    std::fs::remove_file(&path)?;
    Ok(served?)
}

/// Completes at Ctrl-C, or when this program's input ends.
async fn stop() {
    let (sender, input_ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(sender);
    });
    tokio::select! { _ = tokio::signal::ctrl_c() => {}, _ = input_ended => {} }
}
