//! Lines in frames: the same protocol as over TCP.

use super::*;

#[tokio::test]
async fn a_page_and_a_netcat_talk_in_one_room() {
    let (server, address) = usual_bridge();
    let mut page = Ws::open(address).await;
    page.send("CREATE alice").await;
    let code = page.expect("OK CREATE ").await;
    let code = code.split(' ').next().expect("a code");
    let mut netcat = Client::join(server.address, code, "bob").await;
    page.expect("JOINED bob").await;
    netcat.send("MSG grüße, alice").await;
    netcat.expect("OK MSG 1 ").await;
    assert!(page.expect("MSG 1 ").await.ends_with(" bob grüße, alice"));
    page.send("MSG   and to you \u{1f375}").await;
    page.expect("OK MSG 2 ").await;
    assert!(netcat.expect("MSG 2 ").await.ends_with(" alice   and to you \u{1f375}"));
    page.send("TELL bob psst").await;
    page.expect("OK TELL bob").await;
    assert!(netcat.expect("TELL ").await.ends_with(" alice psst"));
    page.send("WHO").await;
    for line in ["USER alice here host", "USER bob here", "OK WHO 2"] {
        assert_eq!(page.line().await, line);
    }
    // An empty line gets no reply.
    page.send("").await;
    page.send(" \t").await;
    page.expect_nothing().await;
    page.send("QUIT").await;
    netcat.expect("LEFT alice quit").await;
}

#[tokio::test]
async fn another_ones_client_can_talk_too() {
    let (server, address) = usual_bridge();
    let mut line = Client::join(server.address, "LOBBY", "line").await;
    let (mut ws, _) =
        tokio_tungstenite::connect_async(format!("ws://localhost:{}/ws", address.port()))
            .await
            .expect("a handshake");
    ws.send(Message::text("JOIN LOBBY web 0")).await.expect("sent");
    line.expect("JOINED web").await;
    ws.send(Message::text("MSG hello")).await.expect("sent");
    assert!(line.expect("MSG 1 ").await.ends_with(" web hello"));
    ws.send(Message::text("QUIT")).await.expect("sent");
    let mut lines = Vec::new();
    while let Some(message) = soon("a message", ws.next()).await {
        match message.expect("no error") {
            Message::Text(text) => lines.push(text.to_string()),
            Message::Close(frame) => lines.push(format!("close {}", frame.expect("a code").code)),
            other => panic!("{other:?}"),
        }
    }
    let begins: Vec<_> = lines.iter().map(|line| &line[..6.min(line.len())]).collect();
    assert_eq!(begins, ["HELLO ", "OK JOI", "OK MSG", "OK QUI", "BYE qu", "close "]);
    assert_eq!(lines[5], "close 1000");
}

// clause: WS-3
#[tokio::test]
async fn a_line_that_is_too_long_gets_its_error_and_the_next_is_fine() {
    let (_server, address) = usual_bridge();
    let mut ws = Ws::open(address).await;
    let ping = |bytes: usize| format!("PING {}", "x".repeat(bytes - "PING ".len()));
    ws.send(&ping(LINE_BYTES)).await;
    assert_eq!(ws.line().await, format!("OK {}", ping(LINE_BYTES)));
    for bytes in [LINE_BYTES + 1, 3 * LINE_BYTES, FRAME_BYTES] {
        ws.send(&ping(bytes)).await;
        ws.expect("ERR * line-too-long ").await;
        ws.expect_nothing().await;
    }
}

// clause: WS-2
#[tokio::test]
async fn line_breaks_telnet_and_editing_are_control_characters() {
    let (server, address) = usual_bridge();
    let mut line = Client::join(server.address, "LOBBY", "line").await;
    let mut ws = Ws::join(address, "web").await;
    line.expect("JOINED web").await;
    for bad in [
        "MSG a\nMSG b",
        "MSG a\n",
        "MSG a\r\n",
        "\n",
        "MSG a\r",
        "MSG a\r\0",
        "MSG a\u{b}b",
        "MSG a\u{85}b",
        "MSG a\u{2028}b",
        "MSG \u{202e}b",
        "MSG ab\u{8}",
        "MSG ab\u{7f}",
        "MSG ab\u{15}MSG c",
        "\u{4}",
        "MSG \u{1b}[A",
        "MSG \0",
        "x\u{8}",
    ] {
        ws.send(bad).await;
        ws.expect("ERR * control-char ").await;
    }
    // Telnet's bytes: in UTF-8 they are letters, and stay those.
    ws.send("MSG \u{ff}\u{f6}").await;
    ws.expect("OK MSG 1 ").await;
    assert!(line.expect("MSG 1 ").await.ends_with(" web \u{ff}\u{f6}"));
    line.expect_nothing().await;
}

