"""Splits and labels by the names of arrays, files and folders."""

import re

SPLITS = {
    "train": {"train", "training"},
    "valid": {"valid", "validation", "val", "dev"},
    "test": {"test", "testing", "t10k"},
}
LABELS = {"label", "labels", "y", "target", "targets", "class", "classes"}


def words(name: str) -> set[str]:
    """Return the words of a name, in small letters."""
    return set(re.split(r"[^a-z0-9]+", name.lower()))


def split_of(name: str) -> str | None:
    """Return "train", "valid" or "test" where a word of a name says so."""
    return next((split for split, known in SPLITS.items() if words(name) & known), None)


def is_label(name: str) -> bool:
    """Return whether a name is one of labels."""
    return bool(words(name) & LABELS)


def of_split(names: tuple[str, ...], split: str) -> list[str]:
    """Return the names of a split, those of labels apart."""
    return [name for name in names if not is_label(name) and split_of(name) == split]
