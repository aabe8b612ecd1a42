//! Tells tenants, once each, that certificates of theirs will end.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::{Pki, anchor::Anchor, name::hex, store};
use crate::{
    error::Result,
    isolation::{OperatorScope, TenantScope},
    journal::Entry,
    platform::ids::TenantId,
};

/// Days before the end at which it is told; 0 is the end itself.
pub const DAYS: [i16; 4] = [30, 7, 1, 0];
/// Tenants that are asked for at once.
const TENANTS: usize = 100;

/// What an end that is so near has reached, the widest first.
fn reached(not_after: DateTime<Utc>, now: DateTime<Utc>) -> impl Iterator<Item = i16> {
    DAYS.into_iter().filter(move |days| not_after - TimeDelta::days((*days).into()) <= now)
}

impl Pki {
    /// Tells what is to be told now; answers how much that was. A tenant that cannot be told holds up no other.
    pub async fn tell_of_ends(&self) -> Result<usize> {
        let now = self.isolation.clock().now();
        let (mut told, mut after) = (0, TenantId::PLATFORM);
        loop {
            let tx = self.isolation.begin_operator(&OperatorScope::reading("certificate-expiry")).await?;
            let tenants = store::tenants_to_tell(&tx, now, after, TENANTS).await?;
            tx.commit_unrecorded("a read").await?;
            for tenant in &tenants {
                match self.tell(*tenant, now).await {
                    Ok(count) => told += count,
                    Err(error) => {
                        tracing::warn!(%tenant, %error, cause = error.cause().map(tracing::field::display), "ends of certificates are not told; it is tried again");
                    }
                }
            }
            match tenants.last() {
                Some(last) if tenants.len() == TENANTS => after = *last,
                _ => return Ok(told),
            }
        }
    }

    /// Of several thresholds that were passed since it was looked, the nearest is told; the others are noted.
    async fn tell(&self, tenant: TenantId, now: DateTime<Utc>) -> Result<usize> {
        let tx = self.isolation.begin(&TenantScope::system("certificate-expiry", tenant)).await?;
        store::lock(&tx).await?;
        let mut entries = Vec::new();
        for anchor in store::anchors(&tx).await? {
            let mut nearest = None;
            for days in reached(anchor.certificate.not_after, now) {
                if store::note_alert(&tx, anchor.anchor_id, days).await? {
                    nearest = Some(days);
                }
            }
            if let Some(days) = nearest {
                entries.push(entry(&anchor, days, now));
            }
        }
        let told = entries.len();
        match told {
            0 => tx.commit_unrecorded("nothing is to be told").await?,
            _ => tx.commit(entries).await?,
        }
        metrics::counter!("tenantry_certificate_alerts_total").increment(told as u64);
        Ok(told)
    }
}

fn entry(anchor: &Anchor, days: i16, now: DateTime<Utc>) -> Entry {
    let event = if days == 0 { "TrustAnchorExpired" } else { "TrustAnchorExpiring" };
    let after = json!({
        "id": anchor.anchor_id,
        "role": anchor.role,
        "subject": anchor.certificate.subject.text,
        "fingerprint": hex(&anchor.certificate.fingerprint),
        "notAfter": anchor.certificate.not_after,
        "thresholdDays": days,
        "daysLeft": anchor.days_left(now),
    });
    Entry { after: Some(after), ..Entry::new(event, "trustAnchor", anchor.anchor_id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_reached_to_the_second() {
        let end = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(1000);
        let at = |before: TimeDelta| reached(end, end - before).collect::<Vec<_>>();
        assert!(at(TimeDelta::days(30) + TimeDelta::seconds(1)).is_empty());
        assert_eq!(at(TimeDelta::days(30)), [30]);
        assert_eq!(at(TimeDelta::days(7)), [30, 7]);
        assert_eq!(at(TimeDelta::days(1)), [30, 7, 1]);
        assert_eq!(at(TimeDelta::zero()), DAYS);
    }
}
