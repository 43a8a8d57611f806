"""Tells what a run of schemathesis came to, and fails when it proved less than it should.

    outcome.py NAME DIR

A run that found nothing may have called nothing: every operation must have been tested, and taken valid data at least once, or
have had nothing against it but the state of the resource. How often it answered what is told by classes of status.
"""

import json
import sys
from pathlib import Path

# Operations that say no to all that is valid but means nothing here, each with its reason.
NEVER_TAKEN = {
    # Its token is sent to a person by mail.
    "POST /invitations/accept",
    # There is one when a month has ended.
    "GET /invoices/{id}",
}

UNAUTHORIZED_SHARE_MAX = 0.25

name, folder = sys.argv[1], Path(sys.argv[2])
text = (folder / "report.json").read_text()
if not text:
    sys.exit(f"contract: {name}: it was ended before it was done")
report = json.loads(text)
classes = json.loads((folder / "classes.json").read_text())
operations, cases = report["operations"], report["test_cases"]
wrong = []
# What is asked without a credential that counts says little of the operation.
if classes.get("401", 0) > UNAUTHORIZED_SHARE_MAX * sum(classes.values()):
    wrong.append(f"too many requests were refused for their credential: {classes}")
if not report["complete"] or report["exit_code"] != 0:
    wrong.append(f"it ended early: {report['stop_reason']}")
if operations["tested"] != operations["total"]:
    wrong.append(f"of {operations['total']} operations {operations['tested']} were tested: {operations['skip_reasons']}")
for phase, outcome in report["phases"].items():
    if outcome["status"] != "success":
        wrong.append(f"the phase {phase} was {outcome['status']}: {outcome['skip_reason']}")
for operation, phases in report["valid_rates"].items():
    if operation not in NEVER_TAKEN and not any(rate["accepted"] + rate["conflicts"] for rate in phases.values()):
        wrong.append(f"{operation} never took what it was sent: {phases}")
print(
    f"   {name}: {operations['tested']} operations, {cases['generated']} cases, {report['running_time']:.0f} s"
    f", {', '.join(f'{count} x {status}' for status, count in sorted(classes.items()))}"
    f"{'' if report['warnings'] is None else ', warnings: ' + json.dumps(report['warnings'])}"
)
for what in wrong:
    print(f"contract: {name}: {what}")
sys.exit(bool(wrong))
