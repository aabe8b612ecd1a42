//! Terms of service.

use async_graphql::{InputObject, SimpleObject};
use rust_decimal::Decimal;

use crate::tenancy::{
    Sla, SlaOverrides,
    sla::{Credit, SupportResponse},
};

/// Terms of service; null where the plan's apply.
#[derive(Clone, Debug, SimpleObject)]
pub struct SlaTerms {
    /// Per cent of a calendar month.
    uptime: Option<Decimal>,
    support_hours: Option<String>,
    support_response: Option<SupportResponse>,
    credits: Option<Vec<SlaCredit>>,
}

/// What the customer gets back when the month's availability was below `below` per cent: `percent` of the month's fee.
#[derive(Clone, Copy, Debug, SimpleObject, InputObject)]
#[graphql(input_name = "SlaCreditInput")]
pub struct SlaCredit {
    below: Decimal,
    percent: Decimal,
}

impl From<SlaOverrides> for SlaTerms {
    fn from(sla: SlaOverrides) -> Self {
        let credits = sla.credits.map(|credits| credits.into_iter().map(SlaCredit::from).collect());
        Self { uptime: sla.uptime, support_hours: sla.support_hours, support_response: sla.support_response, credits }
    }
}

impl From<Sla> for SlaTerms {
    fn from(sla: Sla) -> Self {
        Self {
            uptime: Some(sla.uptime),
            support_hours: Some(sla.support_hours),
            support_response: Some(sla.support_response),
            credits: Some(sla.credits.into_iter().map(SlaCredit::from).collect()),
        }
    }
}

impl From<Credit> for SlaCredit {
    fn from(credit: Credit) -> Self {
        Self { below: credit.below, percent: credit.percent }
    }
}

#[derive(Clone, Debug, Default, InputObject)]
pub struct SlaInput {
    /// Per cent of a calendar month, as a decimal: "99.95".
    pub uptime: Option<Decimal>,
    pub support_hours: Option<String>,
    pub support_response: Option<SupportResponse>,
    pub credits: Option<Vec<SlaCredit>>,
}

impl From<SlaInput> for SlaOverrides {
    fn from(input: SlaInput) -> Self {
        let credit = |credit: SlaCredit| Credit { below: credit.below, percent: credit.percent };
        Self {
            uptime: input.uptime,
            support_hours: input.support_hours,
            support_response: input.support_response,
            credits: input.credits.map(|credits| credits.into_iter().map(credit).collect()),
        }
    }
}
