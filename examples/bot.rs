//! A bot in the lobby: it welcomes who comes, and rolls dice.
//!
//! ```text
//! cargo run --example bot
//! ```
//!
//! It prints how to come in (`nc ...`); there type `JOIN LOBBY yourname`, then `MSG !roll` or
//! `MSG !roll 20`. Ctrl-C or Ctrl-D stops it.

use parlor::{Config, Event, Refusal, Seat, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::default();
    config.listen = vec!["127.0.0.1:0".parse()?]; // any free port
    let server = Server::bind(config)?;
    let address = server.local_addr().ok_or("no address")?;
    println!("nc {} {}", address.ip(), address.port());

    tokio::spawn(play(server.hub().join("LOBBY", "dice")?));
    server.serve(stop()).await;
    Ok(())
}

/// A seat does not hear itself, so the bot never answers itself. Dropping the seat leaves.
async fn play(mut seat: Seat) -> Result<(), Refusal> {
    while let Some(event) = seat.next().await {
        let answer = match event {
            Event::Joined { name } => Some(format!("Welcome, {name}. Say !roll, or !roll 20.")),
            Event::Msg { name, text, .. } => roll(&text).map(|n| format!("{name} rolls {n}.")),
            _ => None,
        };
        if let Some(answer) = answer {
            seat.say(&answer).await?;
        }
    }
    Ok(())
}

/// The number that `!roll`, or `!roll sides`, asks for.
fn roll(text: &str) -> Option<u32> {
    let sides = text.strip_prefix("!roll")?.trim();
    let sides = if sides.is_empty() { 6 } else { sides.parse().ok()? };
    Some(getrandom::u32().ok()?.checked_rem(sides)? + 1)
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
