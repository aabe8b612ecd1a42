"""Tenantry as one more system of the peers, for their own work: a tenant with its profile, quotas and flags (W1), a page of tenants with
quotas (W2), events of usage (W3), the flags of a tenant (F1), and reservations of quota (W4)."""
import base64
import hashlib
import json
import os
import socket
import subprocess
import time
import urllib.request
import uuid
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from peerlib import dataset as D
from peerlib import tokens
from peerlib.core import Proc, gql, raw_request
from peerlib.systems import Baseline, Common, IngestBench, Pgbench, PostGraphile, Strawberry, Unleash

HERE = Path(__file__).resolve().parent
LOGIN = "tenantry_bench"
# Tables that are filled, in this order, each with the columns of load/<table>.sql.
TABLES = {
    "tenants": ("tenant_id, slug, name, plan, isolation_tier, region, status, archived_from, suspension, access_changed_at, profile, sections,"
                " created_at, updated_at"),
    "quota_overrides": "tenant_id, quota_key, quota_limit, reason, set_by, created_at, updated_at",
    "quota_usage": "tenant_id, quota_key, quota_window, used",
    "flag_values": "tenant_id, flag_key, value, set_by, set_at",
}
TIERS = {"STANDARD": "STANDARD", "ENTERPRISE": "PROFESSIONAL", "PREMIUM": "SOVEREIGN"}  # Tenantry's name: the peers' name


class Minter(tokens.Minter):
    """The peers' tokens; one without a tenant that asks for scopes of Tenantry is an operator's and names a role."""

    def __call__(self, scope: str, tenant_id: str | None = None) -> str:
        if tenant_id or not scope.startswith("auth:"):
            return super().__call__(scope, tenant_id)
        now = int(time.time())
        claims = {"iss": tokens.ISS, "aud": tokens.AUD, "sub": "operator-bench", "jti": str(uuid.uuid4()), "iat": now, "exp": now + self.ttl,
                  "scope": scope, "roles": ["admin"]}
        body = self.header + "." + tokens._b64(json.dumps(claims, separators=(",", ":")).encode())
        return body + "." + tokens._b64(self.key.sign(body.encode(), padding.PKCS1v15(), hashes.SHA256()))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# ---------------------------------------------------------------- Tenantry

