"""Every figure that a page quotes is what the code gives, or what a measurement file holds that stands with its commit."""

import importlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

if not (ROOT / "docs" / "scripts").is_dir():
    pytest.skip("the documentation is not part of a source distribution", allow_module_level=True)


@pytest.fixture
def tools(monkeypatch):
    """`tools(name)`: a module of docs/scripts."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "scripts"))
    return importlib.import_module


def test_pages_quote_the_figures_that_there_are(tools):
    """What takes seconds is computed here; `python docs/scripts/figures.py --write` mends what this test finds."""
    assert list(tools("figures").faults()) == []


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/tour.md",
        "docs/models.md",
        "docs/inspect.md",
        "docs/analysis.md",
        "docs/architecture.md",
        "docs/performance.md",
        "docs/results.md",
        "docs/accuracy.md",
    ],
)
def test_pages_with_measurements_have_each_number_marked_or_given(tools, page):
    marks, text = tools("page_marks"), tools("tables").handmade((ROOT / page).read_text(encoding="utf-8"))
    assert page in tools("figures").COVERED
    assert len(list(marks.quotes(text))) >= 3
    number = re.compile(r"\d[\d,.]*(?=<!-- )")
    first = number.search(text)
    without = text[: first.end()] + text[text.index("-->", first.end()) + 3 :]
    assert not list(marks.uncovered(text)) and len(list(marks.uncovered(without))) == 1, "a mark that is forgotten is seen"


# -- marks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def book(tools, tmp_path, monkeypatch):
    """`book(text)`: figures.py over a README with this text, whose figures are a.b = 12 and a.word = red."""
    figures = tools("figures")
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(figures, "GROUPS", {"a": lambda: {"b": "12", "word": "red"}})
    figures.group.cache_clear()

    def of(text):
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
        return figures, tmp_path

    yield of
    figures.group.cache_clear()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Of 12<!-- a.b --> disks, the dot is red<!-- a.word -->.", None),
        ("Of **12<!-- a.b -->** disks (`x = 3`, [it](5.md)), float32 in 2D:\n\n1. one\n\n```\n6\n```\n", None),
        ("Of 13<!-- a.b --> disks.", "a.b is 12, the page says 13"),
        ("The dot is green<!-- a.word -->.", "a.word is red, the page says green"),
        ("Of 12<!-- a.c --> disks.", "there is no figure a.c"),
        ("Of 12<!-- no.b --> disks.", "there is no figure no.b"),
        ("Of 12 disks.", '"Of 12 disks.'),
        ("Of 12<!-- a.b --> disks 12 are split.", "neither marked nor given"),
        ("Tiles of 20 px.\n<!-- given: 20 px -->", None),
        ("Tiles of 20\npx.\n<!-- given: of 20 px -->", None),
        ("Tiles of 120 px.\n<!-- given: 20 px -->", "neither marked nor given"),
        ("Of 20.5 px.\n<!-- given: 20 -->", "neither marked nor given"),
        ("Tiles of 20 px, 20 of them split.\n<!-- given: of 20 px -->", "20 of them split"),
        ("No tile.\n<!-- given: 20 px -->", 'names "20 px", which the page does not say'),
    ],
)
def test_what_is_wrong_in_a_page_is_said_with_its_line(book, text, says):
    figures, root = book(text)
    found = list(figures.faults(root))
    if says is None:
        assert found == []
    else:
        assert any(says in line for line in found) and all(line.startswith("README.md:") for line in found)


def test_a_mark_that_follows_nothing_is_refused(book):
    figures, root = book("Of <!-- a.b --> disks.")
    with pytest.raises(ValueError, match=r"line 1: a\.b follows no number"):
        list(figures.faults(root))


def test_figures_are_written_where_they_are_marked_and_nowhere_else(book):
    text = "Of 1,000<!-- a.b --> of 1,000 disks `7`<!-- a.b --> the dot is green<!-- a.word -->.\n"
    figures, root = book(text)
    assert list(figures.write(root)) == ["README.md"]
    new = (root / "README.md").read_text(encoding="utf-8")
    assert new == "Of 12<!-- a.b --> of 1,000 disks 12<!-- a.b --> the dot is red<!-- a.word -->.\n"
    assert list(figures.write(root)) == [], "what is right stays untouched"


# -- measurements -----------------------------------------------------------------------------------------------------


def test_each_measurement_has_its_command_its_commit_and_its_rooms(tools):
    index = tools("measured_figures").load("measured")
    listed = {file for entry in index.values() for file in entry["files"]}
    there = {f"docs/measurements/{path.name}" for path in (ROOT / "docs" / "measurements").glob("*.json")}
    assert there - {"docs/measurements/measured.json"} <= listed
    for name, entry in index.items():
        assert entry["command"] and re.fullmatch("[0-9a-f]{40}", entry["commit"]), name
        assert entry["rooms"] and all((ROOT / room).exists() for room in [*entry["rooms"], *entry["files"]]), name


@pytest.fixture
def project(tmp_path):
    """A repository with two rooms and a measurement of each; `project(room, text)` commits a change of a room."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]

    def change(room, text):
        (tmp_path / room).mkdir(exist_ok=True)
        (tmp_path / room / "code.py").write_text(text)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-qm", f"{room} says {text}"], check=True)
        return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()

    subprocess.run([*git, "init", "-q"], check=True)
    change("loss", "1")
    (tmp_path / "docs" / "measurements").mkdir(parents=True)
    change.commit, change.root = change("tiles", "1"), tmp_path
    return change


