"""The same bits on every machine: what one process wrote, every other one decodes, and encodes to the same bytes.

One processor passes for several: its libraries are told to use older instructions only, or more threads, and the
coder does without its compiler. Networks in floating point differ in these environments, and are not asked here.
"""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import matrix_leaves
import pytest
import torch
from matrix_files import MODELS, write
from matrix_job import BATCHES, digest, given, leaves

import likely.nn
from likely.coding.container import Reader
from likely.coding.frozen import Frozen
from likely.coding.records import MODEL
from likely.nn import CountsHead, Leaf, LinearLeaf

JOB = Path(__file__).with_name("matrix_job.py")
FILES = [f"{name} {batch}" for name in MODELS for batch in BATCHES]
NATIVE = torch.backends.cpu.get_cpu_capability()
X86 = NATIVE in ("AVX2", "AVX512")


@dataclass
class Environment:
    """Settings of a process, and what must come of them."""

    settings: dict[str, str]
    said: tuple[str, ...] = ()  # by the libraries
    option: tuple[str, ...] = ()
    possible: bool = True


MKL = X86 and torch.backends.mkl.is_available()
ONEDNN_OLD, ONEDNN_AVX2 = ({"ONEDNN_MAX_CPU_ISA": name} if X86 else {} for name in ("SSE41", "AVX2"))
COMPATIBLE = {"MKL_CBWR": "COMPATIBLE"} if MKL else {}
# A process each, of seconds: what stands together in one is told apart by the leaves whose bits differ.
ENVIRONMENTS = {
    "plain": Environment({}),
    "AVX2": Environment({"ATEN_CPU_CAPABILITY": "avx2", **ONEDNN_AVX2}, ("isa:Intel AVX2",), possible=X86),
    "the oldest of all": Environment(
        {"ATEN_CPU_CAPABILITY": "default", **ONEDNN_OLD, **COMPATIBLE},
        (*["isa:Intel SSE4.1"] * X86, *["CNR:COMPATIBLE"] * MKL),
    ),
    "two threads, without numba": Environment(
        {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},  # others need the processor too
        option=("without-numba",),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frozen models, their files and what is in them."""
    folder = tmp_path_factory.mktemp("matrix")
    write(folder)
    matrix_leaves.write(folder)
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, object]:
    """The files' own bytes and contents, and what this process's leaves return."""
    found = {}
    for name in MODELS:
        frozen = Frozen.load(folder / f"{name}.frozen")
        for batch in BATCHES:
            file = folder / f"{name} {batch}.lk"
            found[file.stem] = {
                "decoded": digest(given(file)[0]),
                "encoded": sha256(file.read_bytes()).hexdigest(),
                "leaves": leaves(frozen, *given(file), batch),
            }
    return found


@pytest.fixture(scope="module")
def leaves_alone(folder: Path) -> dict[str, list[str]]:
    """What leaves return by themselves in this process."""
    return matrix_leaves.outputs(folder)


@pytest.mark.parametrize("name", matrix_leaves.LEAVES)
def test_a_leaf_returns_the_same_together_one_by_one_and_by_parts(name, leaves_alone):
    assert len(set(leaves_alone[name])) == 1


def test_every_leaf_stands_in_the_matrix():
    """By itself, or in a model; counts are whole numbers from the start."""
    built = [build() for build in (*matrix_leaves.LEAVES.values(), *MODELS.values())]
    kinds = {type(part) for module in built for part in module.modules()}
    leaves = {value for value in vars(likely.nn).values() if isinstance(value, type) and issubclass(value, Leaf)}
    assert leaves - kinds == {Leaf, LinearLeaf, CountsHead}


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_coded_by_their_models(name, folder):
    with (folder / f"{name}.lk").open("rb") as stream:
        assert [chunk.method for chunk in Reader(stream).chunks()] == [MODEL]


@pytest.mark.parametrize("name", MODELS)
def test_leaves_return_the_same_at_every_batch_size(name, folder):
    frozen, (data, context) = Frozen.load(folder / f"{name}.frozen"), given(folder / f"{name} 64.lk")
    one, *others = (leaves(frozen, data, context, batch) for batch in (1, 7, 64, 256))
    assert len(one) > 2
    assert all(other == one for other in others)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_decodes_and_encodes_the_same(name, folder, expected, leaves_alone, tmp_path):
    environment = ENVIRONMENTS[name]
    if not environment.possible:
        pytest.skip(f"not on this machine, of {NATIVE}")
    settings = {"OMP_NUM_THREADS": "1", **environment.settings}
    settings["MKL_NUM_THREADS"] = settings["OMP_NUM_THREADS"]  # of which torch would else take the fewer
    command = [sys.executable, str(JOB), str(folder), str(tmp_path / "report"), *environment.option]
    process = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    found = json.loads((tmp_path / "report").read_text())
    assert found["machine"] == {
        "capability": settings.get("ATEN_CPU_CAPABILITY", NATIVE).upper(),
        "threads": int(settings["OMP_NUM_THREADS"]),
        "compiled": not environment.option and importlib.util.find_spec("numba") is not None,
    }
    assert all(words in process.stdout for words in environment.said)
    assert found["files"] == expected
    assert found["leaves"] == leaves_alone
