"""Every route x every way to send a picture x every task: what succeeds and what fails.

All forms carry the same pixels, so all answers of one task must be the same.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import io
import json
import pickle
import threading
from urllib.parse import quote

import cv2
import numpy as np
import pytest

from tests.edge_server.api.conftest import picture, post, send
from tests.support import ROOT, running_server

MODELS = {
    "detection": ("object_detection", "demo-parts/1"),
    "instances": ("instance_segmentation", "demo-parts-seg/1"),
    "keypoints": ("keypoints_detection", "demo-wrenches/1"),
    "classes": ("classification", "demo-surfaces/1"),
    "labels": ("classification", "demo-trays/1"),
    "class map": ("semantic_segmentation", "demo-corrosion/1"),
}
tasks = pytest.mark.parametrize(("route", "model"), MODELS.values(), ids=MODELS)

# Not the picture, but what is done with it.
ACCIDENTAL = {"time", "inference_id", "detection_id"}


def pixels_of(model):
    """A picture that shows what the model knows, (H, W, 3) BGR."""
    example = sorted((ROOT / "edge_server" / "bundled" / model / "examples").glob("*.jpg"))[0]
    return cv2.imread(str(example))


def file_of(pixels, extension=".png", *parameters):
    return cv2.imencode(extension, pixels, parameters)[1].tobytes()


def npy_of(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def text_of(data):
    return base64.b64encode(data).decode()


def form_of(data):
    head = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    return head + data + b"\r\n--XX--\r\n"


def essence(answer):
    """An answer without what differs from request to request."""
    assert answer.status == 200, answer.body
    body = answer.json

    def strip(value):
        if isinstance(value, dict):
            return {name: strip(item) for name, item in value.items() if name not in ACCIDENTAL}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return strip(body)


@contextlib.contextmanager
def served(data):
    """A URL on this machine where a camera would give the picture."""

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as camera:
        threading.Thread(target=camera.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{camera.server_port}/snapshot"
        finally:
            camera.shutdown()


OBJECTS = {
    "base64": lambda pixels: {"type": "base64", "value": text_of(file_of(pixels))},
    "BASE64": lambda pixels: {"type": "BASE64", "value": text_of(file_of(pixels))},
    "wrapped": lambda pixels: {
        "type": "base64", "value": base64.encodebytes(file_of(pixels)).decode(),
    },
    "data URI": lambda pixels: {
        "type": "base64", "value": "data:image/png;base64," + text_of(file_of(pixels)),
    },
    "BMP": lambda pixels: {"type": "base64", "value": text_of(file_of(pixels, ".bmp"))},
    "WebP": lambda pixels: {
        "type": "base64", "value": text_of(file_of(pixels, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101)),
    },
    "npy": lambda pixels: {"type": "numpy", "value": text_of(npy_of(pixels))},
}  # fmt: skip


@tasks
@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS)
def test_json_routes_read_every_form(server, route, model, make):
    pixels = pixels_of(model)
    plain = {"model_id": model, "image": OBJECTS["base64"](pixels)}
    expected = essence(post(f"{server}/infer/{route}", plain))
    assert expected["predictions"]
    body = {"model_id": model, "image": make(pixels)}
    assert essence(post(f"{server}/infer/{route}", body)) == expected
    assert essence(post(f"{server}/infer/{route}", {**body, "image": [make(pixels)] * 2})) == [
        expected,
        expected,
    ]


BODIES = {
    "base64": lambda pixels: ("application/json", text_of(file_of(pixels)).encode(), {}),
    "form": lambda pixels: (
        "application/x-www-form-urlencoded", text_of(file_of(pixels)).encode(), {},
    ),
    "data URI": lambda pixels: (
        "text/plain", b"data:image/png;base64," + base64.encodebytes(file_of(pixels)), {},
    ),
    "PNG": lambda pixels: ("image/png", file_of(pixels), {}),
    "PNG under another name": lambda pixels: ("image/jpeg", file_of(pixels), {}),
    "BMP": lambda pixels: ("application/octet-stream", file_of(pixels, ".bmp"), {}),
    "multipart": lambda pixels: (
        "multipart/form-data; boundary=XX", form_of(file_of(pixels)), {},
    ),
    "npy": lambda pixels: ("application/octet-stream", npy_of(pixels), {}),
    "npy as base64": lambda pixels: ("text/plain", text_of(npy_of(pixels)).encode(), {}),
    "BGR frame": lambda pixels: ("application/octet-stream", pixels.tobytes(), {}),
    "RGB frame": lambda pixels: (
        "application/octet-stream", pixels[..., ::-1].tobytes(), {"X-Image-Colour": "RGB"},
    ),
}  # fmt: skip


@tasks
@pytest.mark.parametrize("form", BODIES)
def test_the_legacy_route_reads_every_form(server, route, model, form):
    pixels = pixels_of(model)
    plain = send(f"{server}/{model}", file_of(pixels), "image/png")
    content_type, body, headers = BODIES[form](pixels)
    if form.endswith("frame"):
        height, width = pixels.shape[:2]
        headers = {**headers, "X-Image-Height": str(height), "X-Image-Width": str(width)}
    answer = send(f"{server}/{model}", body, content_type, headers=headers)
    assert essence(answer) == essence(plain)


@tasks
def test_pictures_are_fetched_for_both_routes(server, route, model):
    encoded = file_of(pixels_of(model))
    with served(encoded) as url:
        body = {"model_id": model, "image": {"type": "url", "value": url}}
        by_json = post(f"{server}/infer/{route}", body)
        by_query = send(f"{server}/{model}?image={quote(url, safe='')}")
    sent = {"model_id": model, "image": {"type": "base64", "value": text_of(encoded)}}
    assert essence(by_json) == essence(post(f"{server}/infer/{route}", sent))
    assert essence(by_query) == essence(send(f"{server}/{model}", encoded, "image/png"))


@tasks
def test_the_annotated_picture_comes_for_every_task(server, route, model):
    pixels = pixels_of(model)
    encoded = file_of(pixels)
    drawn = send(f"{server}/{model}?format=image&labels=on&stroke=3", encoded, "image/png")
    assert drawn.headers["Content-Type"] == "image/jpeg"
    both = send(f"{server}/{model}?format=image_and_json", encoded, "image/png").json
    body = {"model_id": model, "image": OBJECTS["base64"](pixels), "visualize_predictions": True}
    by_json = post(f"{server}/infer/{route}", body).json
    (in_list,) = post(f"{server}/infer/{route}", {**body, "image": [body["image"]]}).json
    for jpeg in (
        drawn.body,
        *(base64.b64decode(answer["visualization"]) for answer in (both, by_json, in_list)),
    ):
        decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert decoded.shape == pixels.shape
        assert np.abs(decoded.astype(int) - pixels).max() > 40  # something was drawn


def pickled():
    return pickle.dumps(np.zeros((4, 4, 3), np.uint8))


BAD_PICTURES = {
    "no base64": ({"type": "base64", "value": "%%%"}, 400),
    "incomplete base64": ({"type": "base64", "value": "abcde"}, 400),
    "empty": ({"type": "base64", "value": ""}, 400),
    "null": ({"type": "base64", "value": None}, 400),
    "text": ({"type": "base64", "value": text_of(b"no picture")}, 400),
    "path": ({"type": "base64", "value": "nope.jpg"}, 400),
    "cut short": ({"type": "base64", "value": text_of(picture()[:200])}, 400),
    "file on the server": ({"type": "file", "value": "/etc/passwd"}, 400),
    "unknown type": ({"type": "hologram", "value": "x"}, 400),
    "multipart": ({"type": "multipart", "value": "x"}, 400),
    "pickle": ({"type": "numpy", "value": text_of(pickled())}, 400),
    "array of floats": ({"type": "numpy", "value": text_of(npy_of(np.zeros((4, 4, 3))))}, 400),
    "loopback": ({"type": "url", "value": "http://127.0.0.2:9/a.jpg"}, 400),
    "metadata": ({"type": "url", "value": "http://169.254.169.254/latest"}, 400),
    "GIF": ({"type": "base64", "value": text_of(b"GIF89a" + bytes(60))}, 415),
    "bomb": ({"type": "base64", "value": text_of(
        file_of(np.zeros((1, 1, 3), np.uint8))[:16] + b"\0\0\x40\0\0\0\x40\0" + bytes(40))}, 413),
    "no type": ({"value": "x"}, 422),
    "number": ({"type": "base64", "value": 7}, 422),
    "no object": ("aGVsbG8=", 422),
    "too many": ([{"type": "base64", "value": ""}] * 65, 413),
}  # fmt: skip


@tasks
@pytest.mark.parametrize(("image", "status"), BAD_PICTURES.values(), ids=BAD_PICTURES)
def test_bad_pictures_are_refused_with_a_reason(server, route, model, image, status):
    answer = post(f"{server}/infer/{route}", {"model_id": model, "image": image})
    assert answer.status == status, answer.body
    assert answer.json.get("message") or answer.json["detail"][0]["msg"]


BAD_BODIES = {
    "nothing": (b"", "image/jpeg", {}, 400),
    "no content type": (picture(), None, {}, 400),
    "text": (b"hello, server", "text/plain", {}, 400),
    "cut short": (picture()[:200], "image/jpeg", {}, 400),
    "pickle": (pickled(), "application/octet-stream", {}, 400),
    "part whose name is no text": (form_of(picture()).replace(b'"file"', b'"\xff"'),
                                   "multipart/form-data; boundary=XX", {}, 400),
    "compressed": (picture(), "image/jpeg", {"Content-Encoding": "gzip"}, 400),
    "tall beyond all pictures": (npy_of(np.zeros((70_000, 1), np.uint8)),
                                 "application/octet-stream", {}, 413),
    "TIFF": (b"II*\0" + bytes(60), "image/tiff", {}, 415),
    "wrong part": (form_of(picture()).replace(b'"file"', b'"image"'),
                   "multipart/form-data; boundary=XX", {}, 400),
    "frame too short": (bytes(10), "application/octet-stream",
                        {"X-Image-Height": "4", "X-Image-Width": "4"}, 400),
    "frame without width": (bytes(48), "application/octet-stream", {"X-Image-Height": "4"}, 400),
    "frame of a strange colour": (bytes(48), "application/octet-stream",
        {"X-Image-Height": "4", "X-Image-Width": "4", "X-Image-Colour": "CMYK"}, 400),
    "frame of a strange size": (bytes(48), "application/octet-stream",
                                {"X-Image-Height": "-4", "X-Image-Width": "four"}, 400),
    "frame beyond the limit": (bytes(48), "application/octet-stream",
                               {"X-Image-Height": "99999", "X-Image-Width": "99999"}, 413),
}  # fmt: skip


@tasks
@pytest.mark.parametrize("form", BAD_BODIES)
def test_bad_bodies_are_refused_with_a_reason(server, route, model, form):
    body, content_type, headers, status = BAD_BODIES[form]
    answer = send(f"{server}/{model}", body, content_type, headers=headers)
    assert answer.status == status, answer.body
    assert answer.json.get("message") or answer.json["detail"]


@pytest.mark.parametrize("route", sorted({route for route, _ in MODELS.values()}))
def test_every_route_refuses_what_is_no_request(server, route):
    url = f"{server}/infer/{route}"
    image = {"type": "base64", "value": text_of(picture())}
    assert post(url, {"model_id": "no/1", "image": image}).status == 404
    assert post(url, {"model_id": "a/b/c", "image": image}).status == 400
    assert post(url, {"image": image}).status == 422
    assert post(url, {"model_id": "demo-parts/1"}).status == 422
    assert send(url, b"{", "application/json").status == 422
    assert send(url, method="PUT", body=b"").status == 405
    form = json.dumps({"model_id": "demo-parts/1", "image": image}).encode()
    assert send(url, form, "application/x-www-form-urlencoded").status == 200
    assert send(url, form, "text/plain").status == 200
    assert send(url, form).status == 200


def test_the_pictures_of_a_request_have_a_limit_together(tmp_path):
    one = {"type": "numpy", "value": text_of(npy_of(np.zeros((1000, 1000), np.uint8)))}
    body = {"model_id": "demo-parts/1", "image": [one] * 5}
    with running_server(tmp_path, config="max_image_megapixels = 1\n") as url:
        refused = post(f"{url}/infer/object_detection", body)
        assert (refused.status, "together" in refused.json["message"]) == (413, True)
        assert post(f"{url}/infer/object_detection", {**body, "image": [one] * 4}).status == 200


def test_how_the_server_stands_is_told_while_every_thread_works(tmp_path):
    large = file_of(np.zeros((3000, 3000, 3), np.uint8))
    body = {"model_id": "demo-corrosion/1", "image": [{"type": "base64", "value": text_of(large)}]}
    with running_server(tmp_path, config="server_threads = 1\n") as url:
        busy = [threading.Thread(target=post, args=(f"{url}/infer/classification", body))
                for _ in range(4)]  # fmt: skip
        for thread in busy:
            thread.start()
        for path in ("/healthz", "/model/registry", "/models"):
            assert send(url + path).status == 200
        assert any(thread.is_alive() for thread in busy)
        for thread in busy:
            thread.join()


@pytest.mark.parametrize("path", ["/healthz", "/info", "/model/registry", "/openapi.json", "/nope"])
def test_head_is_answered_as_get_without_the_body(server, path):
    head, get = send(server + path, method="HEAD"), send(server + path)
    assert (head.status, head.body) == (get.status, b"")
    assert head.headers["Content-Length"] == str(len(get.body))
