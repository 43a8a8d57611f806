"""Deliveries as the public libraries of Python see them: usage webhooks.py BASE_URL KEY RECEIVED_FILE.

Makes a webhook to a receiver in this process, has events, a retry, a sample and a rotation delivered to it, and verifies
each with `standardwebhooks` and `svix`. What was received is written to RECEIVED_FILE, for webhooks.mjs to do the same.
"""

import base64
import http.server
import json
import queue
import sys
import threading

import httpx
import standardwebhooks
import svix.webhooks

WAIT_SECONDS = 20

received = queue.Queue()
refuse_next = threading.Event()


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status = 200
        if refuse_next.is_set():
            refuse_next.clear()
            status = 500
        received.put({"headers": {name.lower(): value for name, value in self.headers.items()}, "body": body})
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def verify(secret, delivery):
    """Both libraries read the same event out of it."""
    told = json.loads(delivery["body"])
    assert told["id"] == delivery["headers"]["webhook-id"], told
    assert standardwebhooks.Webhook(secret).verify(delivery["body"], delivery["headers"]) == told
    # This one raises when it is not genuine, and answers nothing.
    svix.webhooks.Webhook(secret).verify(delivery["body"], delivery["headers"])
    return told


def refuse(secret, delivery):
    """Neither takes it."""
    for library in (standardwebhooks, svix.webhooks):
        try:
            library.Webhook(secret).verify(delivery["body"], delivery["headers"])
        except library.WebhookVerificationError:
            continue
        raise AssertionError(f"{library.__name__} takes what is not genuine")


def main(base, key, file):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = httpx.Client(base_url=base, headers={"authorization": f"Bearer {key}"})

    def post(path, body=None):
        answer = client.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def next_delivery():
        return received.get(timeout=WAIT_SECONDS)

    url = f"http://127.0.0.1:{server.server_port}/in"
    made = post("/webhooks", {"url": url, "event_types": ["project.*"]})
    first, path = made["secret"], f"/webhooks/{made['id']}"
    kept = []

    # Text that JSON may write in more than one way: what is signed are the bytes that are sent.
    post("/projects", {"name": "plain"})
    post("/projects", {"name": "Zürich \"quoted\" \\ 東京"})
    for _ in range(2):
        delivery = next_delivery()
        assert verify(first, delivery)["type"] == "project.created"
        kept.append({"secret": first, **delivery})

    # A second try has the same id and a signature of its own.
    refuse_next.set()
    post("/projects", {"name": "again"})
    failed, again = next_delivery(), next_delivery()
    assert failed["headers"]["webhook-id"] == again["headers"]["webhook-id"]
    for delivery in (failed, again):
        verify(first, delivery)
        kept.append({"secret": first, **delivery})

    post(path + "/test")
    sample = next_delivery()
    assert verify(first, sample)["type"] == "webhook.test"

    # After a rotation both secrets verify, for a day.
    second = post(path + "/rotate-secret")["secret"]
    post("/projects", {"name": "rotated"})
    rotated = next_delivery()
    for secret in (first, second):
        verify(secret, rotated)
        kept.append({"secret": secret, **rotated})

    stranger = "whsec_" + base64.b64encode(bytes(32)).decode()
    refuse(stranger, sample)
    refuse(first, {**sample, "body": sample["body"].replace(b"webhook.test", b"webhook.best")})
    for header, value in (("webhook-id", failed["headers"]["webhook-id"]), ("webhook-timestamp", "1600000000")):
        refuse(first, {**sample, "headers": {**sample["headers"], header: value}})

    with open(file, "w") as out:
        json.dump([{**one, "body": one["body"].decode()} for one in kept], out)
    print(f"webhooks: {len(kept)} deliveries verified with standardwebhooks and svix in Python")


main(*sys.argv[1:])
