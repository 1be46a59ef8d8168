"""GET and POST /{project}/{version}: the picture in the body or by URL, the rest as query."""

from __future__ import annotations

import base64
import http.server
import threading
from urllib.parse import quote

import pytest

from tests.edge_server.api.conftest import picture, send

TEXT = base64.b64encode(picture())
ALL = ["cat", "dog", "cat"]


@pytest.fixture
def ask(known):
    def call(query="", body=TEXT, content_type="application/json", method=None):
        return send(f"{known}/boxes/1{query}", body, content_type, method)

    return call


def classes(answer):
    assert answer.status == 200, answer.body
    return [item["class"] for item in answer.json["predictions"]]


def form(content, name="file", filename="a.jpg"):
    extra = f'; filename="{filename}"' if filename else ""
    head = f'--XX\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + content + b"\r\n--XX--\r\n"


FORM_TYPE = "multipart/form-data; boundary=XX"


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/x-www-form-urlencoded", "text/plain", "image/jpeg"],
)
def test_the_body_is_base64_whatever_the_header_says(ask, content_type):
    assert classes(ask(content_type=content_type)) == ALL


def test_wrapped_base64_and_data_uris_are_read(ask):
    assert classes(ask(body=base64.encodebytes(picture()))) == ALL
    assert classes(ask(body=b"data:image/jpeg;base64," + TEXT)) == ALL


def test_a_file_is_uploaded_as_multipart(ask):
    assert classes(ask(body=form(picture()), content_type=FORM_TYPE)) == ALL
    large = picture(2000, 1500, ".bmp")  # nine megabytes: spooled to disk on the way
    answer = ask(body=form(large), content_type=FORM_TYPE)
    assert answer.json["image"] == {"width": 2000, "height": 1500}


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (form(picture(), name="image"), FORM_TYPE, "no part named 'file'"),
        (form(b"text", filename=None), FORM_TYPE, "text field"),
        (form(b""), FORM_TYPE, "empty"),
        (b"--XX", FORM_TYPE, ""),
        (form(picture()), "multipart/form-data", ""),
        (b"", "application/json", "empty"),
        (quote(TEXT).encode(), "application/x-www-form-urlencoded", ""),
        (TEXT, None, "Content-Type"),
    ],
)
def test_what_holds_no_picture_is_a_400_that_says_why(ask, body, content_type, message):
    answer = ask(body=body, content_type=content_type)
    assert answer.status == 400, answer.body
    text = answer.json.get("message") or answer.json.get("detail")
    assert message in text


def test_a_get_without_a_picture_is_a_400(ask):
    assert ask(body=None, content_type=None, method="GET").status == 400


def test_pickled_arrays_are_refused(ask):
    answer = ask("?image_type=numpy", body=b"\x80\x04N.")
    assert answer.status == 400
    assert "pickle" in answer.json["message"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?confidence=50", ["cat", "dog"]),
        ("?confidence=0.5", ["cat", "dog"]),
        ("?confidence=1&overlap=100", ["cat", "cat", "dog", "cat"]),
        ("?overlap=90", ["cat", "cat", "dog", "cat"]),
        ("?overlap=0.9", ["cat", "cat", "dog", "cat"]),
        ("?confidence=best", ALL),
        ("?confidence=&overlap=", ALL),
        ("?confidence=90&confidence=50", ["cat", "dog"]),
        ("?max_detections=1", ["cat"]),
        ("?class_filter=dog&api_key=None&disable_active_learning=False&countinference=False", ALL),
    ],
)
def test_query_parameters_do_what_they_say(ask, query, expected):
    assert classes(ask(query)) == expected


def test_confidence_never_falls_below_one_percent(ask):
    assert len(ask("?confidence=0&overlap=0.99").json["predictions"]) == 4


@pytest.mark.parametrize(
    "query",
    [
        "?confidence=much",
        "?overlap=x",
        "?max_detections=1.5",
        "?labels=perhaps",
        "?response_mask_format=base64_png",
        "?tradeoff_factor=x",
        "?keypoint_confidence=x",
    ],
)
def test_query_values_of_a_wrong_type_are_a_422_that_names_them(ask, query):
    answer = ask(query)
    assert answer.status == 422
    assert answer.json["detail"][0]["loc"] == ["query", query[1:].partition("=")[0]]


@pytest.mark.parametrize("query", ["?mask_decode_mode=exact", "?tradeoff_factor=2"])
def test_query_values_that_are_not_allowed_are_a_400_that_names_them(ask, query):
    answer = ask(query)
    assert answer.status == 400
    assert answer.json["message"].startswith(query[1:].partition("=")[0])


def test_the_annotated_picture_is_the_body_or_part_of_it(ask):
    answer = ask("?format=image&labels=on&stroke=3")
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.body[:3] == b"\xff\xd8\xff"
    both = ask("?format=image_and_json").json
    assert base64.b64decode(both["visualization"])[:3] == b"\xff\xd8\xff"
    assert len(both["predictions"]) == 3
    assert "visualization" not in ask("?format=anything").json


def test_a_picture_by_url_needs_no_body(ask):
    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture())

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as camera:
        threading.Thread(target=camera.serve_forever).start()
        url = quote(f"http://127.0.0.1:{camera.server_port}/a.jpg", safe="")
        try:
            assert classes(ask(f"?image={url}", body=None, content_type=None, method="GET")) == ALL
            assert classes(ask(f"?image={url}", body=b"ignored", content_type=FORM_TYPE)) == ALL
        finally:
            camera.shutdown()


def test_an_unknown_model_is_a_404(known):
    answer = send(f"{known}/infer/typo", TEXT, "application/json")
    assert answer.status == 404
    assert "infer/typo" in answer.json["message"]


def test_encoded_slashes_and_dots_never_leave_the_models(known):
    for path in ("/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e", "/a/%00", "/boxes%2F1/x"):
        answer = send(known + path, TEXT, "application/json")
        assert answer.status in (400, 404, 405), (path, answer.body)
