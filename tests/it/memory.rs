//! What the server takes when nothing happens. The bound of the release build is the benchmark's.

use crate::{binary::Binary, support::database};

#[tokio::test]
async fn an_idle_server_is_small() {
    let server = Binary::on(&database().await).serve().await;
    let resident = server.resident();
    println!("a server that has just started takes {} KiB (debug build)", resident >> 10);
    assert!(resident < 200 << 20, "{resident} bytes");
}
