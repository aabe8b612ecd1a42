"""Tenantry as one more system of the peers, and the peers asked for what Tenantry has so far: a tenant with its profile (W1),
a page of tenants (W2), both without quotas and flags, and reservations of quota (W4)."""
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
from peerlib.systems import Baseline, Common, Pgbench, PostGraphile, Strawberry

HERE = Path(__file__).resolve().parent
LOGIN = "tenantry_bench"
# Columns in the order of load.sql.
COLUMNS = ("tenant_id, slug, name, plan, isolation_tier, region, status, archived_from, suspension, access_changed_at, profile, sections,"
           " created_at, updated_at")
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


def without(query: str, *parts: str) -> str:
    """The peers' query without these parts; a part that is not there means that the peers have changed."""
    for part in parts:
        if part not in query:
            raise SystemExit(f"bench: the peers' query no longer has {part!r}")
        query = query.replace(part, "")
    return query


QUOTAS, FLAGS = " quotas { dimension limit used period }", " flags { key enabled variant }"


# ---------------------------------------------------------------- the peers, asked for less

class StrawberryProfile(Strawberry):
    W1 = without(Strawberry.W1, QUOTAS, FLAGS)
    W2 = without(Strawberry.W2, QUOTAS)


class PostGraphileProfile(PostGraphile):
    W1 = without(PostGraphile.W1, " quotas: tenantQuotasByTenantIdList { dimension limit: limitValue used period }",
                 " flags: tenantFlagsByTenantIdList { key enabled variant }")
    W2 = without(PostGraphile.W2, " quotas: tenantQuotasByTenantIdList { dimension limit: limitValue used period }")


class BaselineProfile(Baseline):
    W1 = without(Baseline.W1, QUOTAS, FLAGS)
    W2 = without(Baseline.W2, QUOTAS)


# ---------------------------------------------------------------- Tenantry

