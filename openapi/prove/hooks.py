"""What schemathesis can't know of this API by itself."""

import itertools
import json
import os
import subprocess

import requests
import schemathesis
from schemathesis.wfc.escalation import escalating_provider

# What can end the credential that it is called with.
ENDINGS = {("POST", "/api-keys/{id}/rotate"), ("DELETE", "/workspace")}
ANSWER_SECONDS_MAX = 10
networks = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Each request comes from a network of its own, so that the budget of failed credentials, which is each network's, is
    never spent: then a request without a credential is always told that it has none."""
    number = next(networks)
    case.headers["X-Forwarded-For"] = f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"


@schemathesis.hook
def after_call(context, case, response):
    """Whoever rotates the key that it calls with goes on with the new secret, and whoever deletes its workspace in a new one."""
    if (case.method, case.path) not in ENDINGS or not 200 <= response.status_code < 300:
        return
    header = escalating_provider(case.operation.schema).provider_for("owner").headers[0]
    if works(case, header.value):
        return
    body = response.json()
    key = body if "secret" in body else body.get("data") or {}
    secret = key.get("secret")
    header.value = f"Bearer {secret if secret and works(case, f'Bearer {secret}') else key_of_a_new_workspace()}"


def works(case, credential):
    """Whether the API knows the credential."""
    base = case.operation.schema.get_base_url()
    answer = requests.get(f"{base}/me", headers={"Authorization": credential}, timeout=ANSWER_SECONDS_MAX)
    return answer.status_code == 200


def key_of_a_new_workspace():
    """Makes a workspace as the operator does."""
    command = json.loads(os.environ["CONTRACT_NEW_WORKSPACE"])
    made = subprocess.run(command, check=True, capture_output=True, timeout=ANSWER_SECONDS_MAX)
    return json.loads(made.stdout)[os.environ["CONTRACT_KEY"]]
