-- Operators are members of the platform itself, whose id is nil. It has no data keys: secrets of their second factors are sealed with the
-- master key, and have no version of one.
alter table member_totp alter column key_version drop not null;
alter table member_totp add constraint member_totp_sealed_by
  check ((key_version is null) = (tenant_id = '00000000-0000-0000-0000-000000000000'));
