//! The embedded broker: a library, with its sessions on disk.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use mqtt5::broker::config::StorageConfig;
use mqtt5::broker::{BrokerConfig, MqttBroker};

/// Starts a broker on this machine's loopback; the future it gives ends only when the broker fails.
pub(super) async fn start(
    port: u16,
    dir: &Path,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut config = BrokerConfig::default()
        .with_bind_address(address)
        .with_storage(StorageConfig::new().with_base_dir(dir.to_path_buf()));
    config.auth_config.allow_anonymous = true;
    let mut broker = MqttBroker::with_config(config)
        .await
        .with_context(|| format!("the broker cannot listen on {address}; choose another --port"))?;
    let mut ready = broker.ready_receiver();
    let mut running = tokio::spawn(async move { broker.run().await });
    tokio::select! {
        ready = ready.wait_for(|ready| *ready) => drop(ready.map_err(|_| anyhow!("the broker ended"))?),
        ended = &mut running => return Err(anyhow!("the broker ended: {ended:?}")),
    }
    Ok(async move {
        running
            .await?
            .map_err(|error| anyhow!("the broker failed: {error}"))
    })
}
