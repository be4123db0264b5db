"""An extraction that is divided: the same index however many shards there are, and every mix-up is refused by name."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photos import ROOT
from stores_helpers import content
from tiny import paint, tiny, tiny_config

from pipeline.config import Config, parse_config
from pipeline.errors import LockedError, RelookError, UsageError
from pipeline.report.inventory import info_rows
from pipeline.stages.compact import compact
from pipeline.stages.extract import extract, extract_shard, join
from pipeline.stages.info import info
from pipeline.stages.reindex import reindex
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index.shards import Shards
from pipeline.workflow.indexing.fitting import FitSample
from pipeline.workflow.indexing.sharding import joining

__all__ = ["tiny"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of three photos, so that a few photos make many of them."""
    monkeypatch.setattr("pipeline.workflow.model_loading._BLOCK", 3)
    monkeypatch.setattr("pipeline.workflow.model_loading._BLOCK_BATCHES", 1)
    monkeypatch.setattr("pipeline.files.atomic_write._flush", lambda path: None)


@pytest.fixture
def home(tiny: None, tmp_path: Path) -> Path:
    """Twenty photos, and one that is none."""
    for number in range(20):
        paint(tmp_path / "photos" / "ab"[number % 2] / f"{number:02d}.png", number)
    (tmp_path / "photos" / "a" / "bad.png").write_bytes(b"no photo")
    return tmp_path


def photos_of(config: Config) -> str:
    return str(config.catalog.images)


def all_shards(config: Config, count: int) -> None:
    for number in range(1, count + 1):
        assert extract_shard(config, f"{number}/{count}").outcome == "done"


def same(one: Path, other: Path) -> None:
    """Equal to the last bit, in the same order, and whole."""
    indexes = [Index(folder / "index") for folder in (one, other)]
    assert content(indexes[0]) == content(indexes[1])
    assert list(indexes[0].records) == list(indexes[1].records)
    assert indexes[0].failure_rows() == indexes[1].failure_rows()
    assert indexes[0].card == indexes[1].card
    assert [index.verify() for index in indexes] == [[], []]
    assert not (other / "index" / "shards").exists()


def another_day(photos: Path) -> None:
    """Photos come, change, move, go, get another label."""
    for number in range(7):
        paint(photos / "new" / f"{number}.png", 100 + number)
    paint(photos / "a" / "00.png", 200)
    (photos / "b" / "01.png").rename(photos / "a" / "01.png")
    (photos / "b" / "03.png").unlink()


def copied(home: Path, name: str) -> Path:
    """The same photos, under the same paths, and a copy of the index."""
    place = home / name
    place.mkdir()
    (place / "photos").symlink_to(home / "photos")
    if (home / "index").exists():
        shutil.copytree(home / "index", place / "index")
    return place


@pytest.mark.parametrize(("tables", "counts"), [("table", (1, 2, 3, 4, 5)), ("csv", (3,))])
def test_the_same_index_however_many_shards(home: Path, tables: str, counts: tuple[int, ...]) -> None:
    def configured(place: Path) -> Config:
        config = tiny_config(place, keypoints={"kind": "sift", "count": 5})
        return config.model_copy(update={"store": config.store.model_copy(update={"kind": tables})})

    places = {count: copied(home, f"of {count}") for count in counts}
    for day in range(2):
        whole = extract(configured(home), photos_of(configured(home)))
        for count, place in places.items():
            all_shards(configured(place), count)
            joined = join(configured(place))
            same(home, place)
            not_compared = {"index": "", "seconds": 0.0, "generation": 0}
            assert joined.to_json() | not_compared == whole.to_json() | not_compared
        if day == 0:
            another_day(home / "photos")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(photos=st.integers(1, 25), shards=st.integers(1, 9), block=st.integers(1, 7))
