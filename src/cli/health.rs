use std::time::Duration;

use crate::{
    config::Config,
    error::{Error, Result},
};

/// Asks the server of this configuration for `/readyz`.
#[expect(clippy::disallowed_methods, reason = "asks the own address, which no tenant supplies")]
pub(super) async fn run(config: &Config) -> Result<()> {
    let mut address = config.server.listen;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    let client =
        reqwest::Client::builder().timeout(Duration::from_secs(3)).no_proxy().build().map_err(Error::internal)?;
    let answer = client.get(format!("http://{address}/readyz")).send().await.map_err(Error::unavailable)?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(Error::unavailable(format!("the server answers {}", answer.status())))
    }
}
