"""W1 and W2 without quotas and flags, and W4: the requests, and what every response must contain. The peers' own checks are
used where the work is theirs (`*-full`, walking the list, W1cold's fresh tokens, what the store holds after W4)."""
import json
import random

from peerlib import dataset as D
from peerlib import items as I

CHECKED_PAGES = 5


def full(system) -> bool:
    return system.name.endswith("-full")


def constant(system) -> bool:
    """Whether it answers the same whatever is asked: it has nothing of a tenant's to check."""
    return getattr(system, "constant", False)


def prepare(ctx, system, item: str, run, rounds: int):
    """Verifies the system for this item and writes its requests: one file, or one for each round (W1cold)."""
    if full(system):
        return I.prepare(ctx, system, item, run, rounds)
    if item.startswith("W2"):
        return I.write(ctx, system, item, *w2_lines(ctx, system, item))
    if item.startswith("W4"):
        w4_verify(ctx, system, item, run)
        return I.write(ctx, system, item, *w4_lines(ctx, system, I.w4_tenants(item)))
    w1_verify(ctx, system)
    if item == "W1":
        return I.write(ctx, system, item, *w1_lines(ctx, system))
    return [I.write(ctx, system, f"{item}.{part}", *w1_lines(ctx, system, part)) for part in range(rounds)]


def w1_lines(ctx, system, part=None):
    tenants = D.w1_tenants(100_000, 1000) if part is None else D.w1_tenants(100_000, I.COLD, 1000 + part * 1000)
    ctx.part = part
    lines = []
    for n in tenants:
        d = D.document(n)
        must = [] if constant(system) else [d["id"], d["slug"], f'"{d["name"]}"', d["profile"]["legalName"], d["profile"]["contactEmail"]]
        lines.append({"raw": system.w1(ctx, n), "must": must})
    ctx.part = None
    return {"must_not": ['"errors"', '"dimension"'], "counts": {'"slug"': 1, '"ACTIVE"': 1}}, lines


def w1_verify(ctx, system):
    if constant(system):
        return
    for n in D.w1_tenants(100_000, 20):
        status, _, body = system.post(ctx, system.w1(ctx, n))
        I.need(status == 200, f"{system.name}: status {status}: {body[:300]}")
        want = {k: v for k, v in D.document(n).items() if k not in ("quotas", "flags")}
        got = system.w1_canonical(json.loads(body))
        got = {k: got[k] for k in want}
        got["profile"] = {k: got["profile"][k] for k in want["profile"]}
        for k in ("createdAt", "updatedAt"):
            got["profile"][k] = D.parse_time(got["profile"][k])
        I.need(got == want, f"{system.name}: wrong document for tenant {n}:\n got {got}\nwant {want}")
    # Without a token, with a changed signature, with another tenant's claims, nothing is answered.
    n, m = D.w1_tenants(100_000, 2)
    good = ctx.token(system.scope_read, n)
    head, body, signature = good.split(".")
    other = ctx.token(system.scope_read, m).split(".")[1]
    for bad in ("", ".".join((head, body, signature[:-8] + "AAAAAAAA")), ".".join((head, other, signature))):
        header = f"Authorization: Bearer {good}\r\n"
        raw = system.w1(ctx, n)
        I.need(header in raw, f"{system.name}: the request carries another token")
        _, _, answer = system.post(ctx, raw.replace(header, f"Authorization: Bearer {bad}\r\n" if bad else ""))
        I.need(D.slug(n).encode() not in answer and D.slug(m).encode() not in answer, f"{system.name}: a bad token was answered")


def w2_lines(ctx, system, item):
    want, cursors = I.w2_cursors(ctx, system, item)  # walks the whole list and checks its order
    rnd = random.Random(3)
    last = min(len(cursors), len(want) - 51) - 1
    lines = []
    for _ in range(400):
        i = rnd.randint(0, last)
        ends = [D.document(want[i + 1]), D.document(want[i + 50])]
        lines.append({"raw": system.w2(ctx, cursors[i]), "must": [t for d in ends for t in (d["id"], d["slug"], f'"{d["name"]}"')]})
    for i in rnd.sample(range(last), CHECKED_PAGES):
        status, _, body = system.post(ctx, system.w2(ctx, cursors[i]))
        I.need(status == 200, f"{system.name}: status {status}: {body[:300]}")
        page, more = system.w2_canonical(json.loads(body))
        I.need(len(page) == 50 and more, f"{system.name}: page after {i}")
        for k, (_, node) in enumerate(page):
            d = D.document(want[i + 1 + k])
            I.need(node == {f: d[f] for f in ("id", "slug", "name", "status", "tier")}, f"{system.name}: wrong row {node}")
    return {"must_not": ['"errors"', '"dimension"'], "counts": {'"slug"': 50, '"cursor"': 50, '"ACTIVE"': 50}}, lines


def w4_lines(ctx, system, tenants):
    """A refusal is an answer of the peers, and an error with a code of Tenantry's: each system says what must not be there."""
    must_not = getattr(system, "w4_must_not", ['"errors"'])
    return {"classes": system.w4_classes, "must_not": must_not}, [{"raw": system.w4(ctx, n)} for n in tenants]


def w4_verify(ctx, system, item, run):
    """Twice as many requests as the limit allows: exactly the limit is granted, and the store says so."""
    tenants, limit = ([D.W4_HOT], 300) if item == "W4hot" else (D.W4_MANY[:50], 6)
    system.w4_reset(ctx, tenants, limit)
    path = I.write(ctx, system, item + "-exact", *w4_lines(ctx, system, tenants))
    r = run(["--requests", path, "--conns", 32, "--count", 600, "--pick", "seq", "--secs", 60])
    I.need(not r["errors"], f"{system.name}: {r['errors']} {r['error_sample']}")
    granted, refused = (r["classes"][name] for name in system.w4_classes)
    I.need(granted == refused == 300, f"{system.name}: granted {r['classes']} of a limit of 300")
    held, over = system.w4_reserved(ctx, tenants)
    I.need(held == 300 and over <= 0, f"{system.name}: the store holds {held} reserved, excess {over}")
