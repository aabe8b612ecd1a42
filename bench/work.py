"""The requests, and what every response must contain: the peers' own, but for F1, of which whole answers are checked besides, and W4, where
a refusal is an error with a code."""
import json

from peerlib import dataset as D
from peerlib import items as I


def prepare(ctx, system, item: str, run, rounds: int):
    """Verifies the system for this item and writes its requests: one file, or one for each round (W1cold)."""
    if item == "F1":
        f1_verify(ctx, system)
    if item.startswith("W4"):
        w4_verify(ctx, system, item, run)
        return I.write(ctx, system, item, *w4_lines(ctx, system, I.w4_tenants(item)))
    return I.prepare(ctx, system, item, run, rounds)


def f1_verify(ctx, system):
    """All flags of 20 tenants; each response of the run is then held to the number of flags and of those that are on."""
    for n in D.w1_tenants(100_000, 20):
        status, _, body = system.post(ctx, system.f1(ctx, n))
        I.need(status == 200, f"{system.name}: status {status}: {body[:300]}")
        want = {flag["key"]: flag["enabled"] for flag in D.flags(n)}
        got = f1_canonical(system, json.loads(body))
        I.need(got == want, f"{system.name}: wrong flags of tenant {n}:\n got {got}\nwant {want}")


def f1_canonical(system, body):
    if hasattr(system, "f1_canonical"):
        return system.f1_canonical(body)
    if "toggles" in body:  # Unleash tells those that are on
        return {flag["key"]: any(flag["key"] == on["name"] and on["enabled"] for on in body["toggles"]) for flag in D.flags(1)}
    return {flag["key"]: flag["enabled"] for flag in body["data"]["tenant"]["flags"]}


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
