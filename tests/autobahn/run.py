"""Runs Autobahn's fuzzing client, which needs Python 2.7, and holds its report against expected.txt.

Usage: python2.7 run.py SITE URL OUT
SITE: the folder that autobahntestsuite is installed in; URL: a WebSocket that says again what it
hears; OUT: where the report is written, a page and JSON.
"""

import collections
import json
import os
import re
import site
import sys

AGENT = "parlor"
# So many that a run which breaks off is noticed.
CASES = 517
FINE = ("OK", "OK", None)


def run(site_folder, url, out):
    site.addsitedir(site_folder)
    from autobahntestsuite import wstest

    spec = {
        "outdir": out,
        "servers": [{"agent": AGENT, "url": url}],
        "cases": ["*"],
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    spec_file = os.path.join(out, "spec.json")
    with open(spec_file, "w") as file:
        json.dump(spec, file)
    sys.argv = ["wstest", "-m", "fuzzingclient", "-s", spec_file]
    wstest.run()


def key(case):
    return [int(part) for part in case.split(".")]


def covers(pattern, case):
    if pattern.endswith(".*"):
        return case.startswith(pattern[:-1])
    first, _, last = pattern.partition("-")
    return key(first) <= key(case) <= key(last or first)


def expectations():
    """Each line's pattern of cases, and what they end with."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "expected.txt")) as file:
        for line in file:
            if line.startswith("#"):
                continue
            cases, behaviour, at_close, code, _ = re.split(r"\s+", line.strip(), 4)
            for pattern in cases.split(","):
                yield pattern, (behaviour, at_close, int(code))


def compare(out):
    """Prints the totals and every difference; returns how many of them there are."""
    with open(os.path.join(out, "index.json")) as file:
        report = json.load(file)[AGENT]
    expected = list(expectations())
    differences = []
    if len(report) != CASES:
        differences.append("%s cases ran, not %s" % (len(report), CASES))
    for pattern, _ in expected:
        if not any(covers(pattern, case) for case in report):
            differences.append("%s: no such case ran" % pattern)
    totals = collections.Counter()
    for case in sorted(report, key=key):
        got = report[case]["behavior"], report[case]["behaviorClose"], report[case]["remoteCloseCode"]
        listed = [wanted for pattern, wanted in expected if covers(pattern, case)]
        wanted = listed[0] if listed else FINE
        if got[:2] != wanted[:2] or wanted[2] not in (None, got[2]):
            differences.append("%s: %s, not %s" % (case, " ".join(map(str, got)), " ".join(map(str, wanted))))
        totals["closed with %s" % got[2] if got[0] == "FAILED" else got[0]] += 1
    for difference in differences:
        print(difference)
    print(", ".join("%s: %s" % total for total in sorted(totals.items())))
    return len(differences)


if __name__ == "__main__":
    site_folder, url, out = sys.argv[1:]
    run(site_folder, url, out)
    sys.exit(1 if compare(out) else 0)
