"""Measures Tenantry and the peers side by side and prints the ratios; started by `bench/run`. Load generator, CPU accounting and
checks are the peers'."""
import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOME = Path(os.environ["PEERS_DIR"])
PEERS = HOME / "peers"
sys.path[:0] = [str(HERE), str(PEERS)]

import adapter  # noqa: E402
import work  # noqa: E402
from peerlib import core, items as I  # noqa: E402

spec = importlib.util.spec_from_file_location("peers_run", PEERS / "run.py")
peers_run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(peers_run)

SYSTEMS = "tenantry,strawberry,postgraphile,axum-graphql-pg,axum-graphql-fast-mem,axum-graphql-const-jwtcache,pgbench,pgbench-1rt,pgbench-update,axum-ingest,axum-ingest-group,unnest-unique-totals,copy-unique,axum-reserve-combine,axum-reserve-lease,unleash"
QUICK_SYSTEMS = "tenantry,strawberry,postgraphile"
QUICK_BESIDES = {"F1": ["axum-graphql-pg", "unleash"]}  # what the goals of an item name besides
GROUPS = {"W1": ["W1"], "W1cold": ["W1cold"], "F1": ["F1"], "W2": ["W2@1k", "W2@100k"], "W3": ["W3"], "W4hot": ["W4hot"], "W4many": ["W4many"]}  # measured side by side, rounds interleaved
TITLES = {"W1": "read one tenant with its profile, 8 quotas and 20 flags, 1,000 tokens in use", "W1cold": "the same, every request has a new token",
          "F1": "the 20 flags of one tenant; Tenantry over OFREP",
          "W3": "ingest batches of 500 usage events",
          "W4hot": "reserve quota, one tenant", "W4many": "reserve quota, 1,000 tenants",
          "W2@1k": "list 50 tenants with quotas after a cursor, 1,000 tenants", "W2@100k": "list 50 tenants with quotas after a cursor, 100,000 tenants"}
CALM = 0.15  # of the machine used by others; calmer rounds are preferred where there are three
RESIDENT_LIMIT = 64 * 2**20
# Ratios that rate and CPU per request must both reach. The goals' absolute figures (W1 15,000/s, F1 20,000/s) are of a machine on which the peers
# had the rates that these ratios come from.
BOTH = {
    "W1": {"strawberry": 17, "postgraphile": 8.5, "axum-graphql-const-jwtcache": 0.8},
    "F1": {"strawberry": 29, "postgraphile": 12.8, "axum-graphql-pg": 3.9, "unleash": 1},
    "W2@100k": {"strawberry": 12, "postgraphile": 2.8, "pgbench": 0.7},
}


class Lane:
    """One system at one item."""

    def __init__(self, system, item):
        self.system, self.item, self.paths, self.rounds, self.failed = system, item, None, [], None

    def start(self, ctx, rounds):
        self.system.start(ctx, self.item)
        if type(self.system).measure is core.System.measure:
            run = lambda options: peers_run.loadgen(ctx, self.system, options)  # noqa: E731
            self.paths = work.prepare(ctx, self.system, self.item, run, rounds)
            if self.item not in ("W1cold", "W3"):
                run(["--requests", self.paths, "--conns", I.CONNS[self.item], "--secs", 1])

    def round(self, ctx, k, secs):
        path = self.paths[k] if isinstance(self.paths, list) else self.paths
        self.rounds.append(peers_run.one_round(ctx, self.system, self.item, path, secs, I.CONNS[self.item]))

    def guarded(self, what, *arguments):
        """A system that fails or answers wrongly once is not reported."""
        if self.failed:
            return
        try:
            what(*arguments)
        except (I.Violation, RuntimeError, OSError, KeyError, TypeError, IndexError) as e:
            self.failed = f"{type(e).__name__}: {e}"
            print(f"  {self.system.name} {self.item}: INVALID: {self.failed[:1500]}", flush=True)

    def row(self):
        calm = [r for r in self.rounds if r["foreign"] < CALM]
        rounds = calm if len(calm) >= 3 else self.rounds
        row = {k: statistics.median(r[k] for r in rounds) for k in ("ops_s", "p50_us", "p99_us", "server_us", "db_us", "gen_us", "foreign")}
        row["cpu_us"] = row["server_us"] + row["db_us"] + row["gen_us"]
        return {**row, "min": min(r["ops_s"] for r in rounds), "max": max(r["ops_s"] for r in rounds), "rounds": len(rounds)}


