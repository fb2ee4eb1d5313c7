//! The library, as a program that embeds it sees it.

use parlor::{ByeReason, Config, Event, Hub, Refusal};
use tokio::io::BufStream;

use crate::client::{Client, TestServer};
use crate::support;

#[tokio::test]
async fn a_member_without_a_connection_talks_with_people() {
    let server = TestServer::start(Config::default());
    let hub = server.server.hub();
    let lobby = hub.lobby().expect("a lobby");
    let mut bot = hub.join(lobby.as_str(), "bot").expect("a seat");
    let mut person = Client::join(server.address, "LOBBY", "person").await;
    assert_eq!(bot.next().await, Some(Event::Joined { name: "person".into() }));
    let said = bot.say("Hello.").await.expect("said");
    assert_eq!(person.line().await, format!("MSG {} {} bot Hello.", said.id, said.time));
    bot.tell("person", "Between us.").await.expect("told");
    assert!(person.line().await.ends_with(" bot Between us."));
    person.send("TELL bot Likewise.").await;
    person.expect("OK TELL bot").await;
    let told = bot.next().await;
    assert!(matches!(told, Some(Event::Tell { text, .. }) if text == "Likewise."));
    drop(bot);
    person.expect("LEFT bot quit").await;
    server.stop().await;
}

#[tokio::test]
async fn a_member_without_a_connection_learns_why_the_seat_is_gone() {
    let server = TestServer::start(Config::default());
    let hub = server.server.hub().clone();
    let mut in_lobby = hub.join("LOBBY", "bot").expect("a seat");
    let code = hub.create().expect("a room");
    let mut elsewhere = hub.join(code.as_str(), "bot").expect("a seat");
    let mut host = Client::connect(server.address).await;
    host.send("CREATE host").await;
    let reply = host.expect("OK CREATE ").await;
    let code = reply.split(' ').next().expect("a code");
    let mut sent_away = hub.join(code, "sent_away").expect("a seat");
    host.expect("JOINED sent_away").await;
    host.send("KICK sent_away that will do").await;
    host.expect("OK KICK sent_away").await;
    let bye = sent_away.next().await;
    assert!(
        matches!(&bye, Some(Event::Bye(bye)) if bye.reason == ByeReason::Kicked && bye.text == "that will do")
    );
    assert_eq!(sent_away.next().await, None);
    assert!(matches!(sent_away.say("Hm.").await, Err(Refusal::Gone(_))));

    server.stop().await;
    for seat in [&mut in_lobby, &mut elsewhere] {
        let bye = seat.next().await;
        let is_shutdown =
            |bye: &Event<'_>| matches!(bye, Event::Bye(bye) if bye.reason == ByeReason::Shutdown);
        assert!(bye.as_ref().is_some_and(is_shutdown), "{bye:?}");
        assert_eq!(seat.next().await, None);
    }
}

#[tokio::test]
async fn a_hub_works_without_a_server() {
    let hub = Hub::new(Config::default());
    let code = hub.create().expect("a room");
    let mut ann = hub.join(&code.as_str().to_lowercase(), "ann").expect("a seat");
    assert_eq!(hub.join(code.as_str(), "ANN").expect_err("the name is taken"), Refusal::NameTaken);
    let bob = hub.join(code.as_str(), "bob").expect("a seat");
    assert_eq!(bob.say("one").await.expect("said").id, 1);
    assert_eq!(bob.say("two").await.expect("said").id, 2);
    assert!(matches!(bob.say(" ").await, Err(Refusal::BadText(_))));
    assert_eq!(ann.next().await, Some(Event::Joined { name: "bob".into() }));
    for id in 1..=2 {
        assert!(matches!(ann.next().await, Some(Event::Msg { id: heard, .. }) if heard == id));
    }
    drop((ann, bob));
    assert_eq!(hub.join(code.as_str(), "late").expect_err("the room is gone"), Refusal::NoSuchRoom);
}

#[tokio::test]
async fn what_a_stream_holds_back_until_it_is_flushed_arrives() {
    let server = TestServer::start(Config::default());
    for room in [1, 16, 1 << 16] {
        let (here, there) = tokio::io::duplex(room);
        server.server.attach(BufStream::new(there));
        let mut client = support::Client::over(here).greeted().await;
        client.send("PING one").await;
        client.expect("OK PING one").await;
        client.send("QUIT").await;
        client.expect("OK QUIT").await;
        client.expect("BYE quit ").await;
        assert_eq!(client.rest().await, Vec::<String>::new());
    }
    server.stop().await;
}
