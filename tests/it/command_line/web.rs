//! What it tells of its bridge.

use super::*;

#[tokio::test]
async fn the_bridge_is_told_in_the_ports_file_and_to_people() {
    let mut command = parlor(&["--listen", ANY_PORT, "--web", ANY_PORT]);
    command.env_remove("PARLOR_NO_WEB");
    let daemon = Daemon::spawn(command).await;
    let ports = std::fs::read(daemon.folder().join("ports.json")).expect("the ports file");
    let ports: serde_json::Value = serde_json::from_slice(&ports).expect("JSON");
    let web = ports["web"][0].as_str().expect("an address");
    daemon.stderr_shows(&format!("In a browser:        http://{web}/\n")).await;
    let mut plain = Plain::reach(web.parse().expect("an address")).await;
    plain.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let answer = plain.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn what_contradicts_itself_about_the_bridge_is_bad_usage() {
    for args in [["--no-web", "--web", ANY_PORT], ["--public", "--web", ANY_PORT]] {
        let (code, stderr) = failure(parlor(&args)).await;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("--web"), "{stderr}");
    }
    let (code, stderr) = failure(parlor(&["--allow-origin", "example.org"])).await;
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("https://example.org"), "{stderr}");
}
