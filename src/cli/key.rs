use std::sync::Arc;

use clap::Subcommand;
use serde_json::json;

use super::{House, Output, operator};
use crate::{
    access::permission,
    error::{Context as _, Result},
    isolation::{Conditions, OperatorScope},
};

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Show the keys that tokens are accepted from (a JSON Web Key Set).
    List,
    /// Sign with a new key from now on. Tokens of the old one live on until they expire, or die with --revoke-previous.
    Rotate {
        #[arg(long)]
        revoke_previous: bool,
    },
}

impl Key {
    pub(super) async fn run(self, house: &House, output: &Output) -> Result<()> {
        let app = &house.app;
        match self {
            Self::List => output.text(&format!("{:#}", app.keyring.jwks())),
            Self::Rotate { revoke_previous } => {
                let permission = permission("Mutation", "rotateSigningKey").context("the permission to rotate keys")?;
                let scope = OperatorScope::enter(&Arc::new(operator()), permission)?;
                let kid = app.oauth.rotate(&scope, revoke_previous, &Conditions::default()).await?;
                output.object(
                    &json!({ "kid": kid, "previousRevoked": revoke_previous }),
                    &format!("Tokens are signed with {kid} from now on."),
                )
            }
        }
    }
}
