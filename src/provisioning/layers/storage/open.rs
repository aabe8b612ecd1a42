//! From settings to a storage.

use std::time::Duration;

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig, aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder, local::LocalFileSystem, path::Path,
};
use reqwest::Url;

use crate::{
    config,
    error::{Error, Result},
};

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Opened {
    pub(super) store: Box<dyn ObjectStore>,
    pub(super) base: Path,
    pub(super) shown: String,
    /// Of S3 alone.
    pub(super) bucket: Option<String>,
}

pub(super) fn open(settings: &config::Storage) -> Result<Opened> {
    let refused = |rule: String| Error::invalid("storage.url", rule);
    let url =
        Url::parse(&settings.url).map_err(|_| refused("must be an address such as s3://bucket/folder".to_owned()))?;
    let (scheme, base) = ObjectStoreScheme::parse(&url)
        .map_err(|error| refused("must begin with file://, s3://, gs:// or az://".to_owned()).because(error))?;
    let mut shown = url.clone();
    shown.set_query(None);
    let _ = (shown.set_username(""), shown.set_password(None));
    let shown = shown.to_string();
    // The reconciler tries again, and says so; the library would keep a worker waiting.
    let retry = RetryConfig { max_retries: 0, retry_timeout: PATIENCE, backoff: BackoffConfig::default() };
    let client = ClientOptions::new().with_timeout(PATIENCE).with_connect_timeout(PATIENCE);
    macro_rules! cloud {
        ($builder:ty) => {{
            let mut builder = <$builder>::new().with_client_options(client).with_retry(retry).with_url(url.as_str());
            for (name, value) in &settings.options {
                let key = name
                    .parse()
                    .map_err(|_| Error::invalid(format!("storage.options.{name}"), "is no option of this storage"))?;
                builder = builder.with_config(key, value.expose());
            }
            // Not the library's words: they could show an option.
            builder
                .build()
                .map(Box::new)
                .map_err(|_| Error::invalid("storage.options", "are not enough, or do not fit, for this storage"))?
        }};
    }
    let (store, base, bucket): (Box<dyn ObjectStore>, _, _) = match scheme {
        ObjectStoreScheme::Local => (local(&url)?, Path::default(), None),
        ObjectStoreScheme::AmazonS3 => (cloud!(AmazonS3Builder), base, url.host_str().map(str::to_owned)),
        ObjectStoreScheme::GoogleCloudStorage => (cloud!(GoogleCloudStorageBuilder), base, None),
        ObjectStoreScheme::MicrosoftAzure => (cloud!(MicrosoftAzureBuilder), base, None),
        _ => return Err(refused("must begin with file://, s3://, gs:// or az://".to_owned())),
    };
    Ok(Opened { store, base, shown, bucket })
}

/// A folder that goes when its last object does.
fn local(url: &Url) -> Result<Box<dyn ObjectStore>> {
    let refused = |error: std::io::Error| {
        Error::invalid("storage.url", "must be a folder that can be made and written to").because(error)
    };
    let folder = url.to_file_path().map_err(|()| Error::invalid("storage.url", "must be a folder of this machine"))?;
    std::fs::create_dir_all(&folder).map_err(refused)?;
    let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| refused(std::io::Error::other(error)))?;
    Ok(Box::new(store.with_automatic_cleanup(true)))
}
