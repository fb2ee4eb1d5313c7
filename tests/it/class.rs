//! A class: many people behind one address.

use parlor::Config;

use crate::client::{Client, TestServer};

const PEOPLE: usize = 300;
const LINES: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_at_once_all_hear_all() {
    let server = TestServer::start(Config::default());
    let address = server.address;
    let ready = std::sync::Arc::new(tokio::sync::Barrier::new(PEOPLE));
    let people: Vec<_> = (0..PEOPLE)
        .map(|number| {
            let ready = ready.clone();
            tokio::spawn(async move {
                let mut client = Client::join(address, "LOBBY", &format!("student{number}")).await;
                ready.wait().await;
                for line in 0..LINES {
                    client.send(&format!("MSG {number} says {line}")).await;
                }
                let (mut said, mut heard) = (0, 0);
                while said < LINES || heard < (PEOPLE - 1) * LINES {
                    let line = client.line().await;
                    match line.split(' ').next() {
                        Some("OK") => said += 1,
                        Some("MSG") => heard += 1,
                        Some("JOINED" | "LEFT") => {}
                        _ => panic!("{line}"),
                    }
                }
                client.send("WHO").await;
                loop {
                    let line = client.line().await;
                    if line.starts_with("OK WHO ") {
                        break;
                    }
                }
                ready.wait().await;
            })
        })
        .collect();
    for person in people {
        person.await.expect("nobody is refused");
    }
    server.stop().await;
}