def restore(ctx):
    """W4 changes what W1 and W2 check: the peers' quotas get their own values back, after it and where a run was cut off."""
    for item in ("W4hot", "W4many"):
        core.System().w4_reset(ctx, I.w4_tenants(item), None)


def measure(ctx, group, names, args):
    restore(ctx)
    lanes = [Lane(s, item) for item in GROUPS[group] for s in adapter.systems(Path(os.environ["TENANTRY_BIN"]), item) if s.name in names]
    try:
        for lane in lanes:
            lane.guarded(lane.start, ctx, args.rounds)
        for k in range(args.rounds):
            turn = k % len(lanes)
            for lane in lanes[turn:] + lanes[:turn]:
                if not lane.failed and args.quiet_wait:
                    peers_run.wait_quiet(0.12, args.quiet_wait)
                lane.guarded(lane.round, ctx, k, args.secs)
        for lane in lanes:
            if isinstance(lane.system, adapter.Tenantry) and not lane.failed:
                lane.rss_after = lane.system.rss()
    finally:
        for lane in lanes:
            lane.system.stop()
        if group.startswith("W4"):
            restore(ctx)
    return lanes


def table(item, lanes):
    rows = sorted(((lane.system.name, lane.row()) for lane in lanes if lane.item == item and not lane.failed), key=lambda r: -r[1]["ops_s"])
    ours = dict(rows).get("tenantry")
    print(f"\n{item}: {TITLES[item]} ({I.CONNS[item]} connections)\n")
    print("| system | requests/s, median | lowest..highest | p50 ms | p99 ms | CPU µs per request: server + database + generator | others' CPU | Tenantry is, by rate | by CPU |")
    print("|---|---|---|---|---|---|---|---|---|")
    f = peers_run.fmt
    for name, r in rows:
        ratio = f"{ours['ops_s'] / r['ops_s']:.2f}× | {r['cpu_us'] / ours['cpu_us']:.2f}×" if ours else " | "
        print(f"| {name} | {f(r['ops_s'])} | {f(r['min'])}..{f(r['max'])} | {r['p50_us'] / 1000:.2f} | {r['p99_us'] / 1000:.2f} |"
              f" {f(r['server_us'])} + {f(r['db_us'])} + {f(r['gen_us'])} | {r['foreign'] * 100:.0f}% | {ratio} |", flush=True)
    return dict(rows)


def verdicts(rows, tenantries):
    """(what, figure, goal, met) for each goal that this run can tell of."""
    small, large = (rows.get(item, {}) for item in ("W2@1k", "W2@100k"))
    for item, goals in BOTH.items():
        found = rows.get(item, {})
        for peer, goal in goals.items():
            if peer in found and "tenantry" in found:
                rate, cpu = found["tenantry"]["ops_s"] / found[peer]["ops_s"], found[peer]["cpu_us"] / found["tenantry"]["cpu_us"]
                yield f"{item} against {peer}", f"{rate:.2f}× rate, {cpu:.2f}× CPU", f"at least {goal}× both", min(rate, cpu) >= goal
    for item, goals in (("W4hot", {"strawberry": 30, "postgraphile": 17, "pgbench-update": 12, "axum-reserve-lease": 1}),
                        ("W4many", {"postgraphile": 17, "pgbench-update": 2.5}), ("W3", {"unnest-unique-totals": 0.9})):
        found = rows.get(item, {})
        for peer, goal in goals.items():
            if peer in found and "tenantry" in found:
                rate = found["tenantry"]["ops_s"] / found[peer]["ops_s"]
                yield f"{item} against {peer}", f"{rate:.2f}× rate", f"at least {goal}×", rate >= goal
    if "tenantry" in small and "tenantry" in large:
        a, b = small["tenantry"], large["tenantry"]
        cpu = (b["server_us"] + b["db_us"]) / (a["server_us"] + a["db_us"])
        rate = a["ops_s"] / b["ops_s"]
        yield "W2's cost at 100,000 tenants against 1,000", f"{cpu:.2f}× CPU, {rate:.2f}× time", "at most 1.3× both", max(cpu, rate) <= 1.3
    if tenantries:
        rss = max(s.rss_at_start for s in tenantries)
        yield "resident memory after start", f"{rss / 2**20:.1f} MiB", "under 64 MiB", rss < RESIDENT_LIMIT


