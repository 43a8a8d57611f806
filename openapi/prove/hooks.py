"""What schemathesis can't know of this API by itself.

A schema says of one value what form it has. It can't say that a thing must exist, that a time must be in the future, or that two
parameters exclude each other; so what was made up as valid is completed here to be valid in those respects too, and then must
be taken. Nothing is left out: what was made up as invalid is sent as it is, with the one exception that is told at `meant_to_fail`.
"""

import atexit
import base64
import collections
import datetime
import ipaddress
import itertools
import json
import os
import re
import subprocess
import time

import requests
import schemathesis
from schemathesis.wfc.escalation import escalating_provider

ANSWER_SECONDS_MAX = 10
# All waiting for computes together, over the whole run.
WAIT_SECONDS_MAX = 10
# Whoever writes these may end or narrow the credential that it is called with.
ENDINGS = ("/api-keys", "/members", "/workspace", "/projects", "/reset")
# The sandbox's clock goes 3,660 days in all, so most steps are short.
LONG_STEPS_MAX = 4
SHORT_STEP_SECONDS = 3_600
EACH_SECOND = datetime.timedelta(seconds=1)

networks = itertools.count()
names = itertools.count()
turns = itertools.count()
long_steps = itertools.count()
waited = 0.0
# Answers by the class of their status, for outcome.py.
classes = collections.Counter()


