//! For Autobahn, which wants to hear what it says: the bridge with its echo at `/echo`.

use parlor::{Config, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::default();
    config.listen = Vec::new();
    config.web = vec!["127.0.0.1:0".parse()?];
    let server = Server::bind(config)?;
    println!("{}", server.web_addrs()[0]);
    server.serve(std::future::pending()).await;
    Ok(())
}
