"""Where data sets are published: the official addresses, their checksums, and where each file belongs.

Read by the stage `fetch`. A checksum is what the authors publish beside the file where they do; `docs/datasets.md` says
which ones come from elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import RelookError


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set.

    Attributes:
        url: its official address.
        target: below the data set's folder: the file's place, or of an archive the folder that it is unpacked to.
        archive: it is a .tar, .tar.gz, .tgz or .zip, and is unpacked.
        below: of an archive only what lies below this folder of it is taken, without the folder.
        flat: of an archive every file goes right into `target`, whatever folder it lay in.
        checksum: "md5:..." or "sha256:..."; "": none is known.
        checksum_url: the address of a published text that holds the checksum; "": there is none.
    """

    url: str
    target: str
    archive: bool = False
    below: str = ""
    flat: bool = False
    checksum: str = ""
    checksum_url: str = ""

    @property
    def name(self) -> str:
        """The file's own name."""
        return urlsplit(self.url).path.rsplit("/", 1)[1]


def find_local(files: Sequence[RemoteFile], source: Path) -> dict[str, Path]:
    """Which of `files` lie in the folder `source`, or are the one file that it is; by address.

    A file is looked for by its name below the last folder of its address (`train/images_000.tar`), in its place in the
    data set unless it is an archive, and alone unless several of `files` share the name.

    Raises:
        RelookError: there is no such file or folder, or none of `files` is there.
    """
    if not source.exists():
        raise RelookError(f"{source}: no such file or folder")
    names = Counter(file.name for file in files)
    found: dict[str, Path] = {}
    for file in files:
        parent = urlsplit(file.url).path.split("/")[-2]
        if source.is_dir():
            places = [source / parent / file.name]
            places += [] if file.archive else [source / file.target]
            places += [source / file.name] if names[file.name] == 1 else []
        else:
            alike = source.name == file.name and (names[file.name] == 1 or source.parent.name == parent)
            places = [source] if alike else []
        there = next((place for place in places if place.is_file()), None)
        if there is not None:
            found[file.url] = there
    if not found:
        expected = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
        raise RelookError(f"{source}: holds none of the published files ({expected})")
    return found


def _revisited(name: str, archives: Sequence[str]) -> list[RemoteFile]:
    truth = f"http://cmp.felk.cvut.cz/revisitop/data/datasets/{name}/gnd_{name}.pkl"
    photos = [f"https://www.robots.ox.ac.uk/~vgg/data/{archive}" for archive in archives]
    return [
        RemoteFile(truth, f"gnd_{name}.pkl"),
        *(RemoteFile(url, "jpg", archive=True, flat=True) for url in photos),
    ]


_DISTRACTORS = "http://ptak.felk.cvut.cz/revisitop/revisitop1m"
_LANDMARKS = "https://s3.amazonaws.com/google-landmark"
_ILIAS = "https://vrg.fel.cvut.cz/ilias_data"
_CARS = "http://ai.stanford.edu/~jkrause/car196"


def _below(folder: str, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    return [replace(file, target=f"{folder}/{file.target}") for file in files]


def _landmarks(split: str, archives: int) -> list[RemoteFile]:
    """The photos of a split; each archive has a file with its MD5 beside it."""
    return [
        RemoteFile(
            f"{_LANDMARKS}/{split}/images_{number:03d}.tar",
            split,
            archive=True,
            checksum_url=f"{_LANDMARKS}/md5sum/{split}/md5.images_{number:03d}.txt",
        )
        for number in range(archives)
    ]


def _tables(split: str, *names: str) -> list[RemoteFile]:
    return [RemoteFile(f"{_LANDMARKS}/{name}", f"{split}/{name.rsplit('/', 1)[1]}") for name in names]


_OXFORD = _revisited("roxford5k", ["oxbuildings/oxbuild_images-v1.tgz"])
_PARIS = _revisited("rparis6k", ["parisbuildings/paris_1-v1.tgz", "parisbuildings/paris_2-v1.tgz"])
_MILLION = [
    RemoteFile(f"{_DISTRACTORS}/revisitop1m.txt", "revisitop1m.txt"),
    *(RemoteFile(f"{_DISTRACTORS}/jpg/revisitop1m.{number}.tar.gz", "jpg", archive=True) for number in range(1, 101)),
]
_TEST = _tables(
    "test",
    "metadata/test.csv",
    "ground_truth/retrieval_solution_v2.1.csv",
    "ground_truth/recognition_solution_v2.1.csv",
)
_INDEX = _tables("index", "metadata/index.csv", "metadata/index_image_to_landmark.csv")

SOURCES: dict[str, list[RemoteFile]] = {
    "roxford5k": _OXFORD,
    "rparis6k": _PARIS,
    "revisitop1m": _MILLION,
    "roxford5k+1m": [*_below("roxford5k", _OXFORD), *_below("revisitop1m", _MILLION)],
    "rparis6k+1m": [*_below("rparis6k", _PARIS), *_below("revisitop1m", _MILLION)],
    "gldv2": [*_TEST, *_INDEX, *_landmarks("test", 20), *_landmarks("index", 100)],
    "gldv2-train": [*_tables("train", "metadata/train.csv"), *_landmarks("train", 500)],
    "gldv2-train-clean": [*_tables("train", "metadata/train_clean.csv"), *_landmarks("train", 500)],
    "sop": [
        RemoteFile(
            "http://ftp.cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",
            ".",
            archive=True,
            below="Stanford_Online_Products",
            checksum="md5:7f73d41a2f44250d4779881525aea32e",
        )
    ],
    "grocery": [
        RemoteFile(
            "https://github.com/marcusklasson/GroceryStoreDataset/archive/refs/heads/master.zip",
            ".",
            archive=True,
            below="GroceryStoreDataset-master/dataset",
        )
    ],
    "cub200": [
        RemoteFile(
            "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            ".",
            archive=True,
            below="CUB_200_2011",
            checksum="md5:97eceeb196236b17998738112f37df78",
        )
    ],
    "cars196": [
        RemoteFile(f"{_CARS}/cars_annos.mat", "cars_annos.mat"),
        RemoteFile(f"{_CARS}/car_ims.tgz", ".", archive=True),
    ],
    "ilias": [
        RemoteFile(f"{_ILIAS}/ilias_core.tar", ".", archive=True, checksum_url=f"{_ILIAS}/checksums.txt"),
    ],
}
