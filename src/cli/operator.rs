//! Operators, from the machine: how the first one comes in, and the way back where nobody else is left.

use std::sync::Arc;

use clap::Subcommand;
use serde_json::json;

use super::{House, Output, operator};
use crate::{
    error::{Error, Result},
    isolation::Conditions,
    members::{Member, MemberFilter, NewMember},
    operators::enter,
    platform::page::PageRequest,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Invite a person; prints the secret of its link, which works once: for the mutation `acceptInvitation`.
    Invite {
        email: String,
        /// admin, support, billing or auditor; given again for more.
        #[arg(long, required = true)]
        role: Vec<String>,
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Show operators.
    List,
    /// End the access of an operator at once, with all its sessions.
    Deactivate { email: String },
    /// Take the second factor of an operator away, who has lost it; it sets up another one when it signs in next.
    ResetTotp { email: String },
}

impl Command {
    pub(super) async fn run(self, house: &House, output: &Output) -> Result<()> {
        let (app, caller) = (&house.app, Arc::new(operator()));
        match self {
            Self::Invite { email, role, name } => {
                let scope = enter(&caller, "Mutation", "inviteOperator")?;
                let new = NewMember { email, name, roles: role };
                let invited = app.members.invite(&scope, new, &Conditions::default()).await?;
                let token = invited.link.ok_or_else(|| Error::internal("an invitation has a link"))?;
                output.object(&json!({ "id": invited.member.id, "token": token.expose() }), token.expose())
            }
            Self::List => {
                let found = all(house, &MemberFilter::default()).await?;
                let line = |member: &Member| {
                    format!("{}  {}  {}  {}", member.id, member.status.name(), member.roles.join(","), member.email)
                };
                let lines: Vec<_> = found.iter().map(line).collect();
                output.object(&json!(found), &lines.join("\n"))
            }
            Self::Deactivate { email } => {
                let scope = enter(&caller, "Mutation", "deactivateOperator")?;
                let known = find(house, &email).await?;
                let member = app.members.deactivate(&scope, known.id, &Conditions::default()).await?;
                output.object(&json!({ "id": member.id, "status": member.status }), &format!("{email} is out."))
            }
            Self::ResetTotp { email } => {
                let scope = enter(&caller, "Mutation", "resetOperatorTotp")?;
                let known = find(house, &email).await?;
                app.sessions.disable_of(&scope, known.id).await?;
                output.object(&json!({ "id": known.id }), &format!("{email} sets up another second factor."))
            }
        }
    }
}

async fn find(house: &House, email: &str) -> Result<Member> {
    let filter = MemberFilter { text: Some(email.to_owned()), ..MemberFilter::default() };
    let found = all(house, &filter).await?;
    let is_it = |member: &Member| member.email.to_lowercase() == email.to_lowercase();
    found.into_iter().find(is_it).ok_or_else(|| Error::not_found().at("email"))
}

async fn all(house: &House, filter: &MemberFilter) -> Result<Vec<Member>> {
    let scope = enter(&Arc::new(operator()), "Query", "operators")?;
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = house.app.members.list(&scope, filter, &PageRequest::new(Some(100), after, 100)?).await?;
        let (last, more) = (page.items.last().map(|member| member.id), page.has_next);
        found.extend(page.items);
        match last.filter(|_| more) {
            Some(last) => after = Some(crate::platform::page::encode(&last)),
            None => return Ok(found),
        }
    }
}
