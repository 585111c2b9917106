"""The code in the documentation runs: Python blocks of a page in one namespace, `likely` commands one by one."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from likely.cli import main

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a page in one language, with the lines that they start on."""
    text = page.read_text("utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)) + 1, match[1]) for match in found]


def commands(page: Path) -> list[str]:
    """The lines of a page's bash blocks that call the command line."""
    return [line for _, block in blocks(page, "bash") for line in block.splitlines() if line.startswith("likely ")]


SMALL = {
    "gated-pixelcnn": ("--channels", 4),
    "made": ("--hidden", 16),
    "glow": ("--layers", 2),
    "realnvp": ("--layers", 2),
}


def shortened(line: str) -> str:
    """A command that fits five steps, of a small network where the model's usual one is large."""
    line = re.sub(r'--budget ("[^"]*"|\S+)', '--budget "5 steps"', line.split("  #")[0])
    _, command, model, *_ = *line.split(), "", ""
    if command != "fit" or model not in SMALL:
        return line
    flag, size = SMALL[model]
    sized = re.sub(rf"{flag} \S+", f"{flag} {size}", line)
    return sized if flag in line else f"{line} {flag} {size}"


def with_any(language: str) -> list[Path]:
    return [
        page for page in PAGES if (blocks if language == "python" else lambda page, _: commands(page))(page, language)
    ]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("page", with_any("python"), ids=name)
def test_python(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": f"page_{page.stem.replace('-', '_')}"}
    for line, block in blocks(page, "python"):
        short = re.sub(r'budget="[^"]*"', 'budget="5 steps"', block)
        exec(compile("\n" * (line - 1) + short, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", with_any("bash"), ids=name)
def test_commands(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    for line in commands(page):
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(shortened(line), comments=True)[1:])
        assert ended.value.code == 0, f"{line}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", page.read_text("utf-8"))
    local = [target for pair in targets for target in pair if target and "://" not in target]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert not missing