class Tenantry(Common):
    name, items = "tenantry", {"W1", "W1cold", "F1", "W2@1k", "W2@100k", "W3", "W4hot", "W4many"}
    scope_quota = "auth:quota:write"
    scope_read = "auth:tenant:read auth:quota:read auth:flag:read"
    scope_admin = "auth:tenant:read auth:quota:read"
    w2_walk_first = 100  # its largest page
    QUOTAS = f"quotas(keys: {json.dumps(D.DIMENSIONS)}) {{ dimension: key limit used period }}"  # of the catalogue's 25
    W1 = ('query W1 { tenant { id slug name status tier: isolationTier region profile { legalName billingAddress { country } technicalContacts { email } }'
          f' settings: section(name: "settings") {QUOTAS} flags {{ key enabled variant }} createdAt updatedAt }} }}')
    W2 = ("query W2($after: String, $first: Int!, $status: [TenantStatus!]) { tenants(first: $first, after: $after, filter: { status: $status }) {"
          " edges { cursor node { id slug name status tier: isolationTier " + QUOTAS + " } } pageInfo { hasNextPage endCursor } } }")
    W2WALK = ("query Walk($after: String, $first: Int!, $status: [TenantStatus!]) { tenants(first: $first, after: $after, filter: { status: $status }) {"
              " edges { cursor node { slug } } pageInfo { hasNextPage } } }")

    f1_common = {"counts": {'"key"': 20, '"value":true': 13, '"feature_': 20}}

    def f1(self, ctx, n):
        return raw_request("POST", "/ofrep/v1/evaluate/flags", "{}", ctx.token(self.scope_read, n))

    def f1_canonical(self, body):
        return {flag["key"]: flag["value"] for flag in body["flags"]}

    W4 = "mutation W4($lines: [QuotaLineInput!]!) { reserveQuota(input: { lines: $lines }) { reservation { id } quotas { remaining } } }"
    w4_classes = ['"reservation":{"id"', '"code":"quota_exceeded"']
    w4_must_not = ['"code":"unavailable"', '"code":"internal"', '"code":"rate_limited"']

    def __init__(self, binary: Path):
        self.binary = binary
        self.started_in = self.rss_at_start = None

    def database(self, item):
        return "tenantry1k" if item == "W2@1k" else "tenantry100k"

    def start(self, ctx, item):
        prepare_database(ctx, self.binary, self.database(item), "peer1k" if item == "W2@1k" else "peer100k")
        self.proc = Proc([self.binary, "--config", config_file(ctx), "serve"], self.environment(ctx, item),
                         ctx.tmp / f"tenantry-{self.addr[1]}.log")
        began = time.monotonic()
        while True:
            if self.proc.p.poll() is not None:
                raise RuntimeError(f"tenantry stopped: {self.proc.log.read_text()[-2000:]}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.addr[1]}/readyz", timeout=5) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                if time.monotonic() - began > 60:
                    raise RuntimeError(f"tenantry is not ready: {self.proc.log.read_text()[-2000:]}") from None
            time.sleep(0.01)
        self.started_in = time.monotonic() - began
        time.sleep(1)
        self.rss_at_start = self.rss()

    def environment(self, ctx, item):
        # Events of W3 are of the whole of today, and those that are verified of January.
        times = {"TENANTRY__USAGE__ACCEPT_EARLY": "2days", "TENANTRY__USAGE__ACCEPT_LATE": "2years", "TENANTRY__USAGE__KEEP_EVENTS": "2years"} if item == "W3" else {}
        return {"TENANTRY__SERVER__LISTEN": f"127.0.0.1:{self.addr[1]}", **times, **database_environment(ctx, self.database(item))}

    def rss(self) -> int:
        """Resident bytes of the server process."""
        status = Path(f"/proc/{self.proc.p.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))

    def w3(self, ctx, events):
        sent = [{"tenant_id": e["tenantId"], "dimension": e["dimension"], "quantity": e["quantity"], "timestamp": e["time"],
                 "idempotency_key": e["key"]} for e in events]
        return raw_request("POST", "/api/v1/billing/meter", json.dumps(sent, separators=(",", ":")), ctx.token("auth:usage:write"))

    def w3_total(self, ctx):
        """Totals as a reader adds them up: what was folded, and what waits."""
        events, total = ctx.psql("SELECT (SELECT coalesce(sum(events), 0) FROM (SELECT events FROM tenantry.usage_inbox UNION ALL SELECT events FROM tenantry.usage_events) e),"
                                 " (SELECT coalesce(sum(total), 0) FROM tenantry.usage_days)"
                                 " + (SELECT coalesce(sum(q), 0) FROM tenantry.usage_inbox, unnest(quantities) q)", self.database("W3")).split("|")
        return int(events), int(total)

    def w3_stored_sum(self, ctx):
        return int(ctx.psql("SELECT coalesce(sum(q), 0) FROM (SELECT quantities FROM tenantry.usage_inbox UNION ALL SELECT quantities FROM tenantry.usage_events) e,"
                            " unnest(quantities) q", self.database("W3")))

    def w3_reset(self, ctx):
        """Nothing counted; the peers' 8 dimensions are there, all summed. The server is told, as by a commit."""
        ctx.psql("TRUNCATE tenantry.usage_keys, tenantry.usage_inbox, tenantry.usage_events, tenantry.usage_quarters, tenantry.usage_days;"
                 " UPDATE tenantry.usage_dimensions SET aggregation = 'SUM' WHERE key = 'users';"
                 " INSERT INTO tenantry.usage_dimensions (key, dimension_id, unit, aggregation, created_at, updated_at)"
                 f" SELECT key, 100 + place, 'units', 'SUM', now(), now() FROM unnest(ARRAY{D.DIMENSIONS}) WITH ORDINALITY AS d (key, place)"
                 " ON CONFLICT DO NOTHING; SELECT pg_notify('tenantry', '00000000-0000-0000-0000-000000000000')", self.database("W3"))
        time.sleep(0.5)  # until it has heard

    def w4(self, ctx, n):
        lines = [{"key": "bench_calls", "amount": 1}]
        return raw_request("POST", self.gql_path, gql(self.W4, {"lines": lines}), ctx.token(self.scope_quota, n))

    def w4_settled(self, ctx):
        """What the server leased and did not promise has come back: 2 s after the last request, and as often as its schedule runs."""
        open_leases = "SELECT count(*) FROM tenantry.quota_reservations WHERE state = 'HELD' AND lease_until IS NOT NULL AND NOT lease_closed"
        for _ in range(100):
            if ctx.psql(open_leases, self.database("W4hot")).strip() == "0":
                return
            time.sleep(0.1)
        raise RuntimeError("leases stay open")

    def w4_reset(self, ctx, tenants, limit):
        """Nothing used, nothing held; the limit by an override (None: without one). The server is told, as by a commit."""
        self.w4_settled(ctx)
        ids = ",".join(f"'{D.tid(n)}'::uuid" for n in tenants)
        these = "SELECT t FROM bench_tenants"
        say = "SELECT pg_notify('tenantry', '00000000-0000-0000-0000-000000000000');"
        sql = [f"CREATE TEMP TABLE bench_tenants ON COMMIT DROP AS SELECT unnest(ARRAY[{ids}]) AS t"]
        sql += [f"DELETE FROM tenantry.quota_reservations WHERE tenant_id IN ({these})"]
        # W1 and W2 ask for the other quotas of these tenants.
        sql += [f"DELETE FROM tenantry.{table} WHERE tenant_id IN ({these}) AND quota_key = 'bench_calls'" for table in ("quota_usage", "quota_overrides")]
        if limit is not None:
            sql.append("INSERT INTO tenantry.quota_keys (key, unit, kind, created_at, updated_at) VALUES ('bench_calls', 'calls', 'LEVEL', now(), now())"
                       " ON CONFLICT DO NOTHING")
            sql.append("INSERT INTO tenantry.quota_overrides (tenant_id, quota_key, quota_limit, reason, set_by, created_at, updated_at)"
                       f" SELECT t, 'bench_calls', {limit}, 'bench', 'bench', now(), now() FROM bench_tenants")
        sql.append("SELECT count(pg_notify('tenantry', t::text)) FROM bench_tenants")
        ctx.psql("BEGIN; " + "; ".join(sql) + "; " + say + " COMMIT", self.database("W4hot"))
        time.sleep(0.5 + len(tenants) * 0.004)  # until it has heard, and read again what it knew

    def w4_reserved(self, ctx, tenants):
        self.w4_settled(ctx)
        ids = ",".join(f"'{D.tid(n)}'" for n in tenants)
        a, b = ctx.psql("SELECT sum(u.reserved), max(u.used + u.reserved - o.quota_limit) FROM tenantry.quota_usage u"
                        f" JOIN tenantry.quota_overrides o USING (tenant_id, quota_key) WHERE quota_key = 'bench_calls' AND tenant_id IN ({ids})", self.database("W4hot")).split("|")
        return int(a), int(b)

    def w1_canonical(self, body):
        t = body["data"]["tenant"]
        p = t["profile"]
        # A BOOLEAN's variant is `on` or `off`; the peers have a second value there, which no flag of Tenantry holds beside its own.
        theirs = {flag["key"]: flag["variant"] for flag in D.flags(int(t["slug"].removeprefix("agency-")))}
        told = {flag["key"]: flag["variant"] == ("on" if flag["enabled"] else "off") for flag in t["flags"]}
        flags = [{**flag, "variant": theirs[flag["key"]] if told[flag["key"]] else "?"} for flag in t["flags"]]
        return {"id": t["id"], "slug": t["slug"], "name": t["name"], "status": t["status"], "tier": TIERS[t["tier"]],
                "quotas": quotas(t["quotas"]), "flags": flags,
                "profile": {"legalName": p["legalName"], "country": p["billingAddress"]["country"], "dataResidency": t["region"],
                            "contactEmail": p["technicalContacts"][0]["email"], "retentionDays": t["settings"]["retentionDays"],
                            "createdAt": t["createdAt"], "updatedAt": t["updatedAt"]}}

    def w2_canonical(self, body):
        page, more = super().w2_canonical(body)
        return [(cursor, {**node, "tier": TIERS[node["tier"]], "quotas": quotas(node["quotas"])}) for cursor, node in page], more


def quotas(found: list[dict]) -> list[dict]:
    """What counts in all has no period."""
    return [{**quota, "period": quota["period"] or "TOTAL"} for quota in found]


def database_environment(ctx, database: str) -> dict:
    return {"TENANTRY__DATABASE__URL": f"postgres://{LOGIN}@127.0.0.1:{ctx.pgport}/{database}",
            "TENANTRY__DATA__DIR": ctx.tmp / database, "TENANTRY__TELEMETRY__LOG_FORMAT": "json",
            # What is measured is the control plane; environments have figures of their own.
            "TENANTRY__PROVISIONING__LAYERS": ""}


def config_file(ctx) -> Path:
    """Says whose tokens are accepted: the peers' issuer, with the key of this machine's bench."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    numbers = load_pem_public_key((ctx.home / "jwt.pub").read_bytes()).public_numbers()
    number = lambda n: base64.urlsafe_b64encode(n.to_bytes((n.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()  # noqa: E731
    jwks, config = ctx.tmp / "jwks.json", ctx.tmp / "tenantry.toml"
    jwks.write_text(json.dumps({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": tokens.KID, "n": number(numbers.n), "e": number(numbers.e)}]}))
    config.write_text(f"[[auth.external_issuers]]\nissuer = {json.dumps(tokens.ISS)}\naudience = {json.dumps(tokens.AUD)}\njwks = {json.dumps(str(jwks))}\n")
    return config


def prepare_database(ctx, binary: Path, database: str, peer: str) -> None:
    """Makes, migrates and fills the database, anew where migrations or what is loaded have changed since, or a month has begun; its comment
    says of which it is."""
    sources = [*sorted((HERE / "load").glob("*.sql")), *sorted((HERE.parent / "migration" / "src" / "sql").glob("*.sql"))]
    mark = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest() + time.strftime(" %Y-%m", time.gmtime())
    found = ctx.psql(f"SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{database}'", "postgres")
    if found == mark:
        return migrate(ctx, binary, database)
    ctx.psql(f"DROP DATABASE IF EXISTS {database}", "postgres")
    ctx.psql(f"CREATE DATABASE {database}", "postgres")
    migrate(ctx, binary, database)
    print(f"  loading {database} from {peer}", flush=True)
    ctx.psql((HERE / "load" / "catalogue.sql").read_text(), database)
    for table, columns in TABLES.items():
        fill(ctx, database, peer, table, columns)
    ctx.psql(f"COMMENT ON DATABASE {database} IS '{mark}'", "postgres")
    ctx.psql("CHECKPOINT", database)


def fill(ctx, database: str, peer: str, table: str, columns: str) -> None:
    psql = [ctx.pgbin / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(ctx.pgport), "-U", "postgres"]
    rows = subprocess.Popen([*psql, "-d", peer, "-f", HERE / "load" / f"{table}.sql"], stdout=subprocess.PIPE)
    # As `replica` no trigger runs: the tenants are made in the state that they have.
    done = subprocess.run([*psql, "-d", database, "-c", "SET session_replication_role = replica",
                           "-c", f"COPY tenantry.{table} ({columns}) FROM STDIN", "-c", f"VACUUM ANALYZE tenantry.{table}"],
                          stdin=rows.stdout, capture_output=True, text=True)
    rows.stdout.close()
    if rows.wait() or done.returncode:
        raise RuntimeError(f"{table} of {database} cannot be loaded: {done.stderr}")


def migrate(ctx, binary: Path, database: str) -> None:
    owner = f"postgres://postgres@127.0.0.1:{ctx.pgport}/{database}"
    environment = {**database_environment(ctx, database), "TENANTRY__DATABASE__OWNER_URL": owner}
    done = subprocess.run([binary, "--config", config_file(ctx), "migrate"], capture_output=True, text=True,
                          env={**os.environ, **{k: str(v) for k, v in environment.items()}})
    if done.returncode:
        raise RuntimeError(f"tenantry migrate: {done.stderr}")


def systems(binary: Path, item: str) -> list[Common]:
    """Fresh instances for this item, each on a port of its own, so that two items can be measured side by side."""
    graphql = {"W1", "W1cold", "F1", "W2@1k", "W2@100k"}
    every = [
        Tenantry(binary),
        Strawberry("strawberry", 0),
        PostGraphile("postgraphile", 0),
        Baseline("axum-graphql-pg", "/graphql-pg", graphql),
        Baseline("axum-graphql-const-jwtcache", "/graphql", {"W1", "W1cold"}, constant=True, env={"JWT_CACHE": 1}),
        Baseline("axum-graphql-fast-mem", "/graphql-fast", {"W1", "W1cold", "F1"}, env={"JWT_CACHE": 1, "MEM": 1}),
        Pgbench("pgbench", {"W1": "w1.sql", "W2@1k": "w2.sql", "W2@100k": "w2.sql"}),
        Pgbench("pgbench-1rt", {"W1": "w1_pipeline.sql"}),
        Pgbench("pgbench-update", {"W4hot": "w4hot.sql", "W4many": "w4many.sql"}),
        Baseline("axum-ingest", "/ingest", {"W3"}),
        Baseline("axum-ingest-group", "/ingest-group", {"W3"}),
        IngestBench("unnest-unique-totals", "func"),
        IngestBench("copy-unique", "copy"),
        Baseline("axum-reserve-combine", "/reserve/combine", {"W4hot", "W4many"}),
        Baseline("axum-reserve-lease", "/reserve/lease", {"W4hot", "W4many"}, slack=256),
    ]
    if (Path(os.environ["PEERS_DIR"]) / "unleash" / "node_modules" / "unleash-server").exists():
        every.append(Unleash())
    for system in every:
        system.addr = ("127.0.0.1", free_port())
    return [system for system in every if item in system.items]

