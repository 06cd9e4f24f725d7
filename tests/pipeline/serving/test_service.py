"""The service of a detector: answers, limits, errors, batches."""

import asyncio
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image
from small_detector import small_detector
from starlette.testclient import TestClient

from featood.data import open_dataset
from featood.errors import FeatoodError, UsageError
from featood.pipeline.serving import Limits, create_app
from featood.pipeline.serving.batching import Batcher, Busy


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return small_detector(tmp_path_factory.mktemp("made"), k=5)[0]


@pytest.fixture
def client(detector):
    limits = Limits(body=100_000, pixels=10_000, seconds=20)
    with TestClient(create_app(detector, limits), raise_server_exceptions=False) as found:
        yield found


def encoded(image, kind="png"):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def digits(count):
    images = open_dataset("digits", "test")
    return [images.read(row) for row in range(count)]


def test_an_image_is_decided_as_by_the_detector(client, detector):
    for image in digits(3):
        answer = client.post("/predict", content=encoded(image))
        expected = detector(image)._asdict()
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
        found = answer.json()
        assert set(found) == set(expected) - {"id", "error", "neighbours"}
        assert found["score"] == pytest.approx(expected["score"], rel=1e-5)
        assert (found["out"], found["predicted"]) == (expected["out"], expected["predicted"])


def test_requests_at_once_get_the_scores_of_requests_one_by_one(client):
    images = [encoded(image) for image in digits(40)]
    alone = [client.post("/predict", content=image).json() for image in images]
    found = [None] * len(images)

    def send(number):
        found[number] = client.post("/predict", content=images[number]).json()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose([one["score"] for one in found], [one["score"] for one in alone], rtol=1e-4)
    assert [one["predicted"] for one in found] == [one["predicted"] for one in alone]


BROKEN = encoded(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8), "jpeg")[:1500]


@pytest.mark.parametrize(
    ("content", "status", "what"),
    [
        (b"", 400, "the image cannot be read"),
        (b"no image", 400, "the image cannot be read"),
        (BROKEN, 400, "the image cannot be read: image file is truncated"),
        (b"../../etc/passwd", 400, "the image cannot be read"),
        (encoded(np.zeros((101, 100), np.uint8)), 400, "the image has 100 x 101 pixels; 10000 is the limit"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400, "the image cannot be read"),
        (bytes(100_001), 413, "a request has at most 100000 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_image_within_the_limits_is_refused_by_one_line(client, content, status, what):
    answer = client.post("/predict", content=content)
    assert answer.status_code == status
    (text,) = answer.json().values()
    assert text.startswith(what) and "\n" not in text


async def asked(app, headers, messages, read):
    """Call the application as a server does; count the messages of the body that it reads in the list."""
    sent = []
    scope = {
        "type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "query_string": b"",
        "headers": headers, "http_version": "1.1", "scheme": "http", "server": ("test", 80), "client": ("test", 1),
        "root_path": "",
    }  # fmt: skip

    async def receive():
        read.append(1)
        return next(messages)

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


def test_a_declared_gigabyte_is_refused_before_any_of_it_is_read(detector):
    read = []
    headers = [(b"content-length", b"1000000000")]
    status, fields, body = asyncio.run(asked(create_app(detector), headers, iter(()), read))
    assert status == 413 and not read and fields[b"connection"] == b"close"
    assert body == {"error": "a request has at most 20000000 bytes"}


def test_an_undeclared_gigabyte_is_refused_at_the_limit(detector):
    read = []
    part = {"type": "http.request", "body": bytes(1_000_000), "more_body": True}
    app = create_app(detector)
    status, _, _ = asyncio.run(asked(app, [], iter([part] * 1000), read))
    assert status == 413 and len(read) == 21


def test_a_request_that_does_not_end_is_refused_in_time(detector):
    async def endless(app):
        async def wait():
            await asyncio.sleep(60)

        class Slow:
            def __next__(self):
                return {"type": "http.request", "body": b"x", "more_body": True}

        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [], "query_string": b""}
        sent = []

        async def receive():
            await wait()

        async def send(message):
            sent.append(message)

        await app(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])

    status, body = asyncio.run(endless(create_app(detector, Limits(seconds=0.05))))
    assert status == 408 and body == {"error": "no complete request within 0.05 s"}


def test_other_routes_and_methods(client, detector):
    assert client.get("/health").json() == {"status": "ok", "waiting": 0}
    about = client.get("/").json()
    assert about["head"] == "knn" and about["alarm_rate"] == 0.1 and len(about["classes"]) == 10
    assert client.get("/predict").status_code == 405 and client.get("/other").status_code == 404
    assert client.post("/health").status_code == 405


def test_metrics_count_answers_batches_and_decisions(client):
    images = digits(5)
    found = [client.post("/predict", content=encoded(image)).json() for image in images]
    client.post("/predict", content=b"no image")
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    assert lines['featood_answers_total{status="200"}'] == "5.0"
    assert lines['featood_answers_total{status="400"}'] == "1.0"
    assert float(lines["featood_out_total"]) == sum(one["out"] for one in found)
    assert lines["featood_batch_images_sum"] == lines["featood_p_value_count"] == "5.0"


def test_an_unexpected_error_says_nothing_of_the_inside(client, detector, monkeypatch):
    monkeypatch.setattr(type(detector), "decide", lambda *_: 1 / 0)
    answer = client.post("/predict", content=encoded(digits(1)[0]))
    assert answer.status_code == 500 and "division" not in answer.text and "log" in answer.json()["error"]


def test_limits_must_be_positive():
    with pytest.raises(UsageError, match="the limit of batch must be positive, not 0"):
        Limits(batch=0)


# ---- batches ------------------------------------------------------------------------------------------


def batched(function, items, largest=4, waiting=100):
    """Submit items while the first is being computed; return results or errors."""

    async def run():
        batches = Batcher(function, largest, waiting)
        worker = asyncio.create_task(batches.run())
        answers = [asyncio.create_task(batches(item)) for item in items]
        found = await asyncio.gather(*answers, return_exceptions=True)
        worker.cancel()
        return found

    return asyncio.run(run())


def test_what_waits_is_computed_together_up_to_the_limit():
    calls = []

    def double(items):
        calls.append(list(items))
        return [2 * item for item in items]

    assert batched(double, range(10)) == [2 * item for item in range(10)]
    assert [item for call in calls for item in call] == list(range(10))
    assert max(map(len, calls)) == 4 and len(calls) < 10


def test_an_item_that_fails_does_not_fail_the_others_of_its_batch():
    def function(items):
        if 3 in items:
            raise FeatoodError("three")
        return list(items)

    found = batched(function, range(6))
    assert [one for one in found if not isinstance(one, Exception)] == [0, 1, 2, 4, 5]
    assert isinstance(found[3], FeatoodError)


def test_too_many_that_wait_are_refused():
    found = batched(lambda items: list(items), range(10), waiting=3)
    assert sum(isinstance(one, Busy) for one in found) > 0 and 0 in found