class Tenantry(Common):
    name, items = "tenantry", {"W1", "W1cold", "W2@1k", "W2@100k", "W4hot", "W4many"}
    scope_quota = "auth:quota:write"
    scope_read = scope_admin = "auth:tenant:read"
    w2_walk_first = 100  # its largest page
    W1 = ('query W1 { tenant { id slug name status tier: isolationTier region profile { legalName billingAddress { country } technicalContacts { email } }'
          ' settings: section(name: "settings") createdAt updatedAt } }')
    W2 = ("query W2($after: String, $first: Int!, $status: [TenantStatus!]) { tenants(first: $first, after: $after, filter: { status: $status }) {"
          " edges { cursor node { id slug name status tier: isolationTier } } pageInfo { hasNextPage endCursor } } }")
    W2WALK = ("query Walk($after: String, $first: Int!, $status: [TenantStatus!]) { tenants(first: $first, after: $after, filter: { status: $status }) {"
              " edges { cursor node { slug } } pageInfo { hasNextPage } } }")

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
        return {"TENANTRY__SERVER__LISTEN": f"127.0.0.1:{self.addr[1]}", **database_environment(ctx, self.database(item))}

    def rss(self) -> int:
        """Resident bytes of the server process."""
        status = Path(f"/proc/{self.proc.p.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))

    def w4(self, ctx, n):
        lines = [{"key": "bench_calls", "amount": 1}]
        return raw_request("POST", self.gql_path, gql(self.W4, {"lines": lines}), ctx.token(self.scope_quota, n))

    def w4_reset(self, ctx, tenants, limit):
        """Nothing used, nothing held; the limit by an override (None: without one). The server is told, as by a commit."""
        ids = ",".join(f"'{D.tid(n)}'::uuid" for n in tenants)
        these = "SELECT t FROM bench_tenants"
        say = "SELECT pg_notify('tenantry', '00000000-0000-0000-0000-000000000000');"
        sql = [f"CREATE TEMP TABLE bench_tenants ON COMMIT DROP AS SELECT unnest(ARRAY[{ids}]) AS t"]
        sql += [f"DELETE FROM tenantry.{table} WHERE tenant_id IN ({these})" for table in ("quota_reservations", "quota_usage", "quota_overrides")]
        if limit is not None:
            sql.append("INSERT INTO tenantry.quota_keys (key, unit, kind, created_at, updated_at) VALUES ('bench_calls', 'calls', 'LEVEL', now(), now())"
                       " ON CONFLICT DO NOTHING")
            sql.append("INSERT INTO tenantry.quota_overrides (tenant_id, quota_key, quota_limit, reason, set_by, created_at, updated_at)"
                       f" SELECT t, 'bench_calls', {limit}, 'bench', 'bench', now(), now() FROM bench_tenants")
        sql.append("SELECT count(pg_notify('tenantry', t::text)) FROM bench_tenants")
        ctx.psql("BEGIN; " + "; ".join(sql) + "; " + say + " COMMIT", self.database("W4hot"))
        time.sleep(0.5 + len(tenants) * 0.004)  # until it has heard, and read again what it knew

    def w4_reserved(self, ctx, tenants):
        ids = ",".join(f"'{D.tid(n)}'" for n in tenants)
        a, b = ctx.psql("SELECT sum(u.reserved), max(u.used + u.reserved - o.quota_limit) FROM tenantry.quota_usage u"
                        f" JOIN tenantry.quota_overrides o USING (tenant_id, quota_key) WHERE tenant_id IN ({ids})", self.database("W4hot")).split("|")
        return int(a), int(b)

    def w1_canonical(self, body):
        t = body["data"]["tenant"]
        p = t["profile"]
        return {"id": t["id"], "slug": t["slug"], "name": t["name"], "status": t["status"], "tier": TIERS[t["tier"]],
                "profile": {"legalName": p["legalName"], "country": p["billingAddress"]["country"], "dataResidency": t["region"],
                            "contactEmail": p["technicalContacts"][0]["email"], "retentionDays": t["settings"]["retentionDays"],
                            "createdAt": t["createdAt"], "updatedAt": t["updatedAt"]}}

    def w2_canonical(self, body):
        page, more = super().w2_canonical(body)
        return [(cursor, {**node, "tier": TIERS[node["tier"]]}) for cursor, node in page], more


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
    """Makes, migrates and fills the database, anew where migrations or load.sql have changed since; its comment says of which it is."""
    sources = [HERE / "load.sql", *sorted((HERE.parent / "migration" / "src" / "sql").glob("*.sql"))]
    mark = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    found = ctx.psql(f"SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{database}'", "postgres")
    if found == mark:
        return migrate(ctx, binary, database)
    ctx.psql(f"DROP DATABASE IF EXISTS {database}", "postgres")
    ctx.psql(f"CREATE DATABASE {database}", "postgres")
    migrate(ctx, binary, database)
    print(f"  loading {database} from {peer}", flush=True)
    psql = [ctx.pgbin / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(ctx.pgport), "-U", "postgres"]
    rows = subprocess.Popen([*psql, "-d", peer, "-f", HERE / "load.sql"], stdout=subprocess.PIPE)
    # As `replica` no trigger runs: the tenants are made in the state that they have.
    done = subprocess.run([*psql, "-d", database, "-c", "SET session_replication_role = replica",
                           "-c", f"COPY tenantry.tenants ({COLUMNS}) FROM STDIN", "-c", "VACUUM ANALYZE tenantry.tenants"],
                          stdin=rows.stdout, capture_output=True, text=True)
    rows.stdout.close()
    if rows.wait() or done.returncode:
        raise RuntimeError(f"{database} cannot be loaded: {done.stderr}")
    ctx.psql(f"COMMENT ON DATABASE {database} IS '{mark}'", "postgres")
    ctx.psql("CHECKPOINT", database)


def migrate(ctx, binary: Path, database: str) -> None:
    owner = f"postgres://postgres@127.0.0.1:{ctx.pgport}/{database}"
    environment = {**database_environment(ctx, database), "TENANTRY__DATABASE__OWNER_URL": owner}
    done = subprocess.run([binary, "--config", config_file(ctx), "migrate"], capture_output=True, text=True,
                          env={**os.environ, **{k: str(v) for k, v in environment.items()}})
    if done.returncode:
        raise RuntimeError(f"tenantry migrate: {done.stderr}")


def systems(binary: Path, item: str) -> list[Common]:
    """Fresh instances for this item, each on a port of its own, so that two items can be measured side by side."""
    script = lambda name: str(HERE / "pgbench" / name)  # noqa: E731
    graphql = {"W1", "W1cold", "W2@1k", "W2@100k"}
    every = [
        Tenantry(binary),
        StrawberryProfile("strawberry", 0),
        PostGraphileProfile("postgraphile", 0),
        BaselineProfile("axum-graphql-pg", "/graphql-pg", graphql),
        BaselineProfile("axum-graphql-const-jwtcache", "/graphql", {"W1", "W1cold"}, constant=True, env={"JWT_CACHE": 1}),
        BaselineProfile("axum-graphql-fast-mem", "/graphql-fast", {"W1", "W1cold"}, env={"JWT_CACHE": 1, "MEM": 1}),
        Pgbench("pgbench", {"W1": script("w1.sql"), "W2@1k": script("w2.sql"), "W2@100k": script("w2.sql")}),
        Pgbench("pgbench-1rt", {"W1": script("w1_1rt.sql")}),
        Pgbench("pgbench-update", {"W4hot": "w4hot.sql", "W4many": "w4many.sql"}),
        Baseline("axum-reserve-combine", "/reserve/combine", {"W4hot", "W4many"}),
        Baseline("axum-reserve-lease", "/reserve/lease", {"W4hot", "W4many"}, slack=256),
        Strawberry("strawberry-full", 0, items={"W1"}),
        PostGraphileFull(),
    ]
    for system in every:
        system.addr = ("127.0.0.1", free_port())
    return [system for system in every if item in system.items]


class PostGraphileFull(PostGraphile):
    def __init__(self):
        super().__init__("postgraphile-full", 0)
        self.items = {"W1"}