def index_of(tools, project):
    contents = tools("measured_figures").contents
    entry = {"files": ["x.json"], "command": "c", "commit": project.commit}
    return {name: {**entry, "rooms": contents([name], project.root)} for name in ("loss", "tiles")}


def test_a_measurement_is_stale_once_a_room_of_its_own_has_changed(tools, project):
    stale, index = tools("measured_figures").stale, index_of(tools, project)
    assert list(stale(index, project.root)) == []
    project("loss", "2")
    (one,) = stale(index, project.root)
    assert (one.name, one.rooms) == ("loss", ("loss",)) and one.commits[0].endswith("loss says 2")
    project("loss", "1")
    assert list(stale(index, project.root)) == [], "what was taken back changed nothing"
    project("tiles", "3")
    gone = {name: {**entry, "commit": "0" * 40} for name, entry in index.items()}  # rebased away
    (one,) = stale(gone, project.root)
    assert one.name == "tiles" and "not in this history" in one.commits[0]


def test_a_measurement_made_anew_stands_with_the_commit_of_that_day(tools, project):
    index = index_of(tools, project)
    (project.root / "say.py").write_text("""import json, sys; print(json.dumps({"ap": 0.5, "of": sys.argv[1:3]}))""")
    index["tiles"]["command"] = "python say.py data/nuclei runs/a --json"
    index["tiles"]["files"] = ["docs/measurements/ap.json"]
    path = project.root / "docs" / "measurements" / "measured.json"
    path.write_text(json.dumps(index))
    now = project("tiles", "2")
    measured = tools("measured_figures")
    measured.measure("tiles", {"data": Path("/somewhere/else"), "runs": Path("/elsewhere")}, project.root)
    assert json.loads((project.root / "docs/measurements/ap.json").read_text()) == {"ap": 0.5, "of": ["data/nuclei", "runs/a"]}
    index = json.loads(path.read_text())
    assert index["tiles"]["commit"] == now and list(measured.stale(index, project.root)) == []
    (project.root / "tiles" / "code.py").write_text("3")
    with pytest.raises(SystemExit, match="commit the changes of tiles first"):
        measured.measure("tiles", {"data": Path("data")}, project.root)


def test_only_the_coming_release_explains_a_stale_measurement(tools):
    explained = tools("measured_figures").explained
    text = "# Changes\n\n## Unreleased\n\n- `peers` was measured before; nothing of it changed.\n\n## 1.0\n\n- `limits`, too.\n"
    assert explained(text) == {"peers"}
    assert explained(text.replace("Unreleased", "0.9")) == set()


def test_a_release_explains_each_stale_measurement(tools):
    """A tagged commit is a release; between releases the list may grow."""
    measured = tools("measured_figures")
    if measured.git(ROOT, "describe", "--exact-match", "--tags", "HEAD") is None:
        pytest.skip("this commit is no release")
    assert tools("figures").report_stale() == 0
