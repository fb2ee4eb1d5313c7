//! A chat server inside a program that has work of its own: here it says in the lobby what it
//! reads, and prints what happens there. So people can watch a log and talk about it:
//!
//! ```text
//! tail -f /var/log/dpkg.log | cargo run --example embed
//! ```
//!
//! Or run `cargo run --example embed` and type yourself. It prints how to come in (`nc ...`); there
//! type `JOIN LOBBY yourname`, then `MSG hello`. Ctrl-C, or Ctrl-D where you type, stops it.

use parlor::{Config, Server};
use tokio::sync::{mpsc, oneshot};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::default();
    config.listen = vec!["127.0.0.1:0".parse()?]; // any free port
    let server = Server::bind(config)?;
    let address = server.local_addr().ok_or("no address")?;
    println!("nc {} {}", address.ip(), address.port());

    // The program has its seat before the first person comes.
    let mut seat = server.hub().join("LOBBY", "program")?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(async { drop(stopped.await) }));

    let (sender, mut lines) = mpsc::channel(100);
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lines().map_while(Result::ok);
        lines.try_for_each(|line| sender.blocking_send(line))
    });
    loop {
        tokio::select! {
            line = lines.recv() => {
                let Some(line) = line else { break };
                if let Err(why) = seat.say(&line).await {
                    eprintln!("not said: {why}");
                }
            }
            Some(event) = seat.next() => println!("{event}"),
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    drop(stop); // everybody is told, and what they sent is run, before serve returns
    Ok(serving.await?)
}
