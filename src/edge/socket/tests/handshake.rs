use super::client::Client;
use super::{GENEROUS, Server};

const PROTOCOL: (&str, &str) = ("sec-websocket-protocol", "graphql-transport-ws");

#[tokio::test]
async fn only_graphql_transport_ws_is_spoken() {
    let server = Server::start(GENEROUS).await;
    for offer in [&[][..], &[("sec-websocket-protocol", "graphql-ws")], &[("sec-websocket-protocol", "chat, soap")]] {
        let (status, body) = Client::connect(server.address, offer).await.err().unwrap();
        assert_eq!(status, 400);
        assert!(body.contains("graphql-transport-ws") && body.contains("invalid_input"), "{body}");
    }
    // tungstenite's client fails by itself if the answer names the other one.
    let both = [("sec-websocket-protocol", "graphql-ws, graphql-transport-ws")];
    Client::connect(server.address, &both).await.unwrap_or_else(|refusal| panic!("{refusal:?}"));
}

#[tokio::test]
async fn pages_of_other_origins_cannot_open_a_socket() {
    let server = Server::start(GENEROUS).await;
    let address = server.address;
    let allowed = [
        "https://console.example.com".to_owned(),
        "https://Console.Example.com".to_owned(),
        format!("http://{address}"),
        format!("https://{address}"),
    ];
    for origin in allowed {
        let opened = Client::connect(address, &[PROTOCOL, ("origin", &origin)]).await;
        assert!(opened.is_ok(), "{origin}");
    }
    let foreign = [
        "https://evil.example.com".to_owned(),
        "http://console.example.com".to_owned(),
        "https://console.example.com.evil.org".to_owned(),
        "https://console.example.com:8443".to_owned(),
        "null".to_owned(),
        "http://".to_owned(),
        format!("http://{address}.evil.org"),
        format!("http://evil.org@{address}"),
        format!("ftp://{address}"),
    ];
    for origin in foreign {
        let (status, body) = Client::connect(address, &[PROTOCOL, ("origin", &origin)]).await.err().expect(&origin);
        assert_eq!(status, 403, "{origin}");
        assert!(body.contains("forbidden") && body.contains("request-"), "{body}");
    }
}

#[tokio::test]
async fn two_origins_are_none() {
    let server = Server::start(GENEROUS).await;
    let twice = [PROTOCOL, ("origin", "https://console.example.com"), ("origin", "https://console.example.com")];
    assert_eq!(Client::connect(server.address, &twice).await.err().unwrap().0, 403);
}