def test_shards_are_runs_of_whole_blocks(photos: int, shards: int, block: int, tmp_path: Path) -> None:
    plan = Shards(tmp_path).begin(
        [],
        {},
        [],
        [],
        shards=shards,
        block=block,
        source="",
        settings={},
        fingerprint="",
        generation=1,
        state="",
        counts={"todo": photos},
        failed=(),
    )
    rows = [plan.rows(number) for number in range(1, shards + 1)]
    assert [row for first, last in rows for row in range(first, last)] == list(range(photos))
    assert all(first % block == 0 or first == photos for first, _ in rows)
    sizes = [-(-(last - first) // block) for first, last in rows]
    assert max(sizes) - min(sizes) <= 1


def real(home: Path, samples: list[Path], runtime: str) -> Config:
    """The default describer on small pictures of several shapes."""
    (home / "photos").mkdir(parents=True, exist_ok=True)
    for file in samples:
        shutil.copy(file, home / "photos")
    values: dict[str, Any] = {
        "index": str(home / "index"),
        "catalog": {"images": str(home / "photos")},
        "describe": {
            "image": {"size": 96},
            "globals": {"scales": [1.0]},
            "locals": {"scales": [1.0], "count": 20},
            "runtime": runtime,
        },
        "extract": {"workers": 2},
    }
    return parse_config(values, "tests")


@pytest.mark.parametrize(
    ("runtime", "count"), [("torch", 2), *(pytest.param("auto", n, marks=pytest.mark.slow) for n in (1, 2, 3, 4, 5))]
)
@pytest.mark.parametrize("fit_images", [128, 5])
def test_the_same_bits_with_a_network_and_fitted_projections(
    fit_images: int, runtime: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = sorted((ROOT / "data" / "samples" / "images").glob("*/*.jpg"))[::17][:10]
    (tmp_path / "of").mkdir()
    whole = real(tmp_path, samples, runtime)
    whole = whole.model_copy(update={"describe": whole.describe.model_copy(update={"fit_images": fit_images})})
    monkeypatch.setattr("pipeline.workflow.indexing.fitting._KEPT_BYTES", 300_000)  # room for a part of them
    extract(whole)
    divided = whole.model_copy(update={"index": tmp_path / "of" / "index"})
    all_shards(divided, count)
    join(divided)
    same(tmp_path, tmp_path / "of")


def test_what_is_kept_of_a_fit_ends_with_a_block() -> None:
    from pipeline.describe import Failed, Observed
    from pipeline.types import ImageRecord

    class Output:
        bytes = 100

        def on_cpu(self) -> Output:
            return self

    records = [ImageRecord(str(number), "") for number in range(9)]
    sample = FitSample(_bytes=(128 << 20) - 500)  # room for five batches
    failed, rows = [Failed(records[1], "no"), Failed(records[8], "no")], list(range(10, 19))
    for batch in ([0, 2], [3], [4], [5], [6], [7]):
        sample.keep(Observed([records[number] for number in batch], Output()))
    sample.end(records, rows, failed, 3, whole=True)
    assert sample.rows == rows[:6]
    assert [record.id for batch in sample.batches for record in batch.records] == ["0", "2", "3", "4", "5"]
    assert sample.failed == failed[:1]
    for whole, count in ((True, 5), (False, 3)):  # the last block of a whole catalog may be a part of one
        sample = FitSample()
        for record in records[:5]:
            sample.keep(Observed([record], Output()))
        sample.end(records[:5], rows[:5], [], 3, whole=whole)
        assert sample.rows == rows[:count]
        assert len(sample.batches) == count


class TestRefusals:
    def test_shards_that_are_not_done_are_named_with_their_commands(self, home: Path) -> None:
        config = tiny_config(home)
        with pytest.raises(RelookError, match=r"there are no shards to join; begin with: relook extract PHOTOS"):
            join_empty(config)
        extract_shard(config, "2/3")
        with pytest.raises(RelookError) as caught:
            join(config)
        line = str(caught.value)
        assert "1/3 (not begun), 3/3 (not begun)" in line
        assert f"relook extract {home / 'photos'} --index {home / 'index'} --shard 1/3; relook extract" in line
        extract_shard(config, "1/3")
        extract_shard(config, "3/3")
        assert join(config).images == 20

    @pytest.mark.parametrize("text", ["1", "0/3", "4/3", "1/0", "a/b", "1/-2", "²/3", "1/3/4"])
    def test_numbers(self, home: Path, text: str) -> None:
        with pytest.raises(UsageError, match="--shard"):
            extract_shard(tiny_config(home), text)

    def test_another_number_of_shards(self, home: Path) -> None:
        extract_shard(tiny_config(home), "1/3")
        with pytest.raises(UsageError, match=r"divided into 3 shards, not 4; give --shard K/3"):
            extract_shard(tiny_config(home), "1/4")

    def test_other_photos(self, home: Path) -> None:
        extract_shard(tiny_config(home), "1/3")
        with pytest.raises(UsageError, match=r"of the photos .*photos, not .*photos/a"):
            extract_shard(tiny_config(home), "2/3", str(home / "photos" / "a"))

    @pytest.mark.parametrize(
        ("section", "values", "named"),
        [
            ("describe", {"image": {"size": 200}}, "describe.image.size = 200 here, .* with 320"),
            ("describe", {"keypoints": {"kind": "sift"}}, "describe.keypoints.kind = 'sift' here, .* with None"),
            ("extract", {"batch_size": 5}, "extract.batch_size = 5 here, .* with 2"),
            ("catalog", {"labels": "none"}, "catalog.labels = 'none' here, .* with 'folder'"),
            ("seed", 3, "seed = 3 here, .* with 0"),
        ],
    )
    def test_other_settings(self, home: Path, section: str, values: Any, named: str) -> None:
        config = tiny_config(home)
        extract_shard(config, "1/3")
        other = parse_config(
            {"index": str(config.index), "catalog": {"images": photos_of(config)}, section: values}
            if section != "catalog"
            else {"index": str(config.index), "catalog": {"images": photos_of(config), **values}},
            "tests",
        )
        with pytest.raises(UsageError, match=named):
            extract_shard(other, "2/3")

    def test_settings_that_are_left_out_are_those_of_the_others(self, home: Path) -> None:
        extract_shard(tiny_config(home, size=200), "1/2")
        short = parse_config({"index": str(home / "index"), "catalog": {"images": str(home / "photos")}}, "tests")
        extract_shard(short, "2/2")
        assert join(short).images == 20
        assert Index(home / "index").card.complete_settings["image"]["size"] == 200

    def test_the_same_shard_twice_at_once(self, home: Path) -> None:
        config = tiny_config(home)
        extract_shard(config, "1/2")
        folder = Shards(config.index)
        plan = folder.plan()
        assert plan is not None
        with IndexWriter(folder.folder(plan, 2)), pytest.raises(LockedError, match=r"2-of-2: another run holds"):
            extract_shard(config, "2/2")
        extract_shard(config, "2/2")
        assert extract_shard(config, "2/2").described == 0
        assert join(config).images == 20

    def test_a_large_loss(self, home: Path) -> None:
        config = tiny_config(home)
        config = config.model_copy(update={"reindex": config.reindex.model_copy(update={"max_removed": 0.1})})
        extract(config, photos_of(config))
        shutil.rmtree(home / "photos" / "b")
        with pytest.raises(RelookError, match="images are gone"):
            extract_shard(config, "1/2")
        assert not (config.index / "shards").exists()

    def test_photos_that_are_not_mounted(self, home: Path) -> None:
        config = tiny_config(home)
        extract_shard(config, "1/2")
        (home / "photos").rename(home / "elsewhere")
        (home / "photos").mkdir()
        with pytest.raises(RelookError, match="images of this shard is here"):
            extract_shard(config, "2/2")
        with pytest.raises(RelookError, match="2/2"):
            join(config)

    def test_nothing_readable_at_all(self, home: Path) -> None:
        for path in (home / "photos").rglob("*.png"):
            path.write_bytes(b"no")
        config = tiny_config(home)
        all_shards(config, 2)
        with pytest.raises(RelookError, match="none of the 21 images can be read"):
            join(config)

    def test_other_keypoints_than_the_index_has(self, home: Path) -> None:
        extract(tiny_config(home), str(home / "photos"))
        with pytest.raises(RelookError, match="other keypoints than the index's"):
            extract_shard(tiny_config(home, keypoints={"kind": "sift"}), "1/2")


class TestBetweenTheShards:
    def test_photos_that_change_are_noticed(self, home: Path, caplog: pytest.LogCaptureFixture) -> None:
        config = tiny_config(home)
        extract_shard(config, "1/2")
        paint(home / "photos" / "c" / "new.png", 99)
        (home / "photos" / "a" / "00.png").unlink()
        extract_shard(config, "2/2")
        with caplog.at_level(logging.WARNING, "relook"):
            assert join(config).images == 20
        assert "1 photos came or changed and 1 went" in caplog.text
        assert extract(config, photos_of(config)).added == 1

    def test_a_run_that_changes_the_index_is_refused(self, home: Path) -> None:
        config = tiny_config(home)
        extract_shard(config, "1/2")
        extract(config, photos_of(config))
        for again in (lambda: extract_shard(config, "2/2"), lambda: extract_shard(config, "1/2")):
            with pytest.raises(RelookError, match=r"changed since the shards were begun .* remove it to begin again"):
                again()
        shutil.rmtree(config.index / "shards")
        all_shards(config, 2)
        assert join(config).equal == 20

    def test_a_run_that_changes_no_image_is_not(self, home: Path) -> None:
        config = tiny_config(home)
        extract(config, photos_of(config))
        another_day(home / "photos")
        extract_shard(config, "1/2")
        assert compact(config).generation > 0
        extract_shard(config, "2/2")
        place = copied(home, "whole")
        assert join(config).added == 7
        shutil.rmtree(place / "index" / "shards")
        extract(tiny_config(place), photos_of(tiny_config(place)))
        same(place, home)

    def test_what_a_join_that_was_killed_left_is_removed(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = tiny_config(home)
        all_shards(config, 2)
        with monkeypatch.context() as patched:
            patched.setattr(Shards, "remove", lambda self: None)
            join(config)
        before = content(Index(config.index))
        compact(config)
        assert join(config).images == 20
        assert content(Index(config.index)) == before
        assert not (config.index / "shards").exists()

    def test_remains_without_a_plan_mean_nothing(self, home: Path) -> None:
        config = tiny_config(home)
        extract_shard(config, "1/2")
        (config.index / "shards" / "plan.json").unlink()
        extract_shard(config, "1/3")
        assert len(list((config.index / "shards").iterdir())) == 2
        extract_shard(config, "2/3")
        extract_shard(config, "3/3")
        assert join(config).images == 20

    def test_a_nightly_run_follows(self, home: Path) -> None:
        config = tiny_config(home)
        all_shards(config, 3)
        join(config)
        another_day(home / "photos")
        assert reindex(config, photos_of(config)).added == 7
        all_shards(config, 2)
        assert join(config).added == 0

    def test_where_no_links_can_be_made(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*paths: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        config = tiny_config(home)
        all_shards(config, 2)
        monkeypatch.setattr("os.link", refuse)
        join(config)
        assert Index(config.index).verify() == []


def join_empty(config: Config) -> None:
    """A join before any shard."""
    joining.join_shards(config)


def test_info_says_which_shards_are_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(home)
    assert extract_shard(config, "2/4", photos_of(config)).described == 6
    assert info(config).images == 0
    count = iter(range(99))
    with monkeypatch.context() as broken:
        broken.setattr(IndexWriter, "add", lambda *arguments, add=IndexWriter.add: _add_once(add, count, *arguments))
        with pytest.raises(RelookError, match="the disk is full"):
            extract_shard(config, "4/4", photos_of(config))
    found = info(config).shards
    assert found is not None
    assert (found["shards"], found["done"], found["source"]) == (4, 1, str(home / "photos"))
    assert [(one["shard"], one["state"], one["images"], one["described"]) for one in found["missing"]] == [
        ("1/4", "not begun", 3, 0),
        ("3/4", "not begun", 6, 0),
        ("4/4", "begun", 6, 4),
    ]
    rows = dict(info_rows(info(config).to_json()))
    assert "1 of 4 done" in rows["shards"]
    assert rows["shards"].endswith("missing: 1/4 (not begun), 3/4 (not begun), 4/4 (4 of 6 images)")
    (Shards(config.index).folder(Shards(config.index).plan(), 2) / "index.json").write_text("no manifest")
    damaged = info(config).shards
    assert damaged is not None
    assert [one["state"] for one in damaged["missing"]] == ["not begun", "damaged", "not begun", "begun"]
    shutil.rmtree(Shards(config.index).folder(Shards(config.index).plan(), 2))
    all_shards(config, 4)
    assert "relook extract --join commits them" in dict(info_rows(info(config).to_json()))["shards"]
    join(config)
    assert info(config).shards is None


def _add_once(add: Any, count: Any, *arguments: Any) -> None:
    if next(count):
        raise RelookError("the disk is full")
    add(*arguments)
