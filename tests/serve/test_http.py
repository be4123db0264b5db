"""The service over HTTP: searches, images, filters, refusals, limits, the token; a real server over loopback."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import bad_inputs
import httpx
import pytest
from PIL import Image
from served import client, make_served, served_config, serving
from tiny import paint, tiny_config

from pipeline.errors import RelookError, UsageError
from pipeline.serve.app import allowed_hosts
from pipeline.serve.engine import SearchEngine
from pipeline.serve.metrics import Metrics
from pipeline.serve.thumbnails import Thumbnails
from pipeline.stages.extract import extract
from pipeline.stages.serve import checked_token, serve
from pipeline.workflow.gallery import open_gallery

FIRST = "tower/tower 0.png"
TOKEN = "a token of some length"


def search(http: httpx.Client, photo: bytes | None = None, **fields: Any) -> httpx.Response:
    files = {"image": ("photo.png", photo, "image/png")} if photo is not None else {}
    lists = {key: value if isinstance(value, list) else [value] for key, value in fields.items()}
    parts = [(key, (None, str(one))) for key, values in lists.items() for one in values]
    return http.post("/search", files=[*files.items(), *parts])


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [result["id"] for result in response.json()["results"]]


def problem(response: httpx.Response, status: int) -> str:
    assert (response.status_code, list(response.json())) == (status, ["error"]), response.text
    text: str = response.json()["error"]
    assert "\n" not in text
    return text


class TestSearch:
    def test_a_photo_finds_itself(self, http: httpx.Client, photo: bytes) -> None:
        found = search(http, photo, top_k=5).json()
        first = found["results"][0]
        assert (first["id"], first["rank"], first["global_rank"], first["label"]) == (FIRST, 1, 1, "tower")
        assert first["global_score"] == pytest.approx(1, abs=1e-5)
        assert (found["stage"], found["final"], found["rerank"]) == ("reranked", True, ["superglobal"])
        assert len(found["results"]) == 5

    def test_an_image_of_the_collection(self, http: httpx.Client) -> None:
        assert ids(search(http, id=FIRST))[0] == FIRST
        assert FIRST not in ids(search(http, id=FIRST, skip_itself=True))
        assert "not in the collection" in problem(search(http, id="../../etc/passwd"), 404)

    def test_a_box(self, http: httpx.Client, photo: bytes, home: Path) -> None:
        assert ids(search(http, photo, box="0,0,4,4"))
        assert ids(search(http, id=FIRST, box="0,0,4,4"))
        assert "x0 must be below x1" in problem(search(http, photo, box="4,4,0,0"), 422)
        assert "box = 'left'" in problem(search(http, photo, box="left"), 422)

    def test_filters(self, http: httpx.Client, photo: bytes) -> None:
        assert {name.split("/")[0] for name in ids(search(http, photo, label=["bridge", "statue"]))} == {
            "bridge",
            "statue",
        }
        assert {name.split("/")[0] for name in ids(search(http, photo, folder="statue"))} == {"statue"}
        assert all(name.endswith("1.png") for name in ids(search(http, photo, text="E 1.PNG")))
        assert ids(search(http, photo, text="nothing of the kind")) == []
        assert ids(search(http, photo, split="no such")) == []
        assert ids(search(http, photo, min_score=0.99, rerank="none"))[0] == FIRST

    def test_more_and_less_like_images_of_the_collection(self, http: httpx.Client, photo: bytes) -> None:
        plain = search(http, photo, rerank="none").json()["results"]
        other, away = "bridge/bridge 2.png", plain[1]["id"]
        assert ids(search(http, id=FIRST, like=FIRST, rerank="none")) == [one["id"] for one in plain]
        assert ids(search(http, like=other, rerank="none"))[0] == other
        assert ids(search(http, like=[other, FIRST], rerank="none"))[:2] != ids(search(http, like=other))[:2]
        towards = {one["id"]: one["score"] for one in search(http, photo, like=other, top_k=10).json()["results"]}
        assert other in towards
        moved = search(http, photo, unlike=[away, ""], rerank="none").json()["results"]
        scores = {one["id"]: one["score"] for one in moved}
        assert scores.get(away, -1.0) < plain[1]["score"]
        assert "not in the collection" in problem(search(http, photo, like="../../etc/passwd"), 404)
        assert "give a query or an image that it should be like" in problem(search(http, unlike=FIRST), 422)
        assert "give a photo" in problem(search(http, like=FIRST, box="0,0,4,4"), 422)

    def test_stages_come_one_after_the_other(self, http: httpx.Client, photo: bytes) -> None:
        form = {"image": ("a.png", photo), "explain": (None, "true"), "depth": (None, "5")}
        with http.stream("POST", "/search/stream", files=form) as response:
            assert response.headers["content-type"] == "application/x-ndjson"
            stages = [json.loads(line) for line in response.iter_lines()]
        assert [stage["stage"] for stage in stages] == ["global", "reranked", "explained"]
        assert [stage["final"] for stage in stages] == [False, False, True]
        assert stages[0]["results"][0]["explanation"] is None
        reasons = [result["explanation"] for result in stages[2]["results"]]
        assert reasons[0]["superglobal"]["kind"] == "Neighbours"
        assert [reason is not None for reason in reasons] == [True] * 5 + [False] * 5

    def test_near_duplicates_are_one_group(self, tmp_path: Path, tiny_models: None) -> None:
        for name in ("a", "b"):
            paint(tmp_path / "photos" / f"{name}.png", 1)
        paint(tmp_path / "photos" / "c.png", 5)
        extract(tiny_config(tmp_path))
        with serving(served_config(tiny_config(tmp_path), near=0.9999)) as where, client(where) as http:
            groups = {one["id"]: one["group"] for one in search(http, id="a.png").json()["results"]}
        assert groups["a.png"] == groups["b.png"] != groups["c.png"]


class TestRefusals:
    def test_addresses_are_not_fetched(self, http: httpx.Client) -> None:
        assert "addresses are not fetched" in problem(search(http, url="http://127.0.0.1/"), 422)
        assert "addresses are not fetched" in problem(search(http, image="http://127.0.0.1/"), 422)

    def test_fields(self, http: httpx.Client, photo: bytes) -> None:
        assert "give a photo" in problem(search(http), 422)
        assert "give a photo" in problem(search(http, text="nothing of the kind"), 422)
        assert "not both" in problem(search(http, photo, id=FIRST), 422)
        assert "allows 10 at most" in problem(search(http, photo, top_k=11), 422)
        assert "allows 50 at most" in problem(search(http, photo, depth=51), 422)
        assert "not offered here" in problem(search(http, photo, rerank="rrt"), 422)
        assert problem(search(http, photo, colour="red"), 422).startswith("colour: ")

    def test_bytes_and_pixels(self, http: httpx.Client) -> None:
        assert "200,000 bytes allowed" in problem(search(http, bytes(300_000)), 413)
        assert "200,000 bytes allowed" in problem(search(http, bytes(3_000_000)), 413)
        stream = io.BytesIO()
        Image.new("L", (2000, 2000)).save(stream, "PNG")
        assert "1,000,000 allowed" in problem(search(http, stream.getvalue()), 422)

    def test_a_body_without_a_length_is_counted(self, address: str) -> None:
        host, port = address.removeprefix("http://").split(":")
        head = f"POST /search HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        with socket.create_connection((host, int(port)), timeout=20) as line:
            line.sendall((head + "Transfer-Encoding: chunked\r\n\r\n").encode())
            part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + bytes(100_000)
            try:
                for _ in range(40):
                    line.sendall(b"%x\r\n%s\r\n" % (len(part), part))
            except OSError:
                pass  # it was refused and closed
            assert line.recv(100).startswith(b"HTTP/1.1 413")

    def test_hostile_photos(self, http: httpx.Client, tmp_path: Path) -> None:
        """Every file of the corpus of bad photos is a refusal with a reason, and most of them are decoded for it."""
        corpus = bad_inputs.make_corpus(tmp_path / "corpus")
        codes: Counter[int] = Counter()
        for name in corpus.bad:
            file = corpus.folder / name
            if not file.is_file() or file.is_symlink():
                continue  # pipes, links and names that are not UTF-8 cannot be uploaded as such
            with file.open("rb") as stream:
                response = search(http, stream.read(1_000_000), rerank="none", top_k=1)
            codes[response.status_code] += 1
            assert response.status_code in (413, 422), (name, response.text)
            assert response.json()["error"], name
        assert codes[422] > 3 * codes[413], codes

    def test_other_sites(self, address: str, photo: bytes) -> None:
        with client(address, Origin="http://evil.example") as http:
            assert "another site" in problem(search(http, photo), 403)
        with client(address, **{"Sec-Fetch-Site": "cross-site"}) as http:
            assert "another site" in problem(search(http, photo), 403)
        with client(address, Host="evil.example") as http:
            assert "not called by that name" in problem(http.get("/collection"), 421)
        with client(address, Origin=address) as http:
            assert ids(search(http, photo))

    def test_headers(self, http: httpx.Client) -> None:
        for path in ("/", "/page/main.js", "/collection", "/nothing"):
            headers = http.get(path).headers
            assert "script-src 'self'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
        assert problem(http.get("/nothing"), 404) == "Not Found"


class TestImages:
    def test_a_photo_is_upright_and_has_no_metadata(self, tmp_path: Path, tiny_models: None) -> None:
        (tmp_path / "photos").mkdir()
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "a secret"
        Image.new("RGB", (600, 400), "red").save(tmp_path / "photos" / "a.jpg", exif=exif)
        extract(tiny_config(tmp_path))
        with serving(served_config(tiny_config(tmp_path))) as where, client(where) as http:
            for query, size in (("", (400, 600)), ("?size=160", (107, 160))):
                response = http.get(f"/images/a.jpg{query}")
                image = Image.open(io.BytesIO(response.content))
                assert (image.format, image.size, dict(image.getexif())) == ("JPEG", size, {})
                assert b"a secret" not in response.content
            again = http.get("/images/a.jpg?size=160", headers={"If-None-Match": response.headers["etag"]})
            assert again.status_code == 304
            (tmp_path / "photos" / "a.jpg").unlink()
            assert problem(http.get("/images/a.jpg?size=160"), 404) == "the photo is gone"
            assert http.get("/images/a.jpg?size=161").status_code == 422

    def test_no_path_leads_out(self, http: httpx.Client) -> None:
        for name in (
            "../index/index.json",
            "..%2findex%2findex.json",
            "%2fetc%2fpasswd",
            "tower%2f..%2ftower%2ftower 0.png",
            "%00",
            "tower",
        ):
            assert http.get(f"/images/{name}").status_code == 404, name
        assert http.get("/page/..%2f..%2fapp.py").status_code == 404

    def test_any_id(self, tmp_path: Path, tiny_models: None) -> None:
        names = ["two\nlines.png", "what?#%20.png", "日本語.png", "a&b=c;d.png"]
        for seed, name in enumerate(names):
            paint(tmp_path / "photos" / name, seed)
        extract(tiny_config(tmp_path))
        with serving(served_config(tiny_config(tmp_path))) as where, client(where) as http:
            found = [image["id"] for image in http.get("/images").json()["images"]]
            assert len(found) == len(names)
            for name in found:
                quoted = "".join(f"%{byte:02x}" for byte in name.encode())
                assert http.get(f"/images/{quoted}?size=160").status_code == 200, name
                assert ids(search(http, id=name))[0] == name

    def test_the_collection_in_pages(self, http: httpx.Client) -> None:
        first = http.get("/images", params={"limit": 5}).json()
        assert (first["total"], len(first["images"])) == (12, 5)
        assert http.get("/images", params={"text": "BRIDGE", "label": "bridge"}).json()["total"] == 4
        collection = http.get("/collection").json()
        assert (collection["images"], collection["rerank"]) == (12, ["superglobal"])
        assert {one["value"]: one["images"] for one in collection["labels"]} == {"tower": 4, "bridge": 4, "statue": 4}

    def test_the_cache_is_bounded(self, tmp_path: Path) -> None:
        config = served_config(tiny_config(tmp_path), **{"thumbnails.max_bytes": 20_000})
        cache = Thumbnails(tmp_path / "cache", config.serve, Metrics())
        for number in range(60):
            paint(tmp_path / f"{number}.png", number)
            cache.jpeg(tmp_path / f"{number}.png", 160, max_pixels=100, max_bytes=10_000)
        sizes = [path.stat().st_size for path in (tmp_path / "cache").glob("*/*")]
        assert 10_000 < sum(sizes) <= 20_000


class TestToken:
    def test_a_token(self, home: Path, address: str, photo: bytes) -> None:
        config = served_config(tiny_config(home))
        with serving(config, TOKEN) as where, client(where) as http:
            for path in ("/", "/healthz", "/readyz", "/page/main.js"):
                assert http.get(path).status_code == 200
            for path in ("/collection", "/metrics", "/images", f"/images/{FIRST}", "/openapi.json"):
                assert "token" in problem(http.get(path), 401)
            assert problem(search(http, photo), 401)
            assert problem(http.post("/session", headers={"Authorization": "Bearer wrong"}), 401)
            given = http.post("/session", headers={"Authorization": f"Bearer {TOKEN}"})
            assert (given.status_code, TOKEN in given.headers["set-cookie"]) == (204, False)
            assert "httponly" in given.headers["set-cookie"].lower()
            assert ids(search(http, photo))[0] == FIRST
        with serving(config, TOKEN) as where, client(where, Authorization=f"Bearer {TOKEN}") as http:
            assert http.get("/collection").status_code == 200

    def test_beyond_loopback_only_with_a_token(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RELOOK_TOKEN", raising=False)
        config = served_config(tiny_config(tmp_path), host="0.0.0.0")
        with pytest.raises(UsageError, match="RELOOK_TOKEN, or say --insecure"):
            checked_token(config.serve)
        assert checked_token(served_config(config, insecure=True).serve) is None
        monkeypatch.setenv("RELOOK_TOKEN", TOKEN)
        assert checked_token(config.serve) == TOKEN
        monkeypatch.setenv("RELOOK_TOKEN", "short")
        with pytest.raises(UsageError, match="has 5 characters"):
            checked_token(config.serve)
        assert allowed_hosts(config.serve) == frozenset()
        assert "find.example" in allowed_hosts(served_config(config, hosts=["find.example"]).serve)

    def test_an_address_that_is_taken(self, home: Path, address: str) -> None:
        config = served_config(tiny_config(home), port=int(address.rsplit(":", 1)[1]))
        with pytest.raises(RelookError, match=r"cannot listen there .*choose another --port"):
            serve(config, print)


class TestLoad:
    def test_health_and_metrics(self, http: httpx.Client, photo: bytes) -> None:
        assert http.get("/healthz").json()["status"] == http.get("/readyz").json()["status"] == "ok"
        search(http, photo)
        text = http.get("/metrics").text
        assert re.search(r'relook_http_requests_total\{route="/search",status="200"\} \d', text)
        assert "relook_images 12.0" in text
        assert http.get("/openapi.json").json()["openapi"].startswith("3.1")

    def test_searches_beyond_the_queue_are_refused_at_once(
        self, home: Path, address: str, photo: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        released = threading.Event()
        original = SearchEngine._describe

        def slow(engine: SearchEngine, group: Any) -> None:
            released.wait(20)
            original(engine, group)

        monkeypatch.setattr(SearchEngine, "_describe", slow)
        with serving(served_config(tiny_config(home), queue=3)) as where, client(where) as http:
            codes: list[int] = []
            threads = [threading.Thread(target=lambda: codes.append(search(http, photo).status_code)) for _ in range(3)]
            for thread in threads:
                thread.start()
            while http.get("/readyz").status_code == 200:
                time.sleep(0.01)
            refused = search(http, photo)
            assert (problem(refused, 503), refused.headers["retry-after"]) == (
                "too many searches at once; try again",
                "1",
            )
            released.set()
            for thread in threads:
                thread.join()
            assert codes == [200] * 3
            assert http.get("/readyz").status_code == 200
            sizes = re.search(r"relook_batch_queries_count (\d+)", http.get("/metrics").text)
            assert sizes
            assert int(sizes[1]) <= 3

    def test_twenty_generations_without_a_failed_request(self, tmp_path: Path, tiny_models: None) -> None:
        config = make_served(tmp_path)
        codes: list[int] = []
        seen: set[int] = set()
        stop = threading.Event()
        photo = (tmp_path / "photos" / "tower" / "tower 0.png").read_bytes()
        with serving(config) as where:

            def load() -> None:
                with client(where) as http:
                    while not stop.is_set():
                        response = search(http, photo, explain=True)
                        codes.append(response.status_code)
                        seen.add(response.json().get("generation", -1))
                        codes.append(http.get("/images/tower%2Ftower%200.png?size=160").status_code)

            threads = [threading.Thread(target=load) for _ in range(3)]
            for thread in threads:
                thread.start()
            for number in range(20):
                paint(tmp_path / "photos" / "new" / f"{number}.png", 100 + number)
                (tmp_path / "photos" / "bridge" / f"bridge {number}.png").unlink(missing_ok=True)
                extract(config)
            with client(where) as http:
                newest = open_gallery(config).index.manifest.generation
                for _ in range(200):
                    if http.get("/collection").json()["generation"] == newest:
                        break
                    time.sleep(0.05)
                assert http.get("/collection").json()["images"] == 12 - 4 + 20
            stop.set()
            for thread in threads:
                thread.join()
        assert set(codes) == {200}, codes
        assert len(codes) > 40
        assert len(seen) > 5
