-- After the switch a move can be rolled back: it is over as ROLLED_BACK, and another takes the tenant to where it came from.
alter table moves drop constraint moves_phase_check;
alter table moves add constraint moves_phase_check
  check (phase in ('PREPARING', 'COPYING', 'CATCHING_UP', 'SWITCHING', 'SWITCHED', 'CONFIRMED', 'CANCELLED', 'FAILED', 'ROLLED_BACK'));
alter table moves drop constraint moves_wanted_check;
alter table moves add constraint moves_wanted_check check (wanted in ('SWITCH', 'CANCEL', 'GIVE_UP', 'CONFIRM', 'ROLL_BACK'));