// clause: WS-1
#[tokio::test]
async fn a_fragmented_message_is_one_line() {
    let (_server, address) = usual_bridge();
    let mut ws = Ws::open(address).await;
    let whole = "PING grüße \u{1f375}!".as_bytes();
    // Cut at each byte, also within characters, with a ping between.
    for cut in 0..=whole.len() {
        ws.bytes(masked(TEXT_BEGINS, &whole[..cut])).await;
        ws.bytes(masked(PING, &[cut as u8])).await;
        ws.expect_pong(&[cut as u8]).await;
        ws.bytes(masked(CONTINUES, b"")).await;
        ws.bytes(masked(CONTINUES_AND_ENDS, &whole[cut..])).await;
        assert_eq!(ws.line().await, "OK PING grüße \u{1f375}!");
    }
    // Many fragments of one byte.
    let long = format!("PING {}", "x".repeat(LINE_BYTES - "PING ".len()));
    let mut frames = masked(TEXT_BEGINS, b"");
    long.bytes().for_each(|byte| frames.extend(masked(CONTINUES, &[byte])));
    frames.extend(masked(CONTINUES_AND_ENDS, b""));
    ws.bytes(frames).await;
    assert_eq!(ws.line().await, format!("OK {long}"));
}

#[tokio::test]
async fn frames_may_be_cut_anywhere() {
    let (_server, address) = usual_bridge();
    let mut ws = Ws::join(address, "web").await;
    let mut bytes = Vec::new();
    for number in 1..=20 {
        bytes.extend(masked(TEXT, format!("MSG {}", "x".repeat(number * 9)).as_bytes()));
        bytes.extend(masked(PING, format!("{number}").as_bytes()));
        bytes.extend(masked(TEXT_BEGINS, b"MSG in"));
        bytes.extend(masked(CONTINUES_AND_ENDS, b" two"));
    }
    let mut random = Random(7);
    let mut rest = &bytes[..];
    ws.0.get_mut().set_nodelay(true).expect("no delay");
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(1 + random.below(9) as usize));
        ws.bytes(piece).await;
        tokio::task::yield_now().await;
        rest = after;
    }
    let (mut said, mut pongs) = (0, Vec::new());
    while said < 40 {
        match ws.frame().await.expect("a frame") {
            (PONG, payload) => pongs.push(payload),
            (first, payload) => {
                assert_eq!(first, TEXT);
                said += 1;
                let expected = format!("OK MSG {said} ");
                assert!(payload.starts_with(expected.as_bytes()), "{}", payload.escape_ascii());
            }
        }
    }
    // The last pong may come after the last reply; a pong may answer for pings before it.
    ws.send("PING fence").await;
    while let Some((first, payload)) = ws.frame().await
        && first == PONG
    {
        pongs.push(payload);
    }
    assert_eq!(pongs.last(), Some(&b"20".to_vec()));
}

#[tokio::test]
async fn many_lines_in_one_segment_are_published_in_order() {
    const MESSAGES: usize = 500;
    let (server, address) = usual_bridge();
    let mut line = Client::join(server.address, "LOBBY", "line").await;
    let mut ws = Ws::join(address, "web").await;
    line.expect("JOINED web").await;
    let lines: Vec<_> = (1..=MESSAGES).map(|number| format!("MSG number {number}")).collect();
    ws.bytes(masked_lines(lines.iter().map(String::as_str))).await;
    for id in 1..=MESSAGES {
        ws.expect(&format!("OK MSG {id} ")).await;
        assert!(line.expect(&format!("MSG {id} ")).await.ends_with(&format!(" web number {id}")));
    }
    // Also right behind the handshake, and with the end of it all.
    let mut http = Http::reach(address).await;
    let script = ["JOIN LOBBY hasty 0", "MSG one", "MSG two", "PING", "QUIT", "MSG three"];
    http.send([handshake("localhost", "").as_bytes(), &masked_lines(script)].concat()).await;
    assert_eq!(http.answer(false).await.status, 101);
    let mut ws = Ws(http.0);
    for beginning in ["HELLO ", "OK JOIN LOBBY hasty ", "OK MSG 501 ", "OK MSG 502 ", "OK PING"] {
        ws.expect(beginning).await;
    }
    ws.expect("OK QUIT").await;
    ws.expect("BYE quit ").await;
    ws.expect_close(1000).await;
    for beginning in ["JOINED hasty", "MSG 501 ", "MSG 502 ", "LEFT hasty quit"] {
        line.expect(beginning).await;
    }
    line.expect_nothing().await;
}