def commit():
    git = lambda *a: subprocess.run(["git", "-C", str(HERE.parent), *a], capture_output=True, text=True)  # noqa: E731
    head = git("rev-parse", "--short=12", "HEAD")
    if head.returncode:
        return "no commit yet"
    return head.stdout.strip() + (" with changes" if git("status", "--porcelain").stdout.strip() else "")


def arguments():
    a = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    a.add_argument("--quick", action="store_true", help="the named peers alone, 3 rounds of 1 s")
    a.add_argument("--items", default="W1,F1,W2,W3,W4hot,W4many", help="of " + ",".join(GROUPS))
    a.add_argument("--systems", default="")
    a.add_argument("--rounds", type=int)
    a.add_argument("--secs", type=float)
    a.add_argument("--quiet-wait", type=float, default=0, help="before each round wait up to this many seconds for an idle machine")
    a.add_argument("--out", type=Path, help="write all figures as JSON")
    args = a.parse_args()
    args.rounds = args.rounds or (3 if args.quick else 5)
    args.secs = args.secs or (1 if args.quick else 3)
    args.named = bool(args.systems)
    args.systems = args.systems or (QUICK_SYSTEMS if args.quick else SYSTEMS)
    return args


def main():
    args = arguments()
    ctx = core.Ctx(PEERS, HOME, int(os.environ["PEERS_PGPORT"]), adapter.Minter(HOME / "jwt.key"), args)
    names = args.systems.split(",")
    print(f"commit {commit()}; {args.rounds} rounds of {args.secs:g} s, interleaved; {os.cpu_count()} cores; {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}")
    rows, lanes = {}, []
    for group in args.items.split(","):
        besides = QUICK_BESIDES.get(group, []) if args.quick and not args.named else []
        done = measure(ctx, group, names + besides, args)
        rows.update((item, table(item, done)) for item in GROUPS[group])
        lanes += done
    tenantries = [lane for lane in lanes if isinstance(lane.system, adapter.Tenantry) and not lane.failed]
    print()
    for lane in tenantries:
        s = lane.system
        print(f"tenantry for {lane.item}: ready after {s.started_in * 1000:.0f} ms, resident {s.rss_at_start / 2**20:.1f} MiB after start,"
              f" {lane.rss_after / 2**20:.1f} MiB after the load")
    foreign = max((row["foreign"] for item in rows.values() for row in item.values()), default=0)
    if foreign > CALM:
        print(f"Others used up to {foreign * 100:.0f}% of the machine: rates, and with them ratios by rate, say little; see CPU.")
    print("\n| goal | this run | asked for | |\n|---|---|---|---|")
    goals = list(verdicts(rows, [lane.system for lane in tenantries]))
    for what, figure, goal, met in goals:
        print(f"| {what} | {figure} | {goal} | {'met' if met else 'MISSED'} |")
    if args.out:
        args.out.write_text(json.dumps({"commit": commit(), "rows": rows, "goals": goals}, indent=1))
    if any(lane.failed for lane in lanes) or not all(met for *_, met in goals):
        sys.exit(1)


if __name__ == "__main__":
    main()
