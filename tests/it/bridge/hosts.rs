//! Whose requests are taken: names of the host, and origins of pages.

use super::*;

#[tokio::test]
async fn a_request_without_a_host_is_refused() {
    let (_server, address) = usual_bridge();
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let mut http = Http::reach(address).await;
        http.send(format!("GET / {version}\r\n\r\n")).await;
        assert_eq!(http.answer(false).await.status, 400, "{version}");
        http.assert_closed().await;
    }
}

/// RFC 9112, 3.2.
#[tokio::test]
async fn a_request_with_two_hosts_is_refused() {
    let (_server, address) = usual_bridge();
    for second in ["localhost", "127.0.0.1", "evil.example", ""] {
        let hosts = format!("Host: localhost\r\nHost: {second}\r\n");
        for path in ["/", "/healthz", "/ws"] {
            let mut http = Http::reach(address).await;
            http.send(format!("GET {path} HTTP/1.1\r\n{hosts}\r\n")).await;
            assert_eq!(http.answer(false).await.status, 400, "{path} {second}");
            http.assert_closed().await;
        }
        let more = format!("Host: {second}\r\n");
        assert_eq!(knock(address, "localhost", &more).await, 400, "{second}");
    }
}

#[tokio::test]
async fn on_loopback_only_names_of_this_machine_are_served() {
    let (_server, address) = usual_bridge();
    let port = address.port();
    for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "[::1]"] {
        for host in [host.to_owned(), format!("{host}:{port}"), format!("{host}:1")] {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(request(address, &head).await.status, 200, "{host}");
            assert_eq!(knock(address, &host, "").await, 101, "{host}");
        }
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:127",
        "localhost@evil.example",
        "192.0.2.1",
        "0.0.0.0",
        "[::]",
        "::ffff:192.0.2.1",
        "",
    ] {
        for path in ["/", "/healthz", "/metrics", "/ws"] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(request(address, &head).await.status, 421, "{host} {path}");
        }
        assert_eq!(knock(address, host, "").await, 421, "{host}");
    }
}

#[tokio::test]
async fn where_all_interfaces_are_listened_on_any_host_is_served() {
    let mut config = Config::default();
    config.web = vec!["0.0.0.0:0".parse().expect("an address")];
    let (_server, address) = bridge(config);
    for host in ["chat.example", "chat.example:7778", "192.0.2.1", "localhost"] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(request(address, &head).await.status, 200, "{host}");
        assert_eq!(knock(address, host, &format!("Origin: http://{host}\r\n")).await, 101);
        assert_eq!(knock(address, host, "Origin: http://evil.example\r\n").await, 403);
    }
    assert_eq!(request(address, "GET / HTTP/1.1\r\n\r\n").await.status, 400);
}

#[tokio::test]
async fn behind_a_trusted_proxy_any_host_is_served() {
    let mut config = Config::default();
    config.trust_proxy = true;
    let (_server, address) = bridge(config);
    assert_eq!(knock(address, "chat.example", "Origin: https://chat.example\r\n").await, 101);
    assert_eq!(knock(address, "chat.example", "Origin: https://evil.example\r\n").await, 403);
}

// clause: WS-4
#[tokio::test]
async fn only_the_own_page_and_programs_may_open_the_socket() {
    let (_server, address) = usual_bridge();
    let port = address.port();
    let host = format!("localhost:{port}");
    assert_eq!(knock(address, &host, "").await, 101);
    for origin in
        [format!("http://{host}"), format!("https://{host}"), format!("http://LocalHost:{port}")]
    {
        assert_eq!(knock(address, &host, &format!("Origin: {origin}\r\n")).await, 101, "{origin}");
    }
    for origin in [
        "http://evil.example".to_owned(),
        format!("http://evil.example:{port}"),
        "null".to_owned(),
        String::new(),
        "http://localhost".to_owned(),
        format!("http://localhost:{}", port ^ 1),
        format!("http://127.0.0.1:{port}"),
        format!("file://{host}"),
        format!("ftp://{host}"),
        host.clone(),
        format!("http://{host}.evil.example"),
        format!("http://evil.example/http://{host}"),
        format!("http://user@{host}"),
        format!("http://{host}/"),
        "http://\u{e9}".to_owned(),
    ] {
        let status = knock(address, &host, &format!("Origin: {origin}\r\n")).await;
        assert_eq!(status, 403, "{origin}");
    }
}

#[tokio::test]
async fn default_ports_of_origins_are_understood() {
    let (_server, address) = usual_bridge();
    for (origin, host, status) in [
        ("http://localhost", "localhost", 101),
        ("http://localhost", "localhost:80", 101),
        ("http://localhost:80", "localhost", 101),
        ("https://localhost", "localhost", 101),
        ("https://localhost", "localhost:443", 101),
        ("https://localhost:443", "localhost", 101),
        ("http://[::1]", "[::1]:80", 101),
        ("http://[::1]:80", "[::1]", 101),
        ("http://localhost", "localhost:443", 403),
        ("https://localhost", "localhost:80", 403),
        ("http://localhost:443", "localhost", 403),
        ("http://[::1]", "[::1]:81", 403),
    ] {
        let came_in = knock(address, host, &format!("Origin: {origin}\r\n")).await;
        assert_eq!(came_in, status, "{origin} at {host}");
    }
}

#[tokio::test]
async fn other_origins_are_allowed_by_name() {
    let mut config = Config::default();
    config.allow_origins = vec!["https://school.example".to_owned()];
    let (_server, address) = bridge(config);
    for (origin, status) in [
        ("https://school.example", 101),
        ("https://SCHOOL.example", 101),
        ("http://localhost", 101),
        ("http://school.example", 403),
        ("https://school.example:8443", 403),
        ("https://www.school.example", 403),
        ("https://school.example.evil.example", 403),
        ("null", 403),
    ] {
        let came_in = knock(address, "localhost", &format!("Origin: {origin}\r\n")).await;
        assert_eq!(came_in, status, "{origin}");
    }
    // It may open the socket; it is no other Host.
    assert_eq!(knock(address, "school.example", "").await, 421);
}
