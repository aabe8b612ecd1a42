//! What a source of identities does to members, many at once.

use serde_json::json;
use tenantry::{
    isolation::TenantScope,
    members::{Applied, Change, Known, Source, Status},
    platform::ids::MemberId,
};

use super::{join, limit_seats, seats};
use crate::support::{Tenant, TestApp};

fn known(id: usize, roles: &[&str]) -> Known {
    Known {
        external_id: format!("uid={id}"),
        email: format!("Person{id}@example.com"),
        name: format!("Person {id}"),
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
    }
}

/// As a sync would: seats first, then everything in one transaction.
async fn sync(app: &TestApp, tenant: &Tenant, changes: &[Change], seats: i64) -> Applied {
    let (members, scope) = (&app.app.members, TenantScope::system("test", tenant.id));
    let held = members.take_seats(&scope, seats).await.unwrap();
    let tx = app.app.isolation.begin(&scope).await.unwrap();
    let mut applied = members.apply(&tx, Source::Directory, changes, &held).await.unwrap();
    match std::mem::take(&mut applied.entries) {
        none if none.is_empty() => tx.commit_unrecorded("nothing was changed").await.unwrap(),
        entries => tx.commit(entries).await.unwrap(),
    }
    members.settle_seats(tenant.id).await;
    applied
}

async fn all(app: &TestApp, tenant: &Tenant) -> Vec<tenantry::members::Member> {
    let tx = app.app.isolation.begin(&TenantScope::system("test", tenant.id)).await.unwrap();
    let found = app.app.members.of_source(&tx, Source::Directory).await.unwrap();
    tx.commit_unrecorded("a read").await.unwrap();
    found
}

#[tokio::test]
async fn a_source_makes_changes_and_deactivates_thousands_in_one_transaction() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    limit_seats(&app, &acme, 5_000).await;
    let create: Vec<_> = (0..3_000).map(|id| Change::Create(known(id, &["member"]))).collect();
    let began = std::time::Instant::now();
    let applied = sync(&app, &acme, &create, 3_000).await;
    println!("3,000 members were made in {} ms", began.elapsed().as_millis());
    assert_eq!((applied.created, applied.refused.len()), (3_000, 0));
    assert_eq!(seats(&app, &acme).await, (5_000, 3_000, 0));
    let members = all(&app, &acme).await;
    assert!(members.iter().all(|member| member.status == Status::Active && member.source == Source::Directory));

    let id =
        |index: usize| members.iter().find(|member| member.external_id == Some(format!("uid={index}"))).unwrap().id;
    let mut changes: Vec<_> = (0..100).map(|index| Change::Deactivate(id(index))).collect();
    changes.extend((100..200).map(|index| Change::Update { id: id(index), known: known(index, &["admin", "member"]) }));
    changes.extend((200..300).map(|index| Change::Update { id: id(index), known: known(index, &["member"]) }));
    changes.push(Change::Create(known(5_000, &["member"])));
    let applied = sync(&app, &acme, &changes, 1).await;
    assert_eq!((applied.created, applied.updated, applied.unchanged, applied.deactivated), (1, 100, 100, 100));
    assert_eq!(seats(&app, &acme).await, (5_000, 2_901, 0));
    let again = sync(&app, &acme, &changes[..300], 0).await;
    assert_eq!((again.unchanged, again.refused.len()), (300, 0), "{:?}", again.refused);
}

#[tokio::test]
async fn what_cannot_be_changed_is_told_and_the_rest_is_done() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let owner = join(&app, &service, "owner@example.com", &["owner"]).await;
    let owner: MemberId = owner.parse().unwrap();
    let local = join(&app, &service, "person1@EXAMPLE.com", &["viewer"]).await.parse().unwrap();
    let bad = Known { email: "nobody".to_owned(), ..known(9, &["member"]) };
    let changes = [
        Change::Deactivate(owner),             // the last one
        Change::Create(known(1, &["member"])), // the address of another
        Change::Update { id: local, known: known(2, &["nothing"]) },
        Change::Create(bad),
        Change::Create(known(3, &["member"])),
        Change::Create(Known { email: "x@example.com".to_owned(), ..known(3, &["member"]) }), // twice
        Change::Create(known(4, &["member"])),                                                // one seat too few
        Change::Deactivate(MemberId::generate()),
    ];
    let applied = sync(&app, &acme, &changes, 1).await;
    assert_eq!(applied.created, 1);
    let codes: Vec<_> = applied.refused.iter().map(|(place, error)| (*place, error.kind().code())).collect();
    let expected = [
        (0, "conflict"),
        (1, "conflict"),
        (2, "invalid_input"),
        (3, "invalid_input"),
        (5, "conflict"),
        (6, "quota_exceeded"),
        (7, "not_found"),
    ];
    assert_eq!(codes, expected);
    // Whoever was invited here and is found in the directory becomes the directory's.
    let adopted = sync(&app, &acme, &[Change::Update { id: local, known: known(1, &["member"]) }], 0).await;
    assert_eq!((adopted.updated, adopted.refused.len()), (1, 0), "{:?}", adopted.refused);
    let member = "query($id: ID!) { member(id: $id) { source externalId roles status } }";
    let found = service.ok(member, json!({ "id": local })).await["member"].clone();
    assert_eq!(found, json!({ "source": "DIRECTORY", "externalId": "uid=1", "roles": ["member"], "status": "ACTIVE" }));
}