@atexit.register
def tell():
    with open("classes.json", "w", encoding="utf-8") as file:
        json.dump(classes, file)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Each request comes from a network of its own, so that the budget of failed credentials, which is each network's, is
    never spent: then a request without a credential is always told that it has none."""
    number = next(networks)
    case.headers["X-Forwarded-For"] = f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"
    if case.meta is None:
        return
    if case.meta.generation.mode.is_positive:
        meant_to_succeed(case)
    else:
        meant_to_fail(case)


def meant_to_fail(case):
    """A rehearsal keeps no answer, so it passes over the idempotency key, and a wrong one is not refused."""
    # A wrong `dry_run` is what is wrong with the request, and stays.
    if "Idempotency-Key" in case.headers and str((case.query or {}).get("dry_run")).lower() == "true":
        del case.query["dry_run"]


def meant_to_succeed(case):
    """Completes what is valid by its form."""
    query, body = case.query or {}, case.body
    # They exclude each other.
    if "page" in query and "after" in query:
        del query["page"]
    # A month that has begun.
    if "month" in query and query["month"] > f"{now():%Y-%m}":
        query["month"] = f"{now():%Y-%m}"
    if isinstance(query.get("name"), str):
        query["name"] = printable(query["name"])
    if case.path == "/workspace" and case.method == "DELETE" and next(turns) % 3 == 0:
        query["confirm"] = data("/workspace", case)["name"]
    if isinstance(body, dict):
        case.body = completed(case, {key: printable(value) for key, value in body.items()})
    if case.path.startswith("/telemetry") or case.path.endswith("/metrics"):
        points_that_there_are(case, query)
    # What a sequence of calls has found out by itself stays, but for a word of another path.
    is_found = case.meta.phase.name.value == "stateful" and (case.path_parameters or {}).get("id") != "accept"
    if "{id}" in case.path and not is_found:
        found = living(case)
        if found:
            case.path_parameters["id"] = found


def points_that_there_are(case, query):
    """Times of which points are kept, and steps that are not too many."""
    end = now()
    if "/sandbox/" in base(case):
        end = datetime.datetime.fromisoformat(data("/clock", case)["now"])
    if "from" in query:
        query.pop("range", None)
        query["from"] = f"{end - 3_600 * EACH_SECOND:%Y-%m-%dT%H:%M:%SZ}"
    if "to" in query:
        query["to"] = f"{end:%Y-%m-%dT%H:%M:%SZ}"
    if "range" in query and "step" in query:
        query["step"] = "1d"


def completed(case, body):
    call = (case.method, case.path)
    if call == ("POST", "/computes"):
        # References to what is there: the defaults are.
        for key in ("project_id", "environment", "region", "size", "image"):
            if body.get(key) is not None:
                body[key] = None
        if body.get("ssh_keys"):
            body["ssh_keys"] = [public_key()]
    elif case.path.startswith("/webhooks"):
        # Of everything, and not of a project or environment that is made up.
        for key in ("project_id", "environment_id"):
            if body.get(key) is not None:
                body[key] = None
        if "since" in body:
            body["since"] = f"{now() - 60 * EACH_SECOND:%Y-%m-%dT%H:%M:%SZ}"
    elif call == ("POST", "/budget-alerts") and body.get("project_id") is not None:
        body["project_id"] = None
    elif call == ("POST", "/computes/{id}/resize") and "size" in body:
        body["size"] = listed(case, "/sizes")[-1]["name"]
    elif call == ("POST", "/computes/{id}/rebuild") and body.get("image") is not None:
        body["image"] = listed(case, "/images")[0]["name"]
    elif call == ("POST", "/api-keys"):
        for key in ("project_id", "environment_id"):
            if body.get(key) is not None:
                body[key] = None
        if body.get("allowed_ips"):
            # No bits beyond the length.
            body["allowed_ips"] = list({str(ipaddress.ip_network(ip, strict=False)) for ip in body["allowed_ips"]})
        if body.get("expires_at") is not None:
            body["expires_at"] = f"{now() + datetime.timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}"
    elif call == ("POST", "/clock/advance"):
        if "to" in body:
            clock = data("/clock", case)["now"]
            body["to"] = f"{datetime.datetime.fromisoformat(clock) + 60 * EACH_SECOND:%Y-%m-%dT%H:%M:%SZ}"
        elif body.get("seconds", 0) > SHORT_STEP_SECONDS and next(long_steps) >= LONG_STEPS_MAX:
            body["seconds"] = SHORT_STEP_SECONDS
    elif call == ("POST", "/invitations/accept") and next(turns) % 2 == 0:
        body["token"] = invitation(case) or body.get("token")
    return body


def printable(value):
    """Names without the planes whose characters are all refused: a pattern that every engine can read has no word for them."""
    if isinstance(value, str):
        return re.sub("[\U000e0000-\U0010ffff]|[\ufffe\uffff]", "x", value)
    return value


def living(case):
    """The id of a resource of the kind that the path is about, in the state that the call is for."""
    noun, action = case.path.split("/{id}")
    if noun == "/computes":
        return compute(case, {"/start": "stopped", "/stop": "running", "/reboot": "running"}.get(action))
    if noun == "/deliveries":
        return delivery(case)
    if noun == "/operations" and action == "/cancel":
        made(case, "/computes", {"name": f"c{next(names)}"})
    if noun == "/environments":
        # Found under their project, and not one of those that are needed for what else is tried.
        project = first(case, "/projects")
        below = f"/projects/{project}/environments"
        return project and (made(case, below, {"name": f"e{next(names)}"}) or first(case, below))
    if case.method == "DELETE" or action:
        # One to be ended; the others go on.
        again = example(case, noun)
        if noun == "/members":
            token = invitation(case)
            again = None
            if token:
                ask(case, "POST", "/invitations/accept", {"token": token})
        if again:
            found = made(case, noun, again)
            if found:
                return found
    own = (data("/me", case).get("api_key") or {}).get("id"), data("/me", case)["member"]["id"]
    found = [item["id"] for item in listed(case, noun) if item["id"] not in own]
    return found[0] if found else None


def example(case, noun):
    """The body that the document gives as an example for making one, under another name."""
    post = case.operation.schema.raw_schema["paths"].get(noun, {}).get("post", {})
    content = post.get("requestBody", {}).get("content", {}).get("application/json", {})
    body = dict(content.get("example") or {})
    for key in body:
        if key == "name":
            body[key] = f"n{next(names)}"
        elif key == "email":
            body[key] = f"p{next(names)}@example.com"
        elif key == "public_key":
            body[key] = public_key()
    return body or None


def compute(case, status):
    """A compute, in this status if that can be had without waiting for long."""
    found = first(case, f"/computes?limit=1{f'&status={status}' if status else ''}")
    if found or not status:
        return found or made(case, "/computes", {"name": f"c{next(names)}"})
    running = first(case, "/computes?limit=1&status=running")
    if not running:
        made(case, "/computes", {"name": f"c{next(names)}"})
        running = until(case, "/computes?limit=1&status=running")
    if running and status == "stopped":
        ask(case, "POST", f"/computes/{running}/stop")
        return until(case, "/computes?limit=1&status=stopped") or running
    return running or first(case, "/computes")


def delivery(case):
    """One that was sent as a sample."""
    webhook = first(case, "/webhooks") or made(case, "/webhooks", example(case, "/webhooks"))
    ask(case, "POST", f"/webhooks/{webhook}/test")
    return until(case, f"/webhooks/{webhook}/deliveries?limit=1")


def until(case, path):
    global waited
    while True:
        found = first(case, path)
        if found or waited > WAIT_SECONDS_MAX:
            return found
        waited += 0.1
        time.sleep(0.1)


def public_key():
    start = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
    return "ssh-ed25519 " + base64.b64encode(start + os.urandom(32)).decode()


def invitation(case):
    """The token of a new invitation."""
    answer = ask(case, "POST", "/invitations", {"email": f"p{next(names)}@example.com", "role": "member"})
    return plain(answer).get("token") if answer.ok else None


def made(case, path, body):
    answer = ask(case, "POST", path, body)
    return plain(answer).get("id") if answer.ok else None


def listed(case, path):
    answer = ask(case, "GET", path)
    return answer.json().get("data") or [] if answer.ok else []


def first(case, path):
    return next((item["id"] for item in listed(case, path)), None)


def data(path, case):
    return plain(ask(case, "GET", path))


def plain(answer):
    body = answer.json()
    return body["data"] if "data" in body else body


def ask(case, method, path, body=None):
    """A request of the owner's own."""
    headers = {"Authorization": owner(case).value}
    return requests.request(method, base(case) + path, json=body, headers=headers, timeout=ANSWER_SECONDS_MAX)


