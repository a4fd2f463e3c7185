"""Topics and their subscribers, for the conformance tests."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from stage.conformance.functions import create_queue, unique

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.conformance.conftest import Engine


def create_topic(engine: Engine) -> tuple[str, str]:
    """Create a topic and return its ARN and its name."""
    name = unique("topic")
    return engine.client("sns").create_topic(Name=name)["TopicArn"], name


def subscribed_queue(engine: Engine, topic: str) -> str:
    """Return the URL of a queue that takes a topic's messages."""
    url, arn = create_queue(engine)
    grant = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{**grant, "Resource": arn}]})
    engine.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    engine.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return url


def notifications(engine: Engine, url: str) -> list[dict[str, Any]]:
    """Take the notifications that have come to a queue, oldest first."""
    sqs, found = engine.client("sqs"), []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        found += [json.loads(message["Body"]) for message in messages]
    return sorted(found, key=lambda one: str(one["Timestamp"]))


@contextlib.contextmanager
def http_subscriber(engine: Engine, topic: str) -> Iterator[list[dict[str, Any]]]:
    """Subscribe a server to a topic, confirm it, and yield what it is notified of."""
    notified: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            if body["Type"] == "SubscriptionConfirmation":
                engine.client("sns").confirm_subscription(TopicArn=body["TopicArn"], Token=body["Token"])
                confirmed.set()
            else:
                notified.append(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    confirmed = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/"
            engine.client("sns").subscribe(TopicArn=topic, Protocol="http", Endpoint=url)
            assert confirmed.wait(10)
            yield notified
        finally:
            server.shutdown()
            thread.join()
