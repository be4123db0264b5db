"""`label`: a person says of pairs of photos whether they show the same thing.

Serves a page with the pair whose answer teaches most, until it is told to stop; or writes the groups of the answers as
labels; or writes pairs into a file that a person fills in. Answers are read by `adapt`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.files import exclusive_lock
from pipeline.serve.extra import require_extra
from pipeline.train.mining.answers import ANSWERS, AnswerFile, read_answers, write_questions
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.labelling.answered_groups import group_answers
from pipeline.workflow.labelling.session import LabellingSession
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.training.groups_table import write_groups
from pipeline.workflow.training.mining import near_pairs

_ANSWERS = Path("answers.csv")


@dataclass(frozen=True)
class LabelsResult:
    """The groups of the answers.

    Attributes:
        index, answers: that were read.
        labels: the manifest that was written.
        answered: how many pairs have each answer.
        groups, photos: how many there are, and photos in them; near duplicates count once.
        contradictions: answers that others outvote: first, second, answer.
    """

    index: str
    answers: str
    labels: str
    answered: dict[str, int]
    groups: int
    photos: int
    contradictions: list[tuple[str, str, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)


def label(config: Config, listening: Callable[[str], None], reporter: Reporter | None = None) -> dict[str, int]:
    """Serve the page until SIGINT or SIGTERM.

    Args:
        config: `index`, `adapt`, `serve`, `store` and `rerank.matching` matter here.
        listening: told the address once requests are answered.
        reporter: told about the progress.

    Returns:
        How many pairs have each answer now.

    Raises:
        UsageError: the address can be reached from other machines.
        LockedError: another server writes the same answers.
        RelookError: the extra is not installed, the index or the answers cannot be read, or the address is taken.
    """
    require_extra("label")
    from pipeline.serve.guard import is_loopback
    from pipeline.serve.label_app import make_label_app
    from pipeline.serve.listening import bind, run

    if not is_loopback(config.serve.host):
        raise UsageError(f"serve.host = {config.serve.host}: label listens on this machine alone; use 127.0.0.1")
    path = answers_path(config)
    busy = f"{path}: another relook label writes to it"
    with exclusive_lock(path.with_name(f".{path.name}.lock"), busy), bind(config.serve) as listener:
        file = AnswerFile(path)
        with open_gallery(config, partial="error") as gallery:
            session = LabellingSession(gallery, config, file, reporter or Silent())
            run(make_label_app(session, gallery, config), listener, config.serve, listening)
    given = Counter(file.answers.values())
    return {answer: given[answer] for answer in ANSWERS}


def write_labels(config: Config, labels: Path, reporter: Reporter | None = None) -> LabelsResult:
    """Write the groups of the answers as a manifest with the column `label`.

    Args:
        config: `index`, `adapt` and `store` matter here.
        labels: the manifest.
        reporter: told about the progress.

    Raises:
        RelookError: the index or the answers cannot be read, or the manifest cannot be written.
    """
    path = answers_path(config)
    answers = read_answers(path)
    given = Counter(answers.values())
    with open_gallery(config, partial="error") as gallery:
        near = near_pairs(gallery, config, reporter or Silent())
        found = group_answers(answers, near.place_of, len(near.records))
        write_groups(labels, gallery.index, near.place_of, found.number)
    return LabelsResult(
        index=str(config.index),
        answers=str(path),
        labels=str(labels),
        answered={answer: given[answer] for answer in ANSWERS},
        groups=int(found.number.max(initial=-1)) + 1,
        photos=int((found.number >= 0).sum()),
        contradictions=found.contradictions,
    )


def write_pairs(config: Config, pairs: Path, count: int, reporter: Reporter | None = None) -> int:
    """Write the pairs whose answers teach most by what is known now, without answers; returns how many.

    Args:
        config: see `label`.
        pairs: the file; filled in, it is read as answers.
        count: pairs, at most.
        reporter: told about the progress.

    Raises:
        RelookError: the index or the answers cannot be read, or the file cannot be written.
    """
    with open_gallery(config, partial="error") as gallery:
        session = LabellingSession(gallery, config, AnswerFile(answers_path(config)), reporter or Silent())
        questions = session.questions(count)
    write_questions(pairs, questions)
    return len(questions)


def answers_path(config: Config) -> Path:
    """The file of answers."""
    return config.adapt.answers or _ANSWERS
