//! What a tenant's session of the object storage tries on another tenant's folder.

use futures::TryStreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};
use serde::Deserialize;

use super::{super::super::ProbeTenant, StorageLayer, failed, open};
use crate::{
    config,
    error::{Context as _, Error, Kind, Result},
    isolation::Attempt,
    platform::secret::Secret,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    secret_access_key: Secret,
    session_token: Secret,
}

impl StorageLayer {
    /// The storage as a service of the tenant sees it.
    fn as_tenant(&self, tenant: &ProbeTenant) -> Result<Box<dyn ObjectStore>> {
        let credential = tenant.credential("storage")?;
        let id = credential.details.get("accessKeyId").cloned().unwrap_or_default();
        let session: Session = serde_json::from_str(credential.secret.expose()).context("read a session of S3")?;
        let mut options = self.settings.options.clone();
        options.insert("aws_access_key_id".to_owned(), Secret::new(id));
        options.insert("aws_secret_access_key".to_owned(), session.secret_access_key);
        options.insert("aws_session_token".to_owned(), session.session_token);
        Ok(open::open(&config::Storage { options, ..self.settings.clone() })?.store)
    }

    pub(super) async fn intrude(&self, intruder: &ProbeTenant, victim: &ProbeTenant) -> Result<Vec<Attempt>> {
        let (own, theirs) = (self.folder(&intruder.site.names), self.folder(&victim.site.names));
        let notes = theirs.clone().join("notes");
        self.store.put(&notes, "kept".into()).await.map_err(failed)?;
        let store = self.as_tenant(intruder)?;
        let mine = own.clone().join("notes");
        if let Err(error) = store.put(&mine, "own".into()).await {
            let rule = "the storage refuses a tenant what is its own";
            return Err(Error::new(Kind::Unavailable, rule).because(error));
        }
        let beside = Path::from(format!("{own}x/notes"));
        let mut attempts = vec![
            told("read an object of the other tenant's", store.get(&notes).await.map(drop)),
            told("ask for an object of the other tenant's", store.head(&notes).await.map(drop)),
            told("write an object of the other tenant's", store.put(&notes, "forged".into()).await.map(drop)),
            told(
                "add an object to the other tenant's",
                store.put(&theirs.clone().join("planted"), "forged".into()).await.map(drop),
            ),
            told("write beside its own folder", store.put(&beside, "forged".into()).await.map(drop)),
            told(
                "say whose the other tenant's folder is",
                store.put(&self.mark(&victim.site.names), "forged".into()).await.map(drop),
            ),
            told("delete an object of the other tenant's", store.delete(&notes).await),
        ];
        attempts.push(match list(&*store, &own).await {
            Err(_) => Attempt::inconclusive("list the other tenant's objects", "it may not list its own either"),
            Ok(()) => told("list the other tenant's objects", list(&*store, &theirs).await),
        });
        // What was let through beside the folder is nobody's: nothing else would find it.
        if let Some(true) = self.store.head(&beside).await.ok().map(|_| true) {
            self.store.delete(&beside).await.map_err(failed)?;
        }
        Ok(attempts)
    }
}

async fn list(store: &dyn ObjectStore, folder: &Path) -> object_store::Result<()> {
    store.list(Some(folder)).try_next().await.map(drop)
}

fn told(what: &str, done: object_store::Result<()>) -> Attempt {
    match done {
        Ok(()) => Attempt::let_through(what),
        Err(object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) => {
            Attempt::refused(what)
        }
        // The library says of a deletion only in words that it was refused.
        Err(error) if error.to_string().contains("AccessDenied") || error.to_string().contains("Access Denied") => {
            Attempt::refused(what)
        }
        Err(_) => Attempt::inconclusive(what, "the storage neither does it nor says that it refuses"),
    }
}
