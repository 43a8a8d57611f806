"""Tells what a run of schemathesis came to, and fails when it proved less than it should.

    outcome.py NAME DIR

A run that found nothing may have called nothing: every operation must have been tested, and taken valid data at least once.
"""

import json
import sys
from pathlib import Path

# Operations that say no to all that is valid but means nothing here, each with its reason.
NEVER_TAKEN = {
    # Its token is sent to a person by mail.
    "POST /invitations/accept",
}

name, folder = sys.argv[1], Path(sys.argv[2])
report = json.loads((folder / "report.json").read_text())
operations, cases = report["operations"], report["test_cases"]
wrong = []
if not report["complete"] or report["exit_code"] != 0:
    wrong.append(f"it ended early: {report['stop_reason']}")
if operations["tested"] != operations["total"]:
    wrong.append(f"of {operations['total']} operations {operations['tested']} were tested: {operations['skip_reasons']}")
for phase, outcome in report["phases"].items():
    if outcome["status"] != "success":
        wrong.append(f"the phase {phase} was {outcome['status']}: {outcome['skip_reason']}")
for operation, phases in report["valid_rates"].items():
    if operation not in NEVER_TAKEN and not any(rate["accepted"] for rate in phases.values()):
        wrong.append(f"{operation} never took what it was sent: {phases}")
print(
    f"   {name}: {operations['tested']} operations, {cases['generated']} cases, {report['running_time']:.0f} s"
    f"{'' if report['warnings'] is None else ', warnings: ' + json.dumps(report['warnings'])}"
)
for what in wrong:
    print(f"contract: {name}: {what}")
sys.exit(bool(wrong))
