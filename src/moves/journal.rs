//! What is journaled of moves.

use serde_json::{Value, json};

use super::order::{Move, Wanted};
use crate::journal::Entry;

fn entry(event: &'static str, order: &Move, more: Value) -> Entry {
    let mut after = json!({
        "tenant": order.tenant, "sourceCell": order.source_cell, "targetCell": order.target_cell,
        "sourceTier": order.source_tier, "targetTier": order.target_tier, "phase": order.phase,
        "pauseMs": order.pause_ms,
    });
    if let (Some(after), Value::Object(more)) = (after.as_object_mut(), more) {
        after.extend(more);
    }
    Entry { after: Some(after), ..Entry::new(event, "move", order.id) }
}

pub(super) fn started(order: &Move) -> Entry {
    entry("MoveStarted", order, json!({ "chosen": order.reason }))
}

/// What somebody asked for; what comes of it is told when it has.
pub(super) fn asked(order: &Move, wanted: Wanted) -> Entry {
    let event = match wanted {
        Wanted::Confirm => "MoveConfirmationRequested",
        Wanted::RollBack => "MoveRollbackRequested",
        Wanted::Switch | Wanted::Cancel | Wanted::GiveUp => "MoveCancellationRequested",
    };
    entry(event, order, json!({}))
}

pub(super) fn copied(order: &Move) -> Entry {
    entry("MoveCopied", order, json!({ "rows": order.rows_copied }))
}

pub(super) fn restarted(order: &Move) -> Entry {
    entry("MoveRestarted", order, json!({ "reason": order.problem }))
}

pub(super) fn switched(order: &Move) -> Entry {
    entry("MoveSwitched", order, json!({ "changes": order.changes_applied, "keepUntil": order.keep_until }))
}

pub(super) fn confirmed(order: &Move, removed: &crate::provisioning::Removed) -> Entry {
    entry("MoveConfirmed", order, json!({ "removed": removed }))
}

pub(super) fn cancelled(order: &Move) -> Entry {
    entry("MoveCancelled", order, json!({}))
}

pub(super) fn rolled_back(order: &Move, back: &Move) -> Entry {
    entry("MoveRolledBack", order, json!({ "by": back.id }))
}

pub(super) fn failed(order: &Move) -> Entry {
    entry("MoveFailed", order, json!({ "error": order.problem }))
}

/// It is tried again.
pub(super) fn held_up(order: &Move) -> Entry {
    entry("MoveHeldUp", order, json!({ "error": order.problem }))
}
