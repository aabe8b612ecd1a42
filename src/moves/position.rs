//! Where a move is in the source's stream of changes, and which transactions its copy has already.

use crate::error::{Error, Result};

/// A snapshot of PostgreSQL as `pg_current_snapshot()` prints it: `xmin:xmax:xip,…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    xmin: u64,
    xmax: u64,
    running: Vec<u64>,
}

impl Snapshot {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let number = |text: &str| text.parse::<u64>().map_err(Error::internal);
        let [xmin, xmax, running] = *text.splitn(3, ':').collect::<Vec<_>>() else {
            return Err(Error::internal("a snapshot has three parts"));
        };
        let running = running.split(',').filter(|xid| !xid.is_empty()).map(number).collect::<Result<_>>()?;
        Ok(Self { xmin: number(xmin)?, xmax: number(xmax)?, running })
    }

    /// Whether what this transaction did was there when the snapshot was taken. `xid` is the lower half of its id, which is near
    /// enough to the snapshot to tell the upper one: PostgreSQL stops long before half of the range has passed.
    pub(super) fn has(&self, xid: u32) -> bool {
        let distance = i64::from(xid.wrapping_sub(low(self.xmax)).cast_signed());
        if distance >= 0 {
            return false;
        }
        let whole = self.xmax.saturating_add_signed(distance);
        whole < self.xmin || !self.running.contains(&whole)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
fn low(xid: u64) -> u32 {
    xid as u32
}

/// A place in the write-ahead log as PostgreSQL prints it.
pub(super) fn lsn(position: u64) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xFFFF_FFFF)
}

pub(super) fn parse_lsn(text: &str) -> Result<u64> {
    let half = |text: &str| u64::from_str_radix(text, 16).map_err(Error::internal);
    let (upper, lower) = text.split_once('/').ok_or_else(|| Error::internal("a position in the log has two halves"))?;
    Ok(half(upper)? << 32 | half(lower)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_what_ended_before_it_and_not_what_ran() {
        let snapshot = Snapshot::parse("100:110:100,105").unwrap();
        let has: Vec<_> = (98..112).filter(|xid| snapshot.has(*xid)).collect();
        assert_eq!(has, [98, 99, 101, 102, 103, 104, 106, 107, 108, 109]);
        assert!(Snapshot::parse("100:100:").unwrap().has(99));
        assert!(Snapshot::parse("100").is_err());
    }

    #[test]
    fn a_snapshot_just_behind_a_turn_of_the_counter_is_read_right() {
        let turn = 3_u64 << 32;
        let snapshot = Snapshot::parse(&format!("{}:{}:{}", turn - 2, turn + 2, turn - 2)).unwrap();
        assert!(snapshot.has(u32::MAX) && snapshot.has(1) && !snapshot.has(u32::MAX - 1) && !snapshot.has(2));
    }

    #[test]
    fn positions_are_read_as_they_are_printed() {
        for position in [0, 1, 0x1_0000_0000, 0x16_B374_D848] {
            assert_eq!(parse_lsn(&lsn(position)).unwrap(), position);
        }
        assert_eq!(lsn(0x16_B374_D848), "16/B374D848");
    }
}