def base(case):
    return case.operation.schema.get_base_url().rstrip("/")


def owner(case):
    return escalating_provider(case.operation.schema).provider_for("owner").headers[0]


def now():
    return datetime.datetime.now(datetime.timezone.utc)


@schemathesis.hook
def after_call(context, case, response):
    """Whoever rotates the key that it calls with goes on with the new secret; whoever deletes its workspace, demotes or removes
    itself, in a new workspace."""
    classes["401" if response.status_code == 401 else f"{response.status_code // 100}xx"] += 1
    if case.method == "GET" or not case.path.startswith(ENDINGS) or not 200 <= response.status_code < 300:
        return
    header = owner(case)
    if works(case, header.value):
        return
    try:
        secret = (response.json().get("data") or response.json()).get("secret")
    except ValueError:
        secret = None
    header.value = f"Bearer {secret if secret and works(case, f'Bearer {secret}') else key_of_a_new_workspace()}"


def works(case, credential):
    """Whether the API knows the credential as one that may do everything."""
    answer = requests.get(f"{base(case)}/me", headers={"Authorization": credential}, timeout=ANSWER_SECONDS_MAX)
    return answer.status_code == 200 and plain(answer)["role"] == "owner"


def key_of_a_new_workspace():
    """Makes a workspace as the operator does."""
    command = json.loads(os.environ["CONTRACT_NEW_WORKSPACE"])
    made = subprocess.run(command, check=True, capture_output=True, timeout=ANSWER_SECONDS_MAX)
    return json.loads(made.stdout)[os.environ["CONTRACT_KEY"]]
