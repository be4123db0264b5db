"""One open gallery: every form of query, filters, threads, generations, and stores that are not whole."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photos import SmallCollection, make_collection, make_photo
from PIL import Image

import relook
from pipeline.config import load_config
from pipeline.describe import load_describer
from pipeline.describe.checkpoints import save_describer
from pipeline.stages.evaluate import evaluate
from pipeline.stages.search import search
from pipeline.stages.upload import upload
from pipeline.stores import Index, IndexWriter, open_store
from pipeline.workflow import model_loading, opened_index
from pipeline.workflow.gallery import Gallery, open_gallery
from pipeline.workflow.rerank_chain import set_default_chain

SMALL: dict[str, Any] = {
    "image": {"size": 96},
    "globals": {"scales": [1.0]},
    "locals": {"count": 9, "scales": [1.0]},
}
ANN = ["store.kind=ann"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> SmallCollection:
    return make_collection(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def index(collection: SmallCollection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "index"
    assert relook.extract(collection.manifest, index=folder, describe=SMALL, extract={"part_size": 8}).images == 28
    return folder


@pytest.fixture(scope="module")
def gallery(index: Path) -> Iterator[Gallery]:
    with relook.open(index) as opened:
        yield opened


def scores(hits: relook.Hits) -> dict[str, float]:
    return {hit.id: hit.score for hit in hits}


class TestQueries:
    def test_every_form_of_a_picture_finds_the_same(self, gallery: Gallery, collection: SmallCollection) -> None:
        path = collection.folder / "ring" / "ring_2.png"
        pixels = np.asarray(Image.open(path))
        forms = [path, str(path), path.read_bytes(), bytearray(path.read_bytes()), Image.open(path), pixels]
        expected = gallery.search(path)
        assert expected[0].id == "ring/ring_2.png"
        assert (expected[0].label, expected[0].split, expected[0].path) == ("ring", "val", str(path))
        for form in forms:
            hits = gallery.search(form)
            assert hits.ids == expected.ids
            assert scores(hits) == pytest.approx(scores(expected), abs=1e-6)
        assert [hits.query for hits in map(gallery.search, forms[2:])] == ["<bytes>", "<bytes>", "<image>", "<array>"]

    def test_a_list_gives_a_list_in_its_order(self, gallery: Gallery, collection: SmallCollection) -> None:
        names = ["ring/ring_0.png", "disc/disc_1.png", "ring/ring_0.png"]
        found = gallery.search([collection.folder / name for name in names], top_k=4)
        assert [hits[0].id for hits in found] == names
        for name, hits in zip(names, found, strict=True):
            alone = gallery.search(collection.folder / name, top_k=4)
            assert hits.ids == alone.ids
            assert scores(hits) == pytest.approx(scores(alone), abs=1e-5)

    def test_the_verb_is_a_call_on_the_gallery(
        self, gallery: Gallery, collection: SmallCollection, index: Path
    ) -> None:
        path = collection.folder / "cross" / "cross_1.png"
        result = search(load_config(overrides=[f"index={index}"]), [str(path)])
        assert result.hits == [gallery.search(path)]
        (query,) = result.to_json()["queries"]
        assert set(query["results"][0]) == {
            *("rank", "id", "path", "label", "score", "global_rank", "global_score", "superglobal"),
        }

    def test_an_image_of_the_index_is_not_described_again(self, index: Path, collection: SmallCollection) -> None:
        with relook.open(index) as opened:
            hits = opened.search(id="disc/disc_0.png")
            assert "describer" not in opened.__dict__
            assert hits.query == "disc/disc_0.png"
            described = opened.search(collection.folder / "disc" / "disc_0.png")
            assert hits.ids == described.ids
            assert scores(hits) == pytest.approx(scores(described), abs=1e-5)
            with pytest.raises(relook.RelookError, match=r"no image with the id 'disc/none\.png'"):
                opened.search(id="disc/none.png")

    def test_a_box_is_all_that_is_described(self, gallery: Gallery, collection: SmallCollection) -> None:
        path = collection.folder / "square" / "square_0.png"
        cut = np.asarray(Image.open(path))[10:70, 20:80]
        boxed = gallery.search(path, bbox=(20, 10, 80, 70), rerank=None)
        assert scores(boxed) == pytest.approx(scores(gallery.search(cut, rerank=None)), abs=1e-5)
        assert boxed[0].score < gallery.search(path, rerank=None)[0].score

    def test_filters_scores_and_depth(self, gallery: Gallery, collection: SmallCollection) -> None:
        path = collection.folder / "ring" / "ring_2.png"
        everything = gallery.search(path, top_k=28, rerank=None)
        assert sorted(everything.ids) == sorted(gallery.index.records)
        for where in ({"label": ["disc", "ring"]}, {"label": "disc"}, {"label": ["disc", "ring"], "split": ["val"]}):
            wanted = [
                hit.id
                for hit in everything
                if all(getattr(hit, key) in ([v] if isinstance(v, str) else v) for key, v in where.items())
            ]
            assert gallery.search(path, top_k=28, rerank=None, where=where).ids == wanted
        assert gallery.search(path, where={"label": ["nothing"]}).ids == []
        assert {hit.label for hit in gallery.search(path, where={"label": [""]}, top_k=28)} == {""}
        limit = everything[9].score
        kept = gallery.search(path, top_k=28, rerank=None, min_score=limit)
        assert kept.ids == [hit.id for hit in everything if hit.score >= limit]
        assert len(gallery.search(path, top_k=3)) == 3

    def test_rerankers_are_chosen_per_search(self, gallery: Gallery, collection: SmallCollection) -> None:
        path = collection.folder / "ring" / "ring_2.png"
        assert gallery.search(path).rerank == ("superglobal",)
        for none in (None, "none", [], ()):
            plain = gallery.search(path, rerank=none)
            assert plain.rerank == ()
            assert all(hit.score == hit.global_score and not hit.explanation for hit in plain)
        again = gallery.search(path, rerank=["superglobal"])
        assert again == gallery.search(path, rerank="superglobal") == gallery.search(path)
        assert all(set(hit.explanation) == {"superglobal"} for hit in again)

    def test_the_query_itself_can_be_left_out(
        self, gallery: Gallery, collection: SmallCollection, tmp_path: Path
    ) -> None:
        name = "ring/ring_2.png"
        linked = tmp_path / "linked.png"
        linked.symlink_to(collection.folder / name)
        others = [one for one in gallery.search(collection.folder / name, top_k=28, rerank=None).ids if one != name]
        for query in ({"image": collection.folder / name}, {"image": linked}, {"id": name}):
            assert gallery.search(**query, top_k=28, rerank=None, skip_itself=True).ids == others
            hits = gallery.search(**query, top_k=5, rerank=None, skip_itself=True)
            assert hits.ids == others[:5]
            assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "give an image or an id, and not both"),
            ({"image": "a.jpg", "id": "a"}, "give an image or an id, and not both"),
            ({"image": []}, "no images were given"),
            ({"image": 7}, "image: int; expected a path, bytes"),
            ({"image": ["a.jpg", None]}, "image 1: image: NoneType; expected"),
            ({"image": np.zeros((4, 4, 3))}, "<array>: an array of float64; pixels are uint8"),
            ({"image": [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)]}, "image 1, <array>: an array of"),
            ({"image": b"no picture"}, "<bytes>: "),
            ({"image": "nowhere.jpg"}, "nowhere.jpg: No such file"),
            ({"image": "https://example.org/a.jpg"}, "relook reads files and fetches no URLs"),
            ({"image": "a.jpg", "top_k": 0}, "top_k = 0: must be a whole number"),
            ({"image": "a.jpg", "bbox": (1, 2, 3)}, r"bbox = \(1, 2, 3\): expected four numbers"),
            ({"image": "a.jpg", "bbox": (5, 0, 5, 9)}, "x0 must be below x1"),
            ({"image": ["a.jpg"], "bbox": (0, 0, 5, 9)}, "bbox belongs to one image"),
            (
                {"image": "a.jpg", "where": {"colour": ["red"]}},
                "unknown key 'colour'; known: label, path, split",
            ),
            ({"image": "a.jpg", "where": {"label": [7]}}, "where: label = 7; values are texts, such as '7'"),
            ({"image": "a.jpg", "rerank": "superglobul"}, "unknown reranker 'superglobul'; did you mean 'superglobal'"),
            ({"image": "a.jpg", "rerank": "none,superglobal"}, "rerank = none,superglobal: none cannot be combined"),
        ],
    )
    def test_wrong_arguments_are_one_clear_line(self, gallery: Gallery, arguments: Any, message: str) -> None:
        with pytest.raises(relook.RelookError, match=message) as error:
            gallery.search(**arguments)
        assert "\n" not in str(error.value)

    def test_of_a_list_the_unreadable_one_is_named(
        self, gallery: Gallery, collection: SmallCollection, tmp_path: Path
    ) -> None:
        (tmp_path / "bad.jpg").write_text("bad")
        with pytest.raises(relook.ImageError, match=r"image 1, .*bad\.jpg: "):
            gallery.search([collection.folder / "ring" / "ring_2.png", tmp_path / "bad.jpg"])


class TestHits:
    def test_a_sequence_a_frame_and_tables(self, gallery: Gallery, collection: SmallCollection) -> None:
        hits = gallery.search(collection.folder / "ring" / "ring_2.png", top_k=6)
        assert len(hits) == 6
        assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5, 6]
        assert hits[-1] is hits[5]
        assert [hit.rank for hit in hits[1:3]] == [2, 3]
        frame = hits.to_pandas()
        assert list(frame.columns) == [
            *("rank", "id", "path", "label", "split", "score", "global_rank", "global_score", "superglobal"),
        ]
        assert frame["id"].tolist() == hits.ids
        assert frame["score"].tolist() == [hit.score for hit in hits]
        text = repr(hits)
        assert text.splitlines()[0].endswith("ring_2.png (re-ranked with superglobal)")
        assert len(text.splitlines()) == 8
        assert "ring/ring_2.png" in text
        page = hits._repr_html_()
        assert page.count('<img src="data:image/jpeg;base64,') == 6
        assert "http" not in page

    def test_html_is_escaped_and_random_weights_are_said(self, tmp_path: Path) -> None:
        hit = relook.Hit(1, "<b>&.jpg", str(tmp_path / "gone.jpg"), "<script>", "", 1.0, 1, 1.0)
        hits = relook.Hits("<i>", (hit,), weights="random weights (seed 0)")
        page = hits._repr_html_()
        assert "<script>" not in page
        assert "<b>" not in page
        assert "<i>" not in page
        assert "&lt;script&gt;" in page
        assert "random weights (seed 0): the order means nothing" in repr(hits)
        assert relook.Hits("x").to_pandas().shape == (0, 8)
        assert "cannot" in relook.Hits("x", error="cannot <be> read")._repr_html_()

    def test_control_characters_of_names_are_escaped(self) -> None:
        hit = relook.Hit(1, "a\x1b[2J\n.jpg", "", "", "", 1.0, 1, 1.0)
        assert repr(relook.Hits("q\x9b", (hit,))).splitlines() == [
            "1 hits of q\\x9b (global search)",
            "   #   was   score  global  label / id",
            "   1     1   1.000   1.000  a\\x1b[2J\\n.jpg",
        ]

    def test_a_score_that_was_not_given_is_null_in_json(self) -> None:
        hit = relook.Hit(1, "a", "a", "", "", 1.0, 1, 1.0, {"rrt": float("nan")})
        assert hit.to_json()["rrt"] is None


class TestContent:
    def test_vectors_and_catalog(self, gallery: Gallery) -> None:
        ids, vectors = gallery.vectors()
        assert ids == list(gallery.index.records)
        assert (vectors.shape, vectors.dtype) == ((28, gallery.index.card.dimension), np.float32)
        np.testing.assert_array_equal(vectors, gallery.globals(ids))
        frame = gallery.to_pandas()
        assert frame["id"].tolist() == ids
        for row, record in zip(frame.to_dict("records"), gallery.index.records.values(), strict=True):
            assert row == {name: getattr(record, name) for name in row}
        assert len(gallery) == 28
        assert "28 images, generation" in repr(gallery)

    def test_deleted_rows_and_boxes(self, collection: SmallCollection, tmp_path: Path) -> None:
        rows = [f"{collection.folder}/ring/ring_{n}.png,{'1 2 50 60' if n else ''}" for n in range(4)]
        settings: dict[str, Any] = {"describe": SMALL, "catalog": {"outside": "allow"}}
        for count in (4, 3):
            (tmp_path / "list.csv").write_text("path,bbox\n" + "\n".join(rows[:count]) + "\n")
            relook.extract(tmp_path / "list.csv", index=tmp_path / "index", **settings)
        with relook.open(tmp_path / "index") as opened:
            frame = opened.to_pandas()
            assert frame["bbox"].tolist() == [None, (1, 2, 50, 60), (1, 2, 50, 60)]
            assert opened.vectors()[0] == frame["id"].tolist()
            assert opened.vectors()[1].shape[0] == 3


class TestEvaluate:
    def test_an_open_gallery_measures_what_the_verb_measures(self, gallery: Gallery, index: Path) -> None:
        verb = evaluate(load_config(overrides=[f"index={index}", "evaluate.split=val"])).to_json()
        result = gallery.evaluate(split="val").to_json()
        for key in ("protocol", "queries", "gallery", "global", "reranked", "difference", "rerank"):
            assert result[key] == verb[key]
        plain = gallery.evaluate(split="val", rerank=None).to_json()
        assert (plain["reranked"], plain["global"]) == (None, verb["global"])


class TestThreads:
    def test_many_threads_find_what_one_finds_and_load_models_once(
        self, index: Path, collection: SmallCollection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paths = [collection.folder / f"{label}/{label}_{n}.png" for label in ("disc", "ring", "cross") for n in (0, 1)]
        with relook.open(index) as alone:
            expected = [alone.search(path, top_k=8) for path in paths]
        loaded: list[str] = []
        for module, name in ((model_loading, "open_describer"), (opened_index, "open_store")):
            original = getattr(module, name)
            monkeypatch.setattr(module, name, lambda *a, _f=original, _n=name, **k: loaded.append(_n) or _f(*a, **k))
        original = model_loading.load_reranker
        monkeypatch.setattr(
            model_loading, "load_reranker", lambda *a, **k: loaded.append("load_reranker") or original(*a, **k)
        )
        with relook.open(index) as shared, ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda path: shared.search(path, top_k=8), paths * 4))
        for hits, wanted in zip(found, expected * 4, strict=True):
            assert hits.ids == wanted.ids
            assert scores(hits) == pytest.approx(scores(wanted), abs=1e-6)
        assert sorted(loaded) == ["load_reranker", "open_describer", "open_store"]


class TestLife:
    def test_a_gallery_sees_one_generation_and_newest_another(
        self, collection: SmallCollection, tmp_path: Path
    ) -> None:
        folder = tmp_path / "photos"
        for seed in range(3):
            make_photo(folder / f"{seed}.png", seed=seed)
        relook.extract(folder, index=tmp_path / "index", describe=SMALL)
        first = relook.open(tmp_path / "index")
        assert first.newest() is first
        describer = first.describer
        query = make_photo(folder / "3.png", seed=3)
        relook.extract(folder, index=tmp_path / "index", describe=SMALL)
        assert len(first.search(query)) == 3
        second = first.newest()
        assert second is not first
        assert second.describer is describer
        assert second.search(query)[0].id == "3.png"
        assert (len(first.search(query)), len(first), len(second)) == (3, 3, 4)

    def test_a_closed_gallery_says_so(self, index: Path) -> None:
        with relook.open(index) as opened:
            opened.search(id="disc/disc_0.png")
        opened.close()
        with pytest.raises(relook.RelookError, match="this gallery is closed"):
            opened.search(id="disc/disc_0.png")

    def test_what_is_no_index(self, tmp_path: Path) -> None:
        with pytest.raises(relook.RelookError, match="no index here"):
            relook.open(tmp_path)


class TestRemembered:
    def test_the_checkpoint_of_the_index_is_found_and_checked(
        self, collection: SmallCollection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        made = load_describer("efficientnet_lite0", **SMALL)
        next(made.network.parameters()).data.mul_(1.01)
        save_describer(Path("mine.safetensors"), "efficientnet_lite0", made.network, {})
        relook.extract(collection.folder / "ring", index="mine", describe={**SMALL, "checkpoint": "mine.safetensors"})
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        query = collection.folder / "ring" / "ring_1.png"
        with relook.open("../mine", rerank="none") as opened:
            assert opened.search(query)[0].score == pytest.approx(1, abs=1e-5)
        moved = (tmp_path / "mine.safetensors").rename(tmp_path / "moved.safetensors")
        with relook.open("../mine", rerank="none") as opened:  # the index carries its describer
            assert opened.search(query)[0].id == "ring_1.png"
        with (
            relook.open("../mine", describe={"runtime": "torch"}) as opened,
            pytest.raises(relook.RelookError, match=r"mine\.safetensors, which is missing; .*checkpoint=FILE"),
        ):
            opened.search(query)
        with relook.open("../mine", describe={"checkpoint": moved}) as opened:
            assert opened.search(query)[0].id == "ring_1.png"
        (tmp_path / "mine.safetensors").write_bytes(moved.read_bytes() + b" ")
        with (
            relook.open("../mine", describe={"runtime": "torch"}) as opened,
            pytest.raises(relook.RelookError, match=r"changed since .*mine was made with it"),
        ):
            opened.search(query)

    def test_the_rerankers_that_an_index_names(self, index: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", logger="relook")
        set_default_chain(index, [])
        try:
            with relook.open(index) as opened:
                assert opened.search(id="disc/disc_0.png").rerank == ()
                assert f"re-ranking with none, the default of {index}" in caplog.text
                assert opened.search(id="disc/disc_0.png", rerank="superglobal").rerank == ("superglobal",)
            with relook.open(index, rerank="superglobal") as opened:
                assert opened.search(id="disc/disc_0.png").rerank == ("superglobal",)
            (index / "rerankers" / "default.json").write_text("{}")
            with (
                relook.open(index) as opened,
                pytest.raises(relook.RelookError, match=r"default\.json: cannot be"),
            ):
                opened.search(id="disc/disc_0.png")
        finally:
            (index / "rerankers" / "default.json").unlink()


class TestStoresThatAreNotWhole:
    @pytest.fixture
    def folder(self, collection: SmallCollection, tmp_path: Path) -> Path:
        relook.extract(collection.folder / "ring", index=tmp_path / "index", describe=SMALL)
        return tmp_path / "index"

    def test_empty_and_partial(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        config = load_config(overrides=[f"index={folder}", *ANN])
        empty = "the store ann is empty, the index has 4 images; run: relook upload --store ann"
        with relook.open(folder, store="ann") as opened, pytest.raises(relook.RelookError, match=empty):
            opened.search(id="ring_0.png")
        upload(config)
        with relook.open(folder, store="ann") as opened:
            assert len(opened.search(id="ring_0.png")) == 4
        assert not caplog.records
        open_store("ann", Index(folder), **config.store.options).delete(["ring_1.png"])
        partly = "the store ann has 3 of 4 vectors; run: relook upload --store ann"
        with relook.open(folder, store="ann") as opened:
            assert sorted(opened.search(id="ring_0.png").ids) == ["ring_0.png", "ring_2.png", "ring_3.png"]
        assert partly in caplog.text
        with pytest.raises(relook.RelookError, match=partly):
            open_gallery(config, partial="error")
        open_gallery(config, searched=False)

    def test_a_store_that_is_emptied_behind_an_open_gallery(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        config = load_config(overrides=[f"index={folder}", *ANN])
        upload(config)
        store = open_store("ann", Index(folder), **config.store.options)
        with relook.open(folder, store="ann", rerank="none") as opened:
            assert len(opened.search(id="ring_0.png")) == 4
            assert not caplog.records
            store.delete(["ring_1.png"])
            assert len(opened.search(id="ring_0.png")) == 3
            assert "the store ann has 3 of 4 vectors; run: relook upload --store ann" in caplog.text
            store.delete([f"ring_{number}.png" for number in range(4)])
            for options in ({}, {"where": {"label": ["ring"]}}, {"top_k": 1}):
                with pytest.raises(relook.RelookError, match="the store ann is empty, the index has 4 images"):
                    opened.search(id="ring_0.png", **options)

    def test_images_that_only_the_store_has_are_left_out(self, folder: Path) -> None:
        config = load_config(overrides=[f"index={folder}", *ANN])
        upload(config)
        with IndexWriter(folder) as writer:
            writer.delete(["ring_1.png", "ring_3.png"])
        with relook.open(folder, store="ann", rerank="none") as opened:
            assert opened.search(id="ring_0.png", top_k=2).ids == ["ring_0.png", "ring_2.png"]
            assert opened.search(id="ring_0.png", top_k=1, skip_itself=True).ids == ["ring_2.png"]


def test_bytes_of_a_jpeg_are_read_as_such(gallery: Gallery, collection: SmallCollection, tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.open(collection.folder / "ring" / "ring_2.png").save(data, "JPEG")
    (tmp_path / "a.jpg").write_bytes(data.getvalue())
    assert gallery.search(data.getvalue()).ids == gallery.search(tmp_path / "a.jpg").ids


class TestFeedback:
    def test_a_query_moves_towards_and_away_from_images(self, gallery: Gallery, collection: SmallCollection) -> None:
        path = collection.folder / "ring" / "ring_2.png"
        ids, vectors = gallery.vectors()
        liked, unliked = ids[3], ids[7]
        plain = scores(gallery.search(path, rerank=None, top_k=28))
        moved = scores(gallery.search(path, rerank=None, top_k=28, like=[liked], unlike=[unliked]))
        query = vectors[ids.index("ring/ring_2.png")]
        expected = query + 0.75 * vectors[3] - 0.15 * vectors[7]
        expected /= np.linalg.norm(expected)
        assert moved == pytest.approx(dict(zip(ids, (vectors @ expected).tolist(), strict=True)), abs=1e-5)
        assert moved[liked] > plain[liked]

    def test_liked_images_alone_are_a_query(self, gallery: Gallery) -> None:
        ids, vectors = gallery.vectors()
        hits = gallery.search(like=ids[:2], rerank=None, top_k=28)
        mean = vectors[:2].sum(axis=0)
        expected = vectors @ (mean / np.linalg.norm(mean))
        assert hits.query == f"like {ids[0]}, {ids[1]}"
        assert scores(hits) == pytest.approx(dict(zip(ids, expected.tolist(), strict=True)), abs=1e-5)
        assert len(gallery.search(like=ids[:1], rerank="superglobal,alpha_qe")) == 10

    def test_what_is_no_feedback_is_refused(self, gallery: Gallery) -> None:
        ids, _ = gallery.vectors()
        with pytest.raises(relook.RelookError, match="no such"):
            gallery.search(id=ids[0], like=["no such"])
        with pytest.raises(relook.UsageError, match="give an image or an id"):
            gallery.search(unlike=[ids[0]])
        with pytest.raises(relook.UsageError, match="expected a list of ids"):
            gallery.search(id=ids[0], like=ids[0])
        with pytest.raises(relook.UsageError, match="bbox belongs to one image"):
            gallery.search(like=[ids[0]], bbox=(0, 0, 10, 10))


@pytest.mark.parametrize(
    "name", ["average_qe", "alpha_qe", "dba", "k_reciprocal", "diffusion", "superglobal,diffusion"]
)
def test_classics_re_rank_in_searches_and_evaluations(gallery: Gallery, collection: SmallCollection, name: str) -> None:
    path = collection.folder / "ring" / "ring_2.png"
    hits = gallery.search(path, rerank=name, skip_itself=True, where={"split": "train"})
    assert "ring/ring_2.png" not in hits.ids
    assert {hit.split for hit in hits} == {"train"}
    assert set(name.split(",")) == set(hits[0].explanation)
    result = gallery.evaluate(rerank=name)
    assert result.after is not None
    assert result.after.summary()["mAP"] > 0
